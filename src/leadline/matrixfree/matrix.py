"""A wide matrix: known by its products, and trained through the coefficients they leave behind.

A forward pass queries W for all rows (batch × tokens) at once, the backward pass its transpose; both leave
what the gradient zᵀu is made of. Nothing of size n_out × n_in is ever formed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from leadline.matrixfree.elementwise import ElementwisePart
from leadline.solving.fast import FastOperator
from leadline.solving.operator import Operator

Answers = Operator | FastOperator
"""Products of s·W(0), and of what updates of low rank have made of it."""


class GradientInLossError(ValueError):
    """The loss takes gradients itself."""


@dataclass
class Passes:
    """What the passes through a model's wide matrices are for; one object for all of them.

    Attributes:
        remember: are queries kept? A training step's are; an evaluation's are forgotten.
        backward: is the gradient of the training loss being taken?
        initial: is the model the one before training, W(0) alone?
    """

    remember: bool = True
    backward: bool = False
    initial: bool = False

    @contextmanager
    def gradient(self) -> Generator[None]:
        """The backward pass of a training step."""
        self.backward = True
        try:
            yield
        finally:
            self.backward = False


class WideMatrix:
    """W (n_out, n_in) of one weight, or of one expert.

    Args:
        answers: s·W(0), and what was learned unless ``part`` keeps that.
        dtype: in which products are formed.
        part: what was learned, for optimizers that act entry by entry.
        whole: does the gradient come as whole rows, not as coefficients in bases? Always with ``part``.
    """

    def __init__(
        self,
        n_out: int,
        n_in: int,
        answers: Answers,
        passes: Passes,
        dtype: torch.dtype,
        part: ElementwisePart | None = None,
        whole: bool = False,
    ) -> None:
        self.n_out, self.n_in, self.dtype = n_out, n_in, dtype
        self.answers, self.passes, self.part = answers, passes, part
        self.whole = whole or part is not None
        self.pending: list[tuple[Tensor, Tensor]] = []
        """(z, u) of the present gradient zᵀu: coefficients, or whole rows for ``part``."""
        self.sides: set[bool] = set()
        """In which directions forward passes multiply: ``transposed`` or not."""

    def product(self, x: Tensor, transposed: bool = False, trained: bool = True) -> Tensor:
        """x Wᵀ for rows x (..., n_in), or x W for rows (..., n_out).

        Args:
            trained: does the product's gradient train W?
        """
        self.sides.add(transposed)
        # Rows go in and come out: what a model changes in place must not be a view made in there.
        rows = x.reshape(-1, x.shape[-1])
        reached, leaf = None, None
        if trained and torch.is_grad_enabled():
            reached = _Reached(self)
            leaf = torch.zeros((), device=x.device, requires_grad=True)
            leaf.register_hook(reached.add)
        y = _Product.apply(rows, leaf, reached, self, transposed)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def multiply(self, rows: Tensor, transposed: bool, together: bool) -> tuple[Tensor, Tensor]:
        """The product of rows (p, n) of ``dtype``, and what the gradient needs of them.

        Args:
            together: only a sum over the rows will be used.
        """
        if not len(rows):  # an expert that no row was sent to
            return rows.new_zeros(0, self.n_in if transposed else self.n_out), rows[:, :0]
        query = self.answers.query_transposed if transposed else self.answers.query
        before = rows.new_ones(len(rows), dtype=torch.bool) if self.passes.initial else None
        y, kept = query(rows, together=together, forget=not self.passes.remember, initial=before)
        if self.part is None or self.passes.initial:
            return y, kept
        learned = self.part.transposed if transposed else self.part.product
        return y.add_(learned(rows)), rows

    def check_gradient(self) -> None:
        """Refuse gradients that are not the training loss's."""
        if not self.passes.backward:
            raise GradientInLossError(
                "the loss takes gradients itself (torch.autograd.grad or backward inside it), which would "
                "count as gradients of the training loss: give a loss that is a function of the model's "
                "outputs alone, or train it with leadline.train"
            )

    def add_gradient(self, z: Tensor, u: Tensor) -> None:
        """Add zᵀu to the gradient."""
        if self.passes.remember:
            self.pending.append((z, u))

    def gradient(self) -> tuple[Tensor, Tensor]:
        """z (p, r) and u (p, q) of the present gradient zᵀu, all of its parts in the present bases."""
        q, r = (self.n_in, self.n_out) if self.whole else self.answers.ranks
        zs, us = [p[0] for p in self.pending], [p[1] for p in self.pending]
        like = torch.empty(0, dtype=self.dtype, device=self.answers.settings.device)
        return _stacked(zs, r, like), _stacked(us, q, like)

    def square_norm(self) -> float:
        """‖zᵀu‖² of the present gradient: in orthonormal bases, coefficients multiply as rows do."""
        z, u = (x.double() for x in self.gradient())
        return float(((z @ z.mT) * (u @ u.mT)).sum())

    def update(self, step: Any, factor: float = 1.0) -> None:
        """Take the optimizer's step with the present gradient times a factor, and forget it."""
        z, u = self.gradient()
        self.pending.clear()
        z = z if factor == 1.0 else z * factor
        if self.part is None:
            self.answers.update(z, u, step)
        else:
            self.part.update(z, u, step)
            self.answers.learned.scale = self.part.scale

    @property
    def bytes(self) -> int:
        """Kept of what was queried and learned."""
        tensors = self.answers.tensors().values()
        kept = sum(t.nbytes for t in tensors)
        return kept + (0 if self.part is None else self.part.bytes)

    @property
    def grown(self) -> int:
        """Bytes of what grows with every step: bases, tables and the history, without tiles."""
        draws = ("noise", "scratch")
        tensors = self.answers.tensors().items()
        kept = sum(t.nbytes for name, t in tensors if not name.startswith(draws))
        if self.part is not None:
            kept += sum(x.nbytes for x in (*self.part.tiles.z, *self.part.tiles.u))
        return kept

    @torch.no_grad()
    def initial(self) -> Tensor:
        """W(0) (n_out, n_in), which is drawn as far as it was not: for tests and small n."""
        device = self.answers.settings.device
        rows = torch.eye(self.n_in, dtype=self.dtype, device=device)
        every = torch.ones(self.n_in, dtype=torch.bool, device=device)
        return self.answers.query(rows, initial=every)[0].mT.contiguous()


def _stacked(parts: Sequence[Tensor], width: int, like: Tensor) -> Tensor:
    """Coefficients one under the other; those from before a basis grew are 0 in what came later."""
    if not parts:
        return like.new_zeros((0, width))
    return torch.cat([torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in parts])


class _Reached:
    """Where the gradient of a leaf beside one product is accumulated, so is the weight's.

    A model may take gradients of a product with respect to its input alone (torch.autograd.grad inside a
    backward pass), which visit the product and leave its weight as it is.
    """

    def __init__(self, matrix: WideMatrix) -> None:
        self.matrix = matrix
        self.last: tuple[Tensor, Tensor] | None = None
        """z and u of the product's last backward pass."""

    def add(self, gradient: Tensor) -> None:
        """Called with the leaf's gradient."""
        if self.last is not None:
            self.matrix.add_gradient(*self.last)
        self.last = None


class _Product(torch.autograd.Function):
    """x Wᵀ or x W, whose backward pass queries the other side."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        leaf: Tensor | None,
        reached: _Reached | None,
        matrix: WideMatrix,
        transposed: bool,
    ) -> Tensor:
        rows = x.detach().to(matrix.dtype).contiguous()
        y, kept = matrix.multiply(rows, transposed, together=False)
        ctx.matrix, ctx.transposed, ctx.kept, ctx.dtype = matrix, transposed, kept, x.dtype
        ctx.reached = reached
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        matrix, dtype = ctx.matrix, ctx.dtype
        rows = gradient.to(matrix.dtype).contiguous()
        y, kept = matrix.multiply(rows, not ctx.transposed, together=True)
        if ctx.reached is None:
            return y.to(dtype), None, None, None, None
        matrix.check_gradient()
        ctx.reached.last = (ctx.kept, kept) if ctx.transposed else (kept, ctx.kept)
        return y.to(dtype), rows.new_zeros((), dtype=torch.float32), None, None, None
