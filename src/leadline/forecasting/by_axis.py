"""Intervals by axis."""

from __future__ import annotations

from collections.abc import Mapping

from leadline.forecasting.costs import axis_named
from leadline.forecasting.runs import Runs
from leadline.intervals import Interval


class ByAxis(dict[str, Interval]):
    """Intervals by axis; an axis is known by its name, by what it is and by the field's letter."""

    def __init__(self, values: Mapping[str, Interval], runs: Runs) -> None:
        super().__init__(values)
        self._runs = runs

    def __missing__(self, name: str) -> Interval:
        axis = axis_named(name, self._runs)
        if axis is None or axis not in self:
            raise KeyError(name)
        return self[axis]
