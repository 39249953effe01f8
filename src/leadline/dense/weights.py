"""Initial weights: N(0, 1) entries that depend on (seed, run, weight) alone.

Every tensor has a generator of its own, so neither the number of runs, nor their order, nor threads
change a number. NumPy's generators are used because PyTorch's CPU generator keeps 32 bits of its
seed, too few for thousands of tensors. Draws are made in float32 and cast, so that float32 and
float64 runs start alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from leadline.dense.forward import Architecture, Weights

INPUT, READOUT, HIDDEN, BACKWARD = range(4)

# Keeps these streams apart from those that other code derives from the same seed and run.
_DENSE = 0x64656E73

_SERIAL = 1 << 20


def generator(seed: int, run: int, role: int, index: int = 0) -> np.random.Generator:
    """The random stream of one weight: below child ``run`` of ``SeedSequence(seed)``."""
    sequence = np.random.SeedSequence(seed, spawn_key=(run, _DENSE, role, index))
    return np.random.Generator(np.random.SFC64(sequence))


def fill(out: Tensor, rng: np.random.Generator) -> None:
    """Overwrite a contiguous tensor with N(0, 1) entries, in place where its dtype allows."""
    out = out.detach()
    if out.device.type == "cpu" and out.dtype == torch.float32:
        rng.standard_normal(dtype=np.float32, out=out.numpy())
    else:
        out.copy_(torch.from_numpy(rng.standard_normal(tuple(out.shape), dtype=np.float32)))


def fill_all(tasks: Sequence[tuple[Tensor, np.random.Generator]]) -> None:
    """``fill`` every tensor, in as many threads as PyTorch uses."""
    threads = torch.get_num_threads()
    if threads == 1 or sum(out.numel() for out, _ in tasks) < _SERIAL:
        for out, rng in tasks:
            fill(out, rng)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda task: fill(*task), tasks))


def draw(
    network: Architecture,
    width: int,
    depth: int,
    inputs: int,
    outputs: int,
    *,
    seed: int,
    runs: Sequence[int],
    independent: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Weights:
    """Stacked initial weights of the given runs, drawn in place: a leading axis of len(runs)."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(len(runs), *shape, dtype=dtype, device=device)

    count = depth * network.block_layers
    weights = Weights(
        input=empty(width, inputs),
        readout=empty(width, outputs),
        hidden=[empty(width, width) for _ in range(count)],
        backward=[empty(width, width) for _ in range(count)] if independent else None,
    )
    tasks = []
    for at, run in enumerate(runs):
        tasks.append((weights.input[at], generator(seed, run, INPUT)))
        tasks.append((weights.readout[at], generator(seed, run, READOUT)))
        for role, tensors in ((HIDDEN, weights.hidden), (BACKWARD, weights.backward or ())):
            tasks += [(w[at], generator(seed, run, role, i)) for i, w in enumerate(tensors)]
    fill_all(tasks)
    return weights


def centred(
    v: Tensor, h: Tensor, inner: Callable[[Tensor, Tensor], Tensor] = lambda a, b: a @ b.mT
) -> Tensor:
    """v − H(HᵀH)⁺Hᵀv: the readout (n, C) off the span of features h = Hᵀ (P, n), in float64.

    Args:
        inner: a bᵀ of rows (P, n), (Q, n), over neurons wherever they are.
    """
    h, out = h.double(), v.double()
    inverse = torch.linalg.pinv(inner(h, h), rtol=1e-13, hermitian=True)
    for _ in range(2):  # a Gram matrix squares the condition: what is left over goes again
        out = out - h.mT @ (inverse @ inner(h, out.mT))
    return out.to(v)


def count_entries(
    network: Architecture, width: int, depth: int, inputs: int, outputs: int
) -> dict[str, int]:
    """Number of entries of one network's weights by role."""
    return {
        "input": width * inputs,
        "hidden": depth * network.block_layers * width * width,
        "readout": width * outputs,
    }
