"""``forecast``: the verb."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from leadline.errors import check_choice, check_int, check_real
from leadline.forecasting import noise
from leadline.forecasting.answers import compare_limit, read_limit
from leadline.forecasting.choice import EXPONENTS, candidates, choose
from leadline.forecasting.estimate import Data, Fitted, bootstrap, estimate, prepare, residuals
from leadline.forecasting.notes import notes
from leadline.forecasting.result import Forecast
from leadline.forecasting.runs import runs as read_runs
from leadline.intervals import percentiles

_MISFIT = 0.01
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
        notes=(*runs.notes, *notes(runs, laws, choice, floor, by_size, exponents)),
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
