"""Claim 7: in two-layer blocks the first internal layer stops learning features at large depth.

Under depth-μP (α = √(T/L), rate η·n) one step of W₁ moves its own output by O(1/√L): its gradient
carries α = O(1/√L) and its rate has no depth factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import (
    COUPLING_COLORS,
    COUPLING_NAMES,
    COUPLINGS,
    DEPTH,
    OPTIMIZERS,
    Claim,
    Data,
    Key,
    Setting,
)
from leadline.claims.verdict import Judgement, Part, every, inside, verdict
from leadline.intervals import Interval, exponent
from leadline.reporting.page import Drawing
from leadline.reporting.panels import GREY, SYMBOLS, Panels, power

RATES = {"sgd": 0.1, "adamw": 0.02}
SAMPLES = 4
LAST = 3
"""Exponents are fitted over this many of the largest depths: two octaves."""

BLOCK_DESIGN = (
    "ResNets with blocks h + α·W₂ tanh(W₁h), 4 samples of two classes, squared error, hidden "
    "weights trained by full-batch SGD or AdamW from f = 0 for a few steps at a rate fixed over "
    "depth (each scheme's own depth factors apart). After each step: the movement that W₁'s "
    "update alone makes in its output, RMS(ΔW₁h), over all blocks; the movement of the output f, "
    "of the stream h_L and of the backward features z₀ = n·∂f/∂h₀. True backpropagation and "
    "independent backward weights. Exponents in depth are fitted over the three largest depths."
)


class BlockClaim(Claim):
    """A claim about two-layer blocks, probed over depth with both optimizers and both couplings."""

    schemes: ClassVar[tuple[str, ...]]
    quantities: ClassVar[tuple[str, ...]]
    sizes: ClassVar = {
        "toy": dict(width=32, depths=(2, 4, 8), seeds=3, steps=2),
        "quick": dict(width=128, depths=(4, 8, 16, 32, 64), seeds=8, steps=4),
        "standard": dict(width=256, depths=(4, 8, 16, 32, 64, 128), seeds=6, steps=6),
        "full": dict(width=1024, depths=(4, 8, 16, 32, 64, 128), seeds=4, steps=10),
    }

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """One probe for each scheme, optimizer, coupling and depth."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=SAMPLES)
        out: dict[Key, Cell] = {}
        for scheme in self.schemes:
            network = ResNet("tanh", block_layers=2, scheme=scheme)
            for optimizer, lr in RATES.items():
                for coupling in COUPLINGS:
                    for depth in z["depths"]:
                        how = {k: z[k] for k in ("width", "seeds", "steps")} | {
                            "seed": setting.seed
                        }
                        how |= dict(network=network, optimizer=optimizer, lr=lr)
                        how |= dict(coupling=coupling, depth=depth)
                        cell = Cell("probe", problem, how, device=setting.device)
                        out[scheme, optimizer, coupling, depth] = cell
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """(seeds, depths, steps) by scheme, optimizer, coupling and quantity."""
        z = self.sizes[setting.preset]

        def over_depth(quantity: str, *name: str) -> np.ndarray:
            return np.stack([arrays[*name, depth][quantity] for depth in z["depths"]], axis=1)

        curves = {
            s: {
                o: {c: {q: over_depth(q, s, o, c) for q in self.quantities} for c in COUPLINGS}
                for o in RATES
            }
            for s in self.schemes
        }
        return {k: z[k] for k in ("width", "depths", "steps")} | {"curves": curves}


def values(
    data: Data, quantity: str, scheme: str, optimizer: str, coupling: str, step: int = 1
) -> np.ndarray:
    """(seeds, depths) after a step (1-based; −1 is the last)."""
    v = np.asarray(data["curves"][scheme][optimizer][coupling][quantity], dtype=float)
    return v[..., step - 1 if step > 0 else step]


def depth_exponent(data: Data, quantity: str, *name: str, step: int = 1) -> Interval:
    """Exponent in depth over the largest depths; ``name`` is scheme, optimizer and coupling."""
    return exponent(data["depths"], values(data, quantity, *name, step=step), LAST)


def farthest(intervals: Iterable[Interval], expected: float) -> Interval:
    """The one whose value is farthest from the expected one."""
    return max(intervals, key=lambda e: abs(e.value - expected))


class Collapse(BlockClaim):
    """In two-layer blocks the first internal layer stops learning features at large depth."""

    number = 7
    title = "Collapse in two-layer blocks"
    sentence = (
        "In two-layer residual blocks the same mechanism causes feature-learning collapse in the "
        "first internal layer at large depth, a structural explanation for the empirical failure "
        "of depth-μP."
    )
    design = (f"Scheme depth-μP. {BLOCK_DESIGN}",)
    rule = (
        "Collapse at L^−½ is a definite exponent. RMS(ΔW₁h) is measured after the first and "
        "after the last step, for SGD and for AdamW, with true and with independent backward "
        "weights. The claim holds if its exponent in depth is within −½ ± 0.1 with the whole 95 "
        "% interval in all these cases. It fails if one interval lies outside. Otherwise it is "
        "undecided."
    )
    schemes = ("depth-mup",)
    # Both layers' own updates, and what does not collapse.
    quantities = ("own_1", "own_2", "stream", "output")

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        parts, words = [], []
        for key, (optimizer, title) in zip(("7a", "7b"), OPTIMIZERS.items(), strict=True):
            exponents = [
                depth_exponent(data, "own_1", "depth-mup", optimizer, c, step=step)
                for c in COUPLINGS
                for step in (1, -1)
            ]
            words.append(every(inside(e, -0.6, -0.4) for e in exponents))
            number = "exponent of RMS(ΔW₁h), the farthest from −½"
            v = verdict(words[-1], number, farthest(exponents, -0.5), "as the claim's")
            text = f"{title}: the first internal layer's own update vanishes like L^−½"
            parts.append(Part(key, text, v))
        exponents = [depth_exponent(data, "output", "depth-mup", o, "reused") for o in RATES]
        rule = "Holds if the exponents of Δf in depth (first step, SGD and AdamW) are within ±0.1."
        word = every(inside(e, -0.1, 0.1) for e in exponents)
        text = "The network as a whole goes on learning: the output's movement does not depend on depth"
        v = verdict(word, "exponent of Δf", farthest(exponents, 0), rule)
        parts.append(Part("7c", text, v, claimed=False))
        first = depth_exponent(data, "own_1", "depth-mup", "sgd", "reused")
        number = "exponent of RMS(ΔW₁h) in depth (SGD, first step)"
        return Judgement(verdict(every(words), number, first, self.rule), tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Own updates over depth, and over steps at the largest depth."""
        depths, steps = data["depths"], data["steps"]
        panels = [(step, o) for step in (1, -1) for o in OPTIMIZERS]
        p = Panels([f"{OPTIMIZERS[o]}, after step {steps if s < 0 else s}" for s, o in panels])
        for i, (step, optimizer) in enumerate(panels):
            p.panel(i, DEPTH, "RMS movement", sizes=depths, log_y=True)
            for c, symbol in zip(COUPLINGS, SYMBOLS, strict=False):
                v = values(data, "own_1", "depth-mup", optimizer, c, step)
                p.line(depths, v, f"ΔW₁h, {COUPLING_NAMES[c]}", COUPLING_COLORS[c], symbol=symbol)
                if c == "reused":
                    p.theory(*power(depths, v.mean(0)[0], -0.5), "slope −½")
                    v = values(data, "output", "depth-mup", optimizer, c, step)
                    p.line(depths, v, "output Δf", GREY, symbol="square")
        e = depth_exponent(data, "own_1", "depth-mup", "sgd", "reused")
        alt = (
            f"Four panels, SGD and AdamW, after one and after {steps} steps: the RMS movement of the "
            "first internal layer's output by its own update over depth, for both kinds of backward "
            f"weights, beside a line of slope −½ (fitted, SGD, first step: {e:w}), and the output's "
            "movement."
        )
        return (
            Drawing(p.figure, "The first internal layer's own update over depth, depth-μP", alt),
        )

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        depths = data["depths"]
        v, u = (values(data, q, "depth-mup", "sgd", "reused").mean(0) for q in ("own_1", "own_2"))
        return (
            f"SGD, first step: RMS(ΔW₁h) goes from {v[0]:.3f} at L = {depths[0]} to {v[-1]:.3f} at L "
            f"= {depths[-1]}. W₂'s own update goes from {u[0]:.3f} to {u[-1]:.3f}. For the last "
            "layer of a branch L^−½ is by design: times the multiplier 1/√L it is O(1/L) in each "
            "block, which adds up to O(1).",
            "That W₁'s own update collapses does not mean that learning stops: its features u₁ = W₁h "
            "change with the stream too. Statement 7c says what the network as a whole does.",
        )
