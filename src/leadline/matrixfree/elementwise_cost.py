"""What a training of one wide matrix under an elementwise optimizer costs, before any of it is done.

A pass makes every entry of D from its history: after t steps in a·t + b·rows seconds an entry, with a (a
gradient's product and the rule's step) and b (the answer to one row) measured on a few tiles, here and now.
A step asks for a pass forward and one backward, so that T steps take about a·T² an entry; a·T²/2 where D is
held between them, and a'·T where moments are kept: a' is measured on tiles that come from memory.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadline.errors import check_int, check_real
from leadline.matrixfree.elementwise import MEMORY, ElementwisePart, default_tile
from leadline.matrixfree.elementwise_rules import AdamRule, ElementwiseRule, ElementwiseStep
from leadline.matrixfree.tiles import Tiles, affordable, blocks

# Steps of history at which a pass is timed, and how often.
_SHORT, _LONG, _TIMES = 2, 10, 5


@dataclass(frozen=True)
class PartCost:
    """Seconds that the passes of a training take, from the slowest and the fastest of a few measurements.

    ``bytes`` are those at its end: history and tiles.
    """

    seconds: float
    low: float
    high: float
    bytes: int

    def __add__(self, other: PartCost) -> PartCost:
        return PartCost(
            self.seconds + other.seconds,
            self.low + other.low,
            self.high + other.high,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True)
class _Passes:
    """A training, for each entry: steps of history, in a core's cache and from memory, and answers."""

    history: float
    kept: float
    answers: float


def predict(
    n_in: int,
    n_out: int,
    rows: int,
    steps: int,
    *,
    rule: ElementwiseRule | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    tile: int | None = None,
    workers: int | None = None,
    memory: float = MEMORY,
    evaluations: float = 0,
) -> PartCost:
    """Seconds and bytes of a training's products with the learned part of one matrix.

    Args:
        n_in, n_out, rule, dtype, device, tile, workers, memory: as of ``ElementwisePart``; the rule is
            Adam's unless told otherwise.
        rows: rows u of a step (batch × tokens).
        steps: T.
        evaluations: products of as many rows beside the training's own, a step.
    """
    n_in, n_out, rows = (
        check_int(name, x, 1) for name, x in (("n_in", n_in), ("n_out", n_out), ("rows", rows))
    )
    steps = check_int("steps", steps, 0)
    evaluations = check_real("evaluations", evaluations, 0.0)
    rule = AdamRule() if rule is None else rule
    side = default_tile(torch.device(device)) if tile is None else tile
    how = dict(dtype=dtype, device=device, tile=side, workers=workers)
    held, kept = affordable(int(memory), n_in, n_out, side, rule, dtype)
    strips = len(blocks(n_out, side))
    passes = count_passes(steps, held / strips, kept / strips, evaluations)
    entries = n_in * n_out
    small = min(n_in, 2 * side), min(n_out, 4 * side)
    large = min(n_in, 8 * side), min(n_out, 8 * side)
    from_memory = _from_memory(*large, rows, rule, how) if kept else [0.0] * _TIMES
    seconds = [
        entries * (a * passes.history + c * passes.kept + b * rows * passes.answers)
        for (a, b), c in zip(_measured(*small, rows, rule, how), from_memory, strict=True)
    ]
    numbers = steps * rows * (n_in + n_out)
    numbers += int(entries * (held + kept * rule.moments) / strips)
    middle = statistics.median(seconds)
    return PartCost(middle, min(seconds), max(seconds), numbers * dtype.itemsize)


def count_passes(steps: int, held: float, kept: float, evaluations: float = 0.0) -> _Passes:
    """Passes over the history of a training of so many steps, losses before the first and after the last.

    Args:
        held, kept: shares of a matrix whose D is held within a step, and whose moments are kept.
        evaluations: products beside the training's own, a step.
    """
    history = answers = 0.0
    for t in range(1, steps + 1):
        queries = 1 + (t < steps) + evaluations
        history += (held - kept) * t + (1 - held) * t * queries
        answers += queries
    return _Passes(history, kept * steps, answers)


def _timed(tiles: Tiles, u: Tensor, z: Tensor) -> float:
    started = time.perf_counter()
    tiles.products(u, z)
    if tiles.device.type != "cpu":
        torch.cuda.synchronize(tiles.device)
    return time.perf_counter() - started


def _rows(part: ElementwisePart, rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, u = (torch.randn(rows, n, generator=generator) for n in (part.n_out, part.n_in))
    return z.to(part.device, part.dtype), u.to(part.device, part.dtype)


def _measured(
    n_in: int, n_out: int, rows: int, rule: ElementwiseRule, how: dict[str, Any]
) -> list[tuple[float, float]]:
    """Seconds an entry of a step of history and of an answer to one row, several times."""
    part = ElementwisePart(n_in, n_out, rule, memory=0, **how)
    tiles, entries = part.tiles, n_in * n_out
    z, u = _rows(part, rows)
    out = []
    for _ in range(_TIMES + 1):
        tiles.clear()
        took = []
        for count in (_SHORT, _LONG):
            while len(tiles.steps) < count:
                tiles.append(z, u, ElementwiseStep(0.0))
            took.append(_timed(tiles, u, z[:0]))
        a = max(0.0, took[1] - took[0]) / ((_LONG - _SHORT) * entries)
        out.append((a, max(0.0, took[0] / entries - _SHORT * a) / rows))
    return out[1:]  # the first one warms up


def _from_memory(
    n_in: int, n_out: int, rows: int, rule: ElementwiseRule, how: dict[str, Any]
) -> list[float]:
    """Seconds an entry of one step of tiles that are kept, several times."""
    tiles = ElementwisePart(n_in, n_out, rule, memory=1e18, **how).tiles
    z, u = _rows(ElementwisePart(n_in, n_out, rule, **how), rows)
    out = []
    for _ in range(_TIMES + 1):
        tiles.append(z, u, ElementwiseStep(0.0))
        out.append(_timed(tiles, u[:0], z[:0]) / (n_in * n_out))
    return out[1:]
