"""The wide weights of a model under a recipe: what torch's optimizers do not train."""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.matrix import Passes
from leadline.matrixfree.model import WideParameter
from leadline.matrixfree.steps import step_of


class WideUpdates:
    """The wide weights of a model under a recipe, as ``loop.TaskTraining`` sees them.

    Args:
        wide: by name. passes: what their passes are for.
    """

    def __init__(
        self, c: TaskConfiguration, wide: Mapping[str, WideParameter], passes: Passes
    ) -> None:
        self.c, self.wide, self.passes = c, dict(wide), passes
        self._factor = 1.0

    @property
    def names(self) -> Collection[str]:
        """Names of the weights."""
        return self.wide

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self._factor = 1.0
        for w in self.wide.values():
            w.forget()

    def grad_norm(self) -> float:
        """The norm of all their gradients together, in the base's units."""
        squares = (w.factors.fold**2 * w.square_norm() for w in self.wide.values())
        return math.sqrt(sum(squares))

    def scale_grad(self, factor: float) -> None:
        """Multiply all gradients by a factor."""
        self._factor *= factor

    def step(self, multiplier: float) -> None:
        """Take a step with every rate times the schedule's multiplier."""
        for w in self.wide.values():
            shape = w.matrices[0].n_out, w.matrices[0].n_in
            decays = not any(
                w.kind.role == x or fnmatchcase(w.name, x) for x in self.c.recipe.no_decay
            )
            w.update(
                step_of(self.c.recipe, w.kind, w.factors, multiplier, shape, decays), self._factor
            )

    @contextmanager
    def gradients(self) -> Generator[None]:
        """The backward pass of a training step."""
        with self.passes.gradient():
            yield

    @contextmanager
    def evaluation(self) -> Generator[None]:
        """Passes whose queries are forgotten."""
        matrices = [m for w in self.wide.values() for m in w.matrices]
        marks = [m.answers.mark() for m in matrices]
        before, self.passes.remember = self.passes.remember, False
        try:
            yield
        finally:
            self.passes.remember = before
            for m, mark in zip(matrices, marks, strict=True):
                m.answers.rollback(mark)

    @contextmanager
    def initially(self) -> Generator[None]:
        """Within an evaluation: passes without what was learned."""
        self.passes.initial = True
        try:
            yield
        finally:
            self.passes.initial = False

    @property
    def largest_rank(self) -> int:
        """Directions that the largest of the matrices remembers."""
        ranks = (max(m.answers.ranks) for w in self.wide.values() for m in w.matrices)
        return max(ranks, default=0)

    @property
    def bytes(self) -> int:
        """Kept of what was queried and learned."""
        matrices = (m for w in self.wide.values() for m in w.matrices)
        return sum(m.bytes for m in matrices)

    @property
    def error(self) -> float:
        """The largest relative error of a product that was measured; 0 where updates have low rank."""
        parts = (m.part for w in self.wide.values() for m in w.matrices)
        return max((p.error for p in parts if p is not None), default=0.0)
