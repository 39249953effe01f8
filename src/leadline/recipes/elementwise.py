"""Recipes whose steps act on each entry of a weight: Adam, AdamW, Lion, SignSGD."""

from __future__ import annotations

from abc import ABC
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from leadline.errors import check_real
from leadline.parametrization.optimizers import BETAS, EPS, LION_BETAS
from leadline.recipes.base import GroupMaker, Recipe, check_betas, check_momentum


@dataclass(frozen=True)
class AdamRecipe(Recipe, ABC):
    """What Adam and AdamW share: averages of the gradient and of its square."""

    lr: float = 1e-3
    betas: tuple[float, float] = BETAS
    eps: float = EPS

    def _check_settings(self) -> None:
        self._keep("betas", check_betas("betas", self.betas))
        self._keep("eps", check_real("eps", self.eps, 0.0))

    def _make(self, plan: GroupMaker, model: Any, skip: Collection[str]) -> list[Any]:
        groups = self._groups(plan, model, skip, eps=self.eps, betas=self.betas)
        return plan.optimizer_rule.make(groups)


@dataclass(frozen=True)
class Adam(AdamRecipe):
    """Adam (1412.6980) as torch.optim.Adam: weight decay is added to the gradient.

    Args:
        lr, steps, batch_size, weight_decay, schedule, clip: as of ``Recipe``, at the base.
        betas: β₁, β₂ in [0, 1) of the averages of the gradient and of its square.
        eps: the base's ε ≥ 0, added to √v; the plan carries it as it carries lr.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    @property
    def optimizer(self) -> str:
        """adam."""
        return "adam"


@dataclass(frozen=True)
class AdamW(AdamRecipe):
    """AdamW (1711.05101) as torch.optim.AdamW: a step takes lr·λ·w off a weight.

    Args:
        lr, steps, batch_size, weight_decay, schedule, clip: as of ``Recipe``, at the base.
        betas: β₁, β₂ in [0, 1) of the averages of the gradient and of its square.
        eps: the base's ε ≥ 0, added to √v; the plan carries it as it carries lr.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    @property
    def optimizer(self) -> str:
        """adamw."""
        return "adamw"


@dataclass(frozen=True)
class Lion(Recipe):
    """Lion (2302.06675): the sign of an average of the gradient; weight decay as AdamW's.

    Args:
        lr, steps, batch_size, weight_decay, schedule, clip: as of ``Recipe``, at the base.
        betas: β₁ of the average whose sign is taken, β₂ of the one that is kept, in [0, 1).

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = LION_BETAS

    def _check_settings(self) -> None:
        self._keep("betas", check_betas("betas", self.betas))

    @property
    def optimizer(self) -> str:
        """lion."""
        return "lion"

    def _make(self, plan: GroupMaker, model: Any, skip: Collection[str]) -> list[Any]:
        groups = self._groups(plan, model, skip, betas=self.betas)
        return plan.optimizer_rule.make(groups)


@dataclass(frozen=True)
class SignSGD(Recipe):
    """signSGD (1802.04434): the sign of the gradient, or of its average; weight decay as AdamW's.

    Args:
        lr, steps, batch_size, weight_decay, schedule, clip: as of ``Recipe``, at the base.
        momentum: μ in [0, 1) of the average whose sign is taken (the paper's Signum); 0 is none.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    lr: float = 1e-4
    momentum: float = 0.0

    def _check_settings(self) -> None:
        self._keep("momentum", check_momentum(self.momentum))

    @property
    def optimizer(self) -> str:
        """signsgd."""
        return "signsgd"

    def _make(self, plan: GroupMaker, model: Any, skip: Collection[str]) -> list[Any]:
        return plan.optimizer_rule.make(
            self._groups(plan, model, skip), settings={"momentum": self.momentum}
        )
