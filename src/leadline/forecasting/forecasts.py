"""``forecast``: laws fitted to runs, and in plain words what the data do not determine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from leadline.errors import check_choice, check_int, check_real
from leadline.forecasting import noise
from leadline.forecasting.answers import compare_limit, read_limit
from leadline.forecasting.choice import EXPONENTS, Choice, candidates, choose
from leadline.forecasting.estimate import Data, Fitted, bootstrap, estimate, prepare, residuals
from leadline.forecasting.law import EXPONENTS as BOUNDS
from leadline.forecasting.result import Forecast
from leadline.forecasting.runs import AXES, Runs
from leadline.forecasting.runs import runs as read_runs
from leadline.intervals import Interval, percentiles

_MISFIT = 0.01
# Sizes below which a note says that they are few.
_FEW = 8
# Each is a fit: a hundred thousand take minutes and change no digit of an interval.
_MOST_DRAWS = 100_000


def forecast(
    data: Any,
    *,
    loss: str = "loss",
    exponents: str = "auto",
    limit: Any = None,
    gain: float = 1.0,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    progress: Callable[..., None] | None = None,
) -> Forecast:
    """How the loss falls with width, depth, samples and steps, and where it ends.

    Fits loss = E + A·width^-a + B·depth^-b (+ C·samples^-c + D·steps^-d where they vary) to finished
    runs by robust regression of log(loss). Terms and exponents (1, as theory has it for width and
    depth, or free) are those that predict the largest sizes from the smaller ones.

    Args:
        data: one row a run, as a list of dicts, a dict of columns, a pandas DataFrame or the path of a
            CSV file, with columns width, depth, loss, and steps, samples, seed where there are such.
            Runs of the same size are replicates; a loss that is not finite is a diverged run.
        loss: name of the loss column.
        exponents: "auto", "free" (none is fixed) or "theory" (all are 1; intervals then hold if that
            is true).
        limit: a ``Limit``, or (value, error), to compare the floor with.
        gain: percent of the loss that a doubling has to gain to be worth it.
        confidence: of the intervals.
        draws: of the bootstrap, 50 to 100,000. seed: of its randomness.
        progress: called with branch, step, steps.

    Raises:
        ValueError, TypeError, OSError: unusable data or arguments, named with row and remedy.
    """
    check_choice("exponents", exponents, EXPONENTS)
    gain = check_real("gain", gain, 0.0, 100.0, open_minimum=True)
    confidence = check_real("confidence", confidence, 0.5, 0.999)
    draws, seed = check_int("draws", draws, 50, _MOST_DRAWS), check_int("seed", seed, 0)
    known = None if limit is None else read_limit(limit)
    runs = read_runs(data, loss)
    if not candidates(runs, exponents):
        raise ValueError("data: no law can be fitted to so few runs: give runs of more sizes")
    started = time.perf_counter()

    def report(branch: str, step: int, steps: int) -> None:
        if progress is not None:
            progress(branch=branch, step=step, steps=steps)

    weight = noise.weights(runs)
    choice = choose(prepare(runs, weight), exponents, lambda i, k: report("fitting laws", i, k))
    data_, fitted, sibling = choice.data, choice.fitted, choice.sibling
    widest = fitted if sibling is None else sibling
    p = noise.misfit(
        runs, residuals(widest.law, widest.theta, data_) / data_.weight, widest.law.parameters
    )
    by_size = p < _MISFIT and runs.cells - widest.law.parameters >= 1
    if by_size:
        data_, fitted, sibling = _by_size(data_, fitted, sibling)
    rng = np.random.default_rng(seed)
    laws = []
    for i, law in enumerate([fitted] if sibling is None else [fitted, sibling]):
        report("bootstrap", i, 2)
        laws.append(bootstrap(law, data_, draws, rng))
    floor = percentiles([_floors(law, runs.loss.min()) for law in laws], confidence)
    return Forecast(
        floor=floor,
        law=str(fitted.law),
        held_out=choice.table,
        held_out_sizes=choice.cells,
        resampled="sizes" if by_size else "runs",
        noise=float(noise.scale(_final(laws[0], data_), fitted.law.parameters)),
        limit=None if known is None else compare_limit(floor, *known),
        notes=(*runs.notes, *_notes(runs, laws, choice, floor, by_size, exponents)),
        runs=runs,
        laws=tuple(laws),
        gain=float(gain),
        confidence=float(confidence),
        seconds=time.perf_counter() - started,
    )


def _floors(fitted: Fitted, least: float) -> np.ndarray:
    """E of the estimate and of the draws; what its logarithm's lower bound leaves is 0."""
    e = np.exp(fitted.all[:, 0])
    return np.where(e < 1e-6 * least, 0.0, e)


def _final(fitted: Fitted, data: Data) -> np.ndarray:
    return residuals(fitted.law, fitted.theta, data)


def _by_size(
    data: Data, fitted: Fitted, sibling: Fitted | None
) -> tuple[Data, Fitted, Fitted | None]:
    """The same laws fitted to the sizes' means: what a law misses is common to a size's seeds."""
    means = data.runs.means()
    small = replace(data, runs=means, weight=np.ones(len(means)))
    widest = fitted if sibling is None else sibling
    left = residuals(widest.law, widest.theta, small)
    small = replace(small, scale=noise.scale(left, widest.law.parameters))
    again = None if sibling is None else estimate(sibling.law, small, sibling.theta)
    return small, estimate(fitted.law, small, fitted.theta), again


def _notes(
    runs: Runs,
    laws: Sequence[Fitted],
    choice: Choice,
    floor: Interval,
    by_size: bool,
    exponents: str,
) -> list[str]:
    """All that applies, the gravest first."""
    return [
        *_floor_notes(runs, floor),
        *_axis_notes(runs, laws, exponents),
        *_bound_notes(laws),
        *_rising(runs, choice),
        *_few(runs, choice),
        *_spread(by_size),
    ]


def _floor_notes(runs: Runs, floor: Interval) -> list[str]:
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


def _axis_notes(runs: Runs, laws: Sequence[Fitted], exponents: str) -> list[str]:
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


def _bound_notes(laws: Sequence[Fitted]) -> list[str]:
    out = []
    law = laws[-1].law
    powers = law.split(laws[-1].all)[2]
    for k, term in enumerate(law.terms):
        if term.exponent is not None:
            continue
        low = (powers[:, k] < 1.01 * BOUNDS[0]).mean()
        high = (powers[:, k] > BOUNDS[1] / 1.01).mean()
        if low + high > 0.05:
            side = BOUNDS[0] if low > high else BOUNDS[1]
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
    error = spread / choice.data.weight[first] / np.sqrt(counts)
    for axis in runs.axes:
        others = [means.sizes[a] for a in means.sizes if a != axis]
        lines = np.unique(np.stack(others, 1), axis=0, return_inverse=True)[1].reshape(-1)
        worst, said = 0.0, ""
        for line in np.unique(lines):
            here = np.flatnonzero(lines == line)
            here = here[np.argsort(means.sizes[axis][here])]
            for i, j in pairwise(here):
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
