"""The revealed operators of several seeds as one: every row, basis and table has a leading axis of seeds.

A small network's query is dozens of operations that each take longer to start than to compute; all seeds
share them. A seed's random streams and rules are those that it has alone, so that its numbers agree with a
solve of its own: up to rounding, and in float32 up to tol where rounding turns a decision. Seeds that
reveal fewer directions in a query than others have rows of zeros in their place, which change nothing:
coefficients there are zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from leadline.solving.basis import (
    above_bound,
    gram_factor,
    nearly_singular,
    remaining,
    select,
)
from leadline.solving.configuration import Settings
from leadline.solving.noise import Draws, draw_together
from leadline.solving.operator import Operator
from leadline.solving.shards import Shards, inner_product
from leadline.solving.sides import Side
from leadline.solving.variance_reduction import Avoided, balance

# Rows over those of the seed that has most, from which padding is taken out.
PADDING = 1.25


class _NotFinite(FloatingPointError):
    """Rows of some seeds are not finite."""

    def __init__(self, seeds: np.ndarray) -> None:
        super().__init__("a query of the operator is not finite")
        self.seeds = seeds


@dataclass(frozen=True, eq=False)
class StackedNeurons(Shards):
    """All neurons, here, of rows (S, p, n)."""

    def inner(self, *pairs: tuple[Tensor, Tensor], squares: Tensor | None = None) -> list[Tensor]:
        """a bᵀ for every pair, and the squared norms of rows."""
        out = [inner_product(a, b) for a, b in pairs]
        if squares is not None:
            out.append(torch.linalg.vector_norm(squares, dim=-1).square())
        return out


class StackedOperator(Operator):
    """W/√n of one layer of S seeds; rows are (S, P, n).

    Args:
        noises, scratches: each seed's draws, and those for answers that are forgotten.
        broken: where the places of seeds are noted whose rows are not finite; their answers are zero.
    """

    def __init__(
        self,
        settings: Settings,
        noises: Sequence[Draws],
        scratches: Sequence[Draws],
        broken: set[int],
    ) -> None:
        super().__init__(settings, noises[0])
        self.noises, self.scratches, self._broken = list(noises), list(scratches), broken
        # Directions of each seed: of both sides, and of the query that is being answered.
        self._filled = {
            id(side): np.zeros(len(noises), int) for side in (self.forward, self.transposed)
        }
        self._new = np.zeros(len(noises), int)

    @property
    def largest(self) -> np.ndarray:
        """(S, 2): q and r of every seed."""
        return np.stack([self._filled[id(s)] for s in (self.forward, self.transposed)], axis=1)

    def _query(self, u: Tensor, near: Side, far: Side, **options) -> tuple[Tensor, Tensor]:
        try:
            answer, c = super()._query(u, near, far, **options)
        except _NotFinite as error:
            answer, c = super()._query(self._without(u, error), near, far, **options)
        self._filled[id(near)] += self._new
        return answer, c

    def sample(
        self, u: Tensor, *, initial: Tensor | None = None, avoid: Avoided | None = None
    ) -> Tensor:
        """The answers that ``query`` gives, in law, with nothing remembered."""
        near, far = self.forward, self.transposed
        try:
            c, across, squares = self._coordinates(u, near, far)
        except _NotFinite as error:
            u = self._without(u, error)
            c, across, squares = self._coordinates(u, near, far)
        drift, weight = self._drift(c, across, initial, near)
        sizes = squares.cpu().numpy().astype(np.float64)
        above = self._above_bound(c, sizes, self._bounds(sizes, together=False))
        if not above.any():
            return self._combine(c, drift, weight, near, far)
        e = torch.baddbmm(u, c, near.queries.view, alpha=-1)
        if not above.all():
            e *= torch.from_numpy(above).to(e)[..., None]
        rows = u.shape[1]
        draws = self.settings.n if self._whole(rows) else rows
        self._new = np.where(above.any(1), draws, 0)
        fresh = weight * self._forgotten(e, slice(None), rows, near, far, avoid)
        if self.settings.reused:
            drift -= inner_product(fresh, far.queries.view)
        return self._combine(c, drift, weight, near, far).add_(fresh)

    def _gram_factor(self, gram: Tensor) -> Tensor:
        factor, over = gram_factors(gram)
        self._broken.update(over)
        return factor

    def _without(self, u: Tensor, error: _NotFinite) -> Tensor:
        """Rows of zeros for seeds that have diverged."""
        self._broken.update(error.seeds.tolist())
        u = u.clone()
        u[error.seeds] = 0.0
        return u

    def _coordinates(
        self, u: Tensor, near: Side, far: Side
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        c, across, squares = super()._coordinates(u, near, far)
        finite = squares.isfinite().all(1).cpu().numpy()
        if not finite.all():
            raise _NotFinite(np.flatnonzero(~finite))
        return c, across, squares

    def _directions(
        self, u: Tensor, c: Tensor, squares: Tensor, near: Side, together: bool
    ) -> tuple[Tensor, Tensor, np.ndarray | None]:
        """New orthonormal directions k (S, m, n), remainders e, and each seed's rows that these are of."""
        s, basis = self.settings, near.queries.view
        sizes = squares.cpu().numpy().astype(np.float64)
        bound = np.array(self._bounds(sizes, together))
        there, order = self._above_bound(c, sizes, bound), None
        count = int(there.sum(1).max())
        if not count:
            self._new[:] = 0
            return u[:, :0], u[:, :0], None
        if count == there.shape[1]:
            e = torch.baddbmm(u, c, basis, alpha=-1)
        else:
            order = np.argsort(~there, axis=1, kind="stable")[:, :count]
            there, sizes, bound = (np.take_along_axis(x, order, 1) for x in (there, sizes, bound))
            index = torch.from_numpy(order).to(u.device)
            every = torch.arange(len(u), device=u.device)[:, None]
            e = torch.baddbmm(u[every, index], c[every, index], basis, alpha=-1)
        if not there.all():
            e.mul_(torch.from_numpy(there).to(e)[..., None])
        room = s.n - self._filled[id(near)]
        k, self._new, near.defect, over = extend(
            e, sizes, bound, basis, there=there, room=room, defect=near.defect, settings=s
        )
        self._broken.update(over)
        return k, e, order

    _directions_lean = _directions

    def _above_bound(self, c: Tensor, squares: np.ndarray, bound: np.ndarray) -> np.ndarray:
        """Rows (S, P) whose remainders may be above their bounds."""
        s = self.settings
        return (
            np.ones(squares.shape, bool) if s.lean or s.blurred else above_bound(c, squares, bound)
        )

    def _spread(self, new: Tensor, rows: np.ndarray, u: Tensor) -> Tensor:
        out = new.new_zeros((*u.shape[:2], new.shape[2]))
        # Rows of padding are zero: added where they point to, they change nothing.
        index = torch.from_numpy(rows).to(new.device)[..., None].expand_as(new)
        return out.scatter_add_(1, index, new)

    def _fresh(self, m: int, near: Side, far: Side, forget: bool, avoid: Avoided | None) -> Tensor:
        s = self.settings
        noises, counts = self.scratches if forget else self.noises, self._new.tolist()
        g = draw_together(noises, counts, m, s.dtype, s.device).mul_(self.std)
        if not s.balanced:
            return g
        # The answers' side counts as many rows as the queries'.
        counts = self._filled[id(near)], self._filled[id(far)], self._new
        rows = near.answers.view, far.queries.view
        return balance(g, *rows, avoid, near.far, counts, self._broken)

    def noise_whole(self, n: int) -> Tensor:
        """A matrix (S, n, n) of noise of variance 1/n."""
        s = self.settings
        return torch.stack([x.draw(n, s.dtype, s.device) for x in self.noises]).mul_(self.std)

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        return super().tensors() | {"filled": torch.from_numpy(self.largest.T.copy())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``tensors()``, of as many seeds."""
        super().restore(state)
        filled = state["filled"].numpy().copy()
        if filled.shape != (2, len(self.noises)):
            raise ValueError(f"filled has shape {filled.shape}")
        self._filled = {id(self.forward): filled[0], id(self.transposed): filled[1]}

    def _streams(self) -> dict[str, Draws]:
        several = {"noise": self.noises, "scratch": self.scratches}
        return {f"{name}{i}": x for name, draws in several.items() for i, x in enumerate(draws)}

    def tighten(self) -> None:
        """Take out rows of padding, between steps, where they have become many."""
        orders = []
        for side in (self.forward, self.transposed):
            filled, count = int(self._filled[id(side)].max()), side.queries.count
            every = torch.arange(count, device=self.settings.device).expand(len(self.noises), -1)
            if count > PADDING * filled:
                # Directions have norm 1, padding is zero.
                there = torch.linalg.vector_norm(side.queries.view, dim=-1) > 0.5
                every = torch.argsort((~there).to(torch.uint8), dim=1, stable=True)[:, :filled]
                side.queries.gather(every)
                side.answers.gather(every)
            orders.append((every, count))
        (near, q), (far, r) = orders
        if near.shape[1] == q and far.shape[1] == r:
            return
        seeds = torch.arange(len(self.noises), device=self.settings.device)[:, None, None]
        for table in (self.learned.table, self.learned.table_buffer, self._cross):
            if table.buffer.numel():
                table.replace(table.view(r, q)[seeds, far[:, :, None], near[:, None, :]])

    def keep(self, seeds: list[int]) -> None:
        """Go on with some of the seeds."""
        self.noises = [self.noises[i] for i in seeds]
        self.scratches = [self.scratches[i] for i in seeds]
        for side in (self.forward, self.transposed):
            self._filled[id(side)] = self._filled[id(side)][seeds]
            side.queries.keep(seeds)
            side.answers.keep(seeds)
        self._new = self._new[seeds]
        for table in (self.learned.table, self.learned.table_buffer, self._cross):
            table.replace(table.buffer[seeds])
        self.settings = replace(self.settings, seeds=(len(seeds),))


def extend(
    e: Tensor,
    squares: np.ndarray,
    bound: np.ndarray,
    basis: Tensor,
    there: np.ndarray,
    room: np.ndarray,
    defect: float,
    settings: Settings,
) -> tuple[Tensor, np.ndarray, float, set[int]]:
    """``basis.extend`` of every seed's remainders e (S, p, n).

    Args:
        squares, bound: (S, p). there: (S, p) bool, rows that are no padding. room: (S,) most directions.
        defect: bound on overlaps within every seed's basis.

    Returns:
        Directions (S, m, n), zero where a seed has fewer; their numbers (S,); the bound on overlaps; and
        the seeds whose numbers overflow.
    """
    count, p, _ = e.shape
    eps, twice = torch.finfo(e.dtype).eps, settings.lean or e.dtype == torch.float64
    k, counts, first, over = e[:, :0], np.zeros(count, int), True, set[int]()
    while True:
        wide = e.double()
        gram = (wide @ wide.mT).cpu().numpy()
        turn = np.zeros((count, p, p))
        m, left, grown = np.zeros(count, int), np.zeros_like(there), 0.0
        for s in range(count):
            index = np.flatnonzero(there[s])
            if not len(index) or counts[s] >= room[s]:
                continue
            inner = gram[s] if len(index) == p else gram[s][np.ix_(index, index)]
            limits = bound[s, index]
            try:
                pick = select(inner, squares[s, index], limits, room[s] - counts[s], eps + defect)
            except FloatingPointError:  # training that diverges
                over.add(s)
                pick = None
            if pick is None:
                continue
            chosen, waiting, inverse, lost = pick
            m[s], grown = len(chosen), max(grown, lost)
            turn[s, : m[s], index[chosen]] = inverse.T
            if m[s] < len(index):
                left[s, index[remaining(inner.diagonal(), limits, chosen, waiting)]] = True
        if not m.any():
            return k, counts, defect, over
        new = torch.from_numpy(turn[:, : m.max()]).to(e) @ e
        if first and not twice and grown <= settings.defect:
            defect = max(defect, grown)
        else:
            new = _again(new, [basis, k], m)
        k, counts, first = torch.cat([k, new], dim=1), counts + m, False
        if not left.any():
            return k, counts, defect, over
        there = left
        e = torch.baddbmm(e, e @ new.mT, new, alpha=-1)
        e.mul_(torch.from_numpy(there).to(e)[..., None])


def _again(new: Tensor, known: list[Tensor], m: np.ndarray) -> Tensor:
    """Orthonormal rows, from rows (S, k, n) that nearly are, off what is known; m (S,) are no padding."""
    gram = new @ new.mT
    for earlier in known:
        c = inner_product(new, earlier)
        new = torch.baddbmm(new, c, earlier, alpha=-1)
        gram = torch.baddbmm(gram, c, c.mT, alpha=-1)
    padding = torch.from_numpy(np.arange(new.shape[1]) >= m[:, None]).to(new.device)
    gram = gram.double()
    gram.diagonal(dim1=-2, dim2=-1).add_(padding.to(gram))
    factor, _ = torch.linalg.cholesky_ex(gram)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_triangular(factor, eye, upper=False).to(new) @ new


def gram_factors(gram: Tensor) -> tuple[Tensor, set[int]]:
    """``basis.gram_factor`` of every seed's gram (S, m, m), and the seeds whose numbers overflow.

    Rows of zeros, of which a seed may have as many as it likes, have factors of zeros.
    """
    pivots = gram.diagonal(dim1=-2, dim2=-1)
    empty = pivots == 0
    pivots.add_(empty.to(gram))
    factor, failed = torch.linalg.cholesky_ex(gram)
    again = (failed > 0) | nearly_singular(factor, gram)
    over = set()
    for s in again.nonzero()[:, 0].tolist():
        try:
            factor[s] = gram_factor(gram[s])
        except FloatingPointError:  # training that diverges
            over.add(s)
    return factor.masked_fill_(empty[..., None], 0.0), over
