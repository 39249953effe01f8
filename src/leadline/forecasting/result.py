"""What a forecast says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import check_list, check_real
from leadline.forecasting.answers import (
    LimitComparison,
    PredictedLoss,
    diminishing,
    nearest,
    outside,
)
from leadline.forecasting.by_axis import ByAxis, each_axis
from leadline.forecasting.choice import HeldOut
from leadline.forecasting.costs import RunCost, axis_named, make_cost
from leadline.forecasting.estimate import Fitted
from leadline.forecasting.figure import forecast_figure
from leadline.forecasting.frontier import (
    Best,
    Frontier,
    growth,
    held_sizes,
    optima,
    prices,
    useless_axes,
)  # fmt: skip
from leadline.forecasting.misfit import Misfit
from leadline.forecasting.optimum import Surface, whole
from leadline.forecasting.outliers import Outlier
from leadline.forecasting.profiles import Profiles, isoflop_profiles
from leadline.forecasting.runs import MODEL, Runs
from leadline.forecasting.words import forecast_text
from leadline.intervals import Interval, percentiles
from leadline.tabular.notebook import Plotted

if TYPE_CHECKING:
    import plotly.graph_objects

# A loss whose interval is wider than this factor is not known.
_WIDE = 1.5
# Beyond the runs by more, a law that misses something is not relied on.
_OUT = 2.0


@dataclass(frozen=True, repr=False)
class Forecast(Plotted):
    """A law of the loss over size, and what it says.

    Attributes:
        floor: E, the loss at infinite size (of the axes that the law has terms for).
        law: the chosen formula.
        held_out: every candidate with its error at the held-out largest sizes.
        held_out_sizes: how many predictions of a size that error is over.
        resampled: "runs", "sizes", "signs", "pairs" or "groups": what the intervals are made from.
        noise: standard deviation of a run's log loss about the law.
        limit: the floor beside the limit it was compared with, or None.
        misfit: what the law misses. outliers: runs far off it, and which of them were left out.
        notes: what the data do not determine.
        runs, laws: what was read, and the fits: the chosen law, then the others that every interval
            encloses.
        gain, confidence: of the answers below.
        seconds: of the computation.
    """

    floor: Interval
    law: str
    held_out: tuple[HeldOut, ...]
    held_out_sizes: int
    resampled: str
    noise: float
    limit: LimitComparison | None
    misfit: Misfit
    outliers: tuple[Outlier, ...]
    notes: tuple[str, ...]
    runs: Runs = field(compare=False)
    laws: tuple[Fitted, ...] = field(compare=False)
    gain: float = 1.0
    confidence: float = 0.95
    seconds: float = 0.0

    @property
    def terms(self) -> tuple[str, ...]:
        """The axes that the law has terms for."""
        return self.laws[0].law.axes

    @property
    def exponents(self) -> ByAxis:
        """The law's exponents by axis."""
        return self._each(self.terms, [f.exponents for f in self.laws])

    @property
    def coefficients(self) -> ByAxis:
        """A, B, … of the formula, by the axis of each term."""
        answers = [f.coefficients for f in self.laws]
        return self._each(answers[0], answers)

    def predict(
        self,
        width: float | None = None,
        depth: float | None = None,
        *,
        run: bool = False,
        **sizes: float | None,
    ) -> PredictedLoss:
        """The loss at a size; what is not named is the largest of the runs.

        Args:
            sizes: by axis: its name, what it is (``parameters``, ``tokens``) or ``N`` and ``D``.
            run: the interval of one run there, its noise included, instead of the typical run's.

        Raises:
            ValueError, TypeError: an axis that the runs lack, or a size that is not > 0.
        """
        return self.predict_at(dict(width=width, depth=depth) | sizes, run=run)

    def predict_at(self, sizes: Mapping[str, float | None], run: bool = False) -> PredictedLoss:
        """``predict`` of a dict of sizes."""
        at = self._at(sizes)
        answers = [f.values({a: np.array([x]) for a, x in at.items()})[:, 0] for f in self.laws]
        if run:
            rng = np.random.default_rng(0)
            spread = self.noise * rng.standard_normal(max(len(a) for a in answers))
            spread[0] = 0.0
            answers = [a * np.exp(spread[: len(a)]) for a in answers]
        value = self._interval(answers)
        far = outside(self.runs, at)
        near, undecided = nearest(self.runs, at, self.terms), self._undecided(value, far)
        rivals: dict[str, float] = {}
        for f, a in zip(self.laws, answers, strict=True):
            if str(f.law) != self.law:
                rivals.setdefault(str(f.law), float(a[0]))
        return PredictedLoss(value.value, value.low, value.high, at, far, near, undecided, rivals)

    def diminishing(
        self,
        axis: str,
        gain: float | None = None,
        *,
        width: float | None = None,
        depth: float | None = None,
        **sizes: float | None,
    ) -> Interval:
        """The size beyond which doubling ``axis`` lowers the loss by less than ``gain`` percent.

        The other sizes are the runs' largest where not named. 0: no doubling gains as much;
        infinite: every one does.

        Raises:
            ValueError, TypeError: an axis that the runs do not have, or a bad number.
        """
        axis = self._axis("axis", axis)
        percent = self.gain if gain is None else check_real("gain", gain, 0, 100, open_minimum=True)
        at = self._at(dict(width=width, depth=depth) | sizes)
        return self._interval([diminishing(f, axis, percent / 100, at) for f in self.laws])

    def best(self, budget: float, cost: Any = None, **held: float | None) -> Best:
        """The sizes of the lowest loss that cost no more than ``budget``.

        Args:
            cost: an expression such as "6*N*D", a column of costs by its name, or a function whose
                arguments are named like axes. By default 6·N·D, or width²·depth·samples·steps, of what the
                runs have.
            held: sizes by axis that the budget is not spent on; ``samples`` and ``steps`` are held at the
                runs' largest where width or depth are chosen.

        An axis without a term stays at the runs' smallest.

        Raises:
            ValueError, TypeError: the budget buys nothing, or the cost does not grow with size.
        """
        told = self._sizes(held)
        return self._best(*self._optima(budget, make_cost(cost, self.runs), told), told)

    def _best(
        self,
        surface: Surface,
        sizes: list[dict[str, np.ndarray]],
        losses: list[np.ndarray],
        held: Mapping[str, float],
    ) -> Best:
        by_axis = {a: self._interval([s[a] for s in sizes]) for a in surface.free}
        size = whole(surface, {a: x.value for a, x in by_axis.items()})
        # An axis that costs and lowers nothing is as small as the runs have it.
        useless = useless_axes(self.runs, self.laws, surface.cost, held)
        for axis in useless:
            x = surface.held[axis]
            by_axis[axis], size[axis] = Interval(x, x, x), round(x)
        order = [a for a in self.runs.sizes if a in by_axis]
        by_axis, size = {a: by_axis[a] for a in order}, {a: size[a] for a in order}
        every = {**surface.held, **{a: float(x) for a, x in size.items()}}
        loss = self.predict_at(every)
        beyond = [max(x, 1 / x) for a, x in loss.outside.items() if a in size]
        return Best(
            budget=surface.budget,
            cost=float(surface.cost(every)),
            formula=surface.cost.text,
            sizes=ByAxis(by_axis, self.runs),
            loss=loss,
            size=tuple(size.values()),
            held={a: x for a, x in surface.held.items() if a not in useless},
            extrapolated=max(beyond, default=1.0),
            price=prices(surface, self.laws, sizes, losses, self.confidence),
        )

    def frontier(
        self,
        budgets: Sequence[float] | None = None,
        cost: Any = None,
        **held: float | None,
    ) -> Frontier:
        """The best sizes over budgets, and the exponents with which they grow with the cost.

        Args:
            budgets: by default the cheapest and the dearest run's cost, and 10 and 100 times that.
            cost, held: as of ``best``. The exponents are those between the smallest and the largest budget.

        Raises:
            ValueError, TypeError: as ``best``.
        """
        price = make_cost(cost, self.runs)
        spent = price(self.runs.sizes) * np.ones(len(self.runs))
        span = float(spent.min()), float(spent.max())
        if budgets is None:
            middle = float(np.sqrt(span[0] * span[1]))
            budgets = [span[0], middle, span[1], 10 * span[1], 100 * span[1]]
        some = sorted(
            check_real("budgets", b, 0.0, open_minimum=True)
            for b in check_list("budgets", budgets, 1000)
        )
        told = self._sizes(held)
        made = [self._optima(b, price, told) for b in some]
        points = tuple(self._best(*m, told) for m in made)
        low, high = some[0], some[-1] if some[-1] > some[0] else 10 * some[0]
        end = made[-1] if high == some[-1] else self._optima(high, price, told)
        exponents = growth(made[0][1], end[1], high / low, self.confidence)
        return Frontier(
            price.text, points, ByAxis(exponents, self.runs), dict(points[0].held), span
        )

    def isoflop(self, cost: Any = None, axis: str | None = None) -> Profiles:
        """The minima of runs of one cost, without any law, and how they grow with it.

        Args:
            axis: that the minima are along; by default the parameters, or the first.

        Raises:
            ValueError: the runs are no isoFLOP profiles.
        """
        if axis is None:
            model = [a for a in self.runs.axes if self.runs.role(a) in MODEL]
            axis = (model or list(self.runs.axes))[0]
        axis = self._axis("axis", axis)
        return isoflop_profiles(self.runs, make_cost(cost, self.runs), axis, self.confidence)

    def figure(self) -> plotly.graph_objects.Figure:
        """Loss against each axis: runs, law, band, floor, and the residuals under them."""
        return forecast_figure(self)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; what is infinite is None."""
        return {
            "floor": self.floor.to_json(),
            "law": self.law,
            "read": self.runs.read,
            "terms": list(self.terms),
            "exponents": {a: i.to_json() for a, i in self.exponents.items()},
            "coefficients": {a: i.to_json() for a, i in self.coefficients.items()},
            "diminishing": {
                "gain_percent": self.gain,
                **{a: self.diminishing(a).to_json() for a in self.runs.axes},
            },
            "limit": None if self.limit is None else self.limit.to_json(),
            "held_out": [asdict(row) for row in self.held_out],
            "held_out_sizes": self.held_out_sizes,
            "resampled": self.resampled,
            "noise": self.noise,
            "misfit": asdict(self.misfit) | {"seen": self.misfit.seen, "grave": self.misfit.grave},
            "outliers": [asdict(o) for o in self.outliers],
            "runs": len(self.runs),
            "sizes": self.runs.cells,
            "diverged": self.runs.diverged,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "seconds": self.seconds,
        }

    def __repr__(self) -> str:
        return forecast_text(self)

    def _interval(self, answers: Sequence[np.ndarray]) -> Interval:
        return percentiles(answers, self.confidence)

    def _each(
        self, axes: Sequence[str] | Mapping[str, Any], answers: Sequence[Mapping[str, np.ndarray]]
    ) -> ByAxis:
        return ByAxis(each_axis(self.laws, axes, answers, self.confidence), self.runs)

    def _axis(self, argument: str, name: str) -> str:
        axis = axis_named(str(name), self.runs)
        if axis is None:
            raise ValueError(
                f"{argument}={name!r} is unknown: choose from {', '.join(self.runs.sizes)}"
            )
        return axis

    def _sizes(self, sizes: Mapping[str, float | None]) -> dict[str, float]:
        out = {}
        for name, x in sizes.items():
            if x is None:
                continue
            check_real(name, x, 0.0, open_minimum=True)
            axis = axis_named(name, self.runs)
            if axis is None:
                raise ValueError(
                    f"{name}={x!r}: the runs have no axis {name!r}, they have {', '.join(self.runs.sizes)}"
                )
            out[axis] = float(x)
        return out

    def _at(self, sizes: Mapping[str, float | None]) -> dict[str, float]:
        """A size for every axis of the runs."""
        told = self._sizes(sizes)
        return {a: told.get(a, float(x.max())) for a, x in self.runs.sizes.items()}

    def _optima(
        self, budget: float, cost: RunCost, held: Mapping[str, float]
    ) -> tuple[Surface, list[dict[str, np.ndarray]], list[np.ndarray]]:
        budget = check_real("budget", budget, 0.0, open_minimum=True)
        free, rest = held_sizes(self.runs, self.laws, cost, held)
        surface = Surface(budget, cost, free, rest)
        return surface, *optima(surface, self.laws)

    def _undecided(self, value: Interval, far: Mapping[str, float]) -> str:
        out = max((max(x, 1 / x) for x in far.values()), default=1.0)
        if self.misfit.grave and out > _OUT:
            return "the law misses a pattern in the runs, and this is far outside them"
        if value.high > _WIDE * value.low:
            return "the runs leave the loss there open: add runs nearer to it"
        return ""
