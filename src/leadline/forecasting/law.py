"""The laws: records of terms, with or without a floor, added or coupled, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Exponents are sought between these.
EXPONENTS = (0.01, 4.0)
_LETTERS = "ABCDFGH"
_USUAL = {
    **dict(width="A", depth="B", samples="C", steps="D"),
    **dict.fromkeys(("N", "parameters", "params"), "A"),
    **dict.fromkeys(("D", "tokens"), "B"),
}


@dataclass(frozen=True)
class Term:
    """coefficient · axis^-exponent, or a product of two such powers; ``exponent`` None is fitted.

    Attributes:
        times: a second axis, whose exponent is always fitted.
    """

    axis: str
    exponent: float | None = None
    times: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.axis,) if self.times is None else (self.axis, self.times)

    @property
    def parameters(self) -> int:
        """How many are fitted."""
        return 1 + (self.exponent is None) + (self.times is not None)


@dataclass(frozen=True)
class Law:
    """E + Σ terms, or with ``norm`` (Kaplan's form) E + (Σ terms^p)^(1/p), 1/p the exponent of
    the axis ``norm``.

    A loss here is one over a unit (the typical loss). Parameters are E, if there is a floor, and for each
    term the logarithms of its size at the origin (the smallest size) and of its fitted exponents.
    """

    terms: tuple[Term, ...]
    floor: bool = True
    norm: str | None = None

    @cached_property
    def axes(self) -> tuple[str, ...]:
        return tuple(a for t in self.terms for a in t.axes)

    @cached_property
    def parameters(self) -> int:
        """How many are fitted."""
        return int(self.floor) + sum(t.parameters for t in self.terms)

    @property
    def free(self) -> int:
        """How many exponents are fitted."""
        return self.parameters - len(self.terms) - int(self.floor)

    @property
    def kind(self) -> str:
        """ "sum", "kaplan" or "product"."""
        if self.norm is not None:
            return "kaplan"
        return "product" if any(t.times for t in self.terms) else "sum"

    @property
    def letters(self) -> dict[str, str]:
        """The letter of each axis's exponent."""
        out: dict[str, str] = {}
        for axis in self.axes:
            usual = _USUAL.get(axis, "").lower()
            rest = [x.lower() for x in _LETTERS if x.lower() not in out.values()]
            out[axis] = usual if usual and usual in rest else rest[0]
        return out

    def __str__(self) -> str:
        letters, parts = self.letters, []
        for t in self.terms:
            big, small = letters[t.axis].upper(), letters[t.axis]
            if t.exponent == 1 and t.times is None and self.norm is None:
                parts.append(f"{big}/{t.axis}")
                continue
            text = f"{big}·{t.axis}^-{small if t.exponent is None else format(t.exponent, 'g')}"
            if t.times is not None:
                text += f"·{t.times}^-{letters[t.times]}"
            parts.append(text)
        if self.norm is not None:
            p = letters[self.norm]
            inner = " + ".join(f"({x})^(1/{p})" for x in parts)
            parts = [f"({inner})^{p}"]
        return " + ".join(["E"] * (self.floor or not parts) + parts)

    def split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """E (K,), the terms' sizes at the origin (K, T) and the axes' exponents (K, A)."""
        theta = np.atleast_2d(theta)
        at = int(self.floor)
        e = theta[:, 0] if self.floor else np.zeros(len(theta))
        sizes = np.zeros((len(theta), len(self.terms)))
        powers = np.zeros((len(theta), len(self.axes)))
        axis = 0
        for k, term in enumerate(self.terms):
            sizes[:, k] = np.exp(theta[:, at])
            at += 1
            for j in range(len(term.axes)):
                if j == 0 and term.exponent is not None:
                    powers[:, axis] = term.exponent
                else:
                    powers[:, axis] = np.exp(theta[:, at])
                    at += 1
                axis += 1
        return e, sizes, powers

    def join(self, e: float, sizes: Sequence[float], powers: Sequence[float]) -> np.ndarray:
        """The parameters of given values."""
        out = [e] if self.floor else []
        axis = 0
        for term, size in zip(self.terms, sizes, strict=True):
            out.append(math.log(max(size, 1e-300)))
            for j in range(len(term.axes)):
                if j > 0 or term.exponent is None:
                    out.append(math.log(powers[axis]))
                axis += 1
        return np.array(out)

    def value(self, theta: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Losses (K, N) at sizes of logarithms ``logs`` (N, A) over the origin, or (K, N, A)."""
        e, sizes, powers = self.split(theta)
        parts = self._parts(sizes, powers, logs)
        if not parts:
            return np.broadcast_to(e[:, None], (len(e), logs.shape[-2])).copy()
        return e[:, None] + self._total(parts, powers)[0]

    def _parts(self, sizes: np.ndarray, powers: np.ndarray, logs: np.ndarray) -> list[np.ndarray]:
        """Every term, (K, N)."""
        out, axis = [], 0
        for k, term in enumerate(self.terms):
            power = -powers[:, axis, None] * logs[..., axis]
            for j in range(1, len(term.axes)):
                power = power - powers[:, axis + j, None] * logs[..., axis + j]
            axis += len(term.axes)
            out.append(sizes[:, k, None] * np.exp(power))
        return out

    def _total(
        self, parts: list[np.ndarray], powers: np.ndarray
    ) -> tuple[np.ndarray, list[np.ndarray | float], np.ndarray | None]:
        """The terms together, its derivative by each one's logarithm over the term, and that by log p."""
        if self.norm is None:
            return np.sum(parts, axis=0), [1.0] * len(parts), None
        p = 1 / powers[:, self.axes.index(self.norm), None]
        top = np.max(parts, axis=0)
        ratios = [np.maximum(x / top, 1e-300) ** p for x in parts]
        sums = np.sum(ratios, axis=0)
        total = top * sums ** (1 / p)
        shares = [r / sums for r in ratios]
        # d log S / d log p = Σ share · log term - log S.
        mean = np.sum(
            [s * np.log(np.maximum(x, 1e-300)) for s, x in zip(shares, parts, strict=True)], axis=0
        )
        by_p = total * (mean - np.log(total))
        return (
            total,
            [total * s / np.maximum(x, 1e-300) for s, x in zip(shares, parts, strict=True)],
            by_p,
        )

    def log_value(self, theta: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log loss (K, N) and its derivatives by the parameters (K, p, N)."""
        e, sizes, powers = self.split(theta)
        parts = self._parts(sizes, powers, logs)
        slope = np.empty((len(e), self.parameters, logs.shape[-2]))
        if not parts:
            slope[:] = (1 / e)[:, None, None]
            return np.log(np.broadcast_to(e[:, None], slope[:, 0].shape)), slope
        total, lean, by_p = self._total(parts, powers)
        value = np.maximum(e[:, None] + total, 1e-300)
        over = 1 / value
        at = int(self.floor)
        if self.floor:
            slope[:, 0] = over
        axis = 0
        for k, term in enumerate(self.terms):
            part = parts[k] * lean[k] * over
            slope[:, at] = part
            at += 1
            for j in range(len(term.axes)):
                if j > 0 or term.exponent is None:
                    slope[:, at] = -powers[:, axis, None] * logs[..., axis] * part
                    if by_p is not None and self.axes[axis] == self.norm:
                        slope[:, at] -= by_p * over
                    at += 1
                axis += 1
        return np.log(value), slope

    def bounds(self, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest parameters for given losses (over the unit)."""
        low, high = math.log(losses.min()) - 23.0, math.log(2 * losses.max())
        lows, highs = ([0.0], [math.exp(high)]) if self.floor else ([], [])
        if not self.terms:
            lows = [math.exp(low)]
        for term in self.terms:
            many = term.parameters - 1
            lows += [low, *[math.log(EXPONENTS[0])] * many]
            highs += [high, *[math.log(EXPONENTS[1])] * many]
        return np.array(lows), np.array(highs)
