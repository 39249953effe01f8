"""Figure 1: errors of networks against their limit, over width at one depth and over depth at one width.

The limits are those of each coupling: of true backpropagation, and Neural Feature Dynamics (NFD), the
limit under the gradient-independence assumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import (
    COUPLING_NAMES,
    COUPLINGS,
    DEPTH,
    ROLES,
    WIDTH,
    Claim,
    Data,
    Key,
    Setting,
    stable_rate,
)
from leadline.claims.verdict import Judgement, Part, above, below, every, verdict
from leadline.intervals import Interval, jackknife, mean, slope
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing, Table
from leadline.reporting.panels import BLUE, ORANGE, PURPLE, Panels, power

FIRST_ORDER = -0.75
NOTHING = 0.01
_FROM = 4
"""The least depth that counts for the exponent in depth."""
_LINES = (
    ("independent", "independent", "networks under the assumption, against NFD", ORANGE, "diamond"),
    ("reused", "reused", "real networks, against their own limit", BLUE, "circle"),
    ("reused", "independent", "real networks, against NFD", PURPLE, "square"),
)


class LimitFigure(Claim):
    """Errors against the limit fall as 1/n and as 1/L."""

    number = "figure-1"
    title = "Errors against the limit, over width and over depth"
    sentence = "Errors against the limit fall as 1/n in width and as 1/L in depth."
    where = "figure 1"
    design = (
        "tanh ResNets with one-layer blocks under depth-μP, 8 training samples of two classes, all weights "
        "trained by full-batch SGD from f = 0 at a quarter of 1/λ, with true backpropagation and with "
        "independent backward weights. The outputs on the training samples half-way and at the end are "
        "compared.",
        "Over width: the mean square over seeds of dense networks' outputs minus those of a wide "
        "network of the same depth (the mean of solves in the exact law of dense networks), "
        "relative. Over depth: the root mean square of the mean outputs of wide networks minus their "
        "extrapolation to L = ∞ (2f(L) − f(L/2) of the largest L), relative; the width is the same "
        "throughout. Products of different seeds alone enter a square, so that the scatter of seeds "
        "adds nothing to it on average.",
    )
    rule = (
        "The claim holds if, for networks trained under the assumption, against NFD, the exponent in "
        f"width of the mean-square error and the exponent in depth of the error (L ≥ {_FROM}; the two "
        f"largest depths make the reference and do not count) are below {FIRST_ORDER} with their "
        "whole 95 % intervals (first order: −1). It fails if one is above with its whole interval; "
        "otherwise it is undecided."
    )
    sizes: ClassVar = {
        "toy": dict(widths=(32, 64), depth=4, dense_seeds=4, wide=64, width=48, seeds=3,
                    depths=(2, 4, 8, 16, 32), steps=2),
        "quick": dict(widths=(32, 64, 128, 256), depth=16, dense_seeds=48, wide=1024, width=512, seeds=8,
                      depths=(2, 4, 8, 16, 32, 64), steps=6),
        "standard": dict(widths=(32, 64, 128, 256, 512), depth=32, dense_seeds=48, wide=4096, width=1024,
                         seeds=16, depths=(2, 4, 8, 16, 32, 64, 128), steps=6),
        "full": dict(widths=(64, 128, 256, 512, 1024), depth=64, dense_seeds=64, wide=8192, width=4096,
                     seeds=16, depths=(2, 4, 8, 16, 32, 64, 128, 256), steps=12),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Dense networks of growing width, a wide one beside them, wide ones of growing depth."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=8)
        network = ResNet("tanh", scheme="depth-mup")
        sgd = SGD(stable_rate(problem, network, None, ROLES), z["steps"], center=True)
        solver = dict(seeds=z["seeds"], variance_reduction="balanced")
        out: dict[Key, Cell] = {}

        def cell(name: Key, kind: str, **how: Any) -> None:
            for coupling in COUPLINGS:
                arguments = how | dict(
                    network=network, sgd=sgd, coupling=coupling, seed=setting.seed
                )
                arguments |= dict(record_every=max(1, z["steps"] // 2))
                keep = ("train_outputs",)
                out[*name, coupling] = Cell(kind, problem, arguments, keep, setting.device)

        for n in z["widths"]:
            cell(("dense", n), "train", width=n, depth=z["depth"], seeds=z["dense_seeds"])
        cell(("wide",), "solve", width=z["wide"], depth=z["depth"], **solver)
        for depth in z["depths"]:
            cell(("deep", depth), "solve", width=z["width"], depth=depth, **solver)
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Errors over width (seeds,) by width, and outputs over depth (seeds, depths, ...), by coupling."""
        z = self.sizes[setting.preset]

        def outputs(*name: Any) -> np.ndarray:
            """(seeds, steps, samples), after the first recorded step, where all outputs are 0."""
            return arrays[name]["train_outputs"][:, 1:, :, 0]

        ends = {c: outputs("wide", c).mean(0) for c in COUPLINGS}
        scale = {c: float((v**2).mean()) for c, v in ends.items()}
        # What the reference's own spread adds to every mean square.
        noise = {c: float(outputs("wide", c).var(0, ddof=1).mean() / z["seeds"]) for c in COUPLINGS}
        errors = {
            f"{c}, {against}": [
                (((outputs("dense", n, c) - ends[against]) ** 2).mean((1, 2)) - noise[against])
                / scale[against]
                for n in z["widths"]
            ]
            for c, against, *_ in _LINES
        }
        deep = {
            c: np.stack([outputs("deep", d, c) for d in z["depths"]], axis=1) for c in COUPLINGS
        }
        return {k: z[k] for k in ("widths", "depth", "wide", "width", "depths")} | {
            "errors": errors,
            "outputs": {c: v.reshape(*v.shape[:2], -1) for c, v in deep.items()},
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        number = "exponent of the error in depth (first order: −1)"
        in_width, in_depth = (
            width_exponent(data, "independent"),
            depth_exponent(data, "independent"),
        )
        word = every(below(e, FIRST_ORDER) for e in (in_width, in_depth))
        parts = []
        # The claim's two halves, then the same of real networks.
        for keys, coupling, whose in (
            ("ab", "independent", "networks trained under the assumption"),
            ("cd", "reused", "real networks against their own limit"),
        ):
            rule = (
                f"Holds if the whole interval is below {FIRST_ORDER}, fails if all of it is above."
            )
            for key, e, what in (
                (keys[0], width_exponent(data, coupling), "The mean-square error falls as 1/n"),
                (keys[1], depth_exponent(data, coupling), "The error falls as 1/L"),
            ):
                v = verdict(below(e, FIRST_ORDER), "exponent (first order: −1)", e, rule)
                parts.append(Part(key, f"{what}: {whose}", v, claimed=coupling == "independent"))
        e = _distance(data)
        rule = (
            "Distance of the two limits at L = ∞, root mean square over NFD's. Holds if the whole "
            f"interval is above {NOTHING:.0%}, fails if all of it is below."
        )
        text = "Real networks do not approach NFD: the two limits differ"
        v = verdict(above(e, NOTHING), "distance of the limits, relative", e, rule)
        parts.append(Part("e", text, v, claimed=False))
        return Judgement(verdict(word, number, in_depth, self.rule), tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Over width and over depth."""
        p = Panels([f"Over width, L = {data['depth']}", f"Over depth, n = {data['width']}"])
        widths, depths = data["widths"], data["depths"][:-1]
        p.panel(0, WIDTH, "mean-square error, relative", sizes=widths, log_y=True)
        for c, against, name, color, symbol in _LINES:
            values = [mean(np.asarray(v, float)) for v in data["errors"][f"{c}, {against}"]]
            p.intervals(widths, values, name, color, symbol=symbol)
        first = float(np.mean(data["errors"]["reused, reused"][0]))
        p.theory(*power(widths, first, -1), "slope −1")
        p.panel(1, DEPTH, "error of mean outputs, relative", sizes=depths, log_y=True)
        for c, against, name, color, symbol in _LINES:
            p.intervals(depths, _errors(data, c, against), name, color, symbol=symbol)
        p.theory(*power(depths, _errors(data, "reused", "reused")[0].value, -1), "slope −1")
        e = [f(data, "independent") for f in (width_exponent, depth_exponent)]
        alt = (
            "Two panels: errors of outputs against the limit over width and over depth, beside slope "
            f"−1. Under the assumption the exponents are {_written(e[0])} in width and "
            f"{_written(e[1])} in depth. Real networks are compared with their own limit and "
            f"with NFD; the two limits are {_written(_distance(data))} apart."
        )
        return (Drawing(p.figure, "Errors against the limit", alt),)

    def tables(self, data: Data) -> Sequence[Table]:
        """The numbers of both panels."""
        head = ("networks", "size", "error", "exponent")
        over_width, over_depth = [], []
        for c, against, name, *_ in _LINES:
            alike = c == against
            exponent = _written(width_exponent(data, c)) if alike else "–"
            for n, v in zip(data["widths"], data["errors"][f"{c}, {against}"], strict=True):
                over_width.append((name, n, f"{mean(np.asarray(v, float)):w}", exponent))
            exponent = _written(depth_exponent(data, c)) if alike else "–"
            for depth, e in zip(data["depths"][:-1], _errors(data, c, against), strict=True):
                over_depth.append((name, depth, _written(e), exponent))
        return (
            Table(
                head, tuple(over_width), "Mean-square error over width, relative, 95 % over seeds"
            ),
            Table(
                head,
                tuple(over_depth),
                "Error of mean outputs over depth, relative, 95 % over seeds",
            ),
        )

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        lines = [
            f"With {COUPLING_NAMES[c]} the mean-square error has the exponent "
            f"{_written(width_exponent(data, c))} in width, the error of mean outputs "
            f"{_written(depth_exponent(data, c))} in depth."
            for c in reversed(COUPLINGS)
        ]
        e = _distance(data)
        far = ": so far real networks stay from NFD, whatever their size" if e.low > NOTHING else ""
        lines.append(
            f"The two limits are {_written(e)} apart (root mean square of outputs, relative){far}."
        )
        return tuple(lines)


def width_exponent(data: Data, coupling: str) -> Interval:
    """Exponent in width of the mean-square error against the coupling's own limit."""
    groups = [np.asarray(v, float) for v in data["errors"][f"{coupling}, {coupling}"]]

    def exponent(*g: np.ndarray) -> float:
        means = [v.mean() for v in g]
        return slope(data["widths"], means) if min(means) > 0 else float("nan")

    return jackknife(exponent, *groups)


def _written(e: Interval) -> str:
    """A number with its interval; a dash where the scatter of seeds hides it."""
    return f"{e:w}" if np.isfinite(e.value) else "–"


def _outputs(data: Data, coupling: str) -> np.ndarray:
    """Outputs by seed and depth: (seeds, depths, steps and samples)."""
    return np.asarray(data["outputs"][coupling], dtype=float)


def _end(outputs: np.ndarray) -> np.ndarray:
    """The value at L = ∞ of outputs (seeds, depths, ...), by 1/L."""
    return 2 * outputs[:, -1] - outputs[:, -2]


def root_mean_square(deviations: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Root mean square of the mean over seeds of deviations (seeds, depths, k), over that of (k,) outputs.

    Products of different seeds alone, so that what seeds scatter adds nothing on average; NaN where that
    leaves nothing.
    """
    seeds = len(deviations)
    pairs = deviations.sum(0) ** 2 - (deviations**2).sum(0)
    square = pairs.mean(-1) / (seeds * (seeds - 1)) / (scale**2).mean()
    return np.sqrt(np.where(square > 0, square, np.nan))


def _errors(data: Data, coupling: str, against: str) -> list[Interval]:
    """Errors of mean outputs by depth, without the largest, which the reference is made of."""
    v = np.stack([_outputs(data, c) for c in (coupling, against)], axis=1)

    def error(x: np.ndarray, i: int) -> float:
        end = _end(x[:, 1])
        return float(root_mean_square(x[:, 0] - end[:, None], end.mean(0))[i])

    return [jackknife(lambda x, i=i: error(x, i), v) for i in range(len(data["depths"]) - 1)]


def depth_exponent(data: Data, coupling: str) -> Interval:
    """Exponent in depth of the error of mean outputs against the coupling's own limit."""
    depths = np.array(data["depths"][:-2], dtype=float)
    deep = depths >= min(_FROM, depths[-2])

    def exponent(x: np.ndarray) -> float:
        end = _end(x)
        errors = root_mean_square(x[:, :-2] - end[:, None], end.mean(0))[deep]
        return slope(depths[deep], errors) if np.isfinite(errors).all() else float("nan")

    return jackknife(exponent, _outputs(data, coupling))


def _distance(data: Data) -> Interval:
    """Root mean square of the two limits' difference, over NFD's."""
    v = np.stack([_outputs(data, c) for c in COUPLINGS], axis=1)

    def distance(x: np.ndarray) -> float:
        reused, independent = _end(x[:, 0]), _end(x[:, 1])
        return float(root_mean_square((reused - independent)[:, None], independent.mean(0))[0])

    return jackknife(distance, v)
