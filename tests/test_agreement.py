"""Two ensembles against each other: the test of all outputs at once, and what limit says of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

import leadline as ll
from leadline.limits import ladder as ladders
from leadline.limits.agreement import Agreement, agreement
from leadline.limits.ladder import Ladder
from leadline.solving.configuration import Configuration
from leadline.solving.solver import run
from leadline.trajectory import Trajectory

NET, SGD = ll.ResNet("tanh"), ll.SGD(lr=0.5, steps=4)


def problem():
    return ll.teacher(samples=4, dimension=6, seed=1)


def runs(shift=0.0, seeds=10, seed=0, at=None, steps=5, outputs=3):
    """Two runs whose outputs are noise, the first with one output moved at one step or all."""
    rng = np.random.default_rng(seed)
    both = []
    for moved in (shift, 0.0):
        f = rng.standard_normal((seeds, steps, outputs, 1))
        f[:, slice(None) if at is None else at] += moved
        loss = 0.5 * (f**2).mean((2, 3))
        info = {"width": 64, "depth": 4}
        both.append(Trajectory(steps=np.arange(steps), train_loss=loss, train_outputs=f, info=info))
    return both


def test_equal_laws_are_found_different_in_one_of_a_hundred():
    p = np.array([agreement(*runs(seed=k)).p_value for k in range(400)])
    assert (p <= 0.1).mean() == pytest.approx(0.1, abs=3 * 0.015)
    assert (p < 0.01).mean() <= 0.02
    assert p.min() >= 1 / 512


@pytest.mark.parametrize("seeds", [10, 13, 30])
def test_a_difference_at_one_step_is_seen(seeds):
    """13 seeds and more: signs are drawn, not enumerated, up to 4096."""
    assert agreement(*runs(shift=4.0, seeds=seeds, at=2)).agrees is False
    assert agreement(*runs(seeds=seeds)).agrees is True


def test_losses_are_compared_with_an_interval_for_all_steps():
    one, other = runs(seeds=200)
    a = agreement(replace(one, train_loss=other.train_loss + 0.01 * (np.arange(5) == 3)), other)
    first = other.train_loss[:, 0].mean()
    assert a.difference == pytest.approx(0.01 / first)
    assert a.error == pytest.approx(0.0, abs=1e-12)
    inside = 0
    for k in range(200):
        pair = runs(seeds=10, seed=k)
        a = agreement(*pair)
        inside += abs(a.difference) <= a.error
    # Where the mean is largest: all steps' intervals hold 0 in 95 of 100.
    assert inside >= 0.92 * 200


def test_test_outputs_count():
    one, other = runs()
    far = [replace(t, test_outputs=t.train_outputs + k) for k, t in enumerate((one, other))]
    assert not agreement(*[replace(t, test_outputs=3 * t.test_outputs) for t in far]).agrees
    assert agreement(one, other).agrees


def test_outputs_that_are_the_same():
    one, _ = runs()
    assert agreement(one, one).p_value == 1.0


def test_what_diverges_is_not_compared():
    one, other = runs()
    f = np.array(one.train_outputs)
    f[3, 2:] = np.nan
    a = agreement(replace(one, train_outputs=f), other)
    assert np.isnan(a.p_value)
    assert not a.agrees
    assert "networks diverge" in str(a)


# --- within limit ---


def test_limit_by_the_fast_ensemble():
    """Against the Gaussian one's: within both error bars, and it says that they agree."""
    how = dict(rtol=0.1, width=32, depth=2, seeds=6, seconds=None)
    usual = ll.limit(problem(), NET, SGD, **how)
    fast = ll.limit(problem(), NET, SGD, ensemble="fast", **how)
    assert usual.agreement is None
    assert fast.converged, fast
    off = np.abs(usual.train_loss - fast.train_loss)
    assert (off <= np.hypot(usual.train_loss_error, fast.train_loss_error)).all()
    assert (fast.agreement.width, fast.agreement.depth, fast.agreement.seeds) == (32, 2, 10)
    assert fast.agreement.p_value >= 0.01
    assert (fast.info["ensemble"], fast.info["variance_reduction"]) == ("fast", "ends")
    assert (usual.info["ensemble"], usual.info["variance_reduction"]) == ("gaussian", "balanced")
    assert "ensemble fast: agrees with gaussian at width=32, depth=2, 10 seeds (p = " in repr(fast)
    kept = json.loads(json.dumps(fast.to_json()))["agreement"]
    assert kept["p_value"] == fast.agreement.p_value


def test_disagreement_is_undecided(monkeypatch):
    """A fast ensemble of twice the variance: found out at the first size."""
    from leadline.solving import fast as module

    usual = module.FastGaussian
    monkeypatch.setattr(
        module, "FastGaussian", lambda n, m, std, *rest: usual(n, m, 2**0.5 * std, *rest)
    )
    r = ll.limit(problem(), NET, SGD, ensemble="fast", width=64, depth=2, seeds=4, rtol=0.5)
    assert not r.converged
    assert r.agreement.p_value < 0.01
    assert r.message.startswith("undecided: ensemble='fast' DIFFERS from gaussian at width=64")
    assert r.message.endswith("give width=128, where finite networks differ less, or "
                              "ensemble='gaussian'")  # fmt: skip
    assert len(r.sizes) == 3


def test_both_ensembles_are_kept_in_the_folder(tmp_path, monkeypatch):
    first = Configuration(
        problem(), NET, SGD, width=16, depth=2, seeds=2, variance_reduction="ends", ensemble="fast"
    )
    solved = []

    def noted(one, progress):
        solved.append((one.ensemble, one.seeds, one.tol, one.seed))
        return run(one, progress)

    monkeypatch.setattr(ladders, "run", noted)
    one = Ladder(first, folder=tmp_path)
    one.solve(16, 2)
    seed = solved[0][-1]
    assert solved == [
        ("fast", 2, 1e-3, seed),
        ("fast", 2, 1e-4, seed),
        ("gaussian", 10, 1e-3, seed),
        ("fast", 10, 1e-3, seed),
    ]
    assert one.rank > max(t.info["largest_rank"] for t in one.cells.values())
    again = Ladder(first, folder=tmp_path)
    again.solve(16, 2)
    assert len(solved) == 4
    assert again.agreement == one.agreement
    # As many seeds as the test needs: the size itself is compared.
    many = Ladder(replace(first, seeds=12))
    many.solve(16, 2)
    assert [s[:2] for s in solved[4:]] == [("fast", 12), ("fast", 12), ("gaussian", 12)]


def test_truncation_is_measured_seed_by_seed():
    """The same W(0) at any tol: what is cut shows at a few seeds, far below their spread."""
    first = Configuration(
        problem(), NET, SGD, width=32, depth=2, seeds=12, tol=0.3, ensemble="fast"
    )
    one = Ladder(first)
    one.solve(32, 2)
    (coarse,) = one.cells.values()
    change = one.truncation("train_loss")
    assert 0 < change.max() < coarse.error()[np.argmax(change)]


def test_words():
    a = Agreement(width=64, depth=4, seeds=10, p_value=0.25, difference=-0.012, error=0.03)
    assert str(a) == (
        "agrees with gaussian at width=64, depth=4, 10 seeds (p = 0.25; losses by -1.2 ± 3.0 % of the "
        "initial loss)"
    )
