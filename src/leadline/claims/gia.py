"""Claim 3: the gradient-independence assumption becomes valid again at infinite depth.

The same network is trained twice: by true backpropagation (coupling "reused") and with a backward
pass through an independent copy of W(0) (coupling "independent": the assumption made true, whose
limit NFD is). The gap between their losses is what the assumption gets wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import (
    COUPLING_COLORS,
    COUPLING_NAMES,
    COUPLINGS,
    DEPTH,
    ROLES,
    Claim,
    Data,
    Key,
    Setting,
    stable_rate,
)
from leadline.claims.verdict import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Judgement,
    Part,
    every,
    inside,
    outside,
    verdict,
)
from leadline.intervals import Interval, jackknife, slope
from leadline.problems import arrays as arrays_problem
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing
from leadline.reporting.panels import BLUE, GREEN, PURPLE, SYMBOLS, Panels, power

KINDS = {
    "plain": "plain network, no skip connections",
    "mup": "ResNet, no depth factor (μP)",
    "depth-mup": "ResNet, 1/√L (depth-μP)",
}
# Exponent in depth above which a gap does not vanish: half of the mechanism's −½.
SLOW = -0.25
# A relative gap in the loss that counts as nothing.
NOTHING = 0.01
IDENTITY_RATE = 0.02
CAPTION = "What the gradient-independence assumption gets wrong, over depth, training and horizon"


class GradientIndependence(Claim):
    """The gradient-independence assumption becomes valid again at infinite depth."""

    number = 3
    title = "Gradient independence during training"
    sentence = (
        "The gradient-independence assumption, known to fail during training at finite depth, "
        "becomes valid again at infinite depth, through a vanishing mechanism induced by the "
        "1/√depth residual scaling."
    )
    design = (
        "Two classes of the data, 8 samples, squared error, tanh, one-layer blocks, all weights "
        "trained by full-batch SGD from f = 0. Every network is trained twice from the same "
        "W(0): with true backpropagation, and with a backward pass through an independent copy "
        "of W(0) that gets the same updates, which makes the assumption true. Three "
        "architectures: a plain network, a ResNet without a depth factor (μP), a depth-μP "
        "ResNet.",
        "The learning rate is a quarter of 1/λ, λ the largest eigenvalue of the tangent kernel "
        "at initialization over P, so that rates mean the same in all three. Depths beyond the "
        "reach of dense networks are solved without n×n matrices, with the same law; dense "
        "networks are shown for comparison.",
    )
    rule = (
        "The gap is one minus the loss of true backpropagation over that with independent backward "
        "weights, half-way through training. The claim is that it vanishes as depth grows, like "
        f"1/√L. It holds if the gap's exponent in depth (L ≥ 8) is below {SLOW} with its whole 95 % "
        f"interval and the gap extrapolated to L = ∞ (in 1/√L) is not above {NOTHING:.0%}. It fails "
        f"if both whole intervals are above: {SLOW} and {NOTHING:.0%}. Otherwise it is undecided."
    )
    sizes: ClassVar = {
        "toy": dict(
            width=64, seeds=3, depths=(2, 4), short=(2, 4), steps=2, horizons=(0.5, 1.0),
            horizon_depth=4, dense=dict(width=32, seeds=3, depths=(2,)), identity=(2, 4),
        ),
        "quick": dict(
            width=512, seeds=4, depths=(2, 4, 8, 16, 32, 64, 128), short=(2, 4, 8, 16, 32), steps=6,
            horizons=(0.25, 0.5, 1.0, 2.0, 4.0), horizon_depth=32,
            dense=dict(width=384, seeds=24, depths=(4, 16)), identity=(4, 16, 64),
        ),
        "standard": dict(
            width=1024, seeds=6, depths=(2, 4, 8, 16, 32, 64, 128, 256), short=(2, 4, 8, 16, 32, 64),
            steps=6, horizons=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0), horizon_depth=64,
            dense=dict(width=512, seeds=24, depths=(2, 4, 8, 16, 32)), identity=(4, 16, 64, 256),
        ),
        "full": dict(
            width=16384, seeds=8, depths=(2, 4, 8, 16, 32, 64, 128, 256, 512), short=(2, 4, 8, 16, 32, 64),
            steps=12, horizons=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0), horizon_depth=128,
            dense=dict(width=4096, seeds=8, depths=(2, 4, 8, 16, 32, 64)), identity=(4, 16, 64, 256),
        ),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Solves over depth and horizon, dense networks at some depths, first steps of the identity."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=8)
        out: dict[Key, Cell] = {}

        def pair(name: Key, kind: str, network: ResNet, lr: float, **how: Any) -> None:
            task, keep = how.pop("problem", problem), how.pop("keep", ("train_loss",))
            how.setdefault("sgd", SGD(lr, z["steps"], center=True))
            for coupling in COUPLINGS:
                arguments = how | dict(network=network, coupling=coupling, seed=setting.seed)
                out[*name, coupling] = Cell(kind, task, arguments, keep, setting.device)

        solver = dict(width=z["width"], seeds=z["seeds"], variance_reduction="balanced")
        for kind in KINDS:
            network = _network(kind)
            for depth in z["depths"] if kind == "depth-mup" else z["short"]:
                at = None if kind == "depth-mup" else depth
                lr = stable_rate(problem, network, at, ROLES)
                pair((kind, depth), "solve", network, lr, depth=depth, **solver)
        lr = stable_rate(problem, _network("depth-mup"), None, ROLES)
        dense = z["dense"]
        for depth in dense["depths"]:
            size = dict(width=dense["width"], seeds=dense["seeds"], depth=depth)
            pair(("dense", depth), "train", _network("depth-mup"), lr, **size)
        for horizon in z["horizons"]:
            network = _network("depth-mup", horizon)
            lr = stable_rate(problem, network, None, ROLES)
            pair(("horizon", horizon), "solve", network, lr, depth=z["horizon_depth"], **solver)
        identity = ResNet("identity", scheme="depth-mup")
        one = arrays_problem(np.ones((1, 4)), np.array([1.0]), standardize=False)
        first = SGD(IDENTITY_RATE, 1, center=True, train=("hidden",))
        how = solver | dict(sgd=first, problem=one, keep=("train_outputs",))
        for depth in z["identity"]:
            pair(("identity", depth), "solve", identity, IDENTITY_RATE, depth=depth, **how)
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Losses (seeds, steps) by architecture, coupling and size."""
        z = self.sizes[setting.preset]

        def losses(name: str, sizes: Sequence[float]) -> dict[str, list[np.ndarray]]:
            return {c: [arrays[name, size, c]["train_loss"] for size in sizes] for c in COUPLINGS}

        depths = {k: z["depths" if k == "depth-mup" else "short"] for k in KINDS}
        dense = z["dense"]
        return {k: z[k] for k in ("width", "horizons", "horizon_depth")} | {
            "step": z["steps"] // 2,
            "depths": depths,
            "curves": {k: losses(k, depths[k]) for k in KINDS},
            "dense_width": dense["width"],
            "dense_depths": dense["depths"],
            "dense": losses("dense", dense["depths"]),
            "horizon": losses("horizon", z["horizons"]),
            "identity_depths": z["identity"],
            "identity": {
                c: [
                    arrays["identity", d, c]["train_outputs"][:, 1, 0, 0] / IDENTITY_RATE
                    for d in z["identity"]
                ]
                for c in COUPLINGS
            },
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        _, exponent, infinite = over_depth(data)
        word = UNDECIDED
        if exponent.high < SLOW and infinite.low <= NOTHING:
            word = HOLDS
        elif exponent.low > SLOW and infinite.low > NOTHING:
            word = FAILS
        headline = verdict(word, "relative gap in the loss at infinite depth", infinite, self.rule)
        parts = []
        # What the paper says of finite depth, in the architectures without its depth factor.
        for key, kind in (("3a", "plain"), ("3b", "mup")):
            e, depth = gap_at(data["curves"][kind], -1, data["step"]), data["depths"][kind][-1]
            rule = (
                f"Holds if the relative gap at L = {depth} differs from 0 by more than {NOTHING:.0%} "
                f"with its whole interval; fails if it is within ±{NOTHING:.0%}."
            )
            text = f"In a {KINDS[kind]}, the assumption fails during training"
            word = outside(e, -NOTHING, NOTHING)
            parts.append(Part(key, text, verdict(word, f"relative gap at L = {depth}", e, rule)))
        text = f"In a {KINDS['depth-mup']}, it becomes valid again as depth grows"
        deep = verdict(headline.verdict, "exponent of the gap in depth", exponent, "as the claim's")
        parts.append(Part("3c", text, deep))
        e = place(data)
        rule = (
            "0 is the limit of true backpropagation, 1 is NFD, the limit under the assumption. Holds "
            "if the whole interval is within ±¼ of 0; fails if none of it is."
        )
        text = "Real depth-μP networks follow the limit with the coupling through Wᵀ kept"
        v = verdict(inside(e, -0.25, 0.25), "place between the limits", e, rule)
        return Judgement(headline, (*parts, Part("3d", text, v, claimed=False), _first_step(data)))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Gap over depth, over training, over horizon; the first step of the identity."""
        step, depths = data["step"], data["depths"]["depth-mup"]
        titles = [f"Gap after {step} steps, over {axis}" for axis in ("depth", "horizon")]
        titles.insert(1, f"Loss over training, L = {depths[-1]}")
        p = Panels([*titles, "First step of the identity"])
        p.panel(0, DEPTH, "|relative gap in loss|", sizes=depths, log_y=True)
        colors = {"plain": PURPLE, "mup": GREEN, "depth-mup": BLUE}
        for symbol, (kind, name) in zip(SYMBOLS, KINDS.items(), strict=False):
            gaps = gaps_at(data["curves"][kind], step)
            p.intervals(data["depths"][kind], gaps, name, colors[kind], symbol=symbol)
        gaps = gaps_at(data["dense"], step)
        name = f"dense depth-μP networks, n = {data['dense_width']}"
        p.intervals(data["dense_depths"], gaps, name, BLUE, symbol="circle-open", mode="markers")
        first = abs(gap_at(data["curves"]["depth-mup"], 0, step).value)
        p.theory(*power(depths, first, -0.5), "as claimed: vanishing like 1/√L")
        p.panel(1, "training step", "training loss", log_y=True)
        curves = stacked(data["curves"]["depth-mup"])[:, :, -1]
        x = list(range(curves.shape[-1]))
        for i, c in enumerate(COUPLINGS):
            p.line(x, curves[:, i], COUPLING_NAMES[c], COUPLING_COLORS[c])
        p.panel(2, "horizon T", "relative gap in loss", sizes=data["horizons"])
        gaps = gaps_at(data["horizon"], step)
        p.intervals(data["horizons"], gaps, f"depth-μP, L = {data['horizon_depth']}", BLUE)
        p.panel(3, DEPTH, "−Δf/(ηχ)", sizes=data["identity_depths"])
        grid = np.geomspace(data["identity_depths"][0], data["identity_depths"][-1], 40)
        for c in COUPLINGS:
            values = np.stack([np.asarray(v, float) for v in data["identity"][c]], axis=1)
            style = (COUPLING_NAMES[c], COUPLING_COLORS[c])
            p.line(data["identity_depths"], values, *style, mode="markers")
            p.theory(grid, [identity_limit(c, g) for g in grid], "closed form at n = ∞")
        last, exponent, _ = over_depth(data)
        alt = (
            "Four panels. The relative gap between the training losses of true backpropagation and "
            f"of independent backward weights, after {step} steps: in a depth-μP network "
            f"({last.value:.2f} at depth {depths[-1]}, exponent in depth {exponent:w}), beside a line of "
            "slope −½ as the claim would have it, and in networks without skip connections or depth "
            "factor. The two losses over training. The gap over the horizon T. The first step of the "
            "identity network beside two closed forms."
        )
        return (Drawing(p.figure, CAPTION, alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        last, exponent, infinite = over_depth(data)
        depths, step = data["depths"]["depth-mup"], data["step"]
        curves = data["curves"]["depth-mup"]
        end = gap_at(curves, -1, len(np.asarray(curves["reused"][0], float)[0]) - 1)
        low, high = (gap_at(data["horizon"], i, step) for i in (0, -1))
        return (
            f"In the depth-μP ResNet the gap after {step} steps is {last:w} at L = {depths[-1]}. Its "
            f"exponent in depth is {exponent:w}. Extrapolated to infinite depth it is {infinite:w}. At "
            f"the end of training it is {end:w}.",
            f"At the horizon T = {data['horizons'][0]:g} the gap is {low:w}, at T = "
            f"{data['horizons'][-1]:g} it is {high:w}.",
            "Why there is a gap: given the earlier backward products Wᵀz, the product Wφ(h) has a mean "
            "R·z, which is O(1/L) in each layer. There are L layers, so it adds up to O(1). Coupling "
            "“reused” keeps it. Statement 3d says where real networks lie between the two limits.",
        )


def _network(kind: str, horizon: float = 1.0) -> Any:
    scheme = "mup" if kind == "mup" else "depth-mup"
    return ResNet("tanh", scheme=scheme, skip=kind != "plain", horizon=horizon)


def stacked(curves: Mapping[str, Any]) -> np.ndarray:
    """(seeds, couplings, sizes, steps)."""
    v = np.array([[np.asarray(a, float) for a in curves[c]] for c in COUPLINGS])
    return np.moveaxis(v, 2, 0)


def gap(v: np.ndarray) -> np.ndarray:
    """1 − loss of true backpropagation/loss under the assumption, of seeds' means (2, ...)."""
    reused, independent = v.mean(0)
    return 1 - reused / independent


def gap_at(curves: Mapping[str, Any], size: int, step: int) -> Interval:
    """The relative gap at one size and step."""
    return jackknife(lambda v: float(gap(v)), stacked(curves)[:, :, size, step])


def gaps_at(curves: Mapping[str, Any], step: int) -> list[Interval]:
    """The relative gaps of all sizes."""
    return [gap_at(curves, i, step) for i in range(len(curves["reused"]))]


def over_depth(data: Data) -> tuple[Interval, Interval, Interval]:
    """The depth-μP ResNet's gap at the largest depth, its exponent in depth, gap at L = ∞."""
    depths = np.array(data["depths"]["depth-mup"], dtype=float)
    v = stacked(data["curves"]["depth-mup"])[..., data["step"]]
    deep = depths >= min(8.0, depths[-3:].min())

    last = jackknife(lambda v: float(gap(v)[-1]), v)
    exponent = jackknife(lambda v: slope(depths[deep], gap(v)[deep]), v)
    # Intercept of gap = g + b/√L, the rate that is claimed.
    infinite = jackknife(lambda v: float(np.polyfit(depths[deep] ** -0.5, gap(v)[deep], 1)[1]), v)
    return last, exponent, infinite


def identity_limit(coupling: str, depth: float) -> float:
    """−Δf/(ηχ) of the first step at n = ∞, T = 1: (1+1/L)^(L−1), or (1+1/L)^L − 1."""
    if math.isinf(depth):
        return math.e if coupling == "reused" else math.e - 1
    growth = 1 + 1 / depth
    return growth ** (depth - 1) if coupling == "reused" else growth**depth - 1


def place(data: Data) -> Interval:
    """Where real networks stand between true backpropagation's limit (0) and NFD's (1).

    Mean over the dense networks' depths at the step where gaps are compared; the ends are solved at
    the same depth.
    """
    step, depths = data["step"], data["depths"]["depth-mup"]
    at = [depths.index(d) for d in data["dense_depths"]]
    ends = stacked(data["curves"]["depth-mup"])[:, :, at, step]
    real = stacked(data["dense"])[:, 0, :, step]

    def position(real: np.ndarray, ends: np.ndarray) -> float:
        reused, independent = ends.mean(0)
        return float(((real.mean(0) - reused) / (independent - reused)).mean())

    return jackknife(position, real, ends)


def _first_step(data: Data) -> Part:
    """The closed forms of the identity network."""
    ratios = []
    for c in COUPLINGS:
        expected = identity_limit(c, data["identity_depths"][-1])
        measured = np.asarray(data["identity"][c][-1], float)
        ratios.append(jackknife(lambda v, e=expected: float(v.mean()) / e, measured))
    rule = (
        "First step of the identity network, one sample: measured over the closed form "
        "T(1+T/L)^(L−1) (true backpropagation) and (1+T/L)^L − 1 (independent). Holds if both "
        "intervals are within 3 % of 1."
    )
    text = "The first step follows the closed forms, e against e − 1 at infinite depth"
    word = every(inside(e, 0.97, 1.03) for e in ratios)
    worst = max(ratios, key=lambda e: abs(e.value - 1))
    return Part("3e", text, verdict(word, "measured/closed form", worst, rule), claimed=False)
