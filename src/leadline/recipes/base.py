"""``Recipe``: what all recipes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from leadline.errors import (
    LARGEST_RATE,
    check_choice,
    check_int,
    check_list,
    check_real,
    check_type,
    shown,
)
from leadline.parametrization.optimizers import Optimizer
from leadline.recipes.batches import Batches
from leadline.schedules import NAMES, course

if TYPE_CHECKING:
    import torch

# Steps at which a schedule is checked before work, and the longest one that is a list.
_CHECKS, _LONGEST = 1000, 10_000_000


class GroupMaker(Protocol):
    """What a recipe asks of a plan: whose optimizer it is for, and parameter groups."""

    @property
    def optimizer_rule(self) -> Optimizer:
        """How the updates of its optimizer scale."""
        ...

    def param_groups(self, model: Any, lr: float, weight_decay: float, **how: Any) -> list[Any]:
        """See ``Plan.param_groups``."""
        ...


@dataclass(frozen=True)
class Recipe(ABC):
    """An optimizer with its settings at the base, steps, batches, schedule and clipping.

    Args:
        lr: the base's learning rate, > 0, at most 1e30.
        steps: number of steps K ≥ 0; 0 is initialization only.
        batch_size: of a ``Problem`` or ``Text``; None is the full batch, or a text's usual one. A ``Task``
            has batches of its own.
        weight_decay: the base's λ ≥ 0, at most 1e30.
        schedule: multiplier of lr per step: "constant", "cosine", "linear" (both fall to 0) or "wsd" (falls
            in the last fifth), as in ``sweep``; a function of the step (0-based); or a sequence of at least
            ``steps`` numbers ≥ 0. None is constant.
        clip: largest norm of the gradient, in the base's units (``Plan.clip_grad_norm_``); None is none.
        no_decay: roles ("vector", "finite") or name patterns of parameters without weight decay.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    lr: float = 0.1
    steps: int = 10
    batch_size: int | None = None
    _: KW_ONLY
    weight_decay: float = 0.0
    schedule: str | Callable[[int], float] | Sequence[float] | None = None
    clip: float | None = None
    no_decay: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._keep("lr", check_real("lr", self.lr, 0.0, LARGEST_RATE, open_minimum=True))
        self._keep("steps", check_int("steps", self.steps, 0))
        if self.batch_size is not None:
            self._keep("batch_size", check_int("batch_size", self.batch_size, 1))
        self._keep("weight_decay", check_real("weight_decay", self.weight_decay, 0.0, LARGEST_RATE))
        if self.clip is not None:
            self._keep("clip", check_real("clip", self.clip, 0.0, open_minimum=True))
        self._keep("no_decay", _patterns(self.no_decay))
        self._check_settings()
        if self.schedule is None:
            return
        if isinstance(self.schedule, str):
            check_choice("schedule", self.schedule, NAMES)
        elif not callable(self.schedule):
            self._keep("schedule", self._listed(self.schedule))
        # Checked before any work: all of a short training, and the ends and a sample of a long one.
        for step in np.unique(np.linspace(0, max(self.steps - 1, 0), min(self.steps, _CHECKS))):
            self.multiplier(int(step))

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @abstractmethod
    def _check_settings(self) -> None:
        """Check and keep what the optimizer has beside the settings of all."""

    @property
    @abstractmethod
    def optimizer(self) -> str:
        """The optimizer's name for ``plan``, ``check``, ``sweep`` and ``transfer``."""

    @abstractmethod
    def _make(self, plan: GroupMaker, model: Any, skip: Collection[str]) -> list[Any]:
        """Torch's optimizers; see ``optimizers``."""

    def optimizers(
        self, plan: GroupMaker, model: torch.nn.Module, skip: Collection[str] = frozenset()
    ) -> list[torch.optim.Optimizer]:
        """The torch optimizers of a model at the plan's rates; the schedule and clipping are the caller's.

        Args:
            plan: of the model's size and of this optimizer.
            skip: names of parameters that are trained elsewhere.

        Raises:
            ValueError: the plan is for another optimizer, or no parameter has a name in ``skip``.
        """
        rule = plan.optimizer_rule
        if rule.name != self.optimizer:
            raise ValueError(
                f"the plan is for optimizer={rule.name!r} and the recipe is {type(self).__name__}: plan "
                f"with optimizer={self.optimizer!r}"
            )
        known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        unknown = sorted(set(skip) - known)
        if unknown:
            raise ValueError(f"skip: the model has no parameter {unknown[0]!r}")
        return self._make(plan, model, skip)

    def settings(self, plan: GroupMaker, model: torch.nn.Module) -> dict[str, dict[str, Any]]:
        """What trains each parameter at the plan's size, by name; what does not train is not there.

        Returns:
            The settings of its group (lr, weight_decay, betas, eps, momentum, …), and ``kind``, the class
            of its optimizer.
        """
        names = {id(p): name for name, p in model.named_parameters()}
        return {
            names[id(p)]: {k: v for k, v in group.items() if k != "params"} | {"kind": type(o)}
            for o in self.optimizers(plan, model)
            for group in o.param_groups
            for p in group["params"]
        }

    def _groups(
        self, plan: GroupMaker, model: Any, skip: Collection[str], **how: Any
    ) -> list[dict[str, Any]]:
        """The plan's parameter groups without what is trained elsewhere."""
        how["no_decay"] = self.no_decay
        groups = plan.param_groups(model, self.lr, self.weight_decay, **how)
        if not skip:
            return groups
        named = model.named_parameters(remove_duplicate=False)
        left_out = {id(p) for name, p in named if name in skip}
        for group in groups:
            group["params"] = [p for p in group["params"] if id(p) not in left_out]
        return [group for group in groups if group["params"]]

    def _listed(self, schedule: Sequence[float]) -> tuple[float, ...]:
        values = check_list("schedule", schedule, _LONGEST, what="multipliers")
        if len(values) < self.steps:
            raise ValueError(
                f"schedule has {len(values)} multipliers, steps={self.steps}: give one a step"
            )
        return tuple(check_real(f"schedule at step {k}", m, 0.0) for k, m in enumerate(values))

    def multiplier(self, step: int) -> float:
        """The schedule's multiplier of lr at a step.

        Raises:
            ValueError, TypeError: the schedule fails there, or gives no finite number >= 0.
        """
        if self.schedule is None:
            return 1.0
        if isinstance(self.schedule, str):
            return float(_course(self.schedule, self.steps)[step])
        if not callable(self.schedule):
            return self.schedule[step]
        try:
            value = self.schedule(step)
        except Exception as e:
            raise ValueError(
                f"schedule={shown(self.schedule)} fails at step {step} with {type(e).__name__}: "
                f"{e}; give a function of the step, from 0 to steps - 1"
            ) from e
        return check_real(f"schedule at step {step}", value, 0.0)

    def check(self, samples: int) -> None:
        """Refuse a batch larger than the problem."""
        if self.batch_size is not None and self.batch_size > samples:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the problem's {samples} samples: "
                f"give at most {samples}, or None for the full batch"
            )

    def batches(self, samples: int, seed: int) -> Batches:
        """Indices of every step's batch: reshuffled epochs, the last partial batch kept.

        The order depends on ``seed`` alone: it is the same for every run, width, depth and solver.
        """
        size = samples if self.batch_size is None else self.batch_size
        return Batches(samples, min(size, samples), self.steps, seed)


@lru_cache(maxsize=16)
def _course(name: str, steps: int) -> np.ndarray:
    """Multipliers of all steps."""
    return course(name, 0, steps)


def _patterns(no_decay: Any) -> tuple[str, ...]:
    """Roles or patterns, one or several."""
    if isinstance(no_decay, str):
        return (no_decay,)
    several = check_list("no_decay", no_decay, 1000, what="roles or patterns") if no_decay else ()
    for pattern in several:
        check_type("no_decay", pattern, str, 'give roles or patterns, such as ("vector", "*.bias")')
    return tuple(several)


def check_betas(name: str, betas: Any) -> tuple[float, float]:
    """Two numbers in [0, 1)."""
    values = check_list(name, betas, 2, what="numbers in [0, 1)")
    if len(values) != 2:
        raise ValueError(f"{name}={shown(betas)} is one number: give two, such as (0.9, 0.999)")
    first, second = (check_real(name, b, 0.0, 1.0, open_maximum=True) for b in values)
    return first, second


def check_momentum(momentum: Any) -> float:
    """A number in [0, 1)."""
    return check_real("momentum", momentum, 0.0, 1.0, open_maximum=True)
