"""Initializations that differ from layer to layer: they are kept, layer by layer.

What changes with width must change alike in all layers. Over depth a layer is compared with the layer of
the same number: a known power of the depth in all of them is a multiplier; anything else (a function of
the number alone, or of both) is the builder's own choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from leadline.tracing.initialization import OVER_DEPTH, Dims, Rule, Scale, Undecided, over_width

# Standard errors, over all layers, kinds and looks.
_SIGMAS = 6.0
_FLOOR = 1e-3
# Fewer entries do not know their own spread.
_ENTRIES = 32


def differ(scales: Mapping[str, Scale]) -> bool:
    """Do layers of one kind differ by more than chance?"""
    parts = [s for s in scales.values() if s.count >= _ENTRIES]
    nonzero = [s for s in parts if s.total]
    if len(nonzero) < len(parts):
        return bool(nonzero)
    whole = Scale.pooled(parts)
    return any(
        abs(math.log(s.rms / whole.rms)) > _SIGMAS * math.hypot(s.error, whole.error) + _FLOOR
        for s in parts
    )


def layer_rule(
    base: Mapping[str, Scale],
    wide: Mapping[str, Scale],
    deep: Mapping[str, Scale],
    dims: Dims,
    wide_dims: Dims,
) -> Rule:
    """How each layer's scale changes with width and depth; scales by name at the three sizes.

    Raises:
        Undecided: with width layers change differently, or by no known rule.
    """
    if any(bool(s.total) != bool(wide[n].total) for n, s in base.items()):
        raise Undecided("a layer of it is zero at one width and not at another", final=True)
    changes = [_change(s, wide[n]) for n, s in base.items() if s.total]
    weights = [e**-2 for _, e in changes]
    mean = sum(x * w for (x, _), w in zip(changes, weights, strict=True)) / sum(weights)
    off = max(abs(x - mean) / (_SIGMAS * e + _FLOOR) for x, e in changes)
    if off > 1:
        raise Undecided("its layers change differently with width", final=off > 2)
    width = over_width(mean, sum(weights) ** -0.5, dims, wide_dims)
    common = [
        _change(s, deep[n]) for n, s in base.items() if n in deep and s.total and deep[n].total
    ]
    for name, due in OVER_DEPTH.items():
        if common and all(abs(x - due) <= _SIGMAS * e + _FLOOR for x, e in common):
            return Rule(width, name, layers=True)
    return Rule(width, layers=True)


def _change(a: Scale, b: Scale) -> tuple[float, float]:
    return math.log(b.rms / a.rms), math.hypot(a.error, b.error)
