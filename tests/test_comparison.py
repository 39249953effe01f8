"""compare: which branches there are, what the table says, what is written when."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import leadline as ll
from leadline.reporting.comparisons import COLUMNS, Computation

SIZES = ((32, 2), (64, 4))


@pytest.fixture(scope="module")
def problem():
    return ll.digits(classes=(0, 1), samples=8, test_samples=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


SGD = ll.SGD(lr=0.3, steps=3)


@pytest.fixture(scope="module")
def comparison(problem, folder):
    return ll.compare(problem, ll.ResNet(), SGD, sizes=SIZES, seeds=2, rtol=0.9, out=folder)


def test_both_couplings_lazy_and_every_size_are_there(comparison):
    names = [row["name"] for row in comparison.rows]
    assert names[:3] == ["limit-reused", "limit-independent", "lazy"]
    assert sorted(names[3:]) == sorted(
        f"train-{n}x{depth}-{c}" for n, depth in SIZES for c in ("reused", "independent")
    )
    assert all(tuple(row) == COLUMNS for row in comparison.rows)
    assert [b.name for b in comparison.branches] == names


def test_rows_state_what_the_branches_hold(comparison):
    rows = {row["name"]: row for row in comparison.rows}
    row, run = rows["train-64x4-reused"], comparison["train-64x4-reused"].result
    assert (row["width"], row["depth"], row["coupling"]) == (64, 4, "reused")
    assert row["train_loss"] == run.mean()[-1]
    of_mean = stats.t.interval(0.95, run.seeds - 1, run.mean()[-1], run.error()[-1])
    assert row["train_loss_error"] == pytest.approx((of_mean[1] - of_mean[0]) / 2, rel=1e-9)
    assert row["test_accuracy"] == run.mean("test_accuracy")[-1]
    end = comparison["limit-reused"].result
    expected = np.sqrt(np.mean((run.mean() - end.train_loss) ** 2))
    assert row["gap"] == pytest.approx(expected, rel=1e-12)
    assert rows["limit-reused"]["width"] is None
    assert rows["limit-reused"]["gap"] is None
    assert 0 <= rows["limit-reused"]["train_accuracy"] <= 1


def test_finite_networks_are_those_of_train(problem, comparison):
    again = ll.train(problem, ll.ResNet(), SGD, width=32, depth=2, seeds=2, coupling="independent")
    branch = comparison["train-32x2-independent"]
    np.testing.assert_array_equal(branch.result.train_loss, again.train_loss)
    other = comparison["train-32x2-reused"].result
    assert not np.array_equal(other.train_loss, again.train_loss)


def test_table_json_and_files(comparison, folder):
    table = repr(comparison)
    assert "∞" in table
    assert "gap to limit" in table
    assert "The limits of the two couplings are" in table
    data = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert len(data["rows"]) == 7
    assert len(data["branches"]["lazy"]["train_loss"]) == 2
    assert {p.name for p in folder.iterdir()} == {
        "compare.json",
        "compare.html",
        "limit-reused.json",
        "limit-independent.json",
        "lazy.safetensors",
        *(
            f"train-{n}x{depth}-{c}.safetensors"
            for n, depth in SIZES
            for c in data["info"]["couplings"]
        ),
    }
    saved = ll.Trajectory.load(folder / "train-32x2-reused.safetensors")
    np.testing.assert_array_equal(
        saved.train_loss, comparison["train-32x2-reused"].result.train_loss
    )
    assert json.loads((folder / "compare.json").read_text()) == data
    with pytest.raises(KeyError, match="no branch"):
        comparison["train-1x1-reused"]


def test_a_finished_branch_is_on_disk_before_the_next_starts(problem, tmp_path):
    seen = {}

    def watch(branch, **report):
        seen.setdefault(branch, {p.stem for p in tmp_path.iterdir()})
        if branch == "train-64x4-reused":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ll.compare(
            problem,
            ll.ResNet(),
            SGD,
            sizes=SIZES,
            couplings="reused",
            seeds=2,
            out=tmp_path,
            progress=watch,
        )
    assert seen["train-32x2-reused"] == {"lazy"}
    assert seen["train-64x4-reused"] == {"lazy", "train-32x2-reused"}
    assert {p.stem for p in tmp_path.iterdir()} == {"lazy", "train-32x2-reused"}


@pytest.mark.parametrize(
    "network",
    [
        ll.ResNet(scheme="mup"),
        ll.ResNet(scheme="depth-mup-corrected", block_layers=2),
        ll.ResNet(skip=False),
    ],
    ids=["mup", "corrected", "no-skip"],
)
def test_a_large_solve_stands_in_where_there_is_no_limit(problem, network):
    c = ll.compare(problem, network, ll.SGD(lr=0.1, steps=1), sizes=((32, 2), (16, 3)), seeds=2)
    assert [b.name for b in c.branches[:2]] == ["solve-128x3-reused", "solve-128x3-independent"]
    assert any("no infinite-depth limit" in note for note in c.notes)
    assert all(row["gap"] is not None for row in c.rows if row["name"].startswith("train"))
    assert "Note: " in repr(c)


def test_lazy_has_the_largest_depth_only_where_it_must(problem):
    for network, depth in ((ll.ResNet(scheme="mup"), 3), (ll.ResNet(), None)):
        c = ll.compare(
            problem,
            network,
            ll.SGD(lr=0.1, steps=0),
            sizes=((32, 3),),
            seeds=2,
            couplings="reused",
        )
        assert c["lazy"].depth == depth


def test_ntk_converges_to_lazy(problem):
    c = ll.compare(problem, ll.ResNet(scheme="ntk"), SGD, sizes=SIZES, seeds=2)
    assert {b.role for b in c.branches} == {"lazy", "finite"}
    lazy = c["lazy"]
    assert lazy.result.seeds >= 64
    row = next(row for row in c.rows if row["name"] == "train-32x2-reused")
    assert row["gap"] == c["train-32x2-reused"].gap(lazy)
    assert any("lazy" in note for note in c.notes)


def test_a_diverged_branch_is_none_in_json(problem):
    c = ll.compare(
        problem,
        ll.ResNet(scheme="mup", activation="relu"),
        ll.SGD(lr=1e6, steps=4),
        sizes=((16, 2),),
        seeds=2,
        couplings="reused",
    )
    text = json.dumps(c.to_json(), allow_nan=False)
    row = next(r for r in json.loads(text)["rows"] if r["name"] == "train-16x2-reused")
    assert row["train_loss"] is None
    assert "diverged" in repr(c)
    assert isinstance(c.branches[0], Computation)
    c.figure()


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"sizes": ()}, ValueError, "sizes"),
        ({"sizes": (64, 4)}, TypeError, "pairs"),
        ({"sizes": ((64, 4), (64, 4))}, ValueError, "repeats"),
        ({"sizes": ((-1, 4),)}, ValueError, "width"),
        ({"couplings": ("both",)}, ValueError, "couplings='both'"),
        ({"couplings": ()}, ValueError, "couplings"),
        ({"seeds": 1}, ValueError, "seeds=1"),
        ({"rtol": 0.0}, ValueError, "rtol"),
        ({"seconds": -1}, ValueError, "seconds"),
        ({"record_every": 0}, ValueError, "record_every"),
    ],
)
def test_bad_arguments_are_refused_by_name(problem, how, error, words):
    with pytest.raises(error, match=words):
        ll.compare(problem, ll.ResNet(), SGD, **how)


def test_out_that_is_a_file_is_refused(problem, tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        ll.compare(problem, ll.ResNet(), SGD, sizes=SIZES, out=path)


def planted(comparison, losses, end, error, converged=True):
    """The same comparison with other last losses of the largest networks, and another reused limit."""
    out = []
    for b in comparison.branches:
        if b.name == "train-64x4-reused":
            loss = np.tile(np.array(losses)[:, None], (1, len(b.result.steps)))
            b = replace(b, result=replace(b.result, train_loss=loss))
        if b.name == "limit-reused":
            loss = np.full_like(b.result.train_loss, end)
            bars = np.full_like(loss, error)
            b = replace(
                b,
                result=replace(
                    b.result, train_loss=loss, train_loss_error=bars, converged=converged
                ),
            )
        out.append(b)
    return replace(comparison, branches=tuple(out))


def said(comparison):
    lines = str(comparison).splitlines()
    first = lines.index(
        "Training loss at the last step of networks of width 64, depth 4, reused, minus"
    )
    return lines[first + 1 : first + 4]


def test_the_largest_networks_are_held_against_every_limit(comparison):
    """Two seeds .01 apart: Student's t of one degree, 12.706 times .005."""
    half = stats.t.ppf(0.975, 1) * 0.005
    reused, independent, lazy = said(planted(comparison, [0.50, 0.51], 0.45, 0.02))
    assert (
        reused
        == f"  that of the limit (reused): 0.055 ± {np.hypot(half, 0.02):.3f}, no difference seen"
    )
    assert independent.startswith("  that of the limit (independent): ")
    assert lazy.startswith("  that of the lazy limit: ")
    above = said(planted(comparison, [0.50, 0.50], 0.45, 0.049))[0]
    assert above == "  that of the limit (reused): 0.050 ± 0.049, different"
    below = said(planted(comparison, [0.40, 0.40], 0.45, 0.051))[0]
    assert below == "  that of the limit (reused): −0.050 ± 0.051, no difference seen"


def test_a_difference_from_a_limit_that_is_not_accurate_says_so(comparison):
    line = said(planted(comparison, [0.50, 0.50], 0.45, 0.049, converged=False))[0]
    assert line.endswith("different, and this limit's error bar is not met or not tested")
    lost = said(planted(comparison, [0.5, np.inf], 0.45, 0.01))[0]
    assert lost == "  that of the limit (reused): one of them diverged"
