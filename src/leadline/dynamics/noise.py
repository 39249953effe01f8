"""Standard normal draws for n neurons, one generator per (run, stream, layer, block of neurons).

Run s takes child s of ``SeedSequence(seed)``. A block of 256 neurons always draws from its own
generator, so that which process holds the block changes no number. Draws are made in float32 and
cast, so that float32 and float64 runs see the same noise.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch

BLOCK = 256
# Below this many draws in a call, starting threads costs more than it saves.
_PARALLEL = 1 << 17


class Noise:
    """Draws for one (run, stream, layer, weight): arrays (m, n) of independent N(0, 1)."""

    def __init__(
        self, seed: int, key: tuple[int, ...], n: int, blocks: range | None = None
    ) -> None:
        self._seed, self._key = seed, key
        self.blocks = range(-(-n // BLOCK)) if blocks is None else blocks
        """The blocks drawn here, of the n neurons'."""
        self.n = max(min(self.blocks.stop * BLOCK, n) - self.blocks.start * BLOCK, 0)

    @cached_property
    def _generators(self) -> list[np.random.Generator]:
        """One a block, made when the first number is drawn."""
        return [
            np.random.Generator(
                np.random.SFC64(np.random.SeedSequence(self._seed, spawn_key=(*self._key, b)))
            )
            for b in self.blocks
        ]

    def draw(self, m: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """The next m vectors: (m, n)."""
        buffer = np.empty((len(self._generators), m, BLOCK), dtype=np.float32)

        def fill(blocks: range) -> None:
            for b in blocks:
                self._generators[b].standard_normal(out=buffer[b], dtype=np.float32)

        workers = torch.get_num_threads()
        if workers > 1 and buffer.size >= _PARALLEL:
            parts = [range(w, len(buffer), workers) for w in range(workers)]
            list(_pool(workers).map(fill, parts))
        else:
            fill(range(len(buffer)))
        g = torch.from_numpy(buffer).to(device=device, dtype=dtype)
        return g.permute(1, 0, 2).reshape(m, -1)[:, : self.n]

    def state(self) -> np.ndarray:
        """Everything that later draws depend on: (blocks, 4) uint64."""
        # float32 normals leave half of a 64-bit word behind: has_uint32 and uinteger belong here.
        rows = []
        for g in self._generators:
            s = g.bit_generator.state
            rows.append([*s["state"]["state"], s["has_uint32"], s["uinteger"]])
        return np.array(rows, dtype=np.uint64)

    def restore(self, state: np.ndarray) -> None:
        """Continue from ``state()``."""
        for g, row in zip(self._generators, state, strict=True):
            g.bit_generator.state = {
                "bit_generator": "SFC64",
                "state": {"state": row[:4].astype(np.uint64)},
                "has_uint32": int(row[4]),
                "uinteger": int(row[5]),
            }


_pools: dict[int, ThreadPoolExecutor] = {}


def _pool(workers: int) -> ThreadPoolExecutor:
    if workers not in _pools:
        _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="leadline-noise")
    return _pools[workers]
