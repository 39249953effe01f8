"""Which terms, and which exponents: what predicts the largest sizes from the smaller ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_law

from leadline.forecasting import fit
from leadline.forecasting.estimate import Data, Fitted, estimate, with_scale
from leadline.forecasting.law import Law, Term
from leadline.forecasting.runs import Runs

EXPONENTS = ("auto", "free", "theory")
# Laws that their own fit rejects at this level are not chosen.
_REJECTED = 0.05


@dataclass(frozen=True)
class HeldOut:
    """One candidate.

    Attributes:
        law, parameters: its formula and how many parameters are fitted.
        error: RMS of log(loss/prediction) at the held-out largest sizes; None if nothing could be
            held out.
        rejected: p-value of the F-test against the law with most parameters.
        floor: its E.
    """

    law: str
    parameters: int
    error: float | None
    rejected: float
    floor: float
    chosen: bool


@dataclass(frozen=True)
class Choice:
    """The chosen law, the same terms with free exponents (None if that is the same or cannot be
    fitted), and the table."""

    data: Data
    fitted: Fitted
    sibling: Fitted | None
    table: tuple[HeldOut, ...]
    cells: int
    """Held-out sizes, each counted once for every time it was predicted."""


def candidates(runs: Runs, exponents: str = "auto") -> list[Law]:
    """All laws that the data could determine."""
    options: list[list[Term | None]] = []
    for axis in runs.axes:
        terms: list[Term | None] = [None]
        free = len(runs.levels(axis)) >= 3 and exponents != "theory"
        if not free or exponents == "auto":
            terms.append(Term(axis, 1.0))
        if free:
            terms.append(Term(axis))
        options.append(terms)
    laws = [Law(tuple(t for t in some if t is not None)) for some in itertools.product(*options)]
    return [law for law in laws if law.parameters <= min(runs.cells, len(runs) - 1)]


def folds(runs: Runs) -> list[np.ndarray]:
    """Runs to hold out together, as masks.

    For an axis of at least 4 values all sizes at its largest one, and for at least 5 those at its two
    largest; for an axis of 3 or fewer each size at its largest value alone.
    """
    out: list[np.ndarray] = []
    for axis in runs.axes:
        x, levels = runs.sizes[axis], runs.levels(axis)
        if len(levels) >= 4:
            out.append(x == levels[-1])
        if len(levels) >= 5:
            out.append(x >= levels[-2])
        if len(levels) < 4:
            edge = np.unique(runs.cell[x == levels[-1]])
            out += [runs.cell == c for c in edge]
    unique = {mask.tobytes(): mask for mask in out}
    return list(unique.values())


def _errors(law: Law, data: Data, start: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """log(loss/prediction) of every held-out size; NaN where the rest does not determine the law."""
    out = []
    for mask in masks:
        rest, held = data.take(~mask), data.runs.take(mask)
        levels = {a: len(rest.runs.levels(a)) for a in law.axes}
        few = any(levels[t.axis] < (2 if t.exponent is not None else 3) for t in law.terms)
        if few or law.parameters > min(rest.runs.cells, len(rest.runs) - 1):
            out.append(np.full(held.cells, np.nan))
            continue
        fitted = estimate(law, rest, start, most=9)
        cells = held.means()
        value = fitted.law.value(fitted.theta, fitted.logs(cells.sizes))[0]
        out.append(np.log(cells.loss) - np.log(value))
    return np.concatenate(out) if out else np.zeros(0)


def choose(
    data: Data,
    exponents: str,
    report: Callable[[int, int], None],
) -> Choice:
    """The simplest law that is within one standard error of the best held-out prediction and that
    its own fit does not reject.

    The standard error is that of the paired difference of squared errors.
    """
    runs = data.runs
    laws = sorted(candidates(runs, exponents), key=lambda law: law.parameters)
    fullest = [law for law in laws if law.parameters == laws[-1].parameters]
    scaled = [with_scale(law, data) for law in fullest]
    data = min(scaled, key=lambda d: d.scale)
    masks = folds(runs)
    laws = screen(laws, data)
    fits: dict[Law, Fitted] = {}
    errors: dict[Law, np.ndarray] = {}
    for i, law in enumerate(laws):
        report(i, len(laws))
        fits[law] = estimate(law, data, most=_most(law))
        errors[law] = _errors(law, data, fits[law].theta, masks)
    full = min(fullest, key=lambda law: fits[law].cost)
    rejected = {law: _against(fits[law], fits[full], len(runs)) for law in laws}
    law = _simplest(laws, errors, rejected)
    free = Law(tuple(t if t not in law.terms else _freed(t, runs, exponents) for t in law.terms))
    sibling = fits.get(free) if free != law else None
    tested = {k: e[np.isfinite(e)] for k, e in errors.items()}
    table = tuple(
        HeldOut(
            str(k),
            k.parameters,
            float(np.sqrt((e**2).mean())) if len(e) and len(e) == len(errors[k]) else None,
            rejected[k],
            float(np.exp(fits[k].theta[0])),
            k == law,
        )
        for k, e in tested.items()
    )
    return Choice(data, fits[law], sibling, table, len(errors[law]))


def screen(laws: list[Law], data: Data) -> list[Law]:
    """With three and more axes: without the laws of which one axis alone, all others free, is
    already rejected by the fit."""
    top = laws[-1]
    if len(data.runs.axes) < 3 or len(top.axes) < len(data.runs.axes):
        return laws
    full = estimate(top, data, most=_most(top))
    bad: set[tuple[str, Term | None]] = set()
    for axis in data.runs.axes:
        options = {_term(law, axis) for law in laws}
        for option in options - {_term(top, axis)}:
            others = [t for t in top.terms if t.axis != axis]
            kept = {t.axis: t for t in [*others, *([option] if option else [])]}
            law = Law(tuple(kept[a] for a in top.axes if a in kept))
            fitted = estimate(law, data, most=_most(law))
            if _against(fitted, full, len(data.runs)) < _REJECTED:
                bad.add((axis, option))
    return [law for law in laws if not any(_term(law, a) == t for a, t in bad)]


def _term(law: Law, axis: str) -> Term | None:
    return next((t for t in law.terms if t.axis == axis), None)


def _most(law: Law) -> int:
    """Starts of a fit."""
    return fit.MOST if law.parameters <= 5 else 16


def _freed(term: Term, runs: Runs, exponents: str) -> Term:
    if exponents == "theory" or len(runs.levels(term.axis)) < 3:
        return term
    return Term(term.axis)


def _against(law: Fitted, full: Fitted, count: int) -> float:
    """p-value of the extra-sum-of-squares F-test, with the robust costs."""
    extra = full.law.parameters - law.law.parameters
    dof = count - full.law.parameters
    if extra <= 0:
        return 1.0
    if full.cost < 1e-18 * count:
        return 1.0 if law.cost < 1e-16 * count else 0.0
    gain = (law.cost - full.cost) / extra
    return float(f_law.sf(gain / (full.cost / dof), extra, dof))


def _simplest(laws: list[Law], errors: dict[Law, np.ndarray], rejected: dict[Law, float]) -> Law:
    fitting = [law for law in laws if rejected[law] > _REJECTED]
    testable = [law for law in laws if len(errors[law]) and np.isfinite(errors[law]).all()]
    good = [law for law in fitting if law in testable]
    if not good:
        # Nothing can be held out of what fits: the simplest that fits.
        return min(fitting, key=lambda law: (law.parameters, -rejected[law]))
    squares = {law: errors[law] ** 2 for law in good}
    best = min(good, key=lambda law: squares[law].mean())
    k = len(squares[best])

    def within(law: Law) -> bool:
        change = squares[law] - squares[best]
        if k >= 3:
            error = change.std(ddof=1) / np.sqrt(k)
        else:
            error = squares[best].mean() * np.sqrt(2 / k)
        return bool(change.mean() <= error + 1e-18)

    near = [law for law in good if within(law)]
    return min(near, key=lambda law: (law.parameters, squares[law].mean()))
