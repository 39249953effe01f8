"""The floor of the runs beside the limit of ``leadline.limit``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from leadline.errors import check_real
from leadline.intervals import Interval


@dataclass(frozen=True)
class LimitComparison:
    """value ± error of the limit (about 95 %), the fitted floor's distance from it, and whether the
    two intervals overlap."""

    value: float
    error: float
    difference: float
    agrees: bool

    def __str__(self) -> str:
        verb = "agrees with" if self.agrees else "CONTRADICTS"
        return f"{verb} the limit {self.value:.4g} ± {self.error:.2g} ({self.difference:+.2g})"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def read_limit(limit: Any) -> tuple[float, float]:
    """Value and error of a ``Limit`` (training loss at its last step), or of a pair.

    Raises:
        ValueError, TypeError: neither, or it diverged.
    """
    if hasattr(limit, "train_loss_error"):
        pair = (float(limit.train_loss[-1]), float(limit.train_loss_error[-1]))
    elif isinstance(limit, tuple | list) and len(limit) == 2:
        pair = (limit[0], limit[1])
    else:
        raise TypeError(f"limit={limit!r} is neither a Limit nor (value, error): give one of them")
    return check_real("limit value", pair[0], 0.0), check_real("limit error", pair[1], 0.0)


def compare_limit(floor: Interval, value: float, error: float) -> LimitComparison:
    """Floor against limit."""
    overlap = floor.low <= value + error and value - error <= floor.high
    return LimitComparison(value, error, floor.value - value, overlap)
