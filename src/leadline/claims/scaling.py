"""Claim 6: when scaling persists, and why returns diminish.

A network of width n and depth L has the loss E + A/n + B/L: the trend persists while A/n + B/L is
not small against E, the loss of the limit, and returns diminish after. The horizon T moves E itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import (
    COUPLING_COLORS,
    DEPTH,
    ROLES,
    SETS,
    Claim,
    Data,
    Key,
    Setting,
    stable_rate,
)
from leadline.claims.limits import LimitOfTraining
from leadline.claims.verdict import Judgement, Part, below, inside, verdict
from leadline.intervals import Interval, jackknife, mean
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing
from leadline.reporting.panels import BLUE, PURPLE, Panels

FLOORS = {"reused": "true backpropagation", "independent": "NFD"}
CLOSE = 0.1
LEFT = 0.5


class DiminishingReturns(Claim):
    """When scaling persists, and why returns diminish."""

    number = 6
    title = "Scaling and diminishing returns"
    sentence = "NFD identifies when scaling-law trends persist and explains diminishing returns."
    where = "abstract; qualitative there"
    design = (
        "The networks of claim 2: tanh ResNets with one-layer blocks under depth-μP, trained by "
        "full-batch SGD at one learning rate, width and depth growing together, real networks "
        "only. The floors are the solved limits, extrapolated in 1/n and 1/L, with an error bar "
        "of their own. Depth alone and the horizon T are solved at large width with balanced "
        "noise.",
    )
    rule = (
        "Losses are those of real networks half-way through training. Width and depth grow "
        "together (L = n/16). The number is what the last two doublings of the size gain, "
        "divided by what the first two gained. Returns diminish towards a floor if it is small: "
        f"the claim holds if its whole 95 % interval is below {LEFT:g} and fails if the whole "
        "interval is above. (A loss that fell like a power of the size without a floor would "
        "pass only with an exponent above ⅓ for the sizes of the quick study.)"
    )
    sizes: ClassVar = {
        "toy": dict(width=32, depths=(1, 2, 4), horizons=(0.5, 1.0), depth=2, seeds=3),
        "quick": dict(
            width=1024, depths=(1, 2, 4, 8, 16, 32), horizons=(0.25, 0.5, 1.0, 2.0, 4.0), depth=32,
            seeds=4,
        ),
        "standard": dict(
            width=2048, depths=(1, 2, 4, 8, 16, 32, 64), horizons=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0),
            depth=64, seeds=6,
        ),
        "full": dict(
            width=8192, depths=(1, 2, 4, 8, 16, 32, 64, 128),
            horizons=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0), depth=128, seeds=8,
        ),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Claim 2's networks and limits; solves over depth and horizon."""
        z, trained = self.sizes[setting.preset], LimitOfTraining.sizes[setting.preset]
        out, steps = LimitOfTraining().cells(setting), trained["steps"]
        problem = setting.two(samples=8, test_samples=trained["test"])

        def solved(network: Any, lr: float, depth: int) -> Cell:
            sgd = SGD(lr=lr, steps=steps, center=True)
            how = dict(network=network, sgd=sgd, width=z["width"], depth=depth, seeds=z["seeds"])
            how |= dict(
                seed=setting.seed, variance_reduction="balanced", record_every=max(1, steps // 2)
            )
            return Cell("solve", problem, how, ("train_loss", "test_loss"), setting.device)

        base = ResNet("tanh", scheme="depth-mup")
        lr = stable_rate(problem, base, None, ROLES)
        for depth in z["depths"]:
            out["depth", depth] = solved(base, lr, depth)
        for horizon in z["horizons"]:
            network = ResNet("tanh", scheme="depth-mup", horizon=horizon)
            out["horizon", horizon] = solved(network, lr, z["depth"])
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Half-way losses by size (seeds,), of both limits, over depth and horizon."""
        z, trained = self.sizes[setting.preset], LimitOfTraining.sizes[setting.preset]
        grown = [*trained["dense"], *trained["solved"]]
        limits = {c: arrays["limit", c] for c in FLOORS}

        def half(part: str, *name: Any) -> np.ndarray:
            return arrays[name][f"{part}_loss"][..., 1]

        def over(part: str, name: str, sizes: Sequence[float]) -> np.ndarray:
            return np.stack([half(part, name, size) for size in sizes], axis=1)

        return {k: z[k] for k in ("width", "depths", "depth", "horizons")} | {
            "sizes": grown,
            "loss": {p: [half(p, n, d, "reused") for n, d in grown] for p in SETS},
            "floor": {p: {c: float(half(p, "limit", c)) for c in FLOORS} for p in SETS},
            "floor_error": {
                p: {c: float(a[f"{p}_loss_error"][1]) for c, a in limits.items()} for p in SETS
            },
            "over_depth": {p: over(p, "depth", z["depths"]) for p in SETS},
            "over_horizon": {p: over(p, "horizon", z["horizons"]) for p in SETS},
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        e = gains(data)
        number = "gain of the last two doublings over that of the first two"
        headline = verdict(below(e, LEFT), number, e, self.rule)
        parts = [Part("6a", "Returns diminish: the loss falls to a floor", headline)]
        for key, coupling, text in (
            (
                "6b",
                "reused",
                "The floor is the loss of the limit with the coupling through Wᵀ kept",
            ),
            ("6c", "independent", "The floor is the loss that NFD gives"),
        ):
            e = against(data, coupling)
            rule = (
                "The networks' losses extrapolated to infinite size by E + A/n, against the solved "
                f"limit. Holds if they agree within {CLOSE:.0%} with the whole interval, fails if "
                "none of it does."
            )
            v = verdict(inside(e, -CLOSE, CLOSE), f"E/loss of {FLOORS[coupling]} − 1", e, rule)
            parts.append(Part(key, text, v, claimed=False))
        return Judgement(headline, tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Loss over size, depth and horizon, with the floors."""
        widths = [n for n, _ in data["sizes"]]
        p = Panels(
            [
                "Training loss over size",
                "Test loss over size",
                f"Over depth alone, n = {data['width']}",
                f"Over horizon, n = {data['width']}, L = {data['depth']}",
            ]
        )
        for i, part in enumerate(SETS):
            p.panel(i, "width n, neurons (depth L = n/16)", f"{part} loss", sizes=widths)
            losses = [mean(g) for g in _groups(data, part)]
            p.intervals(widths, losses, f"real networks, {part}", (BLUE, PURPLE)[i])
            for c, name in FLOORS.items():
                p.theory(
                    widths,
                    [data["floor"][part][c]] * len(widths),
                    f"limit: {name}",
                    COUPLING_COLORS[c],
                )
        for panel, key, sizes, label in (
            (2, "over_depth", data["depths"], DEPTH),
            (3, "over_horizon", data["horizons"], "horizon T"),
        ):
            p.panel(panel, label, "loss", sizes=sizes)
            for i, part in enumerate(SETS):
                symbol = ("circle", "square")[i]
                p.line(
                    sizes,
                    np.asarray(data[key][part], float),
                    f"solved, {part}",
                    (BLUE, PURPLE)[i],
                    symbol=symbol,
                    dash="dash",
                )
        b, c = against(data, "reused"), against(data, "independent")
        alt = (
            "Four panels. Training and test losses of real networks over size, beside the losses of "
            f"the limit of true backpropagation (relative difference of the floor {b:w}) and of NFD "
            f"({c:w}); the loss over depth alone at large width; the loss over the horizon T."
        )
        return (Drawing(p.figure, "Loss over size, with the limits as floors", alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        first, last = (mean(_groups(data, "train")[i]) for i in (0, -1))
        (n0, d0), (n1, d1) = data["sizes"][0], data["sizes"][-1]
        t = np.asarray(data["over_horizon"]["test"], float).mean(0)
        x = np.asarray(data["over_horizon"]["train"], float).mean(0)
        return (
            f"Half-way through training the loss goes from {first:w} at n = {n0}, L = {d0} to {last:w} "
            f"at n = {n1}, L = {d1}. Extrapolated it ends at {end(data, 'train'):w}; the limit of true "
            f"backpropagation has {data['floor']['train']['reused']:.4f}, NFD "
            f"{data['floor']['train']['independent']:.4f}.",
            "A limit explains why returns diminish. The loss is E + A/n + B/L; once A/n + B/L is "
            "small against E, size alone gains nothing more. Statements 6b and 6c say which limit's "
            "loss the floor is.",
            "A trend can persist if the limit itself changes. At one learning rate and the largest size "
            f"solved, raising the horizon T from {data['horizons'][0]:g} to {data['horizons'][-1]:g} "
            f"changes the training loss from {x[0]:.4f} to {x[-1]:.4f} and the test loss from "
            f"{t[0]:.4f} to {t[-1]:.4f}.",
        )


def _groups(data: Data, part: str) -> list[np.ndarray]:
    return [np.asarray(v, float) for v in data["loss"][part]]


def gains(data: Data, part: str = "train") -> Interval:
    """What the last two doublings gain over what the first two gained."""
    step = min(2, len(data["sizes"]) - 1)

    def ratio(*g: np.ndarray) -> float:
        y = [v.mean() for v in g]
        return float((y[-1 - step] - y[-1]) / (y[0] - y[step]))

    return jackknife(ratio, *_groups(data, part))


def end(data: Data, part: str) -> Interval:
    """The losses' intercept of E + A/n, weighted by √n."""
    widths = np.array([n for n, _ in data["sizes"]], dtype=float)

    def intercept(*g: np.ndarray) -> float:
        y = np.array([v.mean() for v in g])
        return float(np.polyfit(1 / widths[1:], y[1:], 1, w=np.sqrt(widths[1:]))[1])

    return jackknife(intercept, *_groups(data, part))


def against(data: Data, coupling: str, part: str = "train") -> Interval:
    """Where the networks' losses end, relative to a limit's floor, minus 1."""
    e, floor = end(data, part), data["floor"][part][coupling]
    more = data["floor_error"][part][coupling] / floor
    low, high = e.low / floor - 1, e.high / floor - 1
    middle = e.value / floor - 1
    # The floor's own error bar, independent of the networks'.
    half = float(np.hypot((high - low) / 2, (1 + middle) * more))
    return Interval(middle, middle - half, middle + half)
