"""What was drawn into a tensor: the operations that made it, and the standard deviation that follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from leadline.tracing.builder import seeded

# Entries of a sample: a standard deviation is then known to 3.5e-4.
_SAMPLE = 1 << 22


@dataclass
class Draw:
    """What was done to one tensor since it was made.

    Attributes:
        steps: functions of the tensor so far, in order; the first makes it from a shape.
        unknown: an operation whose result has no independent entries of one law; "" if there is none.
        events: the draws of random numbers that it depends on.
    """

    shape: tuple[int, ...]
    steps: list[tuple[str, Callable[..., Tensor], tuple[Any, ...]]] = field(default_factory=list)
    unknown: str = ""
    events: frozenset[int] = frozenset()

    def values(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor, drawn anew."""
        out = torch.empty(0)
        for _, make, _ in self.steps:
            out = make(out, self.shape if shape is None else shape)
        return out

    def std(self) -> float:
        """Standard deviation of independent entries of mean 0.

        Raises:
            ValueError: they are not that, or it cannot be told.
        """
        if self.unknown:
            raise ValueError(f"its values come from {self.unknown}")
        mean, std = self._known() or _sampled(self)
        if mean:
            raise ValueError(f"its values have the mean {mean:.3g}, not 0")
        return std

    def _known(self) -> tuple[float, float] | None:
        """Mean and standard deviation where the operations say them."""
        mean, std = math.nan, math.nan
        for name, _, numbers in self.steps:
            if name in ("normal_", "normal", "randn"):
                mean, std = (*numbers, *(0.0, 1.0)[len(numbers) :])[:2]
            elif name in ("uniform_", "rand"):
                low, high = (*numbers, *(0.0, 1.0)[len(numbers) :])[:2]
                mean, std = (low + high) / 2, (high - low) / math.sqrt(12)
                mean = 0.0 if abs(mean) < 1e-9 * std else mean
            elif name in ("zero_", "zeros", "fill_", "ones", "full", "new_zeros", "new_ones"):
                value = {"ones": 1.0, "new_ones": 1.0}.get(
                    name, float(numbers[0]) if numbers else 0.0
                )
                mean, std = value, 0.0
            elif name in ("mul_", "mul"):
                mean, std = mean * numbers[0], std * abs(numbers[0])
            elif name in ("div_", "div") and len(numbers) == 1:
                mean, std = mean / numbers[0], std / abs(numbers[0])
            elif name not in ("empty", "new_empty", "empty_strided", "clone", "_to_copy"):
                return None
        return None if math.isnan(std) else (mean, std)


_SAMPLED: dict[Any, tuple[float, float]] = {}


def _sampled(draw: Draw) -> tuple[float, float]:
    """Mean and standard deviation of a sample, the same in every call."""
    key = tuple((name, numbers) for name, _, numbers in draw.steps)
    if key not in _SAMPLED:
        with seeded(0):
            sample = draw.values((_SAMPLE,)).double()
        mean, std = float(sample.mean()), float(sample.std())
        _SAMPLED[key] = 0.0 if abs(mean) < 6 * std / math.sqrt(_SAMPLE) else mean, std
    return _SAMPLED[key]
