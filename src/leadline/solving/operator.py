"""The revealed Gaussian operator: an n×n Gaussian matrix that exists only as far as it was queried.

W̄ = W(0)/√n is only ever multiplied by a few vectors, so it is kept as queries and answers,

    Q (q, n), M = W̄ Q        forward            R (r, n), Y = W̄ᵀ R        transposed
    C (r, q)                  learned part: W/√n = s·W̄ + Rᵀ C Q        (rows are basis vectors)

and a new direction is answered from the conditional law given every earlier answer,

    W̄ k = Rᵀ(Y k) + (I − RᵀR) g,       g ~ N(0, 1/n),     k ⟂ Q,

and its mirror image for W̄ᵀ. This is the exact law of a dense network of width n, at O(n q) a query.
``independent`` drops the conditioning on the other side: W̄ᵀ is then an independent Gaussian with the
same learned part (the gradient-independence assumption of arXiv 2512.21075).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.solving.basis import above_bound, gram_factor
from leadline.solving.configuration import Settings
from leadline.solving.growing import CoefficientTable, Rows, add_product
from leadline.solving.noise import Draws
from leadline.solving.shards import Shards
from leadline.solving.sides import Rectangle, Side
from leadline.solving.updates import LearnedPart, MuonStep, Step
from leadline.solving.variance_reduction import Avoided, balance


class Operator:
    """W/√n of one layer, or any Gaussian matrix, through its queries and answers.

    Args:
        noise: draws for the answers; those to transposed queries too, unless ``shape`` says otherwise.
        scratch: draws for answers that are forgotten.
        shape: of a matrix that is not n×n of variance 1/n.
    """

    def __init__(
        self,
        settings: Settings,
        noise: Draws,
        scratch: Draws | None = None,
        shape: Rectangle | None = None,
    ) -> None:
        self.settings, self.noise, self.scratch = settings, noise, scratch
        dtype, device, out = settings.dtype, settings.device, settings.shards
        self.shape, self.std, inputs = shape, 1 / math.sqrt(settings.n), out
        if shape is not None:
            out, inputs = (Shards(n, device=device) for n in (shape.n_out, shape.n_in))
            self.std = shape.std
        self.forward, self.transposed = Side(settings, inputs, out), Side(settings, out, inputs)
        self.learned = LearnedPart(dtype, device, settings.seeds)
        # RᵀM = YᵀQ, entry by entry: known for free whenever a direction is revealed.
        self._cross = CoefficientTable(dtype, device, settings.seeds)

    @property
    def ranks(self) -> tuple[int, int]:
        """The numbers q of forward and r of transposed queries."""
        return self.forward.queries.count, self.transposed.queries.count

    def query(self, u: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """(W/√n) u for rows u (P, n): answers (P, n), and the coefficients of u in Q (P, q)."""
        return self._query(u, self.forward, self.transposed, **options)

    def query_transposed(self, z: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """(W/√n)ᵀ z for rows z (P, n): answers (P, n), and the coefficients of z in R (P, r)."""
        return self._query(z, self.transposed, self.forward, **options)

    def sample(
        self, u: Tensor, *, initial: Tensor | None = None, avoid: Avoided | None = None
    ) -> Tensor:
        """The answers that ``query`` gives, in law, with nothing remembered.

        No direction has to be chosen: one Cholesky factor of the remainders' Gram matrix gives the joint
        law of their answers. For more rows than half of n a whole W(0) is drawn, which is cheaper still.
        """
        near, far, rows = self.forward, self.transposed, None
        c, across, squares = self._coordinates(u, near, far)
        if not self.settings.lean:
            sizes = squares.cpu().numpy().astype(np.float64)
            rows = self._above(c, sizes, self._bounds(sizes, False))
        drift, weight = self._drift(c, across, initial, near)
        if rows is not None and not len(rows):
            return self._combine(c, drift, weight, near, far)
        here = slice(None) if rows is None else rows
        e = ((-c[here]) @ near.queries.view).add_(u[here])
        w = weight[here] if isinstance(weight, Tensor) else weight
        fresh = w * self._forgotten(e, here, len(u), near, far, avoid)
        if self.settings.reused:
            drift[here] -= near.far.inner((fresh, far.queries.view))[0]
        answer = self._combine(c, drift, weight, near, far)
        answer[here] += fresh
        return answer

    def _whole(self, rows: int) -> bool:
        """Is all of W(0) drawn for answers to so many rows that are forgotten?"""
        return self.shape is None and 2 * rows > self.settings.n

    def _forgotten(
        self, e: Tensor, here: Any, rows: int, near: Side, far: Side, avoid: Avoided | None
    ) -> Tensor:
        """Answers of W̄ to remainders e, those ``here`` of so many rows, which leave nothing behind."""
        if self._whole(rows):
            g = self._fresh(self.settings.n, near, far, True, None)
            return near.shards.inner((e, g))[0][..., slice(*near.shards.here)]
        # Drawn for all rows: whether one is near its bound then changes nothing for the others.
        g = self._fresh(rows, near, far, True, avoid)[..., here, :]
        wide = e.double()
        return self._gram_factor(near.shards.inner((wide, wide))[0]).to(g) @ g

    def _gram_factor(self, gram: Tensor) -> Tensor:
        return gram_factor(gram)

    def _query(
        self,
        u: Tensor,
        near: Side,
        far: Side,
        *,
        initial: Tensor | None = None,
        forget: bool = False,
        together: bool = False,
        avoid: Avoided | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer rows u.

        Args:
            initial: (P,) bool, rows to be answered by W(0) alone, without what was learned.
            forget: draw from the scratch stream; the caller rolls back with ``mark``.
            together: only a sum over the rows will be used (the gradients of a batch), so tol is
                relative to the largest of them.
            avoid: rows that balanced noise is made orthogonal to.
        """
        c, across, squares = self._coordinates(u, near, far)
        directions = self._directions_lean if self.settings.lean else self._directions
        k, e, rows = directions(u, c, squares, near, together)
        if m := k.shape[-2]:
            k = near.queries.rounded(k)
            g, lift, new = self._reveal(k, e, near, far, forget, avoid)
            near.queries.append(k)
            new = new if rows is None else self._spread(new, rows, u)
            c = torch.cat([c, new], dim=-1)
        drift, weight = self._drift(c, across, initial, near)
        if m and lift is not None:
            # R is read once for the new directions' answers and for these rows'.
            both = torch.cat([lift, drift], dim=-2) @ far.queries.view
            lifted, rest = both.split([m, u.shape[-2]], dim=-2)
            near.answers.append(g.add_(lifted))
            return ((weight * c) @ near.answers.view).add_(rest), c
        if m:
            near.answers.append(g)
        return self._combine(c, drift, weight, near, far), c

    def _coordinates(
        self, u: Tensor, near: Side, far: Side
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """u's coefficients in both bases, and squared norms."""
        inner = near.shards.inner
        if self.settings.reused:
            c, across, squares = inner((u, near.queries.view), (u, far.answers.view), squares=u)
            return c, across, squares
        c, squares = inner((u, near.queries.view), squares=u)
        return c, None, squares

    def _directions(
        self, u: Tensor, c: Tensor, squares: Tensor, near: Side, together: bool
    ) -> tuple[Tensor, Tensor, np.ndarray | None]:
        """New orthonormal directions k (m, n) in rows u, remainders e, and which rows these are of.

        Where rounding allows, only the remainders of rows that hold anything new are formed; None
        stands for all rows.
        """
        s, basis = self.settings, near.queries.view
        sizes = squares.cpu().numpy().astype(np.float64)
        bound = self._bounds(sizes, together)
        rows = self._above(c, sizes, bound)
        if rows is None:
            e = ((-c) @ basis).add_(u)
        elif len(rows):
            e = ((-c[rows]) @ basis).add_(u[rows])
            sizes, bound = sizes[rows], bound[rows]
        else:
            return u[:0], u[:0], rows
        return near.directions(e, sizes, bound, s), e, rows

    def _directions_lean(
        self, u: Tensor, c: Tensor, squares: Tensor, near: Side, together: bool
    ) -> tuple[Tensor, Tensor, np.ndarray | None]:
        """The same with one copy from the device: all remainders are formed."""
        s = self.settings
        e = ((-c) @ near.queries.view).add_(u)
        wide = e.double()
        (gram,) = near.shards.inner((wide, wide))
        both = torch.cat([gram, squares.double()[:, None]], dim=1).cpu().numpy()
        gram, sizes = np.ascontiguousarray(both[:, :-1]), both[:, -1]
        bound = self._bounds(sizes, together)
        return near.directions(e, sizes, bound, s, gram=gram, lean=True), e, None

    def _spread(self, new: Tensor, rows: np.ndarray, u: Tensor) -> Tensor:
        """Coefficients (P, m) of rows u, from those of the rows that hold anything new."""
        out = new.new_zeros((len(u), new.shape[1]))
        out[rows] = new
        return out

    def _bounds(self, squares: np.ndarray, together: bool) -> np.ndarray:
        """Bounds on squared remainders."""
        bound = self.settings.floor**2 * squares
        if together:
            bound = np.broadcast_to(bound.max(-1, keepdims=True), bound.shape)
        return bound

    def _above(self, c: Tensor, squares: np.ndarray, bound: np.ndarray) -> np.ndarray | None:
        """Rows whose remainders may be above their bounds; None for all."""
        if self.settings.blurred:
            return None
        if not np.isfinite(squares).all():
            raise FloatingPointError("a query of the operator is not finite")
        above = above_bound(c, squares, bound)
        return None if above.all() else np.flatnonzero(above)

    def _drift(
        self, c: Tensor, across: Tensor | None, initial: Tensor | None, near: Side
    ) -> tuple[Tensor, Tensor | float]:
        """Coefficients (P, r) in the far side's basis of the answers to rows with coefficients c (P, q):
        what was learned, and what earlier answers say; and the weight that W(0) has in each row."""
        q, r = self.ranks
        learned, cross = self.learned.table.view(r, q), self._cross.view(r, q)
        if near is self.forward:
            learned, cross = learned.mT, cross.mT
        # What is below tol keeps its conditional mean R(Y u⊥), Y u⊥ = Y u − (Y Qᵀ)c: dropping that
        # too would silently turn reused into independent wherever updates are small.
        weight: Tensor | float = self.learned.scale
        drift = c @ learned
        if initial is not None:
            before = initial[:, None]
            weight = torch.where(before, c.new_tensor(1.0), self.learned.scale)
            drift = drift.masked_fill(before, 0.0)
        if across is not None:
            drift += weight * add_product(across, c, cross, alpha=-1.0)
        return drift, weight

    def _combine(
        self, c: Tensor, drift: Tensor, weight: Tensor | float, near: Side, far: Side
    ) -> Tensor:
        """Answers (P, n) from coefficients in both bases."""
        return add_product((weight * c) @ near.answers.view, drift, far.queries.view)

    def _fresh(self, m: int, near: Side, far: Side, forget: bool, avoid: Avoided | None) -> Tensor:
        """Noise (m, n) of variance 1/n, balanced if the run is."""
        s = self.settings
        other = self if near is self.forward or self.shape is None else self.shape
        noise = other.scratch if forget and other.scratch is not None else other.noise
        g = noise.draw(m, s.dtype, s.device).mul_(self.std)
        known = near.answers.view, far.queries.view
        return balance(g, *known, avoid, near.far) if s.balanced else g

    def noise_whole(self, n: int) -> Tensor:
        """A matrix (n, n) of noise of variance 1/n."""
        return self.noise.draw(n, self.settings.dtype, self.settings.device).mul_(self.std)

    def _reveal(
        self, k: Tensor, e: Tensor, near: Side, far: Side, forget: bool, avoid: Avoided | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Answers of W̄ to new orthonormal directions k (m, n), given all earlier answers.

        Returns:
            Noise (m, n) and coefficients (m, r): the answers are their sum g + Rᵀ(…), g alone if they are
            None; and the coefficients of remainders e (P, n) in k: (P, m).
        """
        m = k.shape[-2]
        g = self._fresh(m, near, far, forget, avoid)
        if not self.settings.reused:
            return g, None, near.shards.inner((e, k))[0]
        pairs = (e, k), (k, far.answers.view)
        new, mean, seen = near.inner(*pairs, beyond=(g, far.queries.view))
        q, r = self.ranks
        if near is self.forward:
            self._cross.view(r, q + m)[..., q:] = mean.mT
        else:
            self._cross.view(r + m, q)[..., r:, :] = mean
        return g, mean.sub_(seen), new

    def update(self, z: Tensor, u: Tensor, step: Step | MuonStep) -> None:
        """One step of the optimizer with gradient zᵀu.

        Args:
            z: (B, r) coefficients in R, scaled as the gradient of W/√n is. u: (B, q) in Q.
        """
        q, r = self.ranks
        self.learned.update(z, u, (r, q), step)

    def mark(self) -> tuple[Any, ...]:
        """A point to return to with ``rollback``."""
        return self.forward.mark(), self.transposed.mark()

    def rollback(self, mark: tuple[Any, ...]) -> None:
        """Forget every query since ``mark``; what was learned since then must be nothing."""
        self.forward.rollback(mark[0])
        self.transposed.rollback(mark[1])

    def rest(self) -> None:
        """The bases are not needed for now: those in files leave memory."""
        if self.settings.spill is not None:
            self.forward.rest()
            self.transposed.rest()

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        learned = self.learned
        numbers = [learned.scale, learned.scale_buffer, self.forward.defect, self.transposed.defect]
        return {
            **{name: rows.stored for name, rows in self._bases().items()},
            "C": learned.table.buffer,
            "D": learned.table_buffer.buffer,
            "X": self._cross.buffer,
            "s": torch.tensor(numbers, dtype=torch.float64),
            **{name: torch.from_numpy(noise.state()) for name, noise in self._streams().items()},
        }

    def _bases(self) -> dict[str, Rows]:
        """Queries and answers by their names in a checkpoint."""
        near, far = self.forward, self.transposed
        return {"Q": near.queries, "M": near.answers, "R": far.queries, "Y": far.answers}

    def _streams(self) -> dict[str, Draws]:
        """The draws by their names in a checkpoint."""
        out = {"noise": self.noise, "scratch": self.scratch}
        if self.shape is not None:
            out |= {"noise_in": self.shape.noise, "scratch_in": self.shape.scratch}
        return {name: noise for name, noise in out.items() if noise is not None}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``tensors()``."""
        device, learned = self.settings.device, self.learned
        for name, rows in self._bases().items():
            rows.append(state[name].to(device))
        for table, name in ((learned.table, "C"), (learned.table_buffer, "D"), (self._cross, "X")):
            table.replace(state[name].to(device).clone())
        learned.scale, learned.scale_buffer, *defects = state["s"].tolist()
        self.forward.defect, self.transposed.defect = defects
        for name, noise in self._streams().items():
            noise.restore(state[name].numpy())
