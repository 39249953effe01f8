"""The accumulated update D of a matrix under an elementwise optimizer, tile by tile from the history.

D (n_out, n_in) is not stored: of every step the rows z (P, n_out) and u (P, n_in) of its gradient zᵀu are
kept, and a tile of D is made of them by products of (tile, P) and (P, tile) and the rule's recursion, in
buffers that stay in a core's cache. A pass over all tiles costs n_in·n_out·T·(2P flops and a few reads and
writes) for T steps of history, and answers any number of rows on either side.

Memory buys time, strip by strip (a strip is a row of tiles): a strip whose D is *held* from the first pass
after an update answers later ones for a product of its size; a strip whose moments are *kept* too goes one
step on and never back to the history.

Strips are shared by threads (torch's operations leave the interpreter to others) in pieces that do not
depend on how many there are, and what the pieces say is added in their order: the number of threads changes
no bit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor

from leadline.matrixfree.elementwise_rules import (
    ElementwiseRule,
    ElementwiseStep,
    Tile,
    contiguous_view,
)

# Tiles of a strip that one thread does in a row.
_PIECE = 16


class _Buffers(threading.local):
    """One thread's tile, gradient and scratch."""

    def __init__(self) -> None:
        self.tile: Tile | None = None
        self.pair: tuple[Tensor, ...] = ()


class Tiles:
    """History of one matrix, and passes over its tiles.

    Args:
        n_in, n_out: shape of the matrix.
        rule: the optimizer.
        tile: largest side of a tile.
        workers: threads; on a GPU there is one.
        memory: bytes for held and kept tiles. The first n_in·n_out numbers hold D, and halve the passes of
            a training; the rest keeps moments.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        rule: ElementwiseRule,
        *,
        dtype: torch.dtype,
        device: torch.device,
        tile: int,
        workers: int,
        memory: int = 0,
    ) -> None:
        self.n_in, self.n_out, self.rule = n_in, n_out, rule
        self.tile = tile
        self.device = device
        self.options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.z: list[Tensor] = []
        self.u: list[Tensor] = []
        self.steps: list[ElementwiseStep] = []
        self.row_blocks, self.column_blocks = blocks(n_out, tile), blocks(n_in, tile)
        columns = range(len(self.column_blocks))
        self._pieces = [
            (i, columns[j : j + _PIECE])
            for i in range(len(self.row_blocks))
            for j in range(0, len(columns), _PIECE)
        ]
        self.workers = 1 if device.type != "cpu" else min(workers, len(self._pieces))
        self._buffers = _Buffers()
        self._tiles: dict[tuple[int, int], tuple[int, Tile]] = {}
        self.held, self.kept = affordable(memory, n_in, n_out, tile, rule, dtype)

    @property
    def bytes(self) -> int:
        """Taken by the history and by tiles."""
        tiles = (x.nbytes for _, tile in self._tiles.values() for x in (tile.update, *tile.moments))
        return sum(tiles) + sum(x.nbytes for x in (*self.z, *self.u))

    def append(self, z: Tensor, u: Tensor, step: ElementwiseStep) -> None:
        """Remember a step; the rows are not copied."""
        self.z.append(z)
        self.u.append(u)
        self.steps.append(step)

    def clear(self) -> None:
        """Forget the history and the tiles."""
        self.z, self.u, self.steps = [], [], []
        self._tiles.clear()

    def products(self, right: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """D rightᵀ, as rows (p, n_out), and left·D (k, n_in), after all steps, in one pass.

        Args:
            right: (p, n_in). left: (k, n_out).
        """
        rightward = right.new_zeros(self.n_out, len(right))
        leftward = left.new_zeros(len(left), self.n_in)
        if self.steps:
            work = partial(self._piece, right=right, left=left)
            for (i, columns), answers in zip(self._pieces, self._map(work), strict=True):
                rightward[self.row_blocks[i]] += answers[0]
                leftward[:, self._span(columns)] += answers[1]
        return rightward.mT, leftward

    def rounding(self, I: slice, J: slice) -> float:
        """Relative error of a block of D against float64 and the formulas as they are written."""
        shape = I.stop - I.start, J.stop - J.start
        tile = Tile.empty(self.rule, shape, **self.options)
        tile.start()
        scratch = torch.empty_like(tile.update)
        pairs = [(z[:, I].mT, u[:, J]) for z, u in zip(self.z, self.u, strict=True)]
        for t, ((z, u), step) in enumerate(zip(pairs, self.steps, strict=True), 1):
            self.rule.advance(tile, z @ u, scratch, t, step)
        true = self.rule.written([z.double() @ u.double() for z, u in pairs], self.steps)
        size = float(true.norm())
        wrong = tile.update.double().sub_(true)
        return float(wrong.norm()) / size if size else float(wrong.norm())

    def _span(self, columns: Sequence[int]) -> slice:
        return slice(self.column_blocks[columns[0]].start, self.column_blocks[columns[-1]].stop)

    def _piece(
        self, place: tuple[int, Sequence[int]], right: Tensor, left: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The answers of a piece of a strip."""
        i, columns = place
        I, span = self.row_blocks[i], self._span(columns)
        rightward = right.new_zeros(I.stop - I.start, len(right))
        leftward = left.new_zeros(len(left), span.stop - span.start)
        left = left[:, I].contiguous()
        gradients: list[Tensor] = []
        for j in columns:
            J = self.column_blocks[j]
            start, tile, gradient, scratch = self._tile(i, j)
            if start < len(self.steps) and not gradients:
                gradients = [z[:, I].mT.contiguous() for z in self.z]
            for k in range(start, len(self.steps)):
                torch.mm(gradients[k], self.u[k][:, J], out=gradient)
                self.rule.advance(tile, gradient, scratch, k + 1, self.steps[k])
            if len(right):
                rightward.addmm_(tile.update, right[:, J].mT)
            if len(left):
                leftward[:, J.start - span.start : J.stop - span.start] = left @ tile.update
            if i < self.held:
                kept = tile if i < self.kept else Tile(tile.update, ())
                self._tiles[i, j] = (len(self.steps), kept)
        return rightward, leftward

    def _tile(self, i: int, j: int) -> tuple[int, Tile, Tensor, Tensor]:
        """The steps that a tile has behind it, the tile, and two buffers of its shape."""
        I, J = self.row_blocks[i], self.column_blocks[j]
        shape = I.stop - I.start, J.stop - J.start
        buffers = self._buffers
        if buffers.tile is None:
            full = (min(self.tile, self.n_out), min(self.tile, self.n_in))
            buffers.tile = Tile.empty(self.rule, full, **self.options)
            buffers.pair = tuple(torch.empty(full, **self.options) for _ in range(2))
        gradient, scratch = (contiguous_view(x, *shape) for x in buffers.pair)
        # Taken out while it moves: an interruption then leaves none that moved halfway.
        done, tile = self._tiles.pop((i, j), (0, None))
        if tile is None or (i >= self.kept and done < len(self.steps)):
            held = None if tile is None else tile.update
            if i < self.kept:
                tile = Tile.empty(self.rule, shape, **self.options)
            else:
                tile = buffers.tile.view(*shape)
                if i < self.held:
                    tile.update = torch.empty(shape, **self.options) if held is None else held
            tile.start()
            done = 0
        return done, tile, gradient, scratch

    def _map(
        self, work: Callable[[tuple[int, Sequence[int]]], tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The pieces' answers in order; by threads that each use one core."""
        if self.device.type != "cpu":
            yield from map(work, self._pieces)
            return
        # A thread starts with as many cores as were last set anywhere: each of these takes one, and the
        # number that others start with is set back.
        cores = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(self.workers, "tiles", torch.set_num_threads, (1,)) as pool:
                yield from pool.map(work, self._pieces)
        finally:
            torch.set_num_threads(cores)


def affordable(
    memory: int, n_in: int, n_out: int, tile: int, rule: ElementwiseRule, dtype: torch.dtype
) -> tuple[int, int]:
    """Strips whose D is held, and strips whose moments are kept, within so many bytes."""
    strips = len(blocks(n_out, tile))
    each = tile * n_in * dtype.itemsize
    held = min(strips, memory // each)
    if not rule.moments:
        return held, held
    return held, min(held, (memory - held * each) // (each * rule.moments))


def blocks(n: int, tile: int) -> list[slice]:
    """0…n in slices of at most ``tile``."""
    return [slice(i, min(i + tile, n)) for i in range(0, n, tile)]


def usable_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
