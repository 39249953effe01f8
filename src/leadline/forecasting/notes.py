"""What the data do not determine, in plain words, the gravest first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from leadline.forecasting.analysis import Analysis
from leadline.forecasting.estimate import Data, Fitted
from leadline.forecasting.law import EXPONENTS as BOUNDS
from leadline.forecasting.runs import MODEL, Runs, numbered_rows
from leadline.intervals import Interval, percentiles

# Sizes below which a note says that they are few.
_FEW = 8


def sentences(made: Analysis, floor: Interval, exponents: str, confidence: float) -> list[str]:
    """All sentences that apply to a forecast."""
    runs, laws = made.data.runs, made.laws
    return [
        *_misfit_notes(made),
        *_floor_notes(runs, laws[0], floor),
        *_outlier_notes(made),
        *_dependence(made),
        *_rivals(laws),
        *_axis_notes(made, exponents, confidence),
        *_bound_notes(laws),
        *rising(made.choice.data),
        *_few(runs, made),
    ]


def _misfit_notes(made: Analysis) -> list[str]:
    misfit, out = made.misfit, []
    if misfit.floor_above > 4.0:
        out.append(
            f"The floor lies above the smallest loss by {misfit.floor_above:.0f} standard "
            "deviations: the law does not fit the best runs."
        )
    if not misfit.seen:
        pass
    elif made.way == "sizes":
        out.append(
            "Sizes lie off the law by more than their seeds' noise explains: sizes, not runs, are "
            "resampled. Extrapolate with care."
        )
    elif misfit.grave:
        left = (
            f"; along {misfit.where} a pattern of {misfit.size:.2%} of the loss is left, "
            f"{misfit.ratio:.1f} times the noise around it"
            if misfit.size > 0
            else ""
        )
        out.append(
            f"MISFIT: the law does not follow these runs{left}. Every interval encloses what parts of "
            "the runs say by themselves; do not rely on what lies outside the runs. Fit a narrower range "
            "(--where), or isoFLOP minima (--isoflop)."
        )
    elif misfit.size > 0:
        out.append(
            f"The law misses a pattern of {misfit.size:.2%} of the loss along {misfit.where} (p = "
            f"{misfit.p_value:.1g}), no more than about the noise around it: intervals are of "
            "resampled runs, which count it."
        )
    return out


def _floor_notes(runs: Runs, chosen: Fitted, floor: Interval) -> list[str]:
    if not chosen.law.terms:
        return [
            "No axis lowers the loss so that it helps to predict the largest sizes: there is no "
            "floor to speak of."
        ]
    if floor.high == 0:
        return ["The law has no floor: the runs do not say where the loss ends."]
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


def _outlier_notes(made: Analysis) -> list[str]:
    count = sum(o.left_out for o in made.outliers)
    if not count:
        return []
    what = "1 run lies" if count == 1 else f"{count} runs lie"
    return [f"{what} so far off that the law is fitted without: see the outliers."]


def _dependence(made: Analysis) -> list[str]:
    groups = len(np.unique(made.data.runs.groups))
    if made.together:
        return [
            f"Rows of one {_training(made.runs)} go together: they are taken as checkpoints of "
            f"{groups} trainings, and "
            "trainings are resampled. If each row is a training, a column of its own and --group "
            "NAME say so."
        ]
    if made.way == "groups" and groups < 8:
        return [f"Only {groups} trainings: their intervals are rough; 8 or more are better."]
    return []


def _training(runs: Runs) -> str:
    return " and ".join(a for a in runs.sizes if runs.role(a) in MODEL) or "size"


def _rivals(laws: Sequence[Fitted]) -> list[str]:
    kinds = {f.law.kind: str(f.law) for f in laws[1:] if f.law.kind != laws[0].law.kind}
    if not kinds:
        return []
    said = " and ".join(kinds.values())
    return [
        f"The runs do not tell this law from {said}: every interval of a loss or a floor encloses both."
    ]


def _axis_notes(made: Analysis, exponents: str, confidence: float) -> list[str]:
    runs, laws = made.data.runs, made.laws
    out, fitted = [], []
    terms = {a: t for t in laws[0].law.terms for a in t.axes}
    for axis in runs.sizes:
        levels = runs.levels(axis)
        if len(levels) == 1:
            if runs.role(axis) in ("width", "depth", "parameters"):
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
        elif terms[axis].exponent is not None and made.choice.sibling is not None:
            value = percentiles([laws[1].exponents[axis]], confidence)
            fitted.append(f"{axis} {value:.4g}")
        elif terms[axis].exponent is not None and exponents != "theory":
            out.append(f"The exponent of {axis} is taken as 1: the runs are too few to fit it.")
    if fitted:
        out.append(
            f"Exponents are 1 (theory) where that predicts as well; fitted they are {', '.join(fitted)}, "
            "and every interval is of that fit. exponents='theory' narrows them if you trust it."
        )
    if exponents == "theory":
        out.append("Exponents are 1 by request: the intervals hold if that is true.")
    return out


def _bound_notes(laws: Sequence[Fitted]) -> list[str]:
    out = []
    wide = next((f for f in laws if len(f.draws)), laws[0])
    free = {a for t in wide.law.terms for j, a in enumerate(t.axes) if j or t.exponent is None}
    for axis, powers in wide.exponents.items():
        if axis not in free:
            continue
        low = (powers < 1.01 * BOUNDS[0]).mean()
        high = (powers > BOUNDS[1] / 1.01).mean()
        if low + high > 0.05:
            side = BOUNDS[0] if low > high else BOUNDS[1]
            out.append(
                f"The exponent of {axis} is not determined: {low + high:.0%} of the draws end at a "
                f"bound of the search, mostly {side:g}. Add values of {axis} further apart."
            )
    return out


def rising(data: Data) -> list[str]:
    """Where the loss rises along an axis by more than three standard errors, all else the same."""
    runs, out = data.runs, []
    means = runs.means()
    counts = np.bincount(runs.cell)
    first = np.unique(runs.cell, return_index=True)[1]
    inner = np.log(runs.loss / means.loss[runs.cell]) * data.weight
    dof = len(runs) - runs.cells
    spread = np.sqrt((inner**2).sum() / dof) if dof >= 3 else data.scale
    error = spread / data.weight[first] / np.sqrt(counts)
    for axis in runs.axes:
        others = [means.sizes[a] for a in means.sizes if a != axis]
        lines = numbered_rows(others) if others else np.zeros(len(means), int)
        order = np.lexsort([means.sizes[axis], lines])
        worst, said = 0.0, ""
        for i, j in pairwise(order):
            if lines[i] != lines[j]:
                continue
            rise = np.log(means.loss[j] / means.loss[i])
            if rise > max(3 * np.hypot(error[i], error[j]), worst, 1e-6):
                worst = rise
                said = (
                    f"The loss rises with {axis} (from {means.loss[i]:.4g} at "
                    f"{means.sizes[axis][i]:g} to {means.loss[j]:.4g} at "
                    f"{means.sizes[axis][j]:g}, all else the same): no law here can follow that; "
                    "look for unstable training or a learning rate that does not transfer."
                )
        out += [said] if said else []
    return out


def _few(runs: Runs, made: Analysis) -> list[str]:
    out = []
    if runs.cells < _FEW:
        out.append(
            f"Only {runs.cells} sizes: intervals rest on the law being right; {_FEW} or more test it."
        )
    if all(row.error is None for row in made.choice.table if row.chosen):
        out.append("No size could be held out for the chosen law: it is chosen by its fit alone.")
    return out
