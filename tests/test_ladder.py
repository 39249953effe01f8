"""The sizes of limit: what the next one costs, which it is, what is kept of those finished."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import leadline as ll
from leadline.errors import CheckpointError
from leadline.limits import ladder as ladders
from leadline.limits.estimate import estimate
from leadline.limits.ladder import Ladder, first_sizes, first_tol, first_width
from leadline.solving.configuration import Configuration
from leadline.trajectory import Trajectory

PROBLEM = ll.arrays([[1.0, 0.5], [-0.3, 1.2]], [1.0, -0.5], standardize=False)
NET, SGD = ll.ResNet(), ll.SGD(lr=0.2, steps=3)
FIRST = Configuration(PROBLEM, NET, SGD, width=64, depth=4, seeds=2, variance_reduction="balanced")


def empty(**more):
    return Ladder(FIRST, **more)


def cell(n, l, seconds=1.0, diverged=(-1, -1), slope=0.5, spread=1e-3, steps=4):
    """A run of (n, L) with outputs 1 − slope/L, exact but for a little noise."""
    rng = np.random.default_rng([n, l])
    outputs = np.zeros((2, steps, 2, 1))
    outputs[:, 1:] = 1 - slope / l + spread / np.sqrt(n) * rng.standard_normal((2, steps - 1, 2, 1))
    return Trajectory(
        steps=np.arange(steps),
        train_loss=0.5 * ((outputs - 2) ** 2).sum(-1).mean(-1),
        train_outputs=outputs,
        diverged=None if diverged is None else np.array(diverged),
        info=dict(width=n, depth=l, seeds=2, largest_rank=8, seconds=seconds),
    )


def ladder(*sizes, **how):
    made = empty()
    made.cells = {(n, l): cell(n, l, **how) for n, l in sizes}
    return made


def found(made):
    return estimate(made.runs, "train", "mse", np.full((2, 1), 2.0))


def test_first_sizes():
    assert first_sizes(128, 4) == ((128, 4), (256, 4), (128, 8))
    assert first_width(PROBLEM) == 256
    many = ll.arrays(np.eye(100), np.arange(100.0), standardize=False)
    assert first_width(many) == 512


def test_seconds_follow_layers_and_width():
    """Time = L·(a + b·n) is recovered, from sizes of very different cost."""
    made = empty()
    for n, l in ((64, 4), (128, 4), (64, 8), (4096, 16)):
        made.cells[n, l] = cell(n, l, seconds=l * (0.01 + 2e-5 * n))
    assert made.predict_seconds(512, 32) == pytest.approx(32 * (0.01 + 2e-5 * 512), rel=1e-6)
    assert ladder((64, 4), seconds=2.0).predict_seconds(64, 8) == pytest.approx(4.0, rel=1e-6)
    assert type(made.predict_seconds(512, 32)) is float


def test_seconds_are_those_of_the_seeds():
    made = ladder((64, 4), (128, 4), seconds=2.0)
    assert made.predict_seconds(64, 4, 6) == pytest.approx(3 * made.predict_seconds(64, 4))
    made.cells[64, 8] = cell(64, 8, seconds=4.0)
    few = replace(made.cells[64, 4], info={**made.cells[64, 4].info, "seconds": 1.0})
    made.cells[64, 4] = replace(few, train_loss=few.train_loss[:1])
    assert made.predict_seconds(64, 8) == pytest.approx(4.0, rel=1e-6)


def test_where_depth_is_the_error_depth_is_next():
    made = ladder((256, 8), (512, 8), (256, 16), slope=3.0)
    n, l = made.next_size(found(made), 1e-6)
    assert l > 8
    assert (n, l) not in made.cells


def test_where_noise_is_the_error_width_is_next():
    """With depth known well, only more neurons help; wide is cheap when time hardly depends on n."""
    made = ladder((256, 64), (512, 64), (256, 128), (256, 32), slope=1e-3, spread=1.0)
    n, _ = made.next_size(found(made), 1e-6)
    assert n > 512


def test_a_bar_that_is_met_asks_for_what_is_missing():
    """First a third depth or width, whichever is cheaper; then, misfitting, the cheapest larger size."""
    made = ladder((256, 8), (512, 8), (256, 16))
    assert made.next_size(found(made), 1e9) == (1024, 8)
    made.cells[1024, 8] = cell(1024, 8)
    assert made.next_size(found(made), 1e9)[1] == 32
    made.cells[256, 32] = cell(256, 32)
    assert made.levels == (3, 3)
    n, l = made.next_size(found(made), 1e9)
    assert n > 1024 or l > 32


def test_divergence_is_told_from_undecided():
    assert ladder((64, 4), (128, 4), (64, 8)).divergence == ""
    everywhere = ladder((64, 4), (128, 4), diverged=(2, 3))
    assert "diverges at every size" in everywhere.divergence
    assert everywhere.diverges == 2
    assert everywhere.runs == []
    deepest = ladder((64, 4), (128, 4))
    deepest.cells[64, 8] = cell(64, 8, diverged=(-1, 3))
    assert "undecided: 1 of 2 networks of width=64, depth=8" in deepest.divergence
    assert deepest.diverges == 3
    assert len(deepest.runs) == 2
    assert deepest.levels == (2, 1)
    smallest = ladder((128, 4), (64, 8), (128, 8))
    smallest.cells[64, 4] = cell(64, 4, diverged=(1, 1))
    assert smallest.divergence == ""


def test_truncation_counts_where_no_noise_explains_it():
    made = ladder((256, 8), steps=6)
    coarse = made.cells[256, 8]
    assert (made.truncation("train_loss") == 0).all()
    loss = np.array(coarse.train_loss)
    loss[:, 3] += [0.1, 0.1001]
    loss[:, 4] += 2 * coarse.error()[4] * np.array([1.0, -0.4])
    made._fine = Trajectory(
        steps=coarse.steps, train_loss=loss, train_outputs=coarse.train_outputs, info=coarse.info
    )
    change = made.truncation("train_loss")
    assert change[3] == pytest.approx(0.10005, rel=1e-6)
    assert (np.delete(change, 3) == 0).all()


def test_finished_sizes_are_kept_and_read(tmp_path, monkeypatch):
    solved = []
    real = ladders.run

    def count(one, progress):
        solved.append((one.width, one.depth, one.tol))
        return real(one, progress)

    monkeypatch.setattr(ladders, "run", count)
    first = empty(folder=tmp_path)
    first.solve(32, 2)
    first.solve(64, 2)
    assert solved == [(32, 2, 1e-3), (32, 2, 1e-4), (64, 2, 1e-3)]
    assert {p.name for p in tmp_path.iterdir()} == {
        "32x2.safetensors",
        "32x2-fine.safetensors",
        "64x2.safetensors",
    }
    assert first.seconds == pytest.approx(
        sum(t.info["seconds"] for t in (*first.cells.values(), first._fine))
    )
    again = empty(folder=tmp_path)
    again.solve(32, 2)
    again.solve(64, 2)
    again.solve(32, 4)
    assert solved[3:] == [(32, 4, 1e-3)]
    np.testing.assert_array_equal(again.cells[64, 2].train_loss, first.cells[64, 2].train_loss)
    other = Ladder(replace(FIRST, sgd=ll.SGD(lr=0.3, steps=3)), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"belongs to another limit.*sgd"):
        other.solve(32, 2)


@pytest.fixture
def dropping(monkeypatch):
    """Replaces solve: a seed's loss is off by tol in all steps but the first; calls are in the list."""
    calls = []

    def run(one, progress):
        calls.append((one.width, one.depth, one.tol, one.seeds))
        t = cell(one.width, one.depth)
        loss = np.array(t.train_loss)
        loss[:, 1:] += one.tol * (1 + 1e-6 * np.arange(2))[:, None]
        return replace(
            t, train_loss=loss, info={**t.info, "largest_rank": int(1 / one.tol), "tol": one.tol}
        )

    monkeypatch.setattr(ladders, "run", run)
    return calls


def test_a_chosen_tol_falls_until_it_does_not_matter(dropping):
    """The first loss is 2: a tenth of a bar of .02·2 may be dropped, which 1e-2 exceeds, 1e-3 does not."""
    first = replace(FIRST, tol=1e-2)
    made = Ladder(first, rtol=0.02)
    made.solve(64, 4)
    made.solve(128, 4)
    assert [call[2] for call in dropping] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-3])
    assert made.first.tol == made.cells[64, 4].info["tol"] == pytest.approx(1e-3)
    assert made._fine.info["tol"] == pytest.approx(1e-4)
    assert made.rank == 0
    assert made.seconds == pytest.approx(4.0)
    del dropping[:]
    loose = Ladder(first, rtol=0.2)
    loose.solve(64, 4)
    assert [call[2] for call in dropping] == pytest.approx([1e-2, 1e-3])
    # Bars are those of the rank at 1e-3.
    assert loose.rank == pytest.approx(1000, abs=1)
    del dropping[:]
    kept = Ladder(first)
    kept.solve(64, 4)
    assert kept.first.tol == 1e-2


def test_a_chosen_tol_has_an_end(dropping):
    made = Ladder(replace(FIRST, tol=1e-2), rtol=1e-9)
    made.solve(64, 4)
    assert made.first.tol == pytest.approx(1e-4)


def test_where_tol_begins():
    for rtol, tol in ((0.5, 1e-2), (0.01, 5e-3), (1e-6, 1e-4)):
        assert first_tol(rtol, True) == tol
        assert first_tol(rtol, False) == 1e-3


def test_a_lowered_tol_is_read_again(tmp_path, monkeypatch):
    solved = []
    real = ladders.run
    monkeypatch.setattr(ladders, "run", lambda one, p: solved.append(one.tol) or real(one, p))
    monkeypatch.setattr(
        Ladder, "_drops_too_much", lambda made: made.first.tol == pytest.approx(1e-2)
    )
    for _ in range(2):
        made = Ladder(replace(FIRST, tol=1e-2), folder=tmp_path, rtol=1e-3)
        made.solve(32, 2)
        made.solve(64, 2, seeds=3)
        assert made.cells[32, 2].info["tol"] == pytest.approx(1e-3)
        assert made.cells[64, 2].seeds == 3
        assert len(solved) == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_what_only_the_test_asks_for_has_half_of_the_seeds():
    made = Ladder(replace(FIRST, seeds=6))
    made.cells = ladder((256, 8), (512, 8), (256, 16)).cells
    seen = found(made)
    assert made.next_seeds(seen, float(seen.bar.max())) == 3
    assert made.next_seeds(seen, 0.99 * float(seen.bar.max())) == 6
    assert empty().next_seeds(seen, 1e9) == 2


def test_sizes_share_batches_and_no_noise():
    """Else a width's noise would return in the next one, which begins with the same neurons."""
    made = empty()
    made.solve(32, 2)
    made.solve(64, 2)
    infos = [t.info for t in made.cells.values()]
    assert infos[0]["seed"] != infos[1]["seed"]
    assert infos[0]["batch_seed"] == infos[1]["batch_seed"] == 0
    assert made._fine.info["seed"] == infos[0]["seed"]


def test_first_width_is_a_power_of_2_of_four_neurons_a_sample():
    for samples, width in ((64, 256), (65, 512), (128, 512), (129, 1024)):
        x = np.arange(2.0 * samples).reshape(samples, 2)
        assert first_width(ll.arrays(x, np.arange(float(samples)), standardize=False)) == width


def test_rows_are_plain_numbers_of_the_last_step():
    made = ladder((64, 4), (128, 8), seconds=np.float64(2.0))
    row = list(made.rows())[1]
    t = made.cells[128, 8]
    assert {k: type(v) for k, v in row.items()} == dict(
        width=int, depth=int, seeds=int, train_loss=float, error=float, seconds=float
    )
    assert row["train_loss"] == t.train_loss[:, -1].mean() != t.train_loss[:, 0].mean()
    assert row["error"] == pytest.approx(t.train_loss[:, -1].std(ddof=1) / np.sqrt(2), rel=1e-12)
    assert (row["width"], row["depth"], row["seeds"], row["seconds"]) == (128, 8, 2, 2.0)


def test_the_first_divergence_of_any_size_counts():
    made = ladder((64, 4))
    made.cells[128, 4] = cell(128, 4, diverged=(3, -1))
    made.cells[64, 8] = cell(64, 8, diverged=(-1, 1))
    assert made.diverges == 1
    made.cells[64, 8] = cell(64, 8, diverged=(0, -1))
    assert made.diverges == 0


def test_truncation_compares_seed_by_seed():
    """Just below and above Student's 97.5 % quantile, a step's share of it, of the two differences."""
    made = ladder((256, 8))
    coarse = made.cells[256, 8]
    quantile = stats.t.ppf(1 - 0.025 / 4, 1)
    spread = np.array([1e-9, -1e-9])
    for factor, seen in ((0.99, False), (1.01, True)):
        loss = np.array(coarse.train_loss)
        loss[:, 2] += factor * quantile * 1e-9 + spread
        made._fine = Trajectory(
            steps=coarse.steps,
            train_loss=loss,
            train_outputs=coarse.train_outputs,
            info=coarse.info,
        )
        assert bool(made.truncation("train_loss")[2] > 0) is seen


def test_candidates_reach_four_times_the_width_and_twice_the_depth(monkeypatch):
    """All of the grid is priced, nothing that is solved, nothing beyond it."""
    made = ladder((256, 8), (512, 8), (256, 16))
    priced = set()
    real = ladders._cost
    monkeypatch.setattr(ladders, "_cost", lambda size: priced.add(size) or real(size))
    made.next_size(found(made), 1e-6)
    grid = {(n, l) for n in (256, 512, 1024, 2048) for l in (8, 16, 32)}
    assert priced == grid - set(made.cells)


def test_a_misfit_asks_for_the_cheapest_size_beyond_those_there_are():
    """Three widths and depths: not for one between them, though (128, 16) would be the cheapest."""
    sizes = ((128, 4), (256, 4), (512, 4), (128, 8), (128, 32))
    made = ladder(*sizes)
    assert made.levels == (3, 3)
    assert made.next_size(found(made), 1e9) == (1024, 4)
    narrow = ladder((8, 4), (16, 4), (1024, 4), (8, 8), (8, 16))
    assert narrow.next_size(found(narrow), 1e9) == (2048, 4)
    flat = ladder((128, 2), (256, 2), (16384, 2), (128, 3), (128, 4))
    assert flat.next_size(found(flat), 1e9) == (128, 8)


def test_a_size_between_those_there_are_is_no_larger_one():
    """Of three widths and depths, (4096, 5) and then (16, 160) would be cheaper than what lies beyond."""
    wide = ladder((8, 4), (16, 4), (4096, 4), (8, 5), (8, 40))
    assert wide.next_size(found(wide), 1e9) == (8192, 4)
    deep = ladder((8, 4), (16, 4), (16384, 4), (8, 5), (8, 160))
    assert deep.next_size(found(deep), 1e9) == (32768, 4)


def by_hand(made, seen, target):
    """The size with the largest fall of the worst bar for its cost, from the formulas."""
    widths, depths = (sorted({size[i] for size in made.cells}) for i in (0, 1))
    k = int(seen.bar.argmax())
    models = seen.posterior.likely(k)
    now = sum(p * m.variance(seen.sizes, seen.noise[k]) for p, m in models)
    best = None
    for n in [*widths, 2 * widths[-1], 4 * widths[-1]]:
        for l in [*depths, 2 * depths[-1]]:
            if (n, l) in made.cells:
                continue
            apart = [abs(np.log2(other / l)) for other in seen.sizes.l]
            near = apart.index(min(apart))
            noise = seen.noise[k, near] * seen.sizes.n[near] / n
            sizes, every = seen.sizes.and_one(n, l), [*seen.noise[k], noise]
            then = sum(p * m.variance(sizes, np.array(every)) for p, m in models)
            bar = max(seen.bar[k] * np.sqrt(then / now), target)
            worth = (seen.bar[k] - bar) / ((n + 512) * l)
            if best is None or worth > best[0]:
                best = worth, (n, l)
    return best[1]


@pytest.mark.parametrize("spread", [1e-3, 0.03, 1.0])
@pytest.mark.parametrize("slope", [1e-3, 0.5, 3.0])
def test_the_next_size_is_worth_most(slope, spread):
    """Also where noise differs from depth to depth, and a nearer depth is not the smallest one."""
    for sizes in (
        ((256, 8), (512, 8), (256, 16)),
        ((64, 4), (128, 4), (64, 64), (256, 32), (64, 2)),
        ((2048, 2), (4096, 2), (512, 4), (64, 16)),
    ):
        made = ladder(*sizes, slope=slope, spread=spread)
        seen = found(made)
        for target in (1e-9, 0.3 * seen.bar.max()):
            assert made.next_size(seen, target) == by_hand(made, seen, target)


def test_a_run_that_says_nothing_of_divergence_has_not_diverged():
    made = ladder((64, 4), (128, 4))
    made.cells[64, 8] = cell(64, 8, diverged=None)
    assert made.divergence == ""
    assert len(made.runs) == 3
    assert made.levels == (2, 2)


def test_what_is_kept_counts_on_any_device_and_with_any_progress(tmp_path):
    Ladder(FIRST, folder=tmp_path).solve(32, 2)
    other = replace(FIRST, device="cpu:0", memory=10**12, width=128)
    again = Ladder(other, print, tmp_path)
    again.solve(32, 2)
    assert again.seconds == 0


def test_a_bar_that_is_just_met_is_met():
    made = ladder((256, 8), (512, 8), (256, 16))
    seen = found(made)
    assert made.next_size(seen, float(seen.bar.max())) == (1024, 8)


def test_seeds_of_sizes_are_functions_of_the_seed_and_the_size():
    made = Ladder(replace(FIRST, seed=5))
    made.solve(32, 2)
    expected = np.random.SeedSequence([5, 32, 2]).generate_state(1)[0]
    assert made.cells[32, 2].info["seed"] == expected
    assert type(made.seconds) is float
