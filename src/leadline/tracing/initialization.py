"""How the builder itself scales its initialization with size: measured, then snapped to a known rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Dims:
    """What a rule can depend on: fans as nn.init counts them (a vector's length twice), and the size."""

    fan_in: float
    fan_out: float
    width: float
    depth: float


_WIDTH: dict[str, Callable[[Dims], float]] = {
    "constant": lambda d: 1.0,
    "1/√fan_in": lambda d: d.fan_in**-0.5,
    "1/√fan_out": lambda d: d.fan_out**-0.5,
    "1/√(fan_in+fan_out)": lambda d: (d.fan_in + d.fan_out) ** -0.5,
    "1/fan_in": lambda d: 1 / d.fan_in,
    "1/fan_out": lambda d: 1 / d.fan_out,
    "1/√width": lambda d: d.width**-0.5,
    "1/width": lambda d: 1 / d.width,
    "√width": lambda d: d.width**0.5,
    "width": lambda d: d.width,
}
_DEPTH = {"": 0.0, "1/√depth": -0.5, "1/depth": -1.0}
# Changes of log rms when the depth doubles.
OVER_DEPTH = {k: e * math.log(2) for k, e in _DEPTH.items()}


ALIKE = 0.03
"""Logarithms of scales that rules may differ by over an octave, and be taken for one."""
# Entries of a large parameter that are read.
_ENTRIES = 1_000_003


@dataclass(frozen=True)
class Rule:
    """A known rule: scale ∝ width part · depth^exponent, equal in all layers or not."""

    width: str = "constant"
    depth: str = ""
    layers: bool = False
    """Each layer has a scale of its own: width and depth describe how a layer's changes."""
    fixed: bool = False
    """Values of the builder's own choice, which no width asks to be rescaled: the same in every build."""

    def ratio(self, here: Dims, base: Dims) -> float:
        """Scale at one size over the scale at another."""
        f = _WIDTH[self.width]
        return f(here) / f(base) * (here.depth / base.depth) ** _DEPTH[self.depth]

    @property
    def predicts(self) -> bool:
        """Does it say how large the values are at another size?"""
        return not (self.layers or self.fixed)

    def __str__(self) -> str:
        width = "as built" if self.fixed else self.width
        return " · ".join(p for p in (width, self.depth, "by layer" if self.layers else "") if p)


@dataclass
class Scale:
    """Root mean square of many entries, and how sure it is."""

    total: float = 0.0
    fourth: float = 0.0
    count: int = 0

    def add(self, p: Tensor) -> None:
        """Count a parameter in."""
        x = entries(p)
        squares = x * x
        self.total += float(squares.sum())
        self.fourth += float((squares * squares).sum())
        self.count += x.numel()

    @staticmethod
    def pooled(parts: Iterable[Scale]) -> Scale:
        """All of these as one."""
        out = Scale()
        for s in parts:
            out.total += s.total
            out.fourth += s.fourth
            out.count += s.count
        return out

    @property
    def rms(self) -> float:
        """√mean(x²)."""
        return math.sqrt(self.total / max(self.count, 1))

    @property
    def error(self) -> float:
        """Standard error of log rms."""
        if self.total == 0:
            return 1e-6
        mean = self.total / self.count
        variance = max(self.fourth / self.count - mean**2, 1e-6 * mean**2)
        return 0.5 * math.sqrt(variance / self.count) / mean


def entries(p: Tensor) -> Tensor:
    """A parameter's entries in double precision; of a large one a part."""
    x = p.detach().flatten()
    if x.numel() > _ENTRIES:
        x = x[:: -(-x.numel() // _ENTRIES)]
    return x.double()


class Undecided(Exception):
    """There is no such rule (final), or more draws are needed."""

    def __init__(self, why: str, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


def snap(
    base: Scale, wide: Scale, deep: Scale, dims: Dims, wide_dims: Dims, deep_dims: Dims
) -> Rule:
    """The rule that explains the measured scales at (n, L), (2n, L) and (n, 2L).

    Raises:
        Undecided: none fits, or several do that predict different scales.
    """
    if base.total == 0 and wide.total == 0 and deep.total == 0:
        return Rule()
    if not (base.total and wide.total and deep.total):
        raise Undecided("it is zero at one size and not at another", final=True)
    change, error = math.log(deep.rms / base.rms), math.hypot(deep.error, base.error)
    wider = math.log(wide.rms / base.rms), math.hypot(wide.error, base.error)
    first: Undecided | None = None
    for width in _fitting(*wider, _changes(dims, wide_dims)):
        # A fan may grow with depth, too (of a matrix of what all layers make, joined).
        fan = _changes(dims, deep_dims)[width]
        try:
            return Rule(width, _fitting(change - fan, error, OVER_DEPTH)[0])
        except Undecided as e:
            first = first or e
    assert first is not None
    raise first


def _changes(here: Dims, there: Dims) -> dict[str, float]:
    """By rule of width: how the logarithm of the scale changes."""
    return {k: math.log(f(there) / f(here)) for k, f in _WIDTH.items()}


def over_width(measured: float, error: float, dims: Dims, wide_dims: Dims) -> str:
    """The rule that explains a change of log rms from one width to another."""
    return _fitting(measured, error, _changes(dims, wide_dims))[0]


def _fitting(measured: float, error: float, candidates: dict[str, float]) -> list[str]:
    """The candidates that fit, which all say the same."""
    tolerance = 4 * error + 1e-3
    fits = {k: v for k, v in candidates.items() if abs(v - measured) <= tolerance}
    if not fits:
        nearest = min(abs(v - measured) for v in candidates.values())
        raise Undecided(
            f"its logarithm changes by {measured:.3f} ± {error:.3f} over an octave",
            final=nearest > 2 * tolerance,
        )
    values = sorted(fits.values())
    # Rules that agree over this octave depend on the same dimensions: they agree at every size; and
    # fan_in against fan_in + fan_out with one output, say, differ by less than anybody could see: from
    # width 8 on by at most 6 % at any width.
    if values[-1] - values[0] > ALIKE:
        raise Undecided(f"several rules fit: {', '.join(fits)}")
    return list(fits)


def fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """fan_in and fan_out of a weight as nn.init counts them; a vector has its length twice."""
    if len(shape) < 2:
        n = float(shape[0]) if shape else 1.0
        return n, n
    field = math.prod(shape[2:])
    return float(shape[1] * field), float(shape[0] * field)


# Standard errors by which layers differ, over all layers, kinds and draws.
_SIGMAS = 6.0
_FLOOR = 1e-3
# Fewer entries do not show their spread.
_FEWEST = 32


def layers_differ(scales: Mapping[str, Scale]) -> bool:
    """Do layers of one kind differ by more than chance?"""
    parts = [s for s in scales.values() if s.count >= _FEWEST]
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
    for name, change in OVER_DEPTH.items():
        if common and all(abs(x - change) <= _SIGMAS * e + _FLOOR for x, e in common):
            return Rule(width, name, layers=True)
    return Rule(width, layers=True)


def _change(a: Scale, b: Scale) -> tuple[float, float]:
    return math.log(b.rms / a.rms), math.hypot(a.error, b.error)
