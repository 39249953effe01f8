"""Claim 7: in two-layer blocks the first internal layer stops learning features at large depth.

Under depth-μP (α = √(T/L), rate η·n) one step of W₁ moves its own output by O(1/√L): its gradient
carries α = O(1/√L) and its rate has no depth factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leadline.claims import blocks
from leadline.claims.cell import Arrays, Cell
from leadline.claims.claim import Claim, Data
from leadline.claims.setting import Setting
from leadline.claims.verdict import Judgement, Part, every, inside, verdict

if TYPE_CHECKING:
    from leadline.reporting.page import Drawing

SCHEME = "depth-mup"
DUE, MARGIN = -0.5, 0.1
RULE = (
    "Collapse at L^−½ is a definite exponent. The claim holds if the exponent of RMS(ΔW₁h) in "
    "depth is within −½ ± 0.1 with its whole 95 % interval after the first and after the last "
    "step, for SGD and for AdamW, with true and with independent backward weights; it fails if "
    "one interval lies outside; otherwise it is undecided."
)


def cells(setting: Setting) -> dict[str, Cell]:
    """Depth-μP."""
    return blocks.cells(setting, (SCHEME,))


def data(setting: Setting, found: Mapping[str, Arrays]) -> dict[str, Any]:
    """Own updates of both layers, and what does not collapse."""
    return blocks.data(setting, found, (SCHEME,), ("own_1", "own_2", "stream", "output"))


def _names(optimizer: str) -> list[str]:
    return [f"{SCHEME} {optimizer} {c}" for c in blocks.COUPLINGS]


def judge(data: Data) -> Judgement:
    """The rule."""
    parts, words = [], []
    for key, (optimizer, title) in zip(("7a", "7b"), blocks.OPTIMIZERS.items(), strict=True):
        found = [
            blocks.depth_exponent(data, name, "own_1", step)
            for name in _names(optimizer)
            for step in (1, -1)
        ]
        word = every(inside(e, DUE - MARGIN, DUE + MARGIN) for e in found)
        words.append(word)
        number = "exponent of RMS(ΔW₁h), the farthest from −½"
        text = f"{title}: the first internal layer's own update vanishes like L^−½"
        parts.append(
            Part(key, text, verdict(word, number, blocks.farthest(found, DUE), "as the claim's"))
        )
    e = [blocks.depth_exponent(data, f"{SCHEME} {o} reused", "output", 1) for o in blocks.RATES]
    rule = "Holds if the exponents of Δf in depth (first step, SGD and AdamW) are within ±0.1."
    word = every(inside(x, -0.1, 0.1) for x in e)
    text = "The network as a whole goes on learning: the output's movement does not depend on depth"
    found = verdict(word, "exponent of Δf", blocks.farthest(e, 0), rule)
    parts.append(Part("7c", text, found, claimed=False))
    first = blocks.depth_exponent(data, _names("sgd")[0], "own_1", 1)
    number = "exponent of RMS(ΔW₁h) in depth (SGD, first step)"
    return Judgement(verdict(every(words), number, first, RULE), tuple(parts))


def figures(data: Data) -> Sequence[Drawing]:
    """Own updates over depth, and over steps at the largest depth."""
    from leadline.claims.draw import COLORS, NAMES, Panels, power
    from leadline.reporting.page import Drawing

    depths, steps = data["depths"], data["steps"]
    p = Panels([f"{title}, after step 1" for title in blocks.OPTIMIZERS.values()] +
               [f"{title}, after step {steps}" for title in blocks.OPTIMIZERS.values()])  # fmt: skip
    for i, step in enumerate((1, -1)):
        for k, optimizer in enumerate(blocks.OPTIMIZERS):
            p.panel(2 * i + k, "depth L, blocks", "RMS movement", sizes=depths, log_y=True)
            for c, name in zip(blocks.COUPLINGS, _names(optimizer), strict=True):
                symbol = "circle" if c == "reused" else "diamond"
                v = blocks.values(data, name, "own_1", step)
                p.line(depths, v, f"ΔW₁h, {NAMES[c]}", COLORS[c], symbol=symbol)
                if c == "reused":
                    p.theory(*power(depths, v.mean(0)[0], DUE), "L^−½")
                    v = blocks.values(data, name, "output", step)
                    p.line(depths, v, "output Δf", "#888888", symbol="square")
    e = blocks.depth_exponent(data, _names("sgd")[0], "own_1", 1)
    alt = (
        f"Four panels, SGD and AdamW, after one and after {steps} steps: the RMS movement of the "
        "first internal layer's output by its own update over depth, for both kinds of backward "
        f"weights, beside a line of slope −½ (fitted, SGD, first step: {e:w}), and the output's "
        "movement."
    )
    return (Drawing(p.figure, "The first internal layer's own update over depth, depth-μP", alt),)


def found(data: Data) -> Sequence[str]:
    """The numbers in words."""
    depths = data["depths"]
    v = blocks.values(data, _names("sgd")[0], "own_1", 1).mean(0)
    u = blocks.values(data, _names("sgd")[0], "own_2", 1).mean(0)
    return (
        f"SGD, first step: RMS(ΔW₁h) goes from {v[0]:.3f} at L = {depths[0]} to {v[-1]:.3f} at L "
        f"= {depths[-1]}. W₂'s own update goes from {u[0]:.3f} to {u[-1]:.3f}: for the last "
        "layer of a branch L^−½ is by design, since α times it is O(1/L) a block, which adds up "
        "to O(1).",
        "A collapse of W₁'s own update is no stop of learning: its features u₁ = W₁h move with "
        "the stream too. Statement 7c says what the network as a whole does.",
    )


CLAIM = Claim(
    number=7,
    title="Collapse in two-layer blocks",
    sentence=(
        "In two-layer residual blocks the same mechanism causes feature-learning collapse in the "
        "first internal layer at large depth, a structural explanation for the empirical failure "
        "of depth-μP."
    ),
    where="abstract",
    design=(f"Scheme depth-μP. {blocks.DESIGN}",),
    rule=RULE,
    cells=cells,
    data=data,
    judge=judge,
    figures=figures,
    found=found,
)
