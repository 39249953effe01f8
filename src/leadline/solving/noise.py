"""Standard normal draws for n neurons, the same whichever process holds a neuron.

Run s takes child s of ``SeedSequence(seed)``. On a CPU (``Noise``) a block of 256 neurons always draws
from its own generator: row after row, 128 words of 64 bits are 128 radii and 128 angles, and those two
normals each (Box and Muller, 1958). Vectorised and some rows ahead, that takes a fifth of the time of
numpy's rejection sampler. A GPU would wait for generators; there (``HashedNoise``) the word behind a pair
of normals is a hash of its place, computed on the device: SplitMix64's mixer (Steele, Lea, Flood, 2014)
twice, with a key of 64 bits before each. The two give other numbers. Draws are made in float32 and
cast, so that float32 and float64 runs see the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

BLOCK = 256
_HALF = BLOCK // 2
# Numbers made at once: enough to make the price of a call small beside them.
AHEAD = 1 << 17


class Draws(Protocol):
    """Draws for one (run, stream, layer, weight): arrays (m, n) of independent N(0, 1)."""

    n: int

    def draw(self, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The next m vectors: (m, n), the caller's to overwrite."""
        ...

    def state(self) -> np.ndarray:
        """Everything that later draws depend on, for every block of neurons."""
        ...

    def restore(self, state: np.ndarray) -> None:
        """Continue from ``state()``."""


class Noise:
    """Draws from one generator a block of neurons."""

    def __init__(
        self, seed: int, key: tuple[int, ...], n: int, blocks: range | None = None
    ) -> None:
        self._seed, self._key = seed, key
        self.blocks = range(-(-n // BLOCK)) if blocks is None else blocks
        """The blocks drawn here, of the n neurons'."""
        self.n = max(min(self.blocks.stop * BLOCK, n) - self.blocks.start * BLOCK, 0)
        self._most = max(AHEAD // n, 1)
        """Rows ahead: as many as were drawn before, and no more than that; the same everywhere."""
        self._drawn = 0
        self._rows, self._used = torch.empty((0, self.n)), 0
        self._before: np.ndarray | None = None
        """The generators' states before ``_rows`` were made, where some are left."""

    @cached_property
    def _generators(self) -> list[np.random.SFC64]:
        """One a block, made when the first number is drawn."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=self._key)
        words = sequence.generate_state(3 * self.blocks.stop, np.uint64).reshape(-1, 3)
        starts: list[Any] = [_Words(words[b]) for b in self.blocks]
        return [np.random.SFC64(start) for start in starts]

    def draw(self, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The next m vectors: (m, n), the caller's to overwrite."""
        start, have = self._used, self._rows.shape[0]
        missing, left = start + m - have, None
        if missing > 0:
            left = self._rows[start:] if start < have else None
            make = max(missing, min(self._drawn, self._most))
            self._before = self._states() if make > missing else None
            self._rows = self._make(make, device)
            start, self._used = 0, missing
        else:
            self._used += m
        self._drawn += m
        out = self._rows[start : self._used]
        if self._used == self._rows.shape[0]:
            # Nothing left: neither the numbers nor where they came from are kept.
            self._rows, self._used, self._before = self._rows[:0].clone(), 0, None
        if left is not None:
            out = torch.cat([left, out])
        return out if dtype == torch.float32 else out.to(dtype)

    def _make(self, m: int, device: torch.device) -> Tensor:
        """The generators' next m rows, in float32."""
        blocks = len(self._generators)
        bits = np.empty((blocks, m, _HALF), dtype=np.uint64)
        for b, generator in enumerate(self._generators):
            bits[b] = generator.random_raw(m * _HALF).reshape(m, _HALF)
        words = torch.from_numpy(bits.view(np.int32)).to(device).view(blocks, m, 2, _HALF)
        # |word| keeps its precision where it is small: the largest draw is √(2·32·log 2) = 6.7.
        r = words[:, :, 0].float().abs_().add_(0.5).mul_(2.0**-31).log_().mul_(-2.0).sqrt_()
        a = words[:, :, 1].float().mul_(math.pi * 2.0**-31)
        g = torch.empty((m, blocks, 2, _HALF), device=device)
        halves = g.transpose(0, 1)
        torch.mul(a.cos(), r, out=halves[:, :, 0])
        torch.mul(a.sin_(), r, out=halves[:, :, 1])
        return g.view(m, blocks * BLOCK)[:, : self.n]

    def _states(self) -> np.ndarray:
        """The states of the generators, (blocks, 4) uint64."""
        return np.array([g.state["state"]["state"] for g in self._generators], dtype=np.uint64)

    def state(self) -> np.ndarray:
        """Everything that later draws depend on: (blocks, 5) uint64, the last the rows since then."""
        before = self._states() if self._before is None else self._before
        return np.column_stack([before, np.full(len(before), self._used, dtype=np.uint64)])

    def restore(self, state: np.ndarray) -> None:
        """Continue from ``state()``."""
        for g, row in zip(self._generators, state.astype(np.uint64), strict=True):
            g.state = {
                "bit_generator": "SFC64",
                "state": {"state": row[:4]},
                "has_uint32": 0,
                "uinteger": 0,
            }
        self._rows, self._used, self._drawn, self._before = self._rows[:0], 0, 0, None
        if used := int(state[:, 4].max(initial=0)):
            self.draw(used, torch.float32, self._rows.device)


class _Words(ISeedSequence):
    """The words of one generator, of those that a sequence made for all blocks at once."""

    def __init__(self, words: np.ndarray) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:
        return self._words


class HashedNoise:
    """Draws that are a function of (seed, stream, row, neuron)."""

    def __init__(
        self, seed: int, key: tuple[int, ...], n: int, blocks: range | None = None
    ) -> None:
        self.blocks = range(-(-n // BLOCK)) if blocks is None else blocks
        self.n = max(min(self.blocks.stop * BLOCK, n) - self.blocks.start * BLOCK, 0)
        self._words = -(-n // BLOCK) * _HALF
        """Words of a row, on all processes together."""
        sequence = np.random.SeedSequence(seed, spawn_key=key)
        self._keys = [_signed(int(k)) for k in sequence.generate_state(2, np.uint64)]
        self._row = 0

    def draw(self, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The next m vectors: (m, n)."""
        row = torch.arange(self._row, self._row + m, device=device)
        self._row += m
        return self._hashed(row[:, None], self._keys, dtype)

    def _hashed(self, row: Tensor, keys: Sequence[int | Tensor], dtype: torch.dtype) -> Tensor:
        """(..., n) of rows (..., 1)."""
        blocks, first = len(self.blocks), self.blocks.start * _HALF
        x = row * self._words + torch.arange(first, first + blocks * _HALF, device=row.device)
        for k in keys:
            x = _mixed(x.mul_(_GOLDEN).add_(k))
        # The upper half is a radius, the lower one an angle (Box and Muller, 1958).
        r = (x >> 32).float().abs_().add_(0.5).mul_(2.0**-31).log_().mul_(-2.0).sqrt_()
        a = (x & 0xFFFFFFFF).float().mul_(math.pi * 2.0**-31)
        shape = x.shape[:-1]
        g = torch.empty((*shape, blocks, 2, _HALF), dtype=dtype, device=row.device)
        for k, wave in enumerate((a.cos(), a.sin_())):
            g[..., k, :] = wave.mul_(r).view(*shape, blocks, _HALF)
        return g.view(*shape, blocks * BLOCK)[..., : self.n]

    def state(self) -> np.ndarray:
        """Rows drawn so far, for every block."""
        return np.full((len(self.blocks), 1), self._row, dtype=np.int64)

    def restore(self, state: np.ndarray) -> None:
        """Continue from ``state()``."""
        self._row = int(state.max(initial=0))


def draw_together(
    noises: Sequence[Draws], counts: Sequence[int], m: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What each of several draws, (S, m, n): its next vectors, as many as its count, then zeros."""
    if all(isinstance(x, HashedNoise) for x in noises):
        return _hashed_together(noises, counts, m, dtype, device)
    g = torch.zeros((len(noises), m, noises[0].n), dtype=dtype, device=device)
    for row, noise, count in zip(g, noises, counts, strict=True):
        if count:
            row[:count] = noise.draw(count, dtype, device)
    return g


def _hashed_together(
    noises: Sequence[Any], counts: Sequence[int], m: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Draws of hashes, by one list of operations."""
    row = torch.tensor([x._row for x in noises], device=device)[:, None, None]
    row = row + torch.arange(m, device=device)[:, None]
    keys = torch.tensor([x._keys for x in noises], device=device).T[:, :, None, None]
    g = noises[0]._hashed(row, list(keys), dtype)
    for noise, count in zip(noises, counts, strict=True):
        noise._row += count
    if min(counts) < m:
        there = torch.arange(m) < torch.tensor(list(counts))[:, None]
        g = g * there.to(g)[..., None]
    return g


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 64-bit words, in which every bit depends on every bit."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        # A signed shift fills with the sign: the mask makes zeros of that.
        x = x.bitwise_xor_((x >> shift) & ((1 << 64 - shift) - 1)).mul_(_signed(factor))
    return x
