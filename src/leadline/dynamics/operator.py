"""The revealed Gaussian operator: an n×n Gaussian matrix that exists only as far as it was asked.

W̄ = W(0)/√n is only ever multiplied by a few vectors, so it is kept as questions and answers,

    Q (q, n), M = W̄ Q        forward            R (r, n), Y = W̄ᵀ R        transposed
    C (r, q)                  learned part: W/√n = s·W̄ + Rᵀ C Q        (rows are basis vectors)

and a new direction is answered from the conditional law given every earlier answer,

    W̄ k = Rᵀ(Y k) + (I − RᵀR) g,       g ~ N(0, 1/n),     k ⟂ Q,

and its mirror image for W̄ᵀ. This is the exact law of a dense network of width n, at O(n q) a
question. ``independent`` drops the conditioning on the other side: W̄ᵀ is then an independent
Gaussian with the same learned part (the gradient-independence assumption of arXiv 2512.21075).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.dynamics.basis import FLOOR, Rows, extend, jittered_cholesky
from leadline.dynamics.counter import Counter
from leadline.dynamics.noise import Noise
from leadline.dynamics.shards import Shards


@dataclass(frozen=True)
class Settings:
    """What all operators of a run share."""

    n: int
    reused: bool = True
    tol: float = 0.0
    balanced: bool = False
    expected: int = 0
    """Directions that a buffer is first made for; pages nobody writes take no memory on a CPU."""
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    lean: bool = False
    """Look at the device once a question, at the price of a product (on by itself on a GPU)."""
    counter: bool = False
    """Draw on the device, from a hash (on by itself on a GPU)."""
    storage: torch.dtype | None = None
    """Of the bases: fewer digits than ``dtype``, or None."""
    spill: str | None = None
    """Folder for files that hold the bases, or None."""
    shards: Shards = field(default=None)  # ty: ignore[invalid-assignment]
    """Which of the n neurons are here; all by default."""

    def __post_init__(self) -> None:
        if self.shards is None:
            object.__setattr__(self, "shards", Shards(self.n, device=self.device))
        if self.device.type == "cuda":
            object.__setattr__(self, "lean", True)
            object.__setattr__(self, "counter", True)

    @property
    def rounded(self) -> bool:
        """Are bases stored with fewer digits?"""
        return self.storage not in (None, self.dtype)

    @property
    def floor(self) -> float:
        """Relative size below which a remainder is no direction."""
        return max(self.tol, FLOOR[self.dtype])

    @property
    def defect(self) -> float:
        """Overlaps within a basis that do no harm: a hundredth of ``floor``."""
        return 0.01 * self.floor


class Face:
    """One side of the operator: orthonormal questions and the answers of W̄ (or W̄ᵀ) to them."""

    def __init__(self, s: Settings) -> None:
        how = (s.shards.width, s.dtype, s.device, s.expected, s.storage, s.spill)
        self.questions, self.answers = Rows(*how), Rows(*how)
        self.defect = 0.0
        """Bound on overlaps within the questions."""


class Table:
    """A small matrix (r, q) of coefficients that grows with both ranks; new entries are zero."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.replace(torch.zeros((0, 0), dtype=dtype, device=device))

    def replace(self, buffer: Tensor) -> None:
        """Take these entries instead."""
        self.buffer = buffer
        """Saved whole: a product's rounding depends on how far apart its rows lie."""
        self._shape, self._corner = tuple(buffer.shape), buffer

    def view(self, r: int, q: int) -> Tensor:
        """The (r, q) corner, no copy."""
        if self._shape != (r, q):
            rows, columns = self.buffer.shape
            if r > rows or q > columns:
                tall = max(r, 2 * rows) if r > rows else rows
                wide = max(q, 2 * columns) if q > columns else columns
                buffer = self.buffer.new_zeros((tall, wide))
                buffer[:rows, :columns] = self.buffer
                self.buffer = buffer
            self._shape, self._corner = (r, q), self.buffer[:r, :q]
        return self._corner


class Operator:
    """W/√n of one layer through its questions and answers."""

    def __init__(
        self, settings: Settings, noise: Noise | Counter, scratch: Noise | Counter | None = None
    ) -> None:
        self.settings = settings
        self.noise = noise
        self.scratch = scratch
        dtype, device = settings.dtype, settings.device
        self.forward, self.transposed = Face(settings), Face(settings)
        self._learned, self._momentum = Table(dtype, device), Table(dtype, device)
        # RᵀM = YᵀQ, entry by entry: known for free whenever a direction is revealed.
        self._cross = Table(dtype, device)
        self.scale, self.scale_momentum = 1.0, 0.0

    @property
    def ranks(self) -> tuple[int, int]:
        """q and r."""
        return self.forward.questions.count, self.transposed.questions.count

    def _tables(self) -> tuple[Tensor, Tensor]:
        q, r = self.ranks
        return self._learned.view(r, q), self._cross.view(r, q)

    def ask(self, u: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
        """(W/√n) u for rows u (P, n): answers (P, n), and the coefficients of u in Q (P, q)."""
        return self._ask(u, self.forward, self.transposed, **how)

    def ask_transposed(self, z: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
        """(W/√n)ᵀ z for rows z (P, n): answers (P, n), and the coefficients of z in R (P, r)."""
        return self._ask(z, self.transposed, self.forward, **how)

    def glance(
        self, u: Tensor, *, initial: Tensor | None = None, avoid: Tensor | None = None
    ) -> Tensor:
        """The answers that ``ask`` gives, in law, with nothing remembered.

        No direction has to be chosen: the remainders' Gram matrix and one Cholesky factor of it
        give the joint law of their answers, which is what makes many test inputs affordable.
        """
        near, far, reused = self.forward, self.transposed, self.settings.reused
        inner = self.settings.shards.inner
        c, across, squares = self._coordinates(u, near, far)
        rows = None
        if not self.settings.lean:
            sizes = squares.cpu().numpy().astype(np.float64)
            rows = self._above(c, sizes, self._bounds(sizes, together=False))
        drift, weight = self._drift(c, across, initial, near)
        if rows is not None and not len(rows):
            return self._combine(c, drift, weight, near, far)
        here = slice(None) if rows is None else rows
        v, b = (u, c) if rows is None else (u[rows], c[rows])
        wide = ((-b) @ near.questions.view).add_(v).double()
        # Drawn for all rows: whether one is near its bound then changes nothing for the others.
        g = self._fresh(u.shape[0], near, far, True, avoid)[here]
        w = weight[here] if isinstance(weight, Tensor) else weight
        (gram,) = inner((wide, wide))
        fresh = (w * jittered_cholesky(gram).to(g)) @ g
        if reused:
            (seen,) = inner((fresh, far.questions.view))
            drift[here] -= seen
        answer = self._combine(c, drift, weight, near, far)
        answer[here] += fresh
        return answer

    def _ask(
        self,
        u: Tensor,
        near: Face,
        far: Face,
        *,
        initial: Tensor | None = None,
        forget: bool = False,
        together: bool = False,
        avoid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer rows u.

        Args:
            initial: (P,) bool, rows to be answered by W(0) alone, without what was learned.
            forget: draw from the scratch stream; the caller rolls back with ``mark``.
            together: only a sum over the rows will be used (the gradients of a batch), so tol is
                relative to the largest of them.
            avoid: rows that balanced noise is made orthogonal to.
        """
        s, basis = self.settings, near.questions.view
        c, across, squares = self._coordinates(u, near, far)
        p, gram, rows, g, lift = u.shape[0], None, None, None, None
        if not s.lean:
            sizes = squares.cpu().numpy().astype(np.float64)
            bound = self._bounds(sizes, together)
            rows = self._above(c, sizes, bound)
        every = rows is None
        if rows is None or len(rows):
            v, b = (u, c) if every else (u[rows], c[rows])
            e = ((-b) @ basis).add_(v)
            if s.lean:
                wide = e.double()
                (gram,) = s.shards.inner((wide, wide))
                seen = torch.cat([gram, squares.double()[:, None]], dim=1).cpu().numpy()
                gram, sizes = np.ascontiguousarray(seen[:, :-1]), seen[:, -1]
                bound = self._bounds(sizes, together)
            elif not every:
                sizes, bound = sizes[rows], bound[rows]
            k, near.defect = extend(
                e, sizes, bound, basis, near.defect, s.defect, s.shards, gram, s.lean, s.rounded
            )
            if m := k.shape[0]:
                k = near.questions.rounded(k)
                g, lift, new = self._reveal(k, e, near, far, forget, avoid)
                near.questions.append(k)
                if not every:
                    new, part = new.new_zeros((p, m)), new
                    new[rows] = part
                c = torch.cat([c, new], dim=1)
        drift, weight = self._drift(c, across, initial, near)
        if g is not None and lift is not None:
            # R is read once for the new directions' answers and for these rows'.
            lifted, rest = (torch.cat([lift, drift]) @ far.questions.view).split([len(g), p])
            near.answers.append(g.add_(lifted))
            return ((weight * c) @ near.answers.view).add_(rest), c
        if g is not None:
            near.answers.append(g)
        return self._combine(c, drift, weight, near, far), c

    def _coordinates(
        self, u: Tensor, near: Face, far: Face
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """u's coefficients in both bases, and squared norms."""
        inner = self.settings.shards.inner
        if self.settings.reused:
            c, across, squares = inner((u, near.questions.view), (u, far.answers.view), squares=u)
            return c, across, squares
        c, squares = inner((u, near.questions.view), squares=u)
        return c, None, squares

    def _bounds(self, squares: np.ndarray, together: bool) -> np.ndarray:
        """Bounds on squared remainders."""
        bound = self.settings.floor**2 * squares
        return np.full_like(bound, bound.max()) if together else bound

    def _above(self, c: Tensor, squares: np.ndarray, bound: np.ndarray) -> np.ndarray | None:
        """Rows whose remainders may be above their bounds; None for all."""
        s = self.settings
        if s.tol**2 < 4 * torch.finfo(s.dtype).eps:
            return None
        # Where rounding allows, |u⊥|² = |u|² − |c|² tells which rows hold anything new; only
        # their remainders are formed. Its rounding blurs tol, by less than a half.
        if not np.isfinite(squares).all():
            raise FloatingPointError("a question to the operator is not finite")
        small = c.cpu().numpy()
        below = squares - np.einsum("ij,ij->i", small, small, dtype=np.float64) <= bound
        return np.flatnonzero(~below) if below.any() else None

    def _drift(
        self, c: Tensor, across: Tensor | None, initial: Tensor | None, near: Face
    ) -> tuple[Tensor, Tensor | float]:
        """Coefficients (P, r) in the far side's basis of the answers to rows with coefficients c (P, q):
        what was learned, and what earlier answers say; and the weight that W(0) has in each row."""
        learned, cross = self._tables()
        if near is self.forward:
            learned, cross = learned.mT, cross.mT
        # What is below tol keeps its conditional mean R(Y u⊥), Y u⊥ = Y u − (Y Qᵀ)c: dropping that
        # too would silently turn reused into independent wherever updates are small.
        weight: Tensor | float = self.scale
        drift = c @ learned
        if initial is not None:
            before = initial[:, None]
            weight = torch.where(before, c.new_tensor(1.0), self.scale)
            drift = torch.where(before, c.new_tensor(0.0), drift)
        if across is not None:
            mean = across.addmm_(c, cross, alpha=-1)
            drift += weight * mean
        return drift, weight

    def _combine(
        self, c: Tensor, drift: Tensor, weight: Tensor | float, near: Face, far: Face
    ) -> Tensor:
        """Answers (P, n) from coefficients in both bases."""
        return ((weight * c) @ near.answers.view).addmm_(drift, far.questions.view)

    def _fresh(self, m: int, near: Face, far: Face, forget: bool, avoid: Tensor | None) -> Tensor:
        """Noise (m, n) of variance 1/n, balanced if the run is."""
        s = self.settings
        noise = self.scratch if forget and self.scratch is not None else self.noise
        g = noise.draw(m, s.dtype, s.device).mul_(1 / math.sqrt(s.n))
        if not s.balanced:
            return g
        return _balance(g, near.answers.view, far.questions.view, avoid, s.shards)

    def _reveal(
        self, k: Tensor, e: Tensor, near: Face, far: Face, forget: bool, avoid: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Answers of W̄ to new orthonormal directions k (m, n), given all earlier answers.

        Returns:
            Noise (m, n) and coefficients (m, r): the answers are their sum g + Rᵀ(…), g alone if they are
            None; and the coefficients of remainders e (P, n) in k: (P, m).
        """
        inner = self.settings.shards.inner
        m = k.shape[0]
        g = self._fresh(m, near, far, forget, avoid)
        other = far.questions.view
        if not self.settings.reused:
            (new,) = inner((e, k))
            return g, None, new
        new, mean, seen = inner((e, k), (k, far.answers.view), (g, other))
        q, r = self.ranks
        if near is self.forward:
            self._cross.view(r, q + m)[:, q:] = mean.mT
        else:
            self._cross.view(r + m, q)[r:] = mean
        return g, mean.sub_(seen), new

    def update(
        self,
        z: Tensor,
        u: Tensor,
        *,
        rate: float,
        momentum: float = 0.0,
        decay: float = 0.0,
    ) -> None:
        """One step of SGD with gradient zᵀu, in PyTorch's order of momentum and weight decay.

        W(0) takes part in decay and its buffer through two scalars:
        b ← μb + λs, s ← s − ηb,  D ← μD + zᵀu + λC, C ← C − ηD.

        Args:
            z: (B, r) coefficients in R, scaled as the gradient of W/√n is. u: (B, q) in Q.
            rate: η of this step.
        """
        q, r = self.ranks
        learned = self._learned.view(r, q)
        if momentum:
            buffer = self._momentum.view(r, q).mul_(momentum)
            buffer[: z.shape[1], : u.shape[1]].add_(z.mT @ u)
            if decay:
                buffer.add_(learned, alpha=decay)
            learned.add_(buffer, alpha=-rate)
        else:
            if decay:
                learned.mul_(1 - rate * decay)
            # Not addmm: a product of its own has the same bits at any number of threads.
            learned[: z.shape[1], : u.shape[1]].add_(z.mT @ u, alpha=-rate)
        self.scale_momentum = momentum * self.scale_momentum + decay * self.scale
        self.scale -= rate * self.scale_momentum

    def mark(self) -> tuple[Any, ...]:
        """A point to return to with ``rollback``."""
        faces = (self.forward, self.transposed)
        return tuple((f.questions.mark(), f.answers.mark()) for f in faces)

    def rollback(self, mark: tuple[Any, ...]) -> None:
        """Forget every question since ``mark``; what was learned since then must be nothing."""
        for face, (questions, answers) in zip((self.forward, self.transposed), mark, strict=True):
            face.questions.rollback(questions)
            face.answers.rollback(answers)

    def rest(self) -> None:
        """The bases are not needed for now: those in files leave memory."""
        if self.settings.spill is not None:
            for face in (self.forward, self.transposed):
                face.questions.rest()
                face.answers.rest()

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        return {
            "Q": self.forward.questions.stored,
            "M": self.forward.answers.stored,
            "R": self.transposed.questions.stored,
            "Y": self.transposed.answers.stored,
            "C": self._learned.buffer,
            "D": self._momentum.buffer,
            "X": self._cross.buffer,
            "s": torch.tensor(
                [
                    self.scale,
                    self.scale_momentum,
                    self.forward.defect,
                    self.transposed.defect,
                ],
                dtype=torch.float64,
            ),
            "noise": torch.from_numpy(self.noise.state()),
            **({"scratch": torch.from_numpy(self.scratch.state())} if self.scratch else {}),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``tensors()``."""
        device = self.settings.device
        for rows, name in (
            (self.forward.questions, "Q"),
            (self.forward.answers, "M"),
            (self.transposed.questions, "R"),
            (self.transposed.answers, "Y"),
        ):
            rows.append(state[name].to(device))
        for table, name in ((self._learned, "C"), (self._momentum, "D"), (self._cross, "X")):
            table.replace(state[name].to(device).clone())
        self.scale, self.scale_momentum, *defects = state["s"].tolist()
        self.forward.defect, self.transposed.defect = defects
        self.noise.restore(state["noise"].numpy())
        if self.scratch is not None:
            self.scratch.restore(state["scratch"].numpy())


def _balance(
    g: Tensor, answers: Tensor, other: Tensor, avoid: Tensor | None, shards: Shards
) -> Tensor:
    """Noise made orthogonal to given rows and to itself, with its norm's expectation kept.

    This removes fluctuations of relative size 1/√n that are no part of the limit; what is left of
    the bias is O(1/n). Where the rows leave no room the draw stays as it is.

    Args:
        g: (m, n) fresh noise. answers: (q, n) earlier answers, nearly orthonormal themselves.
        other: (r, n) orthonormal rows. avoid: (p, n) any rows, dependent ones too.
    """
    n, inner = shards.n, shards.inner
    if len(answers) + len(other) + len(g) + (0 if avoid is None else len(avoid)) > n // 2:
        return g
    if avoid is not None:
        wide = avoid.double()
        (gram,) = inner((wide, wide))
        if not gram.isfinite().all():
            raise FloatingPointError("the features are not finite")
        values, vectors = torch.linalg.eigh(gram)
        keep = values > 1e-6 * values[-1]
        avoid = ((vectors[:, keep] * values[keep].rsqrt()).mT @ wide).to(g)
    for _ in range(2):
        for rows in (answers, avoid, other):
            if rows is not None:
                (part,) = inner((g, rows))
                g = torch.addmm(g, part, rows, alpha=-1)
    wide = g.double()
    (gram,) = inner((wide, wide))
    factor = torch.linalg.cholesky(gram)
    norm = math.sqrt((n - len(other)) / n)
    return torch.linalg.solve_triangular(factor, wide, upper=False).to(g) * norm
