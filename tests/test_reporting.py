"""Series of the figures, tables, progress lines and the written page."""

import io

import numpy as np
import pytest

import leadline as ll
from leadline.reporting import progress as progresses
from leadline.reporting.comparisons import comparison_figure, loss_curves
from leadline.reporting.progress import Progress, duration, line, size
from leadline.reporting.results import result_curves, result_figure
from leadline.tabular.tables import number, text_table, with_error

SGD = ll.SGD(lr=0.3, steps=2)


@pytest.fixture(scope="module")
def problem():
    return ll.teacher(samples=6, dimension=4, test_samples=3)


@pytest.fixture(scope="module")
def comparison(problem):
    return ll.compare(
        problem, ll.ResNet(), SGD, sizes=((16, 1), (32, 2), (64, 4)), seeds=2, rtol=0.9
    )


def panel(curves, name):
    return [s for s in curves if s["panel"] == name]


def test_every_branch_has_a_training_and_a_test_curve(comparison):
    curves = loss_curves(comparison)
    for part in ("train", "test"):
        assert len(panel(curves, part)) == len(comparison.branches)
        for s, branch in zip(panel(curves, part), comparison.branches, strict=True):
            np.testing.assert_array_equal(s["y"], branch.loss(part))
            np.testing.assert_array_equal(s["error"], branch.error(part))
            assert s["x"] == [0, 1, 2]
            assert (s["role"], s["coupling"]) == (branch.role, branch.coupling)


def test_size_is_a_ramp_and_limits_are_darkest(comparison):
    curves = panel(loss_curves(comparison), "train")
    for coupling in ("reused", "independent"):
        shades = [s["shade"] for s in curves if s["coupling"] == coupling]
        assert shades == [1.0, 0.0, 0.5, 1.0]  # limit, then growing networks
    assert curves[0]["name"] == "limit, reused"
    assert {s["name"] for s in curves if s["role"] == "finite"} == {
        "width 16, depth 1",
        "width 32, depth 2",
        "width 64, depth 4",
    }


def test_over_width_networks_meet_horizontal_limits(comparison):
    curves = loss_curves(comparison)
    rows = {row["name"]: row for row in comparison.rows}
    sizes = panel(curves, "size")
    for s in sizes:
        assert s["x"] == [16, 32, 64]
        if s["role"] != "finite":
            assert len(set(s["y"])) == 1
    reused = next(s for s in sizes if s["name"] == "networks, reused")
    names = [f"train-{n}-reused" for n in ("16x1", "32x2", "64x4")]
    assert reused["y"] == [rows[n]["train_loss"] for n in names]
    gaps = next(s for s in panel(curves, "gap") if s["coupling"] == "reused")
    assert gaps["y"] == [rows[n]["gap"] for n in names]


def test_without_a_test_set_there_is_no_test_panel():
    problem = ll.teacher(samples=4, dimension=2)
    c = ll.compare(
        problem, ll.ResNet(scheme="ntk"), SGD, sizes=((16, 1),), seeds=2, couplings="reused"
    )
    assert not panel(loss_curves(c), "test")
    titles = [a.text for a in comparison_figure(c).layout.annotations]
    assert titles == ["Training loss", "Training loss at the last step", "Gap to the limit"]
    assert "test loss" not in repr(c)
    assert "acc." not in repr(c)  # a regression has no classes


def test_comparison_figure_labels_its_axes_and_names_each_curve_once(comparison):
    fig = comparison.figure()
    axes = [fig.layout[k].title.text for k in fig.layout if k.startswith(("xaxis", "yaxis"))]
    assert len(axes) == 8
    assert all(axes)
    assert fig.layout.yaxis.type == "log"
    legend = [(t.legendgroup, t.name) for t in fig.data if t.showlegend]
    # And the networks of each coupling as one curve over width.
    assert len(legend) == len(set(legend)) == len(comparison.branches) + 2


def test_curves_of_one_result(problem):
    run = ll.train(problem, ll.ResNet(), SGD, width=16, depth=1, seeds=3)
    train, test = result_curves(run)
    assert (train["name"], test["name"]) == ("train loss", "test loss")
    np.testing.assert_array_equal(train["y"], run.mean())
    # Student's t for three seeds.
    np.testing.assert_allclose(test["error"], 4.302652729911275 * run.error("test_loss"))
    single = ll.train(problem, ll.ResNet(), SGD, width=16, depth=1)
    assert result_curves(single)[0]["error"] is None
    end = ll.limit(problem, ll.ResNet(), SGD, 0.9, seeds=2, width=32, depth=1)
    np.testing.assert_array_equal(result_curves(end)[0]["error"], end.train_loss_error)
    assert "limit" in result_figure(end).layout.title.text


def test_a_curve_with_nan_or_zeros_is_drawn():
    run = ll.Trajectory(
        steps=np.arange(3),
        train_loss=np.array([[1.0, 0.0, np.nan], [2.0, 0.0, np.nan]]),
        train_outputs=np.zeros((2, 3, 1, 1)),
        info={"kind": "train", "problem": {"name": "x"}, "seeds": 2},
    )
    assert result_figure(run).layout.yaxis.type == "linear"


def test_text_table_aligns():
    table = text_table(["a", "b"], [["long", "1"], ["x", "22"]]).splitlines()
    assert table == ["a      b", "────  ──", "long   1", "x     22"]


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (0.019812, 0.00034, "0.01981 ± 0.00034"),
        (12.3, 1.5, "12.3 ± 1.5"),
        (0.5, 0.0, "0.5"),
        (0.5, float("nan"), "0.5"),
        (1234.5, 250.0, "1234 ± 2.5e+02"),
        (float("nan"), 1.0, "diverged"),
        (None, None, "–"),
    ],
)
def test_value_with_error(x, error, text):
    assert with_error(x, error) == text


def test_number():
    assert [number(v) for v in (None, float("inf"), 0.12345)] == ["–", "diverged", "0.123"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progresses, "time", clock)
    return clock


def test_progress_without_a_terminal_is_a_plain_line_every_few_seconds(clock):
    stream = io.StringIO()
    with Progress(seeds=2, stream=stream) as progress:
        for step in range(1, 11):
            clock.now += 2.0
            progress(seed=0, step=step, steps=10, loss=0.5, rank=7, bytes=2**21)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3  # 20 s, every 6 s
    # 7 steps and another seed of 10 are left, at 2 s each.
    assert lines[0] == "seed 0  step 3/10  loss 0.5  rank 7  2 MiB  34 s left"


def test_time_left_follows_from_the_share_of_the_work(clock):
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        for step, share in ((1, 0.1), (2, 0.6), (3, 0.7)):
            clock.now += 6.0
            progress(step=step, steps=10, runs=(step, 5), share=share)
        # A worker died, and its task began anew: so does the clock.
        clock.now += 6.0
        progress(step=1, steps=10, runs=(3, 5), share=0.2)
        clock.now += 6.0
        progress(step=2, steps=10, runs=(3, 5), share=0.4)
    assert stream.getvalue().splitlines() == [
        "1/5 runs  step 1/10",
        "2/5 runs  step 2/10  5 s left",
        "3/5 runs  step 3/10  6 s left",
        "3/5 runs  step 1/10",
        "3/5 runs  step 2/10  18 s left",
    ]


def test_progress_on_a_terminal_rewrites_and_clears_its_line(clock):
    stream = Terminal()
    with Progress(stream=stream) as progress:
        for step in (1, 2):
            clock.now += 1
            progress(step=step, steps=4, loss=1.0, seeds=range(3))
    text = stream.getvalue()
    assert "\n" not in text
    assert text.count("\r") == 4
    assert "seeds 0–2  step 2/4  loss 1  2 s left" in text
    assert text.endswith("\r")


def test_time_left_counts_groups_of_seeds_that_follow(clock):
    stream = Terminal()
    with Progress(6, stream=stream) as progress:
        for step in (1, 2):
            clock.now += 1
            progress(step=step, steps=4, seeds=range(3))
    # Half of this group and three more seeds, a second for a quarter of a group.
    assert "seeds 0–2  step 2/4  6 s left" in stream.getvalue()


def test_quiet_progress_writes_nothing(clock):
    stream = Terminal()
    with Progress(stream=stream, quiet=True) as progress:
        clock.now += 60
        progress(step=1, steps=2, loss=1.0)
    assert stream.getvalue() == ""


def test_words():
    report = {"branch": "limit-reused", "seed": 1, "step": 1, "steps": 2, "loss": float("nan")}
    assert line(report, None) == "limit-reused  seed 1  step 1/2  loss nan"
    assert [size(x) for x in (0, 1000, 2**30, 2**50)] == [
        "0 bytes",
        "1000 bytes",
        "1 GiB",
        "1.02e+03 TiB",
    ]
    assert [duration(x) for x in (0.4, 59.4, 61, 7200)] == ["0 s", "59 s", "1 min 1 s", "2 h 0 min"]
