"""Standard normal draws that are a function of (seed, stream, row, neuron): for a GPU.

Generators of blocks are drawn from one after the other, on a CPU; a GPU would wait for them. Here the
word behind a pair of normals is a hash of its place, computed on the device: SplitMix64's mixer (Steele,
Lea, Flood, 2014) twice, with a key of 64 bits before each. Which process holds a neuron changes no
number; the numbers are others than those of ``Noise``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from leadline.dynamics.noise import BLOCK

_HALF = BLOCK // 2


class Counter:
    """As ``Noise``: arrays (m, n) of independent N(0, 1) for one (run, stream, layer, weight)."""

    def __init__(
        self, seed: int, key: tuple[int, ...], n: int, blocks: range | None = None
    ) -> None:
        self.blocks = range(-(-n // BLOCK)) if blocks is None else blocks
        self.n = max(min(self.blocks.stop * BLOCK, n) - self.blocks.start * BLOCK, 0)
        self._words = -(-n // BLOCK) * _HALF
        """Of a row, on all processes together."""
        sequence = np.random.SeedSequence(seed, spawn_key=key)
        self._keys = [_signed(int(k)) for k in sequence.generate_state(2, np.uint64)]
        self._row = 0

    def draw(self, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The next m vectors: (m, n)."""
        blocks = len(self.blocks)
        row = torch.arange(self._row, self._row + m, device=device)
        first = self.blocks.start * _HALF
        word = torch.arange(first, first + blocks * _HALF, device=device)
        self._row += m
        x = row[:, None] * self._words + word
        for k in self._keys:
            x = _mixed(x.mul_(_GOLDEN).add_(k))
        # The upper half is a radius, the lower one an angle (Box and Muller, 1958).
        r = (x >> 32).float().abs_().add_(0.5).mul_(2.0**-31).log_().mul_(-2.0).sqrt_()
        a = (x & 0xFFFFFFFF).float().mul_(math.pi * 2.0**-31)
        g = torch.empty((m, blocks, 2, _HALF), dtype=dtype, device=device)
        for k, wave in enumerate((a.cos(), a.sin_())):
            g[:, :, k] = wave.mul_(r).view(m, blocks, _HALF)
        return g.view(m, blocks * BLOCK)[:, : self.n]

    def state(self) -> np.ndarray:
        """Rows drawn so far, for every block."""
        return np.full((len(self.blocks), 1), self._row, dtype=np.int64)

    def restore(self, state: np.ndarray) -> None:
        """Continue from ``state()``."""
        self._row = int(state.max(initial=0))


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 64-bit words, in which every bit depends on every bit."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        # A signed shift fills with the sign: the mask makes zeros of that.
        x = x.bitwise_xor_((x >> shift) & ((1 << 64 - shift) - 1)).mul_(_signed(factor))
    return x
