"""A solve is the training of a dense model from the W(0) that it revealed, under every recipe."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import leadline as ll

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from replay import configuration, replay
from wide_models import CASES, RECIPES

SMALL = ("residual MLP, 2 layers a block", "GPT, fused qkv", "conv ResNet", "mixture of experts")


@pytest.fixture(scope="module")
def made():
    """Configurations by case and recipe, planned once."""
    kept = {}

    def make(case, recipe, steps=12):
        if (case, recipe) not in kept:
            kept[case, recipe] = configuration(CASES[case](), RECIPES[recipe](steps))
        return kept[case, recipe]

    return make


@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_trains_as_dense_weights_do(made, recipe, ensemble):
    r = replay(replace(made(SMALL[0], recipe), ensemble=ensemble))
    assert len(r.wide) == 4
    assert abs(r.solved[-1] / r.solved[0] - 1) > 0.01
    assert r.difference < 1e-12
    assert r.error < 1e-12


@pytest.mark.parametrize("case", SMALL[1:])
@pytest.mark.parametrize("recipe", ["SGD", "AdamW"])
def test_every_kind_of_layer_trains_as_dense_weights_do(made, case, recipe):
    r = replay(made(case, recipe))
    assert len(r.wide) >= 4
    assert r.difference < 1e-12


@pytest.mark.parametrize("case", ["HF GPT-2", "HF Llama", "HF ViT"])
def test_unedited_library_models_train_as_dense_ones_do(made, case):
    """Muon: hidden matrices by their tables, all else by AdamW."""
    r = replay(made(case, "Muon", 4))
    assert len(r.wide) >= 8
    assert r.difference < 1e-12


@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
def test_schedule_and_clipping_count_wide_gradients(made, ensemble):
    """The norm is that of all gradients: a clip that bites gives the dense training."""
    recipe = ll.SGD(lr=0.05, steps=6, momentum=0.9, clip=0.2, schedule=[1, 0.5, 1, 2, 0.25, 1])
    c = replace(made(SMALL[0], "SGD"), recipe=recipe, ensemble=ensemble)
    clipped, free = replay(c), replay(replace(c, recipe=replace(recipe, clip=None)))
    assert clipped.difference < 1e-12
    assert abs(clipped.solved[2] / free.solved[2] - 1) > 1e-3


def test_independent_coupling_is_another_training(made):
    """The same forward pass at first, another backward pass."""
    c = replace(made(SMALL[0], "SGD"), tol=1e-6)
    losses = [
        ll.solve(
            c.task, c.plan, c.recipe, width=64, depth=2, dtype="float64", coupling=coupling
        ).train_loss[0]
        for coupling in ("reused", "independent")
    ]
    assert losses[0][0] == losses[1][0]
    assert abs(losses[0][1] / losses[1][1] - 1) > 1e-4


def test_truncation_changes_little_and_saves_rank(made):
    c = made("GPT, fused qkv", "SGD")
    exact, rough = (
        ll.solve(c.task, c.plan, c.recipe, width=128, depth=2, dtype="float64", tol=tol)
        for tol in (0.0, 1e-2)
    )
    assert rough.info["largest_rank"] <= exact.info["largest_rank"]
    assert abs(rough.train_loss / exact.train_loss - 1).max() < 0.01


class _Largest(TorchDispatchMode):
    """The most entries that any tensor with memory has."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor) and not x.is_meta]
        self.entries = max([self.entries, *(x.numel() for x in made)])
        return out


@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
@pytest.mark.parametrize("recipe", ["SGD", "Muon"])
def test_nothing_of_the_matrices_size_is_allocated(made, recipe, ensemble):
    n = 2048
    c = made(SMALL[0], recipe, 2)
    with _Largest() as largest:
        s = ll.solve(c.task, c.plan, c.recipe, width=n, depth=2, ensemble=ensemble)
    assert len(s.info["wide"]) == 4
    # The bases begin with room for 512 rows, which is not touched before it is needed.
    assert largest.entries <= 512 * n


def test_muon_takes_no_rough_tolerance(made):
    c = made(SMALL[0], "Muon", 2)
    with pytest.raises(ValueError, match=r"tol=0\.01 is too large for Muon"):
        ll.solve(c.task, c.plan, c.recipe, width=64, depth=2, tol=0.01)
