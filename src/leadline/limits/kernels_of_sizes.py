"""Measured kernels and movement, extrapolated from the sizes of a limit as outputs are.

At a step every depth time is a row of the error model and the entries of a matrix are its outputs, in two
groups of their own, diagonal and the rest, which have other sizes and other noise. All entries of a group
count as if they depended on the size as the one that does most; noise is an entry's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.disk.plain import plain
from leadline.errors import shown
from leadline.intervals import normal_quantile
from leadline.limits import estimate as estimates
from leadline.limits.ladder import Ladder
from leadline.limits.networks import Solved
from leadline.limits.series import Sizes, infer
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.measure.modules import matched
from leadline.measure.observation import Measure
from leadline.tracing.builder import Size, construct
from leadline.trajectory import Trajectory

# A series that would misfit so much so rarely is not believed.
_MISFIT = 0.01
# Half of what lies outside the bars, and how many seeds the shape of noise over entries has beforehand.
_OUTSIDE, _PRIOR_SEEDS = 0.025, 3.0


@dataclass(frozen=True, repr=False)
class MeasuredLimit:
    """Kernels and movement of the infinitely wide (and deep) network, with error bars (about 95 % each).

    Attributes:
        steps: (M,). times: (D,) depth times; empty for modules. modules: (D,) their names.
        values, errors: by the names of ``Trajectory.measures`` and without its seeds: (M, D, P, P),
            parts of the tangent kernel (M, P, P), movement (M, D, P). NaN from a step on at which networks
            diverge.
        p_values: of the test that the sizes follow the series, for each name; NaN where there is nothing
            to test.
    """

    steps: np.ndarray
    times: np.ndarray
    modules: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]
    p_values: Mapping[str, float]

    @property
    def undecided(self) -> tuple[str, ...]:
        """Names whose sizes do not follow the series: their bars are not to be believed."""
        return tuple(k for k, p in self.p_values.items() if p < _MISFIT)

    def __repr__(self) -> str:
        parts = []
        for name, value in self.values.items():
            size = np.sqrt(np.mean(value**2))
            bar = np.sqrt(np.mean(self.errors[name] ** 2))
            parts.append(f"{name} ± {100 * bar / size:.2g} %" if size > 0 else name)
        text = f"MeasuredLimit({', '.join(parts)})"
        if self.undecided:
            text += (
                f"; undecided: {', '.join(self.undecided)} do not follow the series: give twice the width "
                "and the depth to begin with"
            )
        return text

    def to_json(self, lists: bool = True) -> dict[str, Any]:
        """Everything as plain lists and numbers; arrays as they are without ``lists``."""
        out: dict[str, Any] = {"modules": list(self.modules), "p_values": plain(self.p_values)}
        for name in ("steps", "times"):
            out[name] = plain(getattr(self, name)) if lists else getattr(self, name)
        for name in ("values", "errors"):
            arrays = getattr(self, name).items()
            out[name] = {k: plain(v) if lists else v for k, v in arrays}
        return out


def check_measurable(first: Solved, over: str) -> None:
    """Refuse what cannot be followed from size to size.

    Raises:
        ValueError: particles; depth times between layers; modules that other depths do not have.
    """
    request = first.measure
    if request is None:
        return
    if request.particles:
        raise ValueError(
            f"measure.particles={request.particles} have no limit of their own: leave "
            "them out, or use solve"
        )
    if over == "width":
        return
    if isinstance(first, TaskConfiguration):
        _check_modules(first, request)
        return
    for t in request.times:
        if abs(t * first.depth - round(t * first.depth)) > 1e-9:
            raise ValueError(
                f"measure.times={t:g} is no layer at depth={first.depth}, where layers are at multiples of "
                f"1/{first.depth}: give {round(t * first.depth) / first.depth:g}"
            )


def _check_modules(first: TaskConfiguration, request: Measure) -> None:
    width = first.plan.base.width
    names = [
        matched(request.modules, construct(first.builder, Size(width, k * first.depth)))
        for k in (1, 2)
    ]
    other = sorted(set(names[0]) ^ set(names[1]))
    if other:
        raise ValueError(
            f"measure.modules={shown(request.modules)} has {other[0]!r} at one of depth={first.depth} and "
            f"{2 * first.depth} alone: give modules that every depth has, such as the last norm or the "
            f"head, or over='width', depth={first.depth}"
        )


def measured_limit(ladder: Ladder) -> MeasuredLimit | None:
    """Extrapolate what the sizes of a ladder have measured; None where that is nothing."""
    request, runs = ladder.first.measure, ladder.runs
    if request is None or not runs:
        return None
    how = {"rank": ladder.rank, "deepen": ladder.over == "both"}
    how["any_fall"] = isinstance(ladder.first, TaskConfiguration)
    first, last = runs[0], runs[0].steps[-1]
    steps = np.asarray(first.measured_steps)
    gone = steps >= ladder.diverges
    values, errors, p_values = {}, {}, {}
    for name in first.measures:
        value, error, p = extrapolated(runs, name, steps / last, **how)
        error = np.hypot(error, ladder.truncation(name))
        value[gone] = error[gone] = np.nan
        values[name], errors[name], p_values[name] = value, error, p
    times = np.zeros(0) if first.times is None else first.times
    return MeasuredLimit(steps, times, first.modules, values, errors, p_values)


def extrapolated(
    runs: Sequence[Trajectory],
    name: str,
    progress: np.ndarray,
    rank: float = 0.0,
    deepen: bool = True,
    any_fall: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The limit of a measure, its error bars, and the p-value of the series.

    Args:
        runs: one a size, none of them diverged. name: of the measure.
        progress: (M,) each measured step over all steps.
        rank, deepen, any_fall: as of ``estimate``.
    """
    n, l, seeds = (
        np.array([t.info[k] for t in runs], dtype=float) for k in ("width", "depth", "seeds")
    )
    sizes = Sizes(n, l, float(max([rank, *(t.info["largest_rank"] for t in runs)])), deepen)
    each = [np.asarray(t.measures[name], dtype=float) for t in runs]
    shape = each[0].shape[1:]
    # Rows of the error model are depth times or modules: (S, M, D, entries).
    rows = shape[1] if len(shape) == 4 or name == "movement" else 1
    each = [x.reshape(len(x), shape[0], rows, -1) for x in each]
    value, error = np.empty((2, *each[0].shape[1:]))
    p_values = []
    for entries in _groups(shape, rows):
        for k, share in enumerate(progress):
            here = [x[:, k][..., entries] for x in each]
            results = _results(here, sizes, seeds, float(share), any_fall)
            value[k][:, entries], error[k][:, entries], p = _limit_of(results)
            p_values.append(p)
    known = [p for p in p_values if math.isfinite(p)]
    p = min(1.0, len(known) * min(known)) if known else math.nan
    return value.reshape(shape), error.reshape(shape), p


def _groups(shape: tuple[int, ...], rows: int) -> list[np.ndarray]:
    """Indices of entries of one kind: of a matrix its diagonal and the rest."""
    count = math.prod(shape[1:]) // rows
    if count == shape[-1] and (rows > 1 or shape[-1] != shape[-2]):
        return [np.arange(count)]
    diagonal = np.arange(count).reshape(shape[-2:]).diagonal()
    rest = np.setdiff1d(np.arange(count), diagonal)
    return [diagonal, rest] if len(rest) else [diagonal]


def _results(
    each: list[np.ndarray], sizes: Sizes, seeds: np.ndarray, progress: float, any_fall: bool
) -> estimates.SizeResults:
    """What the sizes gave, (S, D, entries) each, as ``estimate`` has it of outputs."""
    means = np.stack([x.mean(0) for x in each], axis=1)
    variances = np.stack([x.var(0, ddof=1).mean(-1) for x in each], axis=1)
    noise = estimates.noise_of_means(variances, sizes, seeds, any_fall)
    typical = np.sqrt((means[:, np.argmax(sizes.n * sizes.l)] ** 2).mean(-1))
    scales = typical, np.full(len(typical), max(progress, 1e-3))
    return estimates.SizeResults(sizes, seeds, each, means, noise, scales)


def _limit_of(results: estimates.SizeResults) -> tuple[np.ndarray, np.ndarray, float]:
    """Limits and error bars (D, entries), and the p-value of the series."""
    seeds, flat, noise = results.seeds, results.flat, results.noise
    every = infer(results.sizes, flat, noise, *results.scales)
    # Entries share their weights: those of the one that depends most on the size, for which the terms
    # of the mean entry would be too small.
    most = _most(flat, results.sizes)
    posterior = infer(results.sizes, most, noise, *results.scales)
    weights = posterior.mean_weights
    shares = weights**2 * noise
    sampling = shares.sum(1) * estimates.widening(shares, seeds) ** 2
    terms = posterior.width + posterior.depth + posterior.spread(estimates.products(most))
    # An entry's part of the noise is the same at all sizes.
    part, freedom = _PRIOR_SEEDS, _PRIOR_SEEDS
    for x in results.each:
        variance = x.var(0, ddof=1)
        mean = variance.mean(-1, keepdims=True)
        ratio = np.divide(variance, mean, out=np.ones_like(variance), where=mean > 0)
        part, freedom = part + (len(x) - 1) * ratio, freedom + len(x) - 1
    total = sampling[:, None] * part / freedom + terms[:, None]
    value = np.einsum("rc,rcm->rm", weights, flat)
    error = normal_quantile(1 - _OUTSIDE) * np.sqrt(total)
    return value, error, estimates.lack_of_fit(results, every)


def _most(flat: np.ndarray, sizes: Sizes) -> np.ndarray:
    """(D, c, 1) of each row the entry that goes along most with 1/n and 1/L."""
    x = np.stack([1 / sizes.n, 1 / sizes.l])
    x = x - x.mean(1, keepdims=True)
    x /= np.maximum(np.sqrt((x**2).sum(1, keepdims=True)), 1e-300)
    along = (np.einsum("ac,rcm->arm", x, flat) ** 2).sum(0)
    return np.take_along_axis(flat, along.argmax(1)[:, None, None], axis=2)
