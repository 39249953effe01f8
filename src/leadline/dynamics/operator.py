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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from leadline.dynamics.basis import FLOOR, Rows, extend
from leadline.dynamics.noise import Noise


class Face:
    """One side of the operator: orthonormal questions and the answers of W̄ (or W̄ᵀ) to them."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        self.questions = Rows(n, dtype, device)
        self.answers = Rows(n, dtype, device)


@dataclass(frozen=True)
class Settings:
    """What all operators of a run share."""

    n: int
    reused: bool = True
    tol: float = 0.0
    balanced: bool = False
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")


class Operator:
    """W/√n of one layer through its questions and answers."""

    def __init__(self, settings: Settings, noise: Noise, scratch: Noise | None = None) -> None:
        self.settings = settings
        self.noise = noise
        self.scratch = scratch
        self.forward = Face(settings.n, settings.dtype, settings.device)
        self.transposed = Face(settings.n, settings.dtype, settings.device)
        empty = torch.zeros((0, 0), dtype=settings.dtype, device=settings.device)
        self.learned = empty
        self.momentum = empty
        self.scale, self.scale_momentum = 1.0, 0.0

    @property
    def ranks(self) -> tuple[int, int]:
        """q and r."""
        return self.forward.questions.count, self.transposed.questions.count

    def ask(self, u: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
        """(W/√n) u for rows u (P, n): answers (P, n), and the coefficients of u in Q (P, q)."""
        return self._ask(u, self.forward, self.transposed, self.learned.mT, **how)

    def ask_transposed(self, z: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
        """(W/√n)ᵀ z for rows z (P, n): answers (P, n), and the coefficients of z in R (P, r)."""
        return self._ask(z, self.transposed, self.forward, self.learned, **how)

    def _ask(
        self,
        u: Tensor,
        near: Face,
        far: Face,
        learned: Tensor,
        *,
        initial: Tensor | None = None,
        forget: bool = False,
        avoid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer rows u; ``learned`` (near, far) maps coefficients of one side to the other's.

        Args:
            initial: (P,) bool, rows to be answered by W(0) alone, without what was learned.
            forget: draw from the scratch stream; the caller rolls back with ``mark``.
            avoid: rows that balanced noise is made orthogonal to.
        """
        s = self.settings
        norms = torch.linalg.vector_norm(u, dim=1)
        bound = max(s.tol, FLOOR[s.dtype]) * norms
        basis = near.questions.view
        c = u @ basis.mT
        e = torch.addmm(u, c, basis, alpha=-1)
        k, new, e = extend(e, bound, basis)
        if len(k):
            near.answers.append(self._reveal(k, near, far, forget, avoid))
            near.questions.append(k)
            c = torch.cat([c, new], dim=1)

        # What is below tol keeps its conditional mean R(Y e): dropping that too would silently
        # turn reused into independent wherever updates are small.
        back = e @ far.answers.view.mT if s.reused else c.new_zeros((len(u), far.questions.count))
        direct = c
        if self.scale != 1.0:
            weight: Tensor | float = self.scale
            if initial is not None:
                weight = torch.where(initial[:, None], c.new_tensor(1.0), self.scale)
            direct, back = weight * c, weight * back
        rows, columns = learned.shape
        if rows and columns:
            drift = c[:, :rows] @ learned
            if initial is not None:
                drift = torch.where(initial[:, None], 0.0, drift)
            back[:, :columns] += drift
        answer = direct @ near.answers.view
        if back.shape[1]:
            answer.addmm_(back, far.questions.view)
        return answer, c

    def _reveal(
        self, k: Tensor, near: Face, far: Face, forget: bool, avoid: Tensor | None
    ) -> Tensor:
        """Answers of W̄ to new orthonormal directions k (m, n), given all earlier answers."""
        s = self.settings
        noise = self.scratch if forget and self.scratch is not None else self.noise
        g = noise.draw(len(k), s.dtype, s.device) / math.sqrt(s.n)
        other, other_answers = far.questions.view, far.answers.view
        if s.balanced:
            g = _balance(g, near.answers.view, other, avoid)
        if not s.reused:
            return g
        if len(other) == 0:
            return g
        mean = k @ other_answers.mT
        return torch.addmm(g, mean - g @ other.mT, other)

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
        self.learned = _padded(self.learned, r, q)
        gradient = z.new_zeros((r, q))
        gradient[: z.shape[1], : u.shape[1]] = z.mT @ u
        if decay:
            gradient.add_(self.learned, alpha=decay)
        if momentum:
            self.momentum = _padded(self.momentum, r, q).mul_(momentum).add_(gradient)
            gradient = self.momentum
        self.learned.add_(gradient, alpha=-rate)
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

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        return {
            "Q": self.forward.questions.view,
            "M": self.forward.answers.view,
            "R": self.transposed.questions.view,
            "Y": self.transposed.answers.view,
            "C": self.learned,
            "D": self.momentum,
            "s": torch.tensor([self.scale, self.scale_momentum], dtype=torch.float64),
            "noise": torch.from_numpy(self.noise.state()),
            **({"scratch": torch.from_numpy(self.scratch.state())} if self.scratch else {}),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from ``tensors()``."""
        device = self.settings.device
        for rows, name in (
            (self.forward.questions, "Q"),
            (self.forward.answers, "M"),
            (self.transposed.questions, "R"),
            (self.transposed.answers, "Y"),
        ):
            rows.append(state[name].to(device))
        self.learned = state["C"].to(device).clone()
        self.momentum = state["D"].to(device).clone()
        self.scale, self.scale_momentum = state["s"].tolist()
        self.noise.restore(state["noise"].numpy())
        if self.scratch is not None:
            self.scratch.restore(state["scratch"].numpy())


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """x in the corner of a zero matrix of at least this size."""
    if x.shape == (rows, columns):
        return x
    out = x.new_zeros((rows, columns))
    out[: x.shape[0], : x.shape[1]] = x
    return out


def _balance(g: Tensor, answers: Tensor, other: Tensor, avoid: Tensor | None) -> Tensor:
    """Noise made orthogonal to given rows and to itself, with its norm's expectation kept.

    This removes fluctuations of relative size 1/√n that are no part of the limit; what is left of
    the bias is O(1/n). Where the rows leave no room the draw stays as it is.

    Args:
        g: (m, n) fresh noise. answers: (q, n) earlier answers, nearly orthonormal themselves.
        other: (r, n) orthonormal rows. avoid: (p, n) any rows, dependent ones too.
    """
    n = g.shape[1]
    if len(answers) + len(other) + len(g) + (0 if avoid is None else len(avoid)) > n // 2:
        return g
    if avoid is not None:
        wide = avoid.double()
        values, vectors = torch.linalg.eigh(wide @ wide.mT)
        keep = values > 1e-6 * values[-1]
        avoid = ((vectors[:, keep] * values[keep].rsqrt()).mT @ wide).to(g)
    for _ in range(2):
        for rows in (answers, avoid, other):
            if rows is not None and len(rows):
                g = torch.addmm(g, g @ rows.mT, rows, alpha=-1)
    wide = g.double()
    factor = torch.linalg.cholesky(wide @ wide.mT)
    norm = math.sqrt((n - len(other)) / n)
    return torch.linalg.solve_triangular(factor, wide, upper=False).to(g) * norm
