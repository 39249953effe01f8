"""The laws: loss = E + a sum of power terms, one for each size that matters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Exponents are sought between these.
EXPONENTS = (0.05, 4.0)
_LETTERS = {"width": "A", "depth": "B", "samples": "C", "steps": "D"}


@dataclass(frozen=True)
class Term:
    """coefficient · axis^-exponent; ``exponent`` None is fitted."""

    axis: str
    exponent: float | None = None


@dataclass(frozen=True)
class Law:
    """E + Σ terms.

    Parameters are logarithms: of E, and for each term of its size at the origin (the smallest
    size) and, if free, of its exponent.
    """

    terms: tuple[Term, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(t.axis for t in self.terms)

    @property
    def parameters(self) -> int:
        """How many are fitted."""
        return 1 + sum(1 if t.exponent is not None else 2 for t in self.terms)

    def __str__(self) -> str:
        parts = ["E"]
        for t in self.terms:
            letter = _LETTERS[t.axis]
            if t.exponent is None:
                parts.append(f"{letter}·{t.axis}^-{letter.lower()}")
            elif t.exponent == 1:
                parts.append(f"{letter}/{t.axis}")
            else:
                parts.append(f"{letter}·{t.axis}^-{t.exponent:g}")
        return " + ".join(parts)

    def split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """E (K,), the terms' sizes at the origin (K, T) and exponents (K, T)."""
        theta = np.atleast_2d(theta)
        sizes = np.zeros((len(theta), len(self.terms)))
        powers = np.zeros_like(sizes)
        at = 1
        for k, term in enumerate(self.terms):
            sizes[:, k] = np.exp(theta[:, at])
            powers[:, k] = np.exp(theta[:, at + 1]) if term.exponent is None else term.exponent
            at += 2 if term.exponent is None else 1
        return np.exp(theta[:, 0]), sizes, powers

    def join(self, e: float, sizes: Iterable[float], powers: Iterable[float]) -> np.ndarray:
        """The parameters of given values."""
        out = [math.log(max(e, 1e-300))]
        for term, size, power in zip(self.terms, sizes, powers, strict=True):
            out.append(math.log(max(size, 1e-300)))
            if term.exponent is None:
                out.append(math.log(power))
        return np.array(out)

    def value(self, theta: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Losses (K, N) at sizes of logarithms ``logs`` (N, T) over the origin."""
        e, sizes, powers = self.split(theta)
        decay = np.exp(-powers[:, None, :] * logs)
        return e[:, None] + (sizes[:, None, :] * decay).sum(-1)

    def log_value(self, theta: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log loss (K, N) and its derivatives by the parameters (K, N, p)."""
        e, sizes, powers = self.split(theta)
        parts = sizes[:, None, :] * np.exp(-powers[:, None, :] * logs)
        total = e[:, None] + parts.sum(-1)
        columns = [np.broadcast_to(e[:, None], total.shape)]
        for k, term in enumerate(self.terms):
            columns.append(parts[:, :, k])
            if term.exponent is None:
                columns.append(-powers[:, None, k] * logs[:, k] * parts[:, :, k])
        return np.log(total), np.stack(columns, axis=-1) / total[:, :, None]

    def bounds(self, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest parameters for given losses."""
        low, high = math.log(losses.min()) - 23.0, math.log(2 * losses.max())
        lows, highs = [low], [high]
        for term in self.terms:
            lows.append(low)
            highs.append(high)
            if term.exponent is None:
                lows.append(math.log(EXPONENTS[0]))
                highs.append(math.log(EXPONENTS[1]))
        return np.array(lows), np.array(highs)
