"""What a recipe asks of one wide weight: by which rule it is updated, and a step's numbers."""

from __future__ import annotations

from leadline.matrixfree.elementwise_rules import (
    AdamRule,
    AdamWRule,
    ElementwiseRule,
    ElementwiseStep,
    LionRule,
    SignRule,
)
from leadline.parametrization.updates import muon_factor
from leadline.planning.factors import Factors
from leadline.recipes.base import Recipe
from leadline.recipes.elementwise import Adam, AdamW, Lion, SignSGD
from leadline.recipes.muon import Muon
from leadline.recipes.sgd import SGD
from leadline.solving.updates import MuonStep, Step
from leadline.tracing.kinds import Kind


def recipe_of(recipe: Recipe, kind: Kind) -> Recipe:
    """The recipe of a hidden weight: Muon leaves what is no matrix (experts, convolutions) to AdamW."""
    return recipe.rest if isinstance(recipe, Muon) and len(kind.shape) != 2 else recipe


def rule_of(recipe: Recipe, kind: Kind, factors: Factors) -> ElementwiseRule | None:
    """How the recipe updates a hidden weight entry by entry; None where its updates have low rank.

    Raises:
        ValueError: Adam with weight decay, which needs the entries of W(0).
    """
    recipe = recipe_of(recipe, kind)
    if isinstance(recipe, Adam):
        rule = AdamRule(recipe.betas, recipe.eps * factors.eps)
        rule.check(ElementwiseStep(recipe.lr, recipe.weight_decay))
        return rule
    if isinstance(recipe, AdamW):
        return AdamWRule(recipe.betas, recipe.eps * factors.eps)
    if isinstance(recipe, Lion):
        return LionRule(recipe.betas)
    if isinstance(recipe, SignSGD):
        return SignRule(recipe.momentum)
    return None


def step_of(
    recipe: Recipe,
    kind: Kind,
    factors: Factors,
    multiplier: float,
    shape: tuple[int, int],
    decays: bool = True,
) -> Step | MuonStep | ElementwiseStep:
    """The numbers of a step with every rate times the schedule's multiplier, for a matrix of this shape.

    Args:
        decays: is it one that the recipe lets decay?
    """
    recipe = recipe_of(recipe, kind)
    lr = recipe.lr * factors.lr * multiplier
    decay = recipe.weight_decay * factors.weight_decay if decays else 0.0
    if isinstance(recipe, SGD):
        return Step(lr, recipe.momentum, decay)
    if isinstance(recipe, Muon):
        factor = muon_factor(ADJUST[recipe.adjust], *shape)
        return MuonStep(lr * factor, lr * decay, recipe.momentum, recipe.nesterov, recipe.ns_steps)
    return ElementwiseStep(lr, decay)


ADJUST = {"original": None, "match-rms": "match_rms_adamw"}
"""torch.optim.Muon's ``adjust_lr_fn`` of a recipe's ``adjust``."""
