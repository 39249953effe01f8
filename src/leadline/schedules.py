"""The course of a learning rate over the steps of a training: warm-up, then a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from leadline.errors import check_choice, check_int, shown

NAMES = ("constant", "cosine", "linear", "wsd")
# The part of all steps in which warm-up, stable, decay decays.
_DECAY = 0.2

Schedule = str | Callable[[int, int], float]
"""A name, or a function (step, steps) -> factor on the learning rate."""


def check_schedule(name: str, value: Any) -> Schedule:
    """A name of ``NAMES``, or a function (step, steps) -> factor."""
    if callable(value):
        return value
    return check_choice(name, value, NAMES)


def course(schedule: Schedule, warmup: int, steps: int) -> np.ndarray:
    """(steps,) factors on the learning rate.

    Linear over the first ``warmup`` steps, from 1/warmup to 1; then constant, a cosine to 0, a line to 0,
    or (wsd) constant with a line to 0 in the last fifth of all steps. A decay reaches 0 one step after the
    last one.

    Raises:
        ValueError: warm-up is longer than the training, or a function returns no number >= 0.

    >>> course("linear", 2, 6).round(2).tolist()
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    check_int("warmup", warmup, 0)
    if warmup > steps:
        raise ValueError(
            f"warmup={warmup} is longer than steps={steps}: give at most {steps}, or more steps"
        )
    if not isinstance(schedule, str):
        out = np.array([_value(schedule, step, steps) for step in range(steps)])
    else:
        rest = max(steps - warmup, 1)
        at = np.clip((np.arange(steps) - warmup) / rest, 0.0, 1.0)
        if schedule == "cosine":
            out = 0.5 * (1 + np.cos(math.pi * at))
        elif schedule == "linear":
            out = 1 - at
        elif schedule == "wsd":
            out = np.minimum((steps - np.arange(steps)) / max(_DECAY * steps, 1.0), 1.0)
        else:
            out = np.ones(steps)
    ramp = (np.arange(steps) + 1) / warmup if warmup else np.ones(steps)
    return out * np.minimum(ramp, 1.0)


def _value(schedule: Callable[[int, int], float], step: int, steps: int) -> float:
    try:
        value = float(schedule(step, steps))
    except Exception as e:
        raise ValueError(
            f"schedule({step}, {steps}) failed with {type(e).__name__}: {e}; it is called with a step and "
            "the number of steps, and returns a factor"
        ) from e
    if not 0 <= value < math.inf:
        raise ValueError(
            f"schedule({step}, {steps}) returned {shown(value)}: return a factor >= 0 on the learning rate"
        )
    return value
