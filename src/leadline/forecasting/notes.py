"""What the data do not determine, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from leadline.forecasting.choice import Choice
from leadline.forecasting.estimate import Fitted
from leadline.forecasting.law import EXPONENTS
from leadline.forecasting.runs import AXES, Runs
from leadline.intervals import Interval, percentiles

_FEW = 8


def notes(
    runs: Runs,
    laws: Sequence[Fitted],
    choice: Choice,
    floor: Interval,
    by_size: bool,
    exponents: str,
) -> list[str]:
    """All that applies, the gravest first."""
    return [
        *_floor(runs, floor),
        *_axes(runs, laws, exponents),
        *_bounds(laws),
        *_rising(runs, choice),
        *_few(runs, choice),
        *_spread(by_size),
    ]


def _floor(runs: Runs, floor: Interval) -> list[str]:
    least = float(runs.loss.min())
    if floor.low <= 0.05 * least and floor.high >= 0.9 * least:
        return [
            "The data do not determine the floor: anything from 0 to the smallest loss fits. "
            "Add larger sizes or more seeds."
        ]
    if floor.low <= 0.01 * least:
        return [f"The floor may be 0: the data only say that it is below {floor.high:.4g}."]
    if floor.high - floor.low > 0.5 * least:
        return [
            f"The floor is known poorly ({floor:.4g}): add larger sizes or more seeds before relying on it."
        ]
    return []


def _axes(runs: Runs, laws: Sequence[Fitted], exponents: str) -> list[str]:
    out, fitted = [], []
    terms = {t.axis: t for t in laws[0].law.terms}
    for axis in (a for a in AXES if a in runs.sizes):
        levels = runs.levels(axis)
        if len(levels) == 1:
            if axis in ("width", "depth"):
                out.append(
                    f"Every run has {axis} {levels[0]:g}: the forecast holds at this {axis} only."
                )
        elif axis not in terms:
            out.append(
                f"No term for {axis}: from {levels[0]:g} to {levels[-1]:g} the loss shows no fall that "
                "helps to predict the largest sizes."
            )
        elif len(levels) == 2:
            out.append(
                f"{axis} takes two values: its exponent cannot be fitted and is taken as 1; "
                "give a third value."
            )
        elif terms[axis].exponent is not None and len(laws) > 1:
            k = laws[1].law.axes.index(axis)
            value = percentiles([laws[1].law.split(laws[1].all)[2][:, k]], 0.95)
            fitted.append(f"{axis} {value:.4g}")
        elif terms[axis].exponent is not None and exponents != "theory":
            out.append(f"The exponent of {axis} is taken as 1: the runs are too few to fit it.")
    if fitted:
        out.append(
            f"Exponents are 1 (theory) where that predicts as well; fitted they are {', '.join(fitted)}, "
            "and every interval covers both. exponents='theory' narrows them if you trust it."
        )
    if exponents == "theory":
        out.append("Exponents are 1 by request: the intervals hold if that is true.")
    return out


def _bounds(laws: Sequence[Fitted]) -> list[str]:
    out = []
    law = laws[-1].law
    powers = law.split(laws[-1].all)[2]
    for k, term in enumerate(law.terms):
        if term.exponent is not None:
            continue
        low = (powers[:, k] < 1.01 * EXPONENTS[0]).mean()
        high = (powers[:, k] > EXPONENTS[1] / 1.01).mean()
        if low + high > 0.05:
            side = EXPONENTS[0] if low > high else EXPONENTS[1]
            out.append(
                f"The exponent of {term.axis} is not determined: {low + high:.0%} of the draws end at a "
                f"bound of the search, mostly {side:g}. Add values of {term.axis} further apart."
            )
    return out


def _rising(runs: Runs, choice: Choice) -> list[str]:
    """Where the loss rises along an axis by more than three standard errors, all else the same."""
    out = []
    means = runs.means()
    counts = np.bincount(runs.cell)
    first = np.unique(runs.cell, return_index=True)[1]
    inner = np.log(runs.loss / means.loss[runs.cell]) * choice.data.weight
    dof = len(runs) - runs.cells
    spread = np.sqrt((inner**2).sum() / dof) if dof >= 3 else choice.data.scale
    noise = spread / choice.data.weight[first] / np.sqrt(counts)
    for axis in runs.axes:
        others = [means.sizes[a] for a in means.sizes if a != axis]
        lines = np.unique(np.stack(others, 1), axis=0, return_inverse=True)[1].reshape(-1)
        worst, said = 0.0, ""
        for line in np.unique(lines):
            here = np.flatnonzero(lines == line)
            here = here[np.argsort(means.sizes[axis][here])]
            for i, j in pairwise(here):
                rise = np.log(means.loss[j] / means.loss[i])
                if rise > max(3 * np.hypot(noise[i], noise[j]), worst, 1e-6):
                    worst = rise
                    said = (
                        f"The loss rises with {axis} (from {means.loss[i]:.4g} at "
                        f"{means.sizes[axis][i]:g} to {means.loss[j]:.4g} at "
                        f"{means.sizes[axis][j]:g}, all else the same): no law here can follow that; "
                        "look for unstable training or a learning rate that does not transfer."
                    )
        out += [said] if said else []
    return out


def _few(runs: Runs, choice: Choice) -> list[str]:
    out = []
    if runs.cells < _FEW:
        out.append(
            f"Only {runs.cells} sizes: intervals rest on the law being right; {_FEW} or more test it."
        )
    if all(row.error is None for row in choice.table if row.chosen):
        out.append("No size could be held out for the chosen law: it is chosen by its fit alone.")
    return out


def _spread(by_size: bool) -> list[str]:
    if not by_size:
        return []
    return [
        "Sizes lie off the law by more than their seeds' noise explains: sizes, not runs, are "
        "resampled. Extrapolate with care."
    ]
