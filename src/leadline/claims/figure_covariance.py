"""Figure 3: the smallest eigenvalue of the covariance of features, five seeds, widths 512 to 4096."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from leadline.claims.claim import WIDTH, Data
from leadline.claims.degeneracy import NonDegeneracy, extrapolated
from leadline.intervals import Interval, jackknife, mean
from leadline.reporting.page import Drawing, Table
from leadline.reporting.panels import GREY, Panels, shades


class CovarianceFigure(NonDegeneracy):
    """The smallest eigenvalue over width, every seed drawn."""

    number: ClassVar = "figure-3"
    title = "Smallest eigenvalue of the covariance"
    sentence = (
        "The smallest eigenvalue of the features' covariance over samples stays away from 0 as width "
        "grows, at initialization and during training."
    )
    where = "figure 3"

    def figures(self, data: Data) -> Sequence[Drawing]:
        """At initialization and at the end of training: seeds, means, and the extrapolation."""
        v = _smallest(data)
        whens = ("At initialization", f"After {data['steps'][-1]} steps")
        p = Panels([f"{when}, L = {data['depth']}" for when in whens])
        colors = shades(len(v))
        for panel, at in enumerate((0, -1)):
            label = "smallest/mean eigenvalue"
            p.panel(panel, WIDTH, label, sizes=data["widths"])
            for seed, values in enumerate(v[..., at]):
                p.line(
                    data["widths"], values, f"seed {seed}", colors[seed], mode="markers", width=1.0
                )
            p.intervals(
                data["widths"],
                [mean(x) for x in v[..., at].T],
                "mean, 95 %",
                GREY,
                symbol="diamond",
            )
            infinite = [_infinite(data, at).value] * len(data["widths"])
            p.theory(data["widths"], infinite, "extrapolated to infinite width")
        first, last = (_infinite(data, at) for at in (0, -1))
        alt = (
            "Two panels: the smallest over the mean eigenvalue of the activation kernel, the least "
            "over depth times, of every seed over width, at initialization and after training; at "
            f"infinite width it is {first:w} and {last:w}."
        )
        return (Drawing(p.figure, "Smallest eigenvalue over width, by seed", alt),)

    def tables(self, data: Data) -> Sequence[Table]:
        """Means with intervals, how far apart two seeds are, and the extrapolation."""
        v = _smallest(data)
        rows = []
        for i, step in enumerate(data["steps"]):
            for k, width in enumerate(data["widths"]):
                x = v[:, k, i]
                apart = jackknife(lambda y: float(np.sqrt(2) * y.std(ddof=1) / y.mean()), x)
                rows.append((step, f"{width}", f"{mean(x):w}", f"{apart:w}"))
            rows.append((step, "∞", f"{_infinite(data, i):w}", "–"))
        head = ("step", "width", "smallest/mean eigenvalue", "two seeds apart, relative")
        return (Table(head, tuple(rows), "The least over depth times, 95 % over seeds"),)


def _smallest(data: Data) -> np.ndarray:
    """(seeds, widths, steps), the least over depth times."""
    return np.asarray(data["over_width"], dtype=float).min(-1)


def _infinite(data: Data, step: int) -> Interval:
    """At infinite width, the least over depth times at one step."""
    v = np.asarray(data["over_width"], dtype=float)
    return jackknife(lambda x: float(extrapolated(data["widths"], x)[step].min()), v)
