"""The training recipe: stochastic gradient descent, the same at every width and depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import check_choice, check_int, check_real

ROLES = ("input", "hidden", "readout")

# Entropy words that keep the batch order apart from the weights' streams of the same seed.
_BATCH_ORDER = 0x6261746368


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent at rate η; every width and depth factor comes from the scheme.

    Args:
        lr: η > 0 (the actual rate of a weight is η·n^q·c(L), see ``parametrization.schemes``).
        steps: number of steps K ≥ 0; 0 is initialization only.
        batch_size: B; None is the full batch. More than the problem's samples is refused.
        momentum: μ in [0, 1), PyTorch's: buffer ← μ·buffer + gradient, W ← W − lr·buffer.
        weight_decay: λ ≥ 0; every trained weight is multiplied by 1 − ηλ a step at any n and L
            (with momentum, the decay passes through the buffer as in PyTorch).
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
        check_real("lr", self.lr, 0.0, open_minimum=True)
        check_int("steps", self.steps, 0)
        if self.batch_size is not None:
            check_int("batch_size", self.batch_size, 1)
        check_real("momentum", self.momentum, 0.0, 1.0)
        if self.momentum == 1.0:
            raise ValueError("momentum=1.0 is out of range: give a number >= 0 and < 1")
        check_real("weight_decay", self.weight_decay, 0.0)
        names = (self.train,) if isinstance(self.train, str) else tuple(self.train)
        if not names:
            raise ValueError(f"train={self.train!r} is empty: name one or more of {ROLES}")
        for name in names:
            check_choice("train", name, ROLES)
        object.__setattr__(self, "train", tuple(r for r in ROLES if r in names))
        if not isinstance(self.center, bool):
            raise TypeError(f"center={self.center!r} is not a bool: give True or False")
        if self.schedule is not None and not callable(self.schedule):
            values = tuple(float(m) for m in self.schedule)
            if len(values) < self.steps:
                raise ValueError(
                    f"schedule has {len(values)} multipliers, steps={self.steps}: give one a step"
                )
            object.__setattr__(self, "schedule", values)
        for step in range(self.steps):
            check_real(f"schedule at step {step}", self.multiplier(step), 0.0)

    def multiplier(self, step: int) -> float:
        """The schedule's multiplier of lr at a step."""
        if self.schedule is None:
            return 1.0
        if isinstance(self.schedule, Sequence):
            return self.schedule[step]
        return float(self.schedule(step))

    def check(self, samples: int) -> None:
        """Refuse a batch larger than the problem."""
        if self.batch_size is not None and self.batch_size > samples:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the problem's {samples} samples: "
                f"give at most {samples}, or None for the full batch"
            )

    def batches(self, samples: int, seed: int) -> Iterator[np.ndarray]:
        """Indices of every step's batch: reshuffled epochs, the last partial batch kept.

        The order depends on ``seed`` alone: it is the same for every run, width, depth and solver.
        """
        size = samples if self.batch_size is None else self.batch_size
        if size >= samples:
            for _ in range(self.steps):
                yield np.arange(samples)
            return
        rng = np.random.default_rng([_BATCH_ORDER, seed])
        step = 0
        while True:
            order = rng.permutation(samples)
            for start in range(0, samples, size):
                if step == self.steps:
                    return
                yield order[start : start + size]
                step += 1
