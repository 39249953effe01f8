"""Figure 2: training with true backpropagation beside training under the gradient-independence assumption.

Its protocol is known from a summary of the paper, not from the paper; what that leaves open is said in
``design``. The curves are drawn as there; the table beside them says what an eye cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import COUPLINGS, SETS, Claim, Data, Key, Setting
from leadline.claims.curves import in_seeds, relative_gap, seed_distance, time_shift
from leadline.claims.gia import KINDS, NOTHING, SLOW
from leadline.claims.verdict import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Judgement,
    Part,
    above,
    below,
    every,
    verdict,
)
from leadline.intervals import Interval, jackknife, slope
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing, Table
from leadline.reporting.panels import Panels, shades

# Chosen in pilot runs as large as all depths bear that the kind can train at all.
RATES = {"plain": 0.05, "mup": 0.05, "depth-mup": 0.3}
_COLUMNS = {"plain": "vanilla network", "mup": "μP ResNet", "depth-mup": "depth-μP ResNet"}
_LOSSES = {"train": "training loss", "test": "test loss"}
_FROM = 4
"""The least depth that counts for the exponent in depth."""


class CouplingsFigure(Claim):
    """True backpropagation beside independent backward weights, in three architectures."""

    number = "figure-2"
    title = "Reused and independent backward weights"
    sentence = (
        "Losses of networks trained with reused and with independent backward weights come to lie on each "
        "other as depth grows in a depth-μP ResNet, and not in a vanilla network or a μP ResNet."
    )
    where = "figure 2"
    design = (
        "Networks of width 128 with one-layer blocks, ReLU, cross-entropy over ten classes, SGD with "
        "batches of 128, T = 1: a vanilla network without skip connections (gain √2), a ResNet "
        "without a depth factor (μP), and a depth-μP ResNet. Each is trained twice from the same "
        "weights on the same batches: with true backpropagation (solid), and with a backward pass "
        "through an independent copy of W(0) that gets the same updates (dashed). Learning rates are "
        + ", ".join(f"{lr:g} ({_COLUMNS[k]})" for k, lr in RATES.items())
        + " at every depth. The paper's own activation, rates, batches and number of steps are not known.",
        "Beside the curves: the gap, the second loss over the first minus 1, with its interval over "
        "seeds; how far apart two seeds of the same coupling are; and the share of its training by "
        "which the second network is behind the first (by when each first reached a loss: of a test "
        "loss that rises again it says little).",
    )
    rule = (
        "Figure 2's claim is about depth, and judged at a third of the training, where networks have "
        "not yet learned all there is. In the depth-μP ResNet it holds if the exponent in depth of "
        f"the gap in the training loss (L ≥ {_FROM}) is below {SLOW} with its whole 95 % interval, "
        "half of what a mechanism of 1/√L would give. It fails if the whole interval is above, and "
        f"the gap at the largest depth is above {NOTHING:.0%} with its whole interval. Otherwise it "
        "is undecided: more seeds (preset standard) narrow both."
    )
    sizes: ClassVar = {
        "toy": dict(width=16, depths=(4, 8), seeds=3, steps=6, every=2, samples=40, test=20, batch=16),
        "quick": dict(
            width=128, depths=(2, 4, 8, 16), seeds=4, steps=150, every=10, samples=800, test=400, batch=128
        ),
        "standard": dict(
            width=128, depths=(2, 4, 8, 16, 32, 64), seeds=8, steps=300, every=20, samples=800, test=800,
            batch=128,
        ),
        "full": dict(
            width=128, depths=(2, 4, 8, 16, 32, 64, 128), seeds=16, steps=1500, every=50, samples=10_000,
            test=5_000, batch=128,
        ),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Every architecture, depth and coupling."""
        z = self.sizes[setting.preset]
        problem = setting.all(z["samples"], z["test"])
        out: dict[Key, Cell] = {}
        for kind in KINDS:
            sgd = SGD(RATES[kind], z["steps"], batch_size=z["batch"])
            for depth in z["depths"]:
                for coupling in COUPLINGS:
                    how = dict(network=_network(kind), sgd=sgd, width=z["width"], depth=depth)
                    how |= dict(seeds=z["seeds"], seed=setting.seed, coupling=coupling)
                    how |= dict(record_every=z["every"])
                    keep = tuple(f"{part}_loss" for part in SETS)
                    out[kind, depth, coupling] = Cell("train", problem, how, keep, setting.device)
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Losses (seeds, couplings, steps) by kind, set and depth."""
        z = self.sizes[setting.preset]

        def losses(kind: str, depth: int, part: str) -> np.ndarray:
            return np.stack([arrays[kind, depth, c][f"{part}_loss"] for c in COUPLINGS], axis=1)

        return {k: z[k] for k in ("width", "depths", "samples", "batch")} | {
            "steps": steps_of(z["steps"], z["every"]),
            "curves": {
                kind: {part: [losses(kind, d, part) for d in z["depths"]] for part in SETS}
                for kind in KINDS
            },
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        gap, exponent = _at(data, relative_gap, "depth-mup", -1), gap_exponent(data, "depth-mup")
        word = UNDECIDED
        if exponent.high < SLOW:
            word = HOLDS
        elif exponent.low > SLOW and above(gap, NOTHING) == HOLDS:
            word = FAILS
        headline = verdict(word, "exponent of the gap in depth, depth-μP", exponent, self.rule)
        deep = data["depths"][-1]
        rule = f"Holds if the whole interval is above {NOTHING:.0%}, fails if all of it is below."
        text = f"With the depth factor a gap is left at L = {deep}"
        v = verdict(above(gap, NOTHING), f"gap at L = {deep}, depth-μP", gap, rule)
        parts = [Part("a", text, v, claimed=False)]
        rule = (
            "Gap over the distance of two seeds at a third of the training, the largest of all "
            "depths. Holds if it is below 1 at every depth with its whole interval, fails if it is "
            "above at one."
        )
        ratios = [_at(data, in_seeds, "depth-mup", i) for i in range(len(data["depths"]))]
        worst = max(ratios, key=lambda e: -math.inf if math.isnan(e.value) else e.value)
        text = "At every depth the gap is smaller than two seeds of one network are apart"
        word = every(below(e, 1.0) for e in ratios)
        v = verdict(word, "gap in distances of two seeds, depth-μP", worst, rule)
        parts.append(Part("b", text, v, claimed=False))
        for key, kind in (("c", "mup"), ("d", "plain")):
            grown = _growth(data, kind)
            rule = (
                "Gap at the largest depth minus gap at the smallest. Holds if its whole interval is "
                "above 0, or if the second network diverges and the first does not; fails if all of "
                "it is below."
            )
            word = HOLDS if grown.value == math.inf else above(grown, 0.0)
            text = f"In a {_COLUMNS[kind]} the curves part with depth"
            v = verdict(word, f"growth of the gap, L = {data['depths'][0]} to {deep}", grown, rule)
            parts.append(Part(key, text, v))
        return Judgement(headline, tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Three columns, training loss above test loss; a colour a depth."""
        p = Panels(
            [f"{name}, {_LOSSES[part]}" for part in SETS for name in _COLUMNS.values()],
            3,
            row_height=320,
        )
        colors = shades(len(data["depths"]))
        for row, part in enumerate(SETS):
            for column, kind in enumerate(_COLUMNS):
                p.panel(3 * row + column, "step", _LOSSES[part], log_y=True)
                for i, depth in enumerate(data["depths"]):
                    means = curves_of(data, kind, part, i).mean(0)
                    for c, dash in enumerate(("solid", "dash")):
                        name = f"L = {depth}, {COUPLINGS[c]}"
                        p.line(
                            data["steps"],
                            means[c],
                            name,
                            colors[i],
                            dash=dash,
                            symbol=None,
                            mode="lines",
                        )
        low, high = (_at(data, relative_gap, "depth-mup", i) for i in (0, -1))
        alt = (
            "Training loss above, test loss below, over steps, of a vanilla network, a μP ResNet and "
            "a depth-μP ResNet; a colour for each depth, solid for reused backward weights, dashed "
            "for independent ones. In the last column the two lie close together: at a third of the "
            f"training the dashed training loss is {_percent(low)} above the solid one at depth "
            f"{data['depths'][0]} and {_percent(high)} at depth {data['depths'][-1]}."
        )
        title = "Reused (solid) against independent (dashed) backward weights, means over seeds"
        return (Drawing(p.figure, title, alt),)

    def tables(self, data: Data) -> Sequence[Table]:
        """The statistics, at a third of the training and at its end."""
        steps = data["steps"]
        out = []
        for part in SETS:
            rows = []
            for kind, name in _COLUMNS.items():
                for i, depth in enumerate(data["depths"]):
                    for at in (_third(data), len(steps) - 1):
                        v = curves_of(data, kind, part, i)
                        means = v.mean(0)[:, at]
                        shift = time_shift(v, at, np.asarray(steps))
                        cells = (f"{x:.3g}" if math.isfinite(x) else "diverged" for x in means)
                        gap, apart = relative_gap(v, at), seed_distance(v, at)
                        numbers = (_percent(gap), _percent(apart), _percent(shift))
                        rows.append((name, depth, steps[at], *cells, *numbers))
            head = (
                "network",
                "L",
                "step",
                "reused",
                "independent",
                "gap",
                "two seeds apart",
                "behind",
            )
            out.append(Table(head, tuple(rows), f"{_LOSSES[part].capitalize()}, 95 % over seeds"))
        return tuple(out)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words, and why curves look alike."""
        gaps = [_at(data, relative_gap, "depth-mup", i) for i in range(len(data["depths"]))]
        deep = data["depths"][-1]
        end = relative_gap(curves_of(data, "depth-mup", "train", -1), len(data["steps"]) - 1)
        apart = _at(data, seed_distance, "depth-mup", -1)
        v = curves_of(data, "depth-mup", "train", -1)
        shift = time_shift(v, _third(data), np.asarray(data["steps"]))
        words = ", ".join(
            f"{_percent(e)} at L = {d}" for e, d in zip(gaps, data["depths"], strict=True)
        )
        return (
            "In the depth-μP ResNet the gap in the training loss at step "
            f"{data['steps'][_third(data)]} is {words}; its exponent in depth is "
            f"{gap_exponent(data, 'depth-mup'):w}. At the end of training it is {_percent(end)} at L "
            f"= {deep}.",
            f"At L = {deep} two seeds of the same coupling are {_percent(apart)} apart at that step, "
            f"and the network with independent backward weights is {_percent(shift)} of its training "
            "behind.",
            "When two curves look alike although there is a gap: on a logarithmic axis 10 % is a "
            "twenty-fourth of a decade; late in training, when both have learned what there is; at a "
            "small T, where the gap is of order T; and with one seed a curve, when two seeds lie as "
            "far apart as the couplings do. It shows early in training, at a large T, and without a "
            "depth factor.",
            "What the first step says: the tangent kernel of a network at initialization is the same "
            "for both couplings but for the part in which W(0) is used in both directions. In a "
            "depth-μP network that part is O(1/L) in every layer, and L layers add up to O(1): at "
            "infinite depth the first steps of the two differ (of the identity network by e against "
            "e − 1, claim 3). The mean-field theory of arXiv 2309.16620 keeps this term, as response "
            "functions. So the gap stays bounded as depth grows, and does not vanish.",
        )


def _network(kind: str) -> ResNet:
    plain = kind == "plain"
    scheme = "mup" if kind == "mup" else "depth-mup"
    return ResNet("relu", scheme=scheme, skip=not plain, gain=math.sqrt(2) if plain else 1.0)


def steps_of(steps: int, every: int) -> list[int]:
    """Steps that a training records: the first, every so many, the last."""
    return sorted({*range(0, steps + 1, every), steps})


def curves_of(data: Data, kind: str, part: str, depth: int) -> np.ndarray:
    """Losses (seeds, couplings, steps) of the depth at that place; NaN where a run diverged."""
    return np.asarray(data["curves"][kind][part][depth], dtype=float)


def _third(data: Data) -> int:
    """The recorded step that is closest to a third of the training."""
    steps = np.asarray(data["steps"])
    return int(np.argmin(np.abs(steps - steps[-1] / 3)))


def _at(data: Data, number: Any, kind: str, depth: int) -> Interval:
    """A number of the training curves at a third of the training."""
    return number(curves_of(data, kind, "train", depth), _third(data))


def gap_exponent(data: Data, kind: str) -> Interval:
    """Exponent in depth of the gap in the training loss at a third of the training."""
    deep = [i for i, d in enumerate(data["depths"]) if d >= _FROM]
    v = np.stack([curves_of(data, kind, "train", i)[..., _third(data)] for i in deep], axis=-1)
    if not np.isfinite(v).all():
        return Interval(math.nan, -math.inf, math.inf)
    depths = [data["depths"][i] for i in deep]

    def exponent(x: np.ndarray) -> float:
        first, second = x.mean(0)
        return slope(depths, second / first - 1)

    return jackknife(exponent, v)


def _growth(data: Data, kind: str) -> Interval:
    """The gap at the largest depth minus that at the smallest; ∞ where only the second network diverges."""
    ends = [curves_of(data, kind, "train", i)[..., _third(data)] for i in (0, -1)]
    last = _at(data, relative_gap, kind, -1)
    if not math.isfinite(last.value) or not np.isfinite(ends[0]).all():
        return last

    def growth(v: np.ndarray) -> float:
        first, second = v.mean(0)
        gap = second / first - 1
        return float(gap[1] - gap[0])

    return jackknife(growth, np.stack(ends, axis=-1))


def _percent(e: Interval) -> str:
    if math.isinf(e.value):
        return "diverged"
    if math.isnan(e.value):
        return "–"
    scaled = Interval(100 * e.value, 100 * e.low, 100 * e.high)
    return f"{scaled:w} %"
