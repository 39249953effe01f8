"""What a forecast says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import check_choice, check_real
from leadline.forecasting.answers import (
    Best,
    Cost,
    Frontier,
    LimitComparison,
    default_cost,
    diminishing,
    whole_size,
)
from leadline.forecasting.choice import HeldOut
from leadline.forecasting.estimate import Fitted
from leadline.forecasting.figure import forecast_figure
from leadline.forecasting.runs import Runs
from leadline.intervals import Interval, percentiles
from leadline.reporting.tables import number, text_table

if TYPE_CHECKING:
    import plotly.graph_objects

# Candidates that are printed.
_SHOWN = 6


@dataclass(frozen=True, repr=False)
class Forecast:
    """A law of the loss over size, and what it says.

    Attributes:
        floor: E, the loss at infinite size (of the axes that the law has terms for).
        law: the chosen formula.
        held_out: every candidate with its error at the held-out largest sizes.
        held_out_sizes: how many predictions of a size that error is over.
        resampled: "runs", or "sizes" where the law misses more than seeds explain.
        noise: standard deviation of a run's log loss about the law.
        limit: the floor beside the limit it was compared with, or None.
        notes: what the data do not determine.
        runs, laws: what was fitted, and the fits: the chosen law, then (where its exponents are fixed)
            the same terms with free ones; every interval encloses both.
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
    def exponents(self) -> dict[str, Interval]:
        """By axis."""
        return {a: self._interval([f.law.split(f.all)[2][:, k] for f in self.laws])
                for k, a in enumerate(self.terms)}  # fmt: skip

    @property
    def coefficients(self) -> dict[str, Interval]:
        """A, B, … of the formula, by axis."""
        out = {}
        for k, axis in enumerate(self.terms):
            answers = []
            for f in self.laws:
                _, sizes, powers = f.law.split(f.all)
                answers.append(sizes[:, k] * f.origin[axis] ** powers[:, k])
            out[axis] = self._interval(answers)
        return out

    def predict(
        self,
        width: float | None = None,
        depth: float | None = None,
        *,
        samples: float | None = None,
        steps: float | None = None,
        run: bool = False,
    ) -> Interval:
        """The loss at a size; what is not given is the largest of the runs.

        Args:
            run: the interval of one run there, its noise included, instead of the typical run's.

        Raises:
            ValueError, TypeError: a size that is not > 0.
        """
        at = self._at(dict(width=width, depth=depth, samples=samples, steps=steps))
        answers = [f.values({a: np.array([x]) for a, x in at.items()})[:, 0] for f in self.laws]
        if run:
            rng = np.random.default_rng(0)
            spread = self.noise * rng.standard_normal(max(len(a) for a in answers))
            spread[0] = 0.0
            answers = [a * np.exp(spread[: len(a)]) for a in answers]
        return self._interval(answers)

    def diminishing(
        self,
        axis: str,
        gain: float | None = None,
        *,
        width: float | None = None,
        depth: float | None = None,
        samples: float | None = None,
        steps: float | None = None,
    ) -> Interval:
        """The size beyond which doubling ``axis`` lowers the loss by less than ``gain`` percent.

        The other sizes are the runs' largest where not given. 0: no doubling gains as much;
        infinite: every one does.

        Raises:
            ValueError, TypeError: an axis that the runs do not have, or a bad number.
        """
        check_choice("axis", axis, self.runs.sizes)
        percent = self.gain if gain is None else check_real("gain", gain, 0, 100, open_minimum=True)
        at = self._at(dict(width=width, depth=depth, samples=samples, steps=steps))
        return self._interval([diminishing(f, axis, percent / 100, at) for f in self.laws])

    def best(
        self,
        budget: float,
        cost: Cost = default_cost,
        *,
        samples: float | None = None,
        steps: float | None = None,
    ) -> Best:
        """The width and depth of the lowest loss that cost no more than ``budget``.

        Args:
            cost: function (width, depth, samples, steps); by default width²·depth·samples·steps.
            samples, steps: by default the runs' largest, 1 where they have no such column.

        An axis without a term stays at the runs' smallest.

        Raises:
            ValueError, TypeError: the budget buys nothing, or the cost does not grow with size.
        """
        check_real("budget", budget, 0.0, open_minimum=True)
        at = self._at(dict(samples=samples, steps=steps))
        least = {a: float(self.runs.sizes[a].min()) for a in ("width", "depth")}
        held = {a: None if a in self.terms else least[a] for a in least}
        data = {k: at.get(k, size or 1.0) for k, size in dict(samples=samples, steps=steps).items()}
        frontier = Frontier(budget, cost, **data, **held)
        sizes = [frontier.best(f, at) for f in self.laws]
        width, depth = (self._interval([s[k] for s in sizes]) for k in (0, 1))
        whole = whole_size(width.value, depth.value, frontier, budget)
        beyond = max(
            x / float(self.runs.sizes[a].max())
            for a, x in zip(("width", "depth"), whole, strict=True)
        )
        loss = self.predict(*whole, samples=samples, steps=steps)
        return Best(width, depth, loss, whole, frontier.spent(*whole), max(beyond, 1.0))

    def figure(self) -> plotly.graph_objects.Figure:
        """Loss against width and against depth: runs, law, band, floor."""
        return forecast_figure(self.law, self.floor, self.runs, self.laws, self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; what is infinite is None."""
        return {
            "floor": self.floor.to_json(),
            "law": self.law,
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
            "runs": len(self.runs),
            "sizes": self.runs.cells,
            "diverged": self.runs.diverged,
            "confidence": self.confidence,
            "notes": list(self.notes),
            "seconds": self.seconds,
        }

    def __repr__(self) -> str:
        return _text(self)

    def _interval(self, answers: list[np.ndarray]) -> Interval:
        return percentiles(answers, self.confidence)

    def _at(self, sizes: Mapping[str, float | None]) -> dict[str, float]:
        """A size for every axis of the runs."""
        for axis, x in sizes.items():
            if x is not None:
                check_real(axis, x, 0.0, open_minimum=True)
        out = {}
        for axis, column in self.runs.sizes.items():
            x = sizes.get(axis)
            out[axis] = float(column.max()) if x is None else float(x)
        return out


def _text(forecast: Forecast) -> str:
    """What ``print(forecast)`` shows."""
    runs = forecast.runs
    unit = {"runs": "residuals of runs", "sizes": "residuals of sizes"}[forecast.resampled]
    head = (
        f"loss = {forecast.law}   ({len(runs)} runs, {runs.cells} sizes; intervals "
        f"{forecast.confidence:.0%}, bootstrap over {unit})"
    )
    rows = [["floor E", *forecast.floor.cells()]]
    for axis in forecast.terms:
        rows.append([f"coefficient of {axis}", *forecast.coefficients[axis].cells()])
        rows.append([f"exponent of {axis}", *forecast.exponents[axis].cells()])
    for axis in runs.axes:
        point = forecast.diminishing(axis)
        rows.append([f"{axis} where a doubling gains < {forecast.gain:g} %", *point.cells()])
    lines = [head, "", text_table(["", "value", "low", "high"], rows)]
    if forecast.limit is not None:
        lines += ["", f"The floor {forecast.limit}."]
    lines += ["", *_candidates(forecast)]
    lines += ["", *(f"Note: {n}" for n in forecast.notes)] if forecast.notes else []
    return "\n".join(lines)


def candidate_cells(forecast: Forecast) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the chosen law, then the best candidates."""
    order = sorted(forecast.held_out, key=lambda r: (not r.chosen, r.error is None, r.error or 0.0))
    rows = [
        [
            ("→ " if r.chosen else "  ") + r.law,
            str(r.parameters),
            "–" if r.error is None else f"{100 * r.error:.3g} %",
            f"{r.rejected:.2g}",
            number(r.floor, 4),
        ]
        for r in order
    ]
    return ["  law", "parameters", "held-out error", "p of its fit", "floor"], rows


def _candidates(forecast: Forecast) -> list[str]:
    header, rows = candidate_cells(forecast)
    more = len(rows) - _SHOWN
    return [text_table(header, rows[:_SHOWN])] + ([f"  and {more} more"] if more > 0 else [])
