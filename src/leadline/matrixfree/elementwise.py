"""The learned part of a wide matrix under an optimizer that acts on every entry by itself.

Adam's update of an entry depends on the history of that entry's gradient, so that the learned part D of a
matrix (n_out, n_in) has no low rank, and no pair of factors says what it does to rows that are new. It is
known from the history: each product is a pass over D's tiles, made anew from the rows z and u of every
gradient zᵀu (``Tiles``). Nothing is approximated: a training is that of a dense matrix up to rounding, and
takes time that grows as the square of the number of steps and no memory of the matrix's size.

Rounding is measured. After every update a block of D is made once more, in float64 and by the optimizer's
formulas as they are written.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from leadline.errors import check_int, check_real, check_type
from leadline.matrixfree.elementwise_rules import ElementwiseRule, ElementwiseStep
from leadline.matrixfree.tiles import Tiles, usable_cores

MEMORY = 16 << 20
"""Bytes for tiles unless told otherwise."""


def shared_out(whole: int, total: int, room: int) -> int:
    """Bytes for tiles of one of several matrices, in proportion to what they need, at least ``MEMORY``.

    Answers have the same bits with any memory: it saves passes over the history.

    Args:
        whole: that hold all of the matrix's D and moments. total: of all matrices.
        room: for all of them.
    """
    return max(MEMORY, min(whole, int(room * whole / max(total, 1))))


# Side of the block in which rounding is measured.
_MEASURED = 64


class ElementwisePart:
    """D of W = scale·W(0) + D, (n_out, n_in), by its products.

    Args:
        n_in, n_out: shape of the matrix.
        rule: ``AdamRule``, ``AdamWRule``, ``LionRule`` or ``SignRule``.
        seed: of the places where rounding is measured.
        dtype: float32 or float64, of rows, tiles and answers.
        tile: side of a tile; None is 256, which fits a core's cache, and 4096 on a GPU.
        workers: threads; None is all cores of this process. The answers have the same bits with any number.
        memory: bytes for tiles. A training takes two passes over the history a step (forward and backward),
            one where D's n_in·n_out numbers fit, and none where the moments fit too. The default, 16 MiB,
            keeps all of Adam's for n = 1024 in float32, and nothing that matters of a large matrix.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        rule: ElementwiseRule,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tile: int | None = None,
        workers: int | None = None,
        memory: float = MEMORY,
    ) -> None:
        self.n_in, self.n_out = check_int("n_in", n_in, 1), check_int("n_out", n_out, 1)
        known = "give AdamRule(), AdamWRule(), LionRule() or SignRule()"
        check_type("rule", rule, ElementwiseRule, known)
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype={dtype} is not supported: give torch.float32 or torch.float64")
        self.rule, self.dtype, self.device = rule, dtype, torch.device(device)
        side = default_tile(self.device) if tile is None else check_int("tile", tile, 1)
        self.tiles = Tiles(
            self.n_in,
            self.n_out,
            rule,
            dtype=dtype,
            device=self.device,
            tile=side,
            workers=usable_cores() if workers is None else check_int("workers", workers, 1),
            memory=int(check_real("memory", memory, 0.0, 1e18)),
        )
        self._seed = check_int("seed", seed, 0)
        self.scale = 1.0
        """Factor on W(0): Π(1 − ηλ)."""
        self.errors: list[float] = []
        """Relative error of a block of D after each step, in Frobenius norm."""

    @property
    def steps(self) -> int:
        """Updates so far."""
        return len(self.tiles.steps)

    @property
    def error(self) -> float:
        """Relative error of a product with D by rounding: the largest measured in D so far, and the sum's.

        A sum of n products rounds by about √n times the dtype's smallest step. A loss, in which D takes
        part beside W(0), is wrong by less, unless training blows up what rounding begins.
        """
        terms = max(self.n_in, self.n_out) ** 0.5
        return max(self.errors, default=0.0) + terms * torch.finfo(self.dtype).eps

    @property
    def bytes(self) -> int:
        """Kept now: history and tiles."""
        return self.tiles.bytes

    @torch.no_grad()
    def product(self, u: Tensor) -> Tensor:
        """D u for rows u (P, n_in): (P, n_out)."""
        return self.tiles.products(u.to(self.dtype), u.new_zeros(0, self.n_out, dtype=self.dtype))[
            0
        ]

    @torch.no_grad()
    def transposed(self, z: Tensor) -> Tensor:
        """Dᵀz for rows z (P, n_out): (P, n_in)."""
        return self.tiles.products(z.new_zeros(0, self.n_in, dtype=self.dtype), z.to(self.dtype))[1]

    @torch.no_grad()
    def update(self, z: Tensor, u: Tensor, step: ElementwiseStep) -> None:
        """One step of the optimizer with gradient zᵀu; the rows are copied.

        Args:
            z: (P, n_out), the loss's gradients with respect to the answers. u: (P, n_in), what was
                multiplied. P may differ from step to step, and may be 0: a gradient of 0.

        Raises:
            ValueError: the step needs W(0)'s entries, or the rows have other shapes.
            FloatingPointError: a row is not finite.
        """
        self.rule.check(step)
        if z.shape != (len(u), self.n_out) or u.shape != (len(z), self.n_in):
            raise ValueError(
                f"z has shape {tuple(z.shape)} and u {tuple(u.shape)}: give (P, {self.n_out}) and "
                f"(P, {self.n_in})"
            )
        z, u = (x.detach().to(self.device, self.dtype, copy=True) for x in (z, u))
        z *= step.gradient
        if not (bool(z.isfinite().all()) and bool(u.isfinite().all())):
            raise FloatingPointError(
                "a gradient of a wide matrix is not finite: lower the learning rate"
            )
        self.tiles.append(z, u, step)
        self.scale *= step.kept
        self.errors.append(self._measured())

    def _measured(self) -> float:
        """Relative error of a block of D, at a place that the seed and the step choose."""
        generator = torch.Generator().manual_seed(self._seed + self.steps)
        sides = ((n, min(n, _MEASURED)) for n in (self.n_out, self.n_in))
        starts = [(int(torch.randint(n - m + 1, (), generator=generator)), m) for n, m in sides]
        return self.tiles.rounding(*(slice(i, i + m) for i, m in starts))

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint; tiles are made again from the history."""
        tiles, double = self.tiles, torch.float64
        numbers = [(s.lr, s.weight_decay, s.gradient) for s in tiles.steps]
        none = torch.empty(0, dtype=self.dtype, device=self.device)
        return {
            "z": torch.cat([none.reshape(0, self.n_out), *tiles.z]),
            "u": torch.cat([none.reshape(0, self.n_in), *tiles.u]),
            "rows": torch.tensor([len(z) for z in tiles.z], dtype=torch.int64),
            "steps": torch.tensor(numbers, dtype=double).reshape(-1, 3),
            "errors": torch.tensor(self.errors, dtype=double),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``tensors()``: what follows has the bits of a training that was never stopped."""
        rows = state["rows"].tolist()
        z, u = (state[name].to(self.device, self.dtype).split(rows) for name in ("z", "u"))
        self.tiles.clear()
        self.scale = 1.0
        for z_step, u_step, numbers in zip(z, u, state["steps"].tolist(), strict=True):
            step = ElementwiseStep(*numbers)
            self.tiles.append(z_step.clone(), u_step.clone(), step)
            self.scale *= step.kept
        self.errors = state["errors"].tolist()


def default_tile(device: torch.device) -> int:
    """Side of a tile: six of them in a core's cache; on a GPU one that keeps it busy."""
    return 256 if device.type == "cpu" else 4096
