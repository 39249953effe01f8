"""Intervals by axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from leadline.forecasting.costs import axis_named
from leadline.forecasting.estimate import Fitted
from leadline.forecasting.law import Law
from leadline.forecasting.runs import Runs
from leadline.intervals import Interval, percentiles


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


def each_axis(
    laws: Sequence[Fitted],
    axes: Iterable[str],
    answers: Sequence[Mapping[str, np.ndarray]],
    confidence: float,
) -> dict[str, Interval]:
    """Intervals by axis of numbers of the chosen law's form, for another's mean other things.

    Draws of a law with a floor and of the one without it are taken together, so that the interval is
    about as often too high as too low; what parts of the runs say, the same laws again, is enclosed.

    Args:
        answers: by law and axis (1 + K,), the estimate and its draws.
    """
    whole: dict[Law, Mapping[str, np.ndarray]] = {}
    parts = []
    for fitted, answer in zip(laws, answers, strict=True):
        if fitted.law.kind != laws[0].law.kind:
            continue
        if fitted.law in whole:
            parts.append(answer)
        else:
            whole[fitted.law] = answer
    out = {}
    for axis in axes:
        drawn = [a[axis][1:] for a in whole.values() if axis in a]
        every = np.concatenate([answers[0][axis][:1], *drawn])
        out[axis] = percentiles([every, *(a[axis] for a in parts if axis in a)], confidence)
    return out
