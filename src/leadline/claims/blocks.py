"""What claims 7 and 8 share: two-layer blocks probed over depth, for schemes, optimizers, couplings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from leadline.claims.cell import Arrays, Cell
from leadline.claims.claim import Data
from leadline.claims.setting import Setting
from leadline.intervals import Interval, exponent

SIZES: dict[str, dict[str, Any]] = {
    "toy": dict(width=32, depths=(2, 4, 8), seeds=3, steps=2),
    "quick": dict(width=128, depths=(4, 8, 16, 32, 64), seeds=8, steps=4),
    "standard": dict(width=256, depths=(4, 8, 16, 32, 64, 128), seeds=6, steps=6),
    "full": dict(width=1024, depths=(4, 8, 16, 32, 64, 128), seeds=4, steps=10),
}
RATES = {"sgd": 0.1, "adamw": 0.02}
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
COUPLINGS = ("reused", "independent")
SAMPLES = 4
LAST = 3
"""Exponents are fitted over this many of the largest depths: two octaves."""

DESIGN = (
    "ResNets with blocks h + α·W₂ tanh(W₁h), 4 samples of two classes, squared error, hidden "
    "weights trained by full-batch SGD or AdamW from f = 0 for a few steps at a rate fixed over "
    "depth (each scheme's own depth factors apart). After each step: the movement that W₁'s "
    "update alone makes in its output, RMS(ΔW₁h), over all blocks; the movement of the output f, "
    "of the stream h_L and of the backward features z₀ = n·∂f/∂h₀. True backpropagation and "
    "independent backward weights. Exponents in depth are fitted over the three largest depths."
)


def cells(setting: Setting, schemes: Iterable[str]) -> dict[str, Cell]:
    """One probe for each scheme, optimizer, coupling and depth."""
    from leadline.architecture import ResNet

    z = SIZES[setting.preset]
    problem = setting.two(samples=SAMPLES)
    out = {}
    for scheme in schemes:
        network = ResNet("tanh", block_layers=2, scheme=scheme)
        for optimizer, lr in RATES.items():
            for coupling in COUPLINGS:
                for depth in z["depths"]:
                    how = dict(
                        network=network, optimizer=optimizer, lr=lr, coupling=coupling, depth=depth
                    )
                    how |= {k: z[k] for k in ("width", "seeds", "steps")} | {"seed": setting.seed}
                    name = f"{scheme} {optimizer} {coupling} {depth}"
                    out[name] = Cell("probe", problem, how, device=setting.device)
    return out


def data(
    setting: Setting, found: Mapping[str, Arrays], schemes: Iterable[str], quantities: Iterable[str]
) -> dict[str, Any]:
    """(seeds, depths, steps) by quantity, scheme, optimizer and coupling."""
    z = SIZES[setting.preset]
    names = [f"{s} {o} {c}" for s in schemes for o in RATES for c in COUPLINGS]
    return {
        "width": z["width"],
        "depths": list(z["depths"]),
        "steps": z["steps"],
        "curves": {
            name: {
                q: np.stack([found[f"{name} {depth}"][q] for depth in z["depths"]], axis=1)
                for q in quantities
            }
            for name in names
        },
    }


def values(data: Data, name: str, quantity: str, step: int) -> np.ndarray:
    """(seeds, depths) after a step (1-based; −1 is the last)."""
    v = np.asarray(data["curves"][name][quantity], dtype=float)
    return v[..., step - 1 if step > 0 else step]


def depth_exponent(data: Data, name: str, quantity: str, step: int) -> Interval:
    """Exponent in depth over the largest depths."""
    return exponent(data["depths"], values(data, name, quantity, step), LAST)


def farthest(found: Iterable[Interval], due: float) -> Interval:
    """The one whose value is farthest from what is due."""
    return max(found, key=lambda e: abs(e.value - due))
