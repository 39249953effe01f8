"""The rows of a check: every quantity's exponent, what is expected of it, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leadline.checking.exponents import (
    BAND,
    QUANTITIES,
    Exponent,
    expected,
    expected_stream,
    exponent,
    slack,
    verdict,
)
from leadline.checking.quantities import Key, Measurement
from leadline.checking.report import Row
from leadline.planning.plans import Plan
from leadline.tracing.builder import Size
from leadline.tracing.kinds import Kind

EFFECT = "effect on output"
# An undecided exponent matters if its layer could bring this part of the output's change, at up to so many
# times the largest size.
SMALL, REACH = 0.05, 16
_ORDER = (*QUANTITIES, "change of output", "stream", "change of stream", "nonlinear")


def rows_of(
    plan: Plan, sizes: Mapping[str, Sequence[Size]], measured: Mapping[Size, Sequence[Measurement]]
) -> list[Row]:
    """Rows of every axis, in the order of parameters and quantities."""
    return [row for axis in sizes for row in _rows(plan, axis, sizes[axis], measured)]


def _rows(
    plan: Plan, axis: str, sizes: Sequence[Size], measured: Mapping[Size, Sequence[Measurement]]
) -> list[Row]:
    kinds = {k.label: k for k in reversed(plan.kinds)}
    modules = {k.holder: k for k in reversed(plan.kinds)}
    modules |= {k.holder: k for k in plan.kinds if len(k.shape) > 1}
    x = np.array([getattr(s, axis) for s in sizes])
    values = _values(sizes, measured)
    shrinks = _stream(x, values)
    faint = _faint(plan, axis, x, values)
    fades = {t for t, k in kinds.items() if k.branch is not None and faint.get(k.branch)}
    parts, relative = _effects(values, fades)
    out = []
    for quantity, template in sorted(values, key=lambda k: (k[1], _ORDER.index(k[0]))):
        kind = kinds.get(template) or modules.get(template)
        if quantity not in QUANTITIES:
            kind = None
        seen = relative.get(template) if quantity == EFFECT else None
        y = values[quantity, template] if seen is None else seen
        e = exponent(x, y)
        part = None if kind is None else parts.get(kind.label)
        if quantity == "nonlinear":
            target, word = None, _lazy(e)
        else:
            power = expected(plan, kind, quantity) if kind else expected_stream(plan, quantity)
            target = getattr(power, axis)
            below, above = slack(plan, kind, quantity, axis, shrinks)
            missing = faint.get(kind.branch if kind else None, faint.get(None, 0.0))
            around = max(below, missing), above
            word = verdict(e, target, *around)
            if (
                word == "inconclusive"
                and part is not None
                and not _matters(e, target, part, around)
            ):
                word = "minor"
        place = "block" if template != "model" or kind else "model"
        place = _place(kind) if kind else place
        means = tuple(float(v) for v in y.mean(1))
        numbers = tuple(int(v) for v in x)
        largest = None if part is None else float(part.max())
        out.append(Row(template, place, quantity, axis, e, target, word, numbers, means, largest))
    return out


def _values(
    sizes: Sequence[Size], measured: Mapping[Size, Sequence[Measurement]]
) -> dict[Key, np.ndarray]:
    """(sizes, seeds) of every quantity that every model has."""
    results = [r for s in sizes for r in measured[s]]
    keys = [k for k in results[0].values if all(k in r.values for r in results)]
    return {k: np.array([[r.values[k] for r in measured[s]] for s in sizes]) for k in keys}


def _effects(
    values: Mapping[Key, np.ndarray], fades: set[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """By kind: (sizes,) its part of all effects, and (sizes, seeds) its effect over the kinds' median.

    How much a model's output moves differs from seed to seed by what all kinds share (its initial outputs
    and slopes), far more than the parts do. So kinds are compared with each other, and what they share
    is judged once, by the change of the output. The median is that of the kinds that matter: one kind that
    explodes or collapses does not move it, nor do those that begin too small (``fades``) if there are
    others.
    """
    effects = {t: v for (q, t), v in values.items() if q == EFFECT}
    if not effects:
        return {}, {}
    stack = np.stack(list(effects.values()))
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = (stack.mean(2) / stack.mean(2).sum(0)).clip(0, 1)
    parts = np.where(np.isfinite(parts), parts, 1.0)
    by_kind = dict(zip(effects, parts, strict=True))
    heavy = [i for i in range(len(stack)) if parts[i].max() >= SMALL / 2 and (stack[i] > 0).all()]
    full = [i for i in heavy if list(effects)[i] not in fades]
    heavy = full if len(full) >= 3 else heavy
    if len(heavy) < 3 or not np.isfinite(stack).all():
        return by_kind, {}
    middle = np.exp(np.median(np.log(stack[heavy]), 0))
    return by_kind, {t: v / middle for t, v in effects.items()}


def _stream(x: np.ndarray, values: Mapping[Key, np.ndarray]) -> float:
    """The exponent of the stream's size at initialization, the most negative of several streams."""
    streams = [exponent(x, v) for (q, _), v in values.items() if q == "stream"]
    return min((e.value for e in streams if e is not None), default=0.0)


def _faint(
    plan: Plan, axis: str, x: np.ndarray, values: Mapping[Key, np.ndarray]
) -> dict[str | None, float]:
    """How far below the expected exponent of width all that passes through readouts inside a branch begins.

    Outputs that stay few as width grows (key and value heads of a fixed number) are parametrized as a
    readout's, and begin as small, ∝ n^-½. So does what a branch makes of them, until training adds what
    does not shrink. By block: the shortfall that its last layers show at initialization, and a half for
    every further such layer (or part of one), whose smallness multiplies; by None what the rest of the
    model may see of it.
    """
    out: dict[str | None, float] = {}
    if axis != "width":
        return out
    few: dict[str, int] = {}
    for k in plan.kinds:
        if k.role == "readout" and k.branch is not None and k.position is not None:
            few[k.branch] = few.get(k.branch, 0) + k.factors
    for k in plan.kinds:
        y = values.get(("preactivation", k.holder))
        e = None if y is None or not k.last or k.branch not in few else exponent(x, y)
        if e is None or k.branch is None:
            continue
        missing = expected(plan, k, "preactivation").width - e.value
        if missing > BAND:
            out[k.branch] = max(out.get(k.branch, 0.0), missing + 0.5 * (few[k.branch] - 1))
            out[None] = max(out.get(None, 0.0), missing)
    return out


def _matters(
    e: Exponent | None, target: float, part: np.ndarray, around: tuple[float, float]
) -> bool:
    """Could the exponent be wrong by as much as its interval leaves open, and the model notice?"""
    if e is None:
        return False
    below, above = around
    grows = e.high > target + BAND + above
    falls = e.low < target - BAND - below
    reached = part[-1] * REACH ** min(max(e.high - target, 0.0), 10.0)
    return bool((grows and reached >= SMALL) or (falls and part[0] >= SMALL))


def _lazy(e: Exponent | None) -> str:
    """A block whose distance from its linearization falls with size, and goes on to."""
    if e is None:
        return "n/a"
    return "lazy" if max(e.high, e.ahead) < -BAND else "not lazy" if e.low > -BAND else "n/a"


def _place(kind: Kind) -> str:
    if kind.position is None:
        return kind.role
    where = "last" if kind.last else "inner"
    return f"{where} {kind.position + 1}/{kind.layers}, {kind.role}"
