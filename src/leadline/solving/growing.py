"""Tensors that grow in place: the rows of a basis, and tables of coefficients between two bases.

Each may have a leading axis, for several seeds that are solved together (``stacked_operator``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from leadline.disk import mapped


class Rows:
    """Rows (q, n) in a buffer that grows; a row is contiguous, so appending copies nothing else.

    Args:
        seeds: () or (S,), the leading axes.
        dtype: of the rows that are appended and of ``view``.
        storage: of the buffer; None is dtype.
        spill: folder for a file that holds the buffer, mapped into memory; None is memory.
    """

    def __init__(
        self,
        n: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        expected: int = 0,
        storage: torch.dtype | None = None,
        spill: str | None = None,
        seeds: tuple[int, ...] = (),
    ) -> None:
        self.count = 0
        self.dtype, self._spill = dtype, spill
        self._expected = expected if device.type == "cpu" and spill is None else 0
        self._buffer = torch.empty((*seeds, 0, n), dtype=storage or dtype, device=device)
        self.stored = self._buffer
        """(q, n) as they are kept, no copy."""

    @property
    def view(self) -> Tensor:
        """(q, n): no copy unless they are stored with fewer digits."""
        return self.stored.to(self.dtype)

    def rounded(self, rows: Tensor) -> Tensor:
        """Rows as they will be after ``append``: what is kept of them is then exact."""
        return rows.to(self._buffer.dtype).to(self.dtype)

    def append(self, rows: Tensor) -> None:
        """Add (m, n) rows."""
        m, capacity = rows.shape[-2], self._buffer.shape[-2]
        need = self.count + m
        if need > capacity:
            # Memory that was never written costs nothing on a CPU, so doubling is free there; a file
            # takes its whole size on the disk.
            free = self._buffer.device.type == "cpu" and self._spill is None
            buffer = self._empty(max(need, int((2 if free else 1.25) * capacity), self._expected))
            buffer.narrow(-2, 0, self.count).copy_(self.stored)
            self._buffer = buffer
        self._buffer.narrow(-2, self.count, m).copy_(rows)
        self.count = need
        self.stored = self._buffer.narrow(-2, 0, need)

    def gather(self, order: Tensor) -> None:
        """Keep rows (S, m) of each seed, in this order."""
        every = torch.arange(len(order), device=order.device)[:, None]
        self._buffer = self._buffer[every, order]
        self.count, self.stored = order.shape[1], self._buffer

    def _empty(self, capacity: int) -> Tensor:
        old = self._buffer
        if self._spill is None or old.shape[-1] == 0:
            return old.new_empty((*old.shape[:-2], capacity, old.shape[-1]))
        size = capacity * old.shape[1]
        flat = mapped.empty(self._spill, size, old.dtype, "spill")
        return flat.view(capacity, old.shape[1])

    def mark(self) -> tuple[int, Tensor]:
        """A point to return to; rows before it are never overwritten."""
        return self.count, self._buffer

    def rollback(self, mark: tuple[int, Tensor]) -> None:
        """Forget every row appended since ``mark`` and free what the growth took."""
        self.count, self._buffer = mark
        self.stored = self._buffer.narrow(-2, 0, self.count)

    def keep(self, seeds: list[int]) -> None:
        """Go on with some seeds of the leading axis."""
        self._buffer = self._buffer[seeds]
        self.stored = self._buffer.narrow(-2, 0, self.count)

    def rest(self) -> None:
        """Let the system drop from memory what is also in the file."""
        if self._spill is not None:
            mapped.leave(self._buffer)


class CoefficientTable:
    """A small matrix (r, q) of coefficients that grows with both ranks; new entries are zero."""

    def __init__(
        self, dtype: torch.dtype, device: torch.device, seeds: tuple[int, ...] = ()
    ) -> None:
        self.replace(torch.zeros((*seeds, 0, 0), dtype=dtype, device=device))

    def replace(self, buffer: Tensor) -> None:
        """Take these entries instead."""
        self.buffer = buffer
        """Saved whole: a product's rounding depends on how far apart its rows lie."""
        self._shape, self._corner = tuple(buffer.shape[-2:]), buffer

    def view(self, r: int, q: int) -> Tensor:
        """The (r, q) corner, no copy."""
        if self._shape != (r, q):
            *seeds, rows, columns = self.buffer.shape
            if r > rows or q > columns:
                tall = max(r, 2 * rows) if r > rows else rows
                wide = max(q, 2 * columns) if q > columns else columns
                buffer = self.buffer.new_zeros((*seeds, tall, wide))
                buffer[..., :rows, :columns] = self.buffer
                self.buffer = buffer
            self._shape, self._corner = (r, q), self.buffer[..., :r, :q]
        return self._corner


def add_product(x: Tensor, a: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor:
    """x + alpha·a b, in place, of matrices or of as many of them as there are seeds."""
    return (x.addmm_ if x.dim() == 2 else x.baddbmm_)(a, b, alpha=alpha)
