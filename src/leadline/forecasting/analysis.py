"""From runs to laws with their draws: outliers, the choice, dependence, misfit, resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from leadline.forecasting import noise
from leadline.forecasting.choice import Choice, candidates, choose, fullest_of
from leadline.forecasting.estimate import Data, Fitted, estimate, prepare, residuals, with_scale
from leadline.forecasting.misfit import Misfit, dependent, left_over
from leadline.forecasting.outliers import Outlier, describe, far_off, least_scattered
from leadline.forecasting.resampling import bootstrap
from leadline.forecasting.runs import Runs

Report = Callable[[str, int, int], None]
# Seeds tell misfit from noise at this level.
_SEEDS = 0.01
# Rows for each parameter from which whole rows are resampled.
_PAIRS = 10
# Draws of a fit to a part of the runs.
_PART = 200


@dataclass(frozen=True)
class Analysis:
    """What runs say.

    Attributes:
        runs: every run with a finite loss. data: those that the laws were fitted to.
        laws: the chosen law, then whatever else its intervals enclose.
        choice, misfit, outliers: how it was chosen (with the runs that were kept, before any
            means), what it misses, what was left out.
        way: what was resampled. together: whether rows were seen to go together by themselves.
        noise: standard deviation of a run's log loss about the law.
    """

    runs: Runs
    data: Data
    laws: tuple[Fitted, ...]
    choice: Choice
    misfit: Misfit
    outliers: tuple[Outlier, ...]
    way: str
    together: bool
    noise: float


def analyse(
    runs: Runs, exponents: str, laws: str, draws: int, rng: np.random.Generator, report: Report
) -> Analysis:
    """Fit, choose, test and resample."""
    data = prepare(runs, noise.weights(runs))
    fullest = fullest_of(candidates(runs, exponents, laws))
    data, law = least_scattered(data, fullest)
    groups = dependent(estimate(law, data, most=16), data)
    together = groups is not None
    if groups is not None:
        runs = replace(runs, groups=groups)
        data = replace(data, runs=runs)
    data, far = far_off(data, law)
    choice = choose(data, exponents, lambda i, k: report("fitting laws", i, k), laws)
    data, widest = choice.data, choice.sibling or choice.fitted
    misfit = left_over(widest, data)
    outliers = describe(widest.law, widest.theta, data, far, runs)
    way = _way(data, widest, misfit)
    fitted, sibling = choice.fitted, choice.sibling
    rivals = list(choice.rivals)
    if way == "sizes":
        data, fitted, sibling, rivals = _by_size(data, fitted, sibling, rivals)
    # What a law with all exponents and a floor leaves open encloses what simpler ones do, but for a
    # floor of 0, which is at the end of what it can be.
    simple = sibling is not None and fitted.law.floor
    everything = [fitted, *([] if sibling is None else [sibling]), *rivals]
    drawn = [fitted] * simple
    everything = everything[simple:]
    drawn += [
        bootstrap(law, data, draws, rng, way, lambda i, k: report("bootstrap", i, k))
        for law in everything
    ]
    if misfit.grave:
        drawn += _parts(widest, data, min(draws, _PART), rng)
    left = residuals(fitted.law, fitted.theta, data) / data.weight
    return Analysis(
        runs=runs,
        data=data,
        laws=tuple(drawn),
        choice=choice,
        misfit=misfit,
        outliers=outliers,
        way=way,
        together=together,
        noise=float(noise.scale(left, fitted.law.parameters)),
    )


def _way(data: Data, widest: Fitted, misfit: Misfit) -> str:
    """What is resampled."""
    runs, law = data.runs, widest.law
    left = residuals(law, widest.theta, data)
    if runs.grouped:
        return "groups"
    p = noise.misfit(runs, left / data.weight, law.parameters)
    if p < _SEEDS and runs.cells - law.parameters >= 1:
        return "sizes"
    if noise.scale(left, law.parameters) <= 1e-8:
        return "runs"
    if misfit.grave and min(runs.cells, len(runs)) >= _PAIRS * law.parameters:
        return "pairs"
    return "signs" if misfit.seen or noise.unequal(runs, left) else "runs"


def _by_size(
    data: Data, fitted: Fitted, sibling: Fitted | None, rivals: list[Fitted]
) -> tuple[Data, Fitted, Fitted | None, list[Fitted]]:
    """The same laws fitted to the sizes' means: what a law misses is common to a size's seeds."""
    means = data.runs.means()
    small = replace(data, runs=means, weight=np.ones(len(means)))
    widest = sibling or fitted
    left = residuals(widest.law, widest.theta, small)
    small = replace(small, scale=noise.scale(left, widest.law.parameters))

    def again(law: Fitted) -> Fitted:
        return estimate(law.law, small, law.theta)

    return (
        small,
        again(fitted),
        None if sibling is None else again(sibling),
        [again(law) for law in rivals],
    )


def _parts(widest: Fitted, data: Data, draws: int, rng: np.random.Generator) -> list[Fitted]:
    """The law fitted to parts of the runs: without the smallest third of each axis, and without the
    largest losses. Where a law misses something, these differ by more than their noise."""
    runs, law = data.runs, widest.law
    masks = [runs.sizes[a] > np.quantile(runs.sizes[a], 1 / 3) for a in law.axes]
    masks.append(runs.loss < np.quantile(runs.loss, 2 / 3))
    out = []
    for mask in masks:
        levels = min((len(np.unique(runs.sizes[a][mask])) for a in law.axes), default=0)
        if levels < 3 or len(np.unique(runs.cell[mask])) < 2 * law.parameters:
            continue
        part = with_scale(law, data.take(mask))
        fitted = estimate(law, part, widest.theta)
        way = _way(part, fitted, left_over(fitted, part))
        out.append(bootstrap(fitted, part, draws, rng, "signs" if way == "sizes" else way))
    return out
