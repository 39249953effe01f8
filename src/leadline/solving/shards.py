"""Neurons shared out over processes, and the sums over all of them.

The law of a layer needs its neurons only through inner products over them (Gram matrices, coefficients,
outputs), so each process holds a range of neurons of every weight and only small matrices travel.

Sums are formed in parts: neurons are cut into a power of two of equal parts, a function of n alone; the
products of every part are added in pairs, pairs of pairs, and so on. Whoever holds a part, the same
numbers are added in the same order. So the answer does not depend on the number of processes: not even
in the last bit, where the product of a part does not depend on what else is computed. That matters
beyond tidiness: which directions are kept is a decision, and a decision that rounding flips changes which
noise is drawn from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from leadline.errors import LostProcessError
from leadline.measure.observation import Neurons
from leadline.solving.noise import BLOCK

# A part is at least so long (shorter products waste time), and there are at most so many.
_PART, _MOST = 2048, 64
# Rows from which libraries on CPUs multiply a long matrix by a short one faster than the reverse.
_WIDE = 16
# Up to so many processes on CPUs exchange messages directly.
_DIRECT = 8

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Shards(Neurons):
    """The range of n neurons that this process holds, of ``size`` processes.

    Args:
        n: all neurons. group: the processes (torch.distributed); None is this process alone.
        device: where tensors live that the group exchanges.
    """

    n: int
    group: Any = None
    device: torch.device | str = "cpu"

    @cached_property
    def rank(self) -> int:
        """This process's number, from 0."""
        return 0 if self.group is None else dist.get_rank(self.group)

    @cached_property
    def size(self) -> int:
        """The number of processes."""
        return 1 if self.group is None else dist.get_world_size(self.group)

    @cached_property
    def parts(self) -> int:
        """A power of two, whatever the number of processes."""
        return (
            min(_MOST, 1 << max(self.n // _PART, 1).bit_length() - 1) if self.n >= 4 * _PART else 1
        )

    @cached_property
    def ordered(self) -> bool:
        """Do sums have the same order at any number of processes? Else parts are what a process has."""
        return self.parts >= self.size

    @cached_property
    def unit(self) -> int:
        """Neurons that stay together: a part, or where there are too few parts a block of noise."""
        return BLOCK * -(-self.n // (BLOCK * self.parts)) if self.ordered else BLOCK

    def bounds(self, rank: int, size: int | None = None) -> tuple[int, int]:
        """The neurons [a, b) of a process; none where there are more processes than units."""
        units, size = -(-self.n // self.unit), self.size if size is None else size
        first, last = (units * r // size for r in (rank, rank + 1))
        return min(first * self.unit, self.n), min(last * self.unit, self.n)

    @cached_property
    def here(self) -> tuple[int, int]:
        """The neurons [a, b) of this process."""
        return self.bounds(self.rank)

    @cached_property
    def width(self) -> int:
        """How many neurons this process holds."""
        return self.here[1] - self.here[0]

    @cached_property
    def widest(self) -> int:
        """The most neurons that a process holds."""
        return max(b - a for a, b in map(self.bounds, range(self.size)))

    @property
    def blocks(self) -> range:
        """Blocks of noise of this process."""
        a, b = self.here
        return range(a // BLOCK, -(-b // BLOCK))

    @property
    def alone(self) -> bool:
        """Is this the only process?"""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Is this the process that writes and prints?"""
        return self.rank == 0

    def inner(self, *pairs: tuple[Tensor, Tensor], squares: Tensor | None = None) -> list[Tensor]:
        """Σ over all neurons of a bᵀ, for every pair a (p, n'), b (q, n'); one exchange for all.

        Args:
            squares: rows (p, n') whose squared norms (p,) are the last answer.
        """
        if self.parts == 1 and self.size == 1:
            out = [inner_product(a, b) for a, b in pairs]
            if squares is not None:
                out.append(torch.linalg.vector_norm(squares, dim=1).square())
            return out
        if squares is None and not any(len(a) and len(b) for a, b in pairs):
            return [a.new_zeros((len(a), len(b))) for a, b in pairs]
        local = [self._products(a, b) for a, b in pairs]
        turned = [_turned(a, b) for a, b in pairs]
        if squares is not None:
            local.append(self._squares(squares))
            turned.append(False)
        if self.size == 1:
            whole = [_tree(x, self.parts) for x in local]
        else:
            shapes = [x.shape[1:] for x in local]
            flat = [x.flatten(1) for x in local]
            added = self._add(flat[0] if len(flat) == 1 else torch.cat(flat, dim=1))
            sizes = [math.prod(s) for s in shapes]
            whole = [x.view(s) for x, s in zip(added.split(sizes), shapes, strict=True)]
        # In one layout on any number of processes: a later product's rounding depends on it.
        return [x.mT.contiguous() if t else x for x, t in zip(whole, turned, strict=True)]

    def _cut(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows (p, n') as whole parts (parts, p, unit), no copy, and what is left over."""
        whole = x.shape[1] // self.unit
        end = whole * self.unit
        parts = x[:, :end].unflatten(1, (whole, self.unit)).transpose(0, 1)
        return parts, x[:, end:] if end < x.shape[1] else None

    def _products(self, a: Tensor, b: Tensor) -> Tensor:
        """(parts of this process, p, q), or q and p turned; one part where order is free."""
        if not self.ordered or self.parts == 1:
            return _product(a, b)[None]
        (a, a_rest), (b, b_rest) = self._cut(a), self._cut(b)
        out = _product(a, b)
        if a_rest is None or b_rest is None:
            return out
        return torch.cat([out, _product(a_rest, b_rest)[None]])

    def _squares(self, x: Tensor) -> Tensor:
        if not self.ordered or self.parts == 1:
            return torch.linalg.vector_norm(x, dim=1).square()[None]
        x, rest = self._cut(x)
        out = torch.linalg.vector_norm(x, dim=2).square()
        if rest is None:
            return out
        return torch.cat([out, torch.linalg.vector_norm(rest, dim=1).square()[None]])

    def _add(self, parts_here: Tensor) -> Tensor:
        """The sum over all parts of all processes, from this process's (parts, k)."""
        if not self.ordered:
            total = parts_here[0].contiguous()
            self._call(lambda: dist.all_reduce(total, group=self.group))
            return total
        counts = self._counts
        if min(counts) == max(counts) and self.parts == self.size * counts[0]:
            # Whole branches of the tree: each process adds its own first.
            return _tree(self._gather(_tree(parts_here, counts[0])[None])[:, 0], self.size)
        most = max(counts)
        every = self._gather(_padded(parts_here, most))
        return _tree(torch.cat([x[:c] for x, c in zip(every, counts, strict=True)]), self.parts)

    @cached_property
    def _counts(self) -> list[int]:
        """Parts of every process."""
        return [-(-(b - a) // self.unit) for a, b in map(self.bounds, range(self.size))]

    def _gather(self, x: Tensor) -> Tensor:
        """(size, *x.shape), the same on every process."""
        out = x.new_empty((self.size, *x.shape))
        x = x.contiguous()
        every = list(out)
        if self.size > _DIRECT or x.is_cuda:
            self._call(lambda: dist.all_gather(every, x, group=self.group))
            return out
        # gloo's gather waits for a thread of its own twice: two messages at once take half as long.
        others = [r for r in range(self.size) if r != self.rank]

        def exchange() -> None:
            waits = [dist.irecv(every[r], r, group=self.group) for r in others]
            waits += [dist.isend(x, r, group=self.group) for r in others]
            for wait in waits:
                if wait is not None:
                    wait.wait()

        every[self.rank].copy_(x)
        self._call(exchange)
        return out

    def sum(self, x: Tensor) -> Tensor:
        """Σ over processes of a small tensor."""
        if self.alone:
            return x
        x = x.contiguous()
        self._call(lambda: dist.all_reduce(x, group=self.group))
        return x

    def least(self, value: float) -> float:
        """The smallest of the processes' numbers."""
        return value if self.alone else float(self._gather(self._number(value)).min())

    def of_first(self, value: float) -> float:
        """The first process's number, for decisions that clocks would make differently."""
        return value if self.alone else float(self._gather(self._number(value))[0])

    def _number(self, value: float) -> Tensor:
        return torch.tensor([value], dtype=torch.float64, device=self.device)

    def wait(self) -> None:
        """Until every process is here."""
        self.of_first(0.0)

    def gram(self, a: Tensor) -> Tensor:
        """a·a'/n over all neurons: (P, n') -> (P, P); for (P, C, n') the mean over outputs C."""
        rows = [a] if a.ndim == 2 else list(a.unbind(1))
        return torch.stack(self.inner(*((x, x) for x in rows))).sum(0) / (self.n * len(rows))

    def mean(self, x: Tensor) -> Tensor:
        """Over all neurons, the last axis."""
        return self.sum(x.sum(-1)) / self.n

    def some(self, x: Tensor, count: int) -> Tensor:
        """The first ``count`` of all neurons of (..., n'), on every process."""
        if self.alone:
            return x[..., :count]
        count = min(count, self.n)
        out = x.new_zeros((*x.shape[:-1], count))
        a, b = self.here
        if a < count:
            out[..., a : min(b, count)] = x[..., : min(b, count) - a]
        return self.sum(out)

    def _call(self, exchange: Callable[[], T]) -> T:
        try:
            return exchange()
        except RuntimeError as e:
            raise LostProcessError(
                f"process {self.rank} of {self.size} lost the others ({str(e).splitlines()[0]}): one "
                f"of them ended or hangs; {LostProcessError.REMEDY}"
            ) from None


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ over the last axis, of matrices or of as many of them as there are seeds."""
    return _product(a, b).mT if _turned(a, b) else _product(a, b)


def _turned(a: Tensor, b: Tensor) -> bool:
    """Is b aᵀ formed instead of a bᵀ? With the longer matrix first it is up to twice as fast."""
    return _WIDE <= a.shape[-2] <= b.shape[-2] and not a.is_cuda


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ over the last axis, or b aᵀ."""
    return torch.matmul(b, a.mT) if _turned(a, b) else torch.matmul(a, b.mT)


def _tree(x: Tensor, leaves: int) -> Tensor:
    """x[0] + x[1] + …, in pairs, pairs of pairs, …; missing leaves are zero."""
    x = _padded(x, leaves)
    while len(x) > 1:
        x = x[0::2] + x[1::2]
    return x[0]


def _padded(x: Tensor, rows: int) -> Tensor:
    return x if len(x) == rows else torch.cat([x, x.new_zeros((rows - len(x), *x.shape[1:]))])
