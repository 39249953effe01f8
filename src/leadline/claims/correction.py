"""Claim 8: a depth-aware learning rate counteracts the collapse.

The rate of W₁ is multiplied by √L (the factor that undoes L^−½; the paper's formula was not at hand).
ΔW₁h is then O(1) a block. With reused weights that movement is aligned with W₂ᵀz, so that L blocks
add O(α) each coherently: L·O(1/√L) = O(√L) in the output. With independent weights the output is
stable, but ΔW₁ read backwards moves z by Θ(√L).
"""

from __future__ import annotations

from collections.abc import Sequence

from leadline.claims.claim import (
    CORRECTED,
    COUPLINGS,
    DEPTH,
    SCHEME_COLORS,
    SCHEME_NAMES,
    SCHEMES,
    Data,
)
from leadline.claims.collapse import (
    BLOCK_DESIGN,
    RATES,
    BlockClaim,
    depth_exponent,
    farthest,
    values,
)
from leadline.claims.verdict import Judgement, Part, Verdict, every, inside, verdict
from leadline.intervals import Interval
from leadline.reporting.page import Drawing
from leadline.reporting.panels import GREY, SYMBOLS, Panels, power

MARGIN = 0.1


class Correction(BlockClaim):
    """A depth-aware learning rate counteracts the collapse."""

    number = 8
    title = "The depth-aware correction"
    sentence = "A depth-aware learning-rate correction counteracts the collapse."
    where = "abstract; its formula is inferred: rate of the internal layers × √L"
    design = (BLOCK_DESIGN,)
    rule = (
        "Restored means that the first internal layer's own update no longer depends on depth. "
        "RMS(ΔW₁h) is measured after the first step, for SGD and for AdamW, with true and with "
        "independent backward weights. The claim holds if its exponent in depth is within ±0.1 "
        "with the whole 95 % interval in all these cases. It fails if one interval lies outside. "
        "Otherwise it is undecided. What else the correction changes is judged in 8b to 8d, "
        "which are no part of this verdict."
    )
    schemes = SCHEMES
    quantities = ("own_1", "output", "stream", "backward")

    def judge(self, data: Data) -> Judgement:
        """The rule."""

        def exponents(scheme: str, quantity: str, couplings: Sequence[str]) -> list[Interval]:
            return [depth_exponent(data, quantity, scheme, o, c) for o in RATES for c in couplings]

        def judged(number: str, intervals: Sequence[Interval], rule: str) -> Verdict:
            word = every(inside(e, -MARGIN, MARGIN) for e in intervals)
            return verdict(word, number, farthest(intervals, 0), rule)

        updates = exponents(CORRECTED, "own_1", COUPLINGS)
        number = "exponent of RMS(ΔW₁h) in depth, the farthest from 0"
        headline = judged(number, updates, self.rule)
        text = "The first internal layer's own update is restored at every depth"
        parts = [Part("8a", text, headline)]
        flat = (
            "Holds if the exponents in depth (first step, SGD and AdamW) are within ±0.1 with their "
            "whole intervals, fails if one is outside."
        )
        output = exponents(CORRECTED, "output", ("reused",))
        backward = exponents(CORRECTED, "backward", ("independent",))
        both = [e for q in ("own_1", "output") for e in exponents("completep", q, ("reused",))]
        for key, text, number, intervals in (
            (
                "8b",
                "Under true backpropagation the output's movement Δf stays independent of depth",
                "exponent of Δf in depth",
                output,
            ),
            (
                "8c",
                "With independent backward weights the backward features' movement Δz stays "
                "independent of depth",
                "exponent of Δz in depth",
                backward,
            ),
            (
                "8d",
                "The rule 1/L with SGD rate ×L has both: own update and output independent of depth",
                "exponent, the farthest from 0",
                both,
            ),
        ):
            parts.append(Part(key, text, judged(number, intervals, flat), claimed=False))
        return Judgement(headline, tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Own update, output and backward features over depth; output over steps."""
        depths, steps = data["depths"], data["steps"]
        deep = depths[-1]
        p = Panels(
            [
                "Own update of W₁, true backpropagation",
                "Output, true backpropagation",
                "Backward features, independent weights",
                f"Output over steps, L = {deep}",
            ]
        )
        panels = (
            ("own_1", "reused", "RMS(ΔW₁h)"),
            ("output", "reused", "RMS(Δf)"),
            ("backward", "independent", "RMS(Δz₀)"),
        )
        for i, (quantity, coupling, label) in enumerate(panels):
            p.panel(i, DEPTH, f"{label}, SGD, step 1", sizes=depths, log_y=True)
            for symbol, scheme in zip(SYMBOLS, SCHEMES, strict=False):
                v = values(data, quantity, scheme, "sgd", coupling)
                p.line(depths, v, SCHEME_NAMES[scheme], SCHEME_COLORS[scheme], symbol=symbol)
                if quantity != "own_1" and scheme == CORRECTED:
                    p.theory(*power(depths, v.mean(0)[0], 0.5), "√L", GREY)
                if quantity == "own_1" and scheme == "depth-mup":
                    p.theory(*power(depths, v.mean(0)[0], -0.5), "1/√L", GREY)
        p.panel(3, "step", "RMS(Δf), AdamW", log_y=True)
        x = list(range(1, steps + 1))
        for symbol, scheme in zip(SYMBOLS, SCHEMES, strict=False):
            v = [values(data, "output", scheme, "adamw", "reused", k)[:, -1] for k in x]
            columns = [list(seed) for seed in zip(*v, strict=True)]
            p.line(x, columns, SCHEME_NAMES[scheme], SCHEME_COLORS[scheme], symbol=symbol)
        out = depth_exponent(data, "output", CORRECTED, "sgd", "reused")
        back = depth_exponent(data, "backward", CORRECTED, "sgd", "independent")
        alt = (
            "Four panels, for depth-μP, the correction and the rule 1/L. Over depth: the first internal "
            "layer's own update; the output's movement with true backpropagation (exponent with the "
            f"correction {out:w}); the backward features' with independent weights ({back:w}). Over steps: "
            "the output's movement at the largest depth."
        )
        return (Drawing(p.figure, "What the correction restores, and what grows with depth", alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""

        def e(o: str, c: str, q: str, step: int = 1) -> Interval:
            return depth_exponent(data, q, CORRECTED, o, c, step=step)

        return (
            "The correction is made to give ΔW₁h the exponent 0 in depth. With true backpropagation it is "
            f"{e('sgd', 'reused', 'own_1'):w} with SGD and {e('adamw', 'reused', 'own_1'):w} with AdamW.",
            "It changes more than that. With true backpropagation ΔW₁h is aligned with W₂ᵀz, so in theory "
            "the blocks' effects on the output add up to √L. Measured, Δf has exponent "
            f"{e('sgd', 'reused', 'output'):w} (SGD) and {e('adamw', 'reused', 'output'):w} (AdamW). With "
            "independent backward weights theory predicts a stable output and backward features that "
            f"grow. Measured, Δf has exponent {e('sgd', 'independent', 'output'):w}, Δz "
            f"{e('sgd', 'independent', 'backward'):w} after one step and "
            f"{e('sgd', 'independent', 'backward', -1):w} after {data['steps']}. A scheme whose output or "
            "backward features grow with depth at a fixed rate has no infinite-depth limit.",
        )
