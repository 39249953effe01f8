"""Values that are no draw: equal in two builds, or drawn around such values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from leadline.tracing.initialization import OVER_DEPTH, Rule, Scale, Undecided, entries
from leadline.tracing.kinds import Kind

# Exponents of width in the scale of fixed matrices that keep activations in size: identities and
# orthonormal bases (-½), means (-1); inputs and readouts of their own choice around what is due.
_FINE = {"input": (-0.25, 0.25), "hidden": (-1.1, -0.4), "readout": (-1.1, -0.4)}


@dataclass
class Pairs:
    """How much of a parameter two builds share."""

    last: Tensor | None = None
    equal: bool = True
    products: float = 0.0
    squares: float = 0.0
    fourth: float = 0.0

    def add(self, p: Tensor) -> None:
        """Another build's values."""
        x = entries(p)
        if self.last is not None:
            self.equal &= bool(torch.equal(x, self.last))
            self.products += float(x @ self.last)
            self.squares += float(x @ x + self.last @ self.last) / 2
            self.fourth += float((x * x) @ (self.last * self.last))
        self.last = x


def fixed(pairs: Iterable[Pairs]) -> bool:
    """Are all values the same in every build?"""
    return all(p.equal for p in pairs)


def shared(pairs: Iterable[Pairs]) -> tuple[float, float]:
    """The part of the mean square that builds have in common, and its standard error."""
    found = list(pairs)
    squares = sum(p.squares for p in found)
    if not squares:
        return 0.0, 0.0
    return sum(p.products for p in found) / squares, math.sqrt(
        sum(p.fourth for p in found)
    ) / squares


def fixed_rule(
    kind: Kind,
    values: Mapping[str, Tensor],
    wide: Mapping[str, Tensor],
    deep: Mapping[str, Tensor],
) -> Rule:
    """What is known of values that the builder chooses: left alone over width.

    A power of the depth in what takes a branch's multiplier is one already.

    Args:
        values, wide, deep: the kind's parameters at the base, at twice its width, at twice its depth.

    Raises:
        Undecided: a matrix of such values whose products grow or fade with width.
    """
    if kind.role in _FINE and len(kind.shape) > 1:
        change = _rms(wide.values()) / _rms(values.values())
        low, high = _FINE[kind.role]
        if not low <= math.log2(change) <= high:
            raise Undecided(
                f"its values are the same in every build, and their size is multiplied by {change:.3g} at "
                f"twice the width, where 2^{low:g} to 2^{high:g} suit its role",
                final=True,
            )
    if any(what == "branch" for what, _ in kind.takes):
        for name, due in OVER_DEPTH.items():
            common = [n for n in values if n in deep]
            if common and all(
                torch.allclose(
                    deep[n].double(), values[n].double() * math.exp(due), rtol=1e-5, atol=0.0
                )
                for n in common
            ):
                return Rule(depth=name, fixed=True)
    return Rule(fixed=True)


def _rms(values: Iterable[Tensor]) -> float:
    out = Scale()
    for x in values:
        out.add(x)
    return out.rms
