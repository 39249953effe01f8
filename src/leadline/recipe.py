"""The training recipe: stochastic gradient descent, the same at every width and depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.errors import (
    LARGEST_RATE,
    check_bool,
    check_choice,
    check_int,
    check_list,
    check_real,
    shown,
)

ROLES = ("input", "hidden", "readout")

# Entropy words that keep the batch order apart from the weights' streams of the same seed.
_BATCH_ORDER = 0x6261746368
# Steps at which a schedule is checked before work, and the longest one that is a list.
_CHECKS, _LONGEST = 1000, 10_000_000


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent at rate η; every width and depth factor comes from the scheme.

    Args:
        lr: η > 0, at most 1e30 (the actual rate of a weight is η·n^q·c(L), see
            ``parametrization.schemes``).
        steps: number of steps K ≥ 0; 0 is initialization only.
        batch_size: B; None is the full batch. More than the problem's samples is refused.
        momentum: μ in [0, 1), PyTorch's: buffer ← μ·buffer + gradient, W ← W − lr·buffer.
        weight_decay: λ ≥ 0, at most 1e30; every trained weight is multiplied by 1 − ηλ a step at any
            n and L (with momentum, the decay passes through the buffer as in PyTorch).
        train: which weights learn: any of "input" (U), "hidden" (all W), "readout" (v).
        center: project v(0) off the span of the training h_L, so that the training outputs start
            at 0 (test outputs are not zeroed).
        schedule: multiplier of lr per step: a function of the step (0-based), or a sequence of
            at least ``steps`` numbers ≥ 0; None is constant.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    lr: float = 0.1
    steps: int = 10
    batch_size: int | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    train: tuple[str, ...] = ROLES
    center: bool = False
    schedule: Callable[[int], float] | Sequence[float] | None = None

    def __post_init__(self) -> None:
        def keep(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        keep("lr", check_real("lr", self.lr, 0.0, LARGEST_RATE, open_minimum=True))
        keep("steps", check_int("steps", self.steps, 0))
        if self.batch_size is not None:
            keep("batch_size", check_int("batch_size", self.batch_size, 1))
        keep("momentum", check_real("momentum", self.momentum, 0.0, 1.0, open_maximum=True))
        keep("weight_decay", check_real("weight_decay", self.weight_decay, 0.0, LARGEST_RATE))
        names = (self.train,) if isinstance(self.train, str) else self.train
        names = check_list("train", names, 100, what=f"of {', '.join(ROLES)}")
        chosen = {check_choice("train", name, ROLES) for name in names}
        keep("train", tuple(role for role in ROLES if role in chosen))
        keep("center", check_bool("center", self.center))
        if self.schedule is None:
            return
        if not callable(self.schedule):
            keep("schedule", self._listed(self.schedule))
        # Checked before any work: all of a short training, and the ends and a sample of a long one.
        for step in np.unique(np.linspace(0, max(self.steps - 1, 0), min(self.steps, _CHECKS))):
            self.multiplier(int(step))

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

    def check_width(self, samples: int, width: int) -> None:
        """Refuse centring where v would lose much of its freedom."""
        if self.center and 4 * samples > width:
            raise ValueError(
                f"center=True with {samples} samples needs width >= {4 * samples}, width={width} is "
                "too small: widen, or center=False"
            )

    def batches(self, samples: int, seed: int) -> Batches:
        """Indices of every step's batch: reshuffled epochs, the last partial batch kept.

        The order depends on ``seed`` alone: it is the same for every run, width, depth and solver.
        """
        size = samples if self.batch_size is None else self.batch_size
        return Batches(samples, min(size, samples), self.steps, seed)


class Batches(Sequence[np.ndarray]):
    """The batches of a training, made on access: one epoch's order is held at a time.

    Going on costs an epoch's order an epoch; going back starts again at the first.
    """

    def __init__(self, samples: int, size: int, steps: int, seed: int) -> None:
        self._samples, self._size, self._steps, self._seed = samples, size, steps, seed
        self._each = -(-samples // size)
        self._epoch, self._order = -1, np.arange(samples)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: Any) -> Any:
        if isinstance(step, slice):
            return [self[k] for k in range(*step.indices(self._steps))]
        if not -self._steps <= step < self._steps:
            raise IndexError(step)
        if self._size == self._samples:
            return self._order
        epoch, at = divmod(step % self._steps, self._each)
        if epoch < self._epoch or self._epoch < 0:
            self._rng, self._epoch = np.random.default_rng([_BATCH_ORDER, self._seed]), -1
        while self._epoch < epoch:
            self._order = self._rng.permutation(self._samples)
            self._epoch += 1
        return self._order[at * self._size : (at + 1) * self._size]
