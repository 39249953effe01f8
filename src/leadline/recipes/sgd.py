"""Stochastic gradient descent, the same at every width and depth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from leadline.errors import check_bool, check_choice, check_list
from leadline.recipes.base import GroupMaker, Recipe, check_momentum

ROLES = ("input", "hidden", "readout")


@dataclass(frozen=True)
class SGD(Recipe):
    """Stochastic gradient descent at rate η; every width and depth factor comes from the scheme.

    Args:
        lr: η > 0, at most 1e30 (the actual rate of a weight is η·n^q·c(L), see
            ``parametrization.schemes``; of a user's model, the base's).
        steps: number of steps K ≥ 0; 0 is initialization only.
        batch_size: B; None is the full batch. More than the problem's samples is refused.
        momentum: μ in [0, 1), PyTorch's: buffer ← μ·buffer + gradient, W ← W − lr·buffer.
        train: which weights of a ``ResNet`` learn: any of "input" (U), "hidden" (all W), "readout" (v).
        center: for a ``ResNet``: project v(0) off the span of the training h_L, so that the training
            outputs start at 0 (test outputs are not zeroed).
        weight_decay: λ ≥ 0, at most 1e30; every trained weight is multiplied by 1 − ηλ a step at any
            n and L (with momentum, the decay passes through the buffer as in PyTorch).
        schedule: multiplier of lr per step: a function of the step (0-based), or a sequence of
            at least ``steps`` numbers ≥ 0; None is constant.
        clip: for a builder's model: largest norm of the gradient, in the base's units; None is none.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    momentum: float = 0.0
    train: tuple[str, ...] = ROLES
    center: bool = False

    def _check_settings(self) -> None:
        self._keep("momentum", check_momentum(self.momentum))
        names = (self.train,) if isinstance(self.train, str) else self.train
        names = check_list("train", names, 100, what=f"of {', '.join(ROLES)}")
        chosen = {check_choice("train", name, ROLES) for name in names}
        self._keep("train", tuple(role for role in ROLES if role in chosen))
        self._keep("center", check_bool("center", self.center))

    @property
    def optimizer(self) -> str:
        """sgd."""
        return "sgd"

    def check_model(self) -> None:
        """Refuse what only a ``ResNet`` has."""
        if self.train != ROLES:
            raise ValueError(
                f"train={self.train!r} is for a ResNet: in a builder's model set requires_grad_(False) on "
                "what stays, and leave train out"
            )
        if self.center:
            raise ValueError(
                "center=True is for a ResNet: begin a builder's readout at 0 instead, and leave center out"
            )

    def _make(self, plan: GroupMaker, model: Any, skip: Collection[str]) -> list[Any]:
        self.check_model()
        groups = self._groups(plan, model, skip)
        return plan.optimizer_rule.make(groups, settings={"momentum": self.momentum})

    def check_width(self, samples: int, width: int) -> None:
        """Refuse centring where v would lose much of its freedom."""
        if self.center and 4 * samples > width:
            raise ValueError(
                f"center=True with {samples} samples needs width >= {4 * samples}, width={width} is "
                "too small: widen, or center=False"
            )
