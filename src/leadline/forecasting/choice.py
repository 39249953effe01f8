"""Which form, which terms, which exponents: what predicts the largest sizes from the smaller ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from leadline.forecasting import fit
from leadline.forecasting.estimate import ROBUST, Data, Fitted, estimate, residuals, with_scale
from leadline.forecasting.law import Law, Term
from leadline.forecasting.runs import DATA, MODEL, Runs
from leadline.intervals import f_tail

EXPONENTS = ("auto", "free", "theory")
LAWS = ("auto", "sum", "kaplan", "product")
# Laws that their fit rejects at this level are not chosen.
_REJECTED = 0.05
# And those are not even held out, of one or two axes; of more axes, all that are not chosen.
_HOPELESS = 1e-4
# Axes of which theory knows the exponent 1.
_THEORY = ("width", "depth")
# Held-out errors beyond so many medians count as that many: one bad run decides nothing.
_CUT = 5.0
_EXACT = 1e-3
# Mean squares that differ by such a share are the same.
_SAME = 1e-3
# Of more rows the choice looks at so many.
_SOME = 1500
# Axes of more values are held out by their largest tenth and quarter.
_MANY = 12


@dataclass(frozen=True)
class HeldOut:
    """One candidate.

    Attributes:
        law, parameters: its formula and how many parameters are fitted.
        error: RMS of log(loss/prediction) at the held-out largest sizes; None if nothing could be
            held out.
        rejected: p-value of its fit against the fullest of its form, and of that against the best form.
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
    """The chosen law; the same with free exponents and a floor (None if that is the same or cannot be
    fitted); laws of other forms, and without the floor, that fit as well; and the table."""

    data: Data
    fitted: Fitted
    sibling: Fitted | None
    rivals: tuple[Fitted, ...]
    table: tuple[HeldOut, ...]
    cells: int
    """Held-out sizes, each counted once for every time it was predicted."""


def candidates(runs: Runs, exponents: str = "auto", laws: str = "auto") -> list[Law]:
    """All laws that the data could determine."""
    options: list[list[Term | None]] = []
    for axis in runs.axes:
        terms: list[Term | None] = [None]
        free = len(runs.levels(axis)) >= 3 and exponents != "theory"
        if not free or (exponents == "auto" and runs.role(axis) in _THEORY):
            terms.append(Term(axis, 1.0))
        if free:
            terms.append(Term(axis))
        options.append(terms)
    sums = [Law(tuple(t for t in some if t is not None)) for some in itertools.product(*options)]
    out = sums if laws in ("auto", "sum") else [Law(())]
    if exponents != "theory":
        free_sums = [law for law in sums if law.terms and law.free == len(law.terms)]
        others = _coupled(runs) if laws != "sum" else []
        others = [law for law in others if laws in ("auto", law.kind)]
        bare = [replace(law, floor=False) for law in [*(free_sums if out is sums else ()), *others]]
        out = [*out, *others, *bare]
    most = min(runs.cells, len(runs) - 1)
    return [law for law in out if law.parameters <= most]


def _coupled(runs: Runs) -> list[Law]:
    """Kaplan's form of a model's size and its data; a product of width and depth, or of two axes."""
    axes = [a for a in runs.axes if len(runs.levels(a)) >= 3]
    if len(axes) != len(runs.axes) or len(axes) < 2:
        return []
    model = [a for a in axes if runs.role(a) in MODEL]
    data = [a for a in axes if runs.role(a) in DATA]
    out = []
    if len(axes) == 2:
        first, second = (model[0], data[0]) if len(model) == len(data) == 1 else axes
        out.append(Law((Term(first), Term(second)), norm=second))
        out.append(Law((Term(first, None, second),)))
    elif len(model) == 2:
        rest = [Term(a) for a in axes if a not in model]
        out.append(Law((Term(model[0], None, model[1]), *rest)))
    return out


def folds(runs: Runs) -> list[np.ndarray]:
    """Runs to hold out together, as masks.

    For an axis of at least 4 values all sizes at its largest one, and for at least 5 those at its two
    largest; for an axis of 3 or fewer each size at its largest value alone; for one of more than 12
    values the largest tenth of the runs, and the largest quarter.
    """
    out: list[np.ndarray] = []
    for axis in runs.axes:
        x, levels = runs.sizes[axis], runs.levels(axis)
        if len(levels) > _MANY:
            out += [x >= np.quantile(x, share) for share in (0.9, 0.75)]
        elif len(levels) >= 4:
            out.append(x == levels[-1])
            if len(levels) >= 5:
                out.append(x >= levels[-2])
        else:
            edge = np.unique(runs.cell[x == levels[-1]])
            out += [runs.cell == c for c in edge]
    unique = {mask.tobytes(): mask for mask in out if not mask.all()}
    return list(unique.values())


def _errors(law: Law, data: Data, start: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """log(loss/prediction) of every held-out size; NaN where the rest does not determine the law."""
    out = []
    for mask in masks:
        rest, held = data.take(~mask), data.runs.take(mask)
        levels = {a: len(rest.runs.levels(a)) for a in law.axes}
        few = any(
            levels[a] < (2 if t.exponent is not None and j == 0 else 3)
            for t in law.terms
            for j, a in enumerate(t.axes)
        )
        if few or law.parameters > min(rest.runs.cells, len(rest.runs) - 1):
            out.append(np.full(held.cells, np.nan))
            continue
        fitted = estimate(law, rest, start, most=3)
        cells = held.means()
        value = fitted.law.value(fitted.theta, fitted.logs(cells.sizes))[0] * fitted.unit
        out.append(np.log(cells.loss) - np.log(value))
    return np.concatenate(out) if out else np.zeros(0)


def choose(
    data: Data,
    exponents: str,
    report: Callable[[int, int], None],
    laws: str = "auto",
) -> Choice:
    """The simplest law that is within one standard error of the best held-out prediction and that
    its fit does not reject.

    The standard error is that of the paired difference of squared errors.
    """
    every = data
    if len(data.runs) > _SOME:
        pick = np.zeros(len(data.runs), bool)
        pick[np.random.default_rng(0).choice(len(data.runs), _SOME, replace=False)] = True
        data = data.take(pick)
    runs = data.runs
    some = sorted(candidates(runs, exponents, laws), key=lambda law: law.parameters)
    fullest = fullest_of(some)
    if math.isinf(data.scale) or len(every.runs) > len(runs):
        data = min((with_scale(law, data) for law in fullest), key=lambda d: d.scale)
    masks = folds(runs)
    fits: dict[Law, Fitted] = {}
    for i, law in enumerate(some):
        report(i, 2 * len(some))
        fits[law] = estimate(law, data, most=_most(law))
    rejected = reject(fits, fullest, data)
    errors: dict[Law, np.ndarray] = {}
    for i, law in enumerate(some):
        report(len(some) + i, 2 * len(some))
        told = rejected[law] > (_HOPELESS if len(runs.axes) < 3 else _REJECTED)
        errors[law] = _errors(law, data, fits[law].theta, masks) if told else np.full(1, np.nan)
    law = _simplest(some, errors, rejected)
    tested = {k: e[np.isfinite(e)] for k, e in errors.items()}
    table = tuple(
        HeldOut(
            law=str(k),
            parameters=k.parameters,
            error=float(np.sqrt((e**2).mean())) if len(e) and len(e) == len(errors[k]) else None,
            rejected=rejected[k],
            floor=float(fits[k].floors[0]),
            chosen=k == law,
        )
        for k, e in tested.items()
    )
    again = len(every.runs) > len(data.runs)
    every = replace(every, scale=data.scale)

    def final(k: Law) -> Fitted:
        return estimate(k, every, fits[k].theta, most=4) if again else fits[k]

    free = freed(law, runs, exponents)
    sibling = final(free) if free != law and free in fits else None
    kinds = {law.kind, *(() if sibling is None else (free.kind,))}
    rivals = [
        final(k) for k in fullest if k.terms and k.kind not in kinds and rejected[k] > _REJECTED
    ]
    # A floor that the fit does not tell from 0: draws of a fit with E >= 0 do not see the side that
    # is cut off, and leave out what the law without it says.
    bare = replace(free if sibling else law, floor=False)
    if bare != law and rejected.get(bare, 0.0) > _REJECTED:
        rivals.append(final(bare))
    return Choice(
        data=every,
        fitted=final(law),
        sibling=sibling,
        rivals=tuple(rivals),
        table=table,
        cells=len(errors[law]),
    )


def fullest_of(laws: list[Law]) -> list[Law]:
    """The laws of most parameters, of each form."""
    out = []
    for kind in dict.fromkeys(law.kind for law in laws):
        same = [law for law in laws if law.kind == kind]
        most = max(law.parameters for law in same)
        out += [law for law in same if law.parameters == most]
    top = max(law.parameters for law in out if law.kind == "sum") if out else 0
    return [law for law in out if law.kind != "sum" or law.parameters == top]


def reject(fits: dict[Law, Fitted], fullest: list[Law], data: Data) -> dict[Law, float]:
    """p-values: against the fullest of its form, which is nested, and of that against the best form,
    which is not (Vuong's test of paired costs)."""
    count = len(data.runs)
    best: dict[str, Law] = {}
    for law in fullest:
        other = best.get(law.kind)
        if other is None or fits[law].cost < fits[other].cost:
            best[law.kind] = law
    costs = {kind: _costs(fits[law], data) for kind, law in best.items()}
    top = min(costs, key=lambda kind: costs[kind].sum())
    out = {}
    for law, fitted in fits.items():
        full = best[law.kind]
        p = _against(fitted, fits[full], count)
        if full.kind != top:
            p = min(p, _vuong(costs[full.kind], costs[top], count))
        out[law] = p
    return out


def _costs(fitted: Fitted, data: Data) -> np.ndarray:
    """(N,) what each run adds to the cost."""
    r = residuals(fitted.law, fitted.theta, data)
    c = ROBUST * data.scale
    return 2 * r**2 / (np.sqrt(1 + (r / c) ** 2) + 1)


def _vuong(costs: np.ndarray, best: np.ndarray, count: int) -> float:
    """One-sided p-value that a form fits as well as the best one.

    The log-likelihood's difference of a run is half the cost's over the variance, which is that of the
    better form.
    """
    change = costs - best
    if best.sum() < 1e-18 * count:
        return 1.0 if costs.sum() < 1e-16 * count else 0.0
    spread = change.std(ddof=1)
    if spread == 0:
        return 1.0
    return float(norm.sf(change.mean() / spread * np.sqrt(count)))


def freed(law: Law, runs: Runs, exponents: str) -> Law:
    """A law of the same terms with fitted exponents and a floor, as far as the data can determine them."""
    terms = tuple(_freed(t, runs, exponents) for t in law.terms)
    return replace(law, terms=terms, floor=True)


def _freed(term: Term, runs: Runs, exponents: str) -> Term:
    if exponents == "theory" or len(runs.levels(term.axis)) < 3:
        return term
    return replace(term, exponent=None)


def _most(law: Law) -> int:
    """Starts of a fit."""
    return fit.MOST if law.parameters <= 5 else 16


def _against(law: Fitted, full: Fitted, count: int) -> float:
    """p-value of the extra-sum-of-squares F-test, with the robust costs."""
    extra = full.law.parameters - law.law.parameters
    dof = count - full.law.parameters
    if extra <= 0:
        return 1.0
    if full.cost < 1e-18 * count:
        return 1.0 if law.cost < 1e-16 * count else 0.0
    gain = (law.cost - full.cost) / extra
    return float(f_tail(gain / (full.cost / dof), extra, dof))


def _testable(
    laws: list[Law], errors: dict[Law, np.ndarray], rejected: dict[Law, float]
) -> list[Law]:
    return [
        law
        for law in laws
        if rejected[law] > _REJECTED and len(errors[law]) and np.isfinite(errors[law]).all()
    ]


def _near(laws: list[Law], errors: dict[Law, np.ndarray], rejected: dict[Law, float]) -> list[Law]:
    """What predicts as well as the best: within one standard error of it."""
    good = _testable(laws, errors, rejected)
    if not good:
        return []
    cut = _CUT * min(float(np.median(np.abs(errors[law]))) for law in good)
    squares = {law: np.minimum(np.abs(errors[law]), max(cut, _EXACT)) ** 2 for law in good}
    best = min(good, key=lambda law: squares[law].mean())
    k = len(squares[best])

    def within(law: Law) -> bool:
        change = squares[law] - squares[best]
        if k >= 3:
            error = change.std(ddof=1) / np.sqrt(k)
        else:
            error = squares[best].mean() * np.sqrt(2 / k)
        return bool(change.mean() <= error + _SAME * squares[best].mean() + 1e-18)

    near = [law for law in good if within(law)]
    return sorted(near, key=lambda law: (law.parameters, squares[law].mean()))


def _simplest(laws: list[Law], errors: dict[Law, np.ndarray], rejected: dict[Law, float]) -> Law:
    near = _near(laws, errors, rejected)
    if near:
        return near[0]
    # Nothing can be held out of what fits: the simplest that fits.
    fitting = [law for law in laws if rejected[law] > _REJECTED]
    return min(fitting, key=lambda law: (law.parameters, -rejected[law]))
