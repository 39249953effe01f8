"""The memory of a solve of a builder's model: predicted before work, metered during it."""

from dataclasses import replace

import numpy as np
import pytest

import leadline as ll
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.initialization import training
from leadline.matrixfree.memory import ordinary_bytes, predict
from test_wide_resume import RECIPES, TASK, Noisy


@pytest.fixture(scope="module")
def made():
    base = dict(width=16, depth=2)
    return {
        name: TaskConfiguration(TASK, Noisy, recipe, width=64, depth=3, base=base, tol=0.0)
        for name, recipe in RECIPES.items()
    }


def test_parts_follow_from_the_model(made):
    """Six rows for each of three matrices; entries, gradients and momentum of what is not wide."""
    c = made["SGD"]
    need = predict(c)
    assert [(m.rows, m.n_in, m.n_out, m.count) for m in need.matrices] == [(6, 64, 64, 1)] * 3
    ordinary = 64 * 4 + 64 + 3 * 64 + 2 * 64 + 64 + 1
    assert ordinary_bytes(c) == need.parts["weights"] == ordinary * 4 * 3
    stored = replace(c, stored=("hidden.1.weight",))
    assert ordinary_bytes(stored) - ordinary_bytes(c) == 64 * 64 * 4 * 3


@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
@pytest.mark.parametrize("name", list(RECIPES))
def test_what_grows_is_predicted(made, name, ensemble):
    """Fresh rows at tol = 0: every query is new, so that the prediction at most is what happens."""
    c = replace(made[name], ensemble=ensemble)
    work, updates = training(c, 0)
    work.run()
    grown = sum(m.grown for w in updates.wide.values() for m in w.matrices)
    assert 0.3 < 1.3 * grown / predict(c).bases(c.recipe.steps) <= 1.0


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_budget_is_kept(made, name, tmp_path):
    """Refused before work, stopped with a file that goes on, or done: by what memory= is."""
    c, path = made[name], tmp_path / "work"
    need = predict(c)
    how = dict(width=64, depth=3, tol=0.0, checkpoint=path)
    with pytest.raises(
        MemoryError, match=r"first step of width=64, depth=3 needs .*memory= of at least"
    ):
        ll.solve(TASK, c.plan, c.recipe, memory=need.first_step - 1, **how)
    assert not path.exists()
    with pytest.raises(ll.MemoryBudgetError, match="resume from checkpoint=") as stopped:
        ll.solve(TASK, c.plan, c.recipe, memory=need.first_step + 1, **how)
    assert stopped.value.checkpoint == str(path)
    resumed = ll.solve(TASK, c.plan, c.recipe, memory=need.at_most, **how)
    whole = ll.solve(TASK, c.plan, c.recipe, **how | dict(checkpoint=None))
    np.testing.assert_array_equal(resumed.train_loss, whole.train_loss)
