"""How much memory a solve of a builder's model takes: predicted before work, metered during it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leadline.available import OVERHEAD, refusal
from leadline.errors import MemoryBudgetError
from leadline.matrixfree.configuration import TaskConfiguration, tile_room
from leadline.matrixfree.elementwise import shared_out
from leadline.matrixfree.elementwise_rules import ElementwiseRule
from leadline.matrixfree.initialization import training
from leadline.matrixfree.model import wide_names
from leadline.matrixfree.steps import rule_of
from leadline.matrixfree.updates import WideUpdates
from leadline.solving.noise import BLOCK

# Numbers a neuron of a W(0) that is multiplied fast: three signs on each side, singular values.
_FACTORS = 7
# Bytes of a weight that has revealed nothing yet, and of a generator of a block of neurons.
_LAYER, _BLOCK = 16384, 4096
# Rows of every wide product that are held at once: what is multiplied, its remainder, the answer, draws.
_QUERIED = 6
# Numbers of a matrix that are there from the start: scales, defects, tables.
_SMALL = 64
# Bases have room for more than is in them, and the largest is copied when it outgrows that.
_ROOM = 1.3


@dataclass(frozen=True)
class MatrixUse:
    """A weight's matrices: ``count`` of n_out × n_in, multiplied by ``rows`` rows a step."""

    name: str
    n_out: int
    n_in: int
    count: int
    rows: int
    rule: ElementwiseRule | None

    def numbers(self, ensemble: str, steps: int) -> int:
        """Kept of all of them after so many steps, if no row was a combination of earlier ones."""
        sides, rows = self.n_in + self.n_out, self.rows * steps
        # The pass after the last step queries without a gradient.
        q, r = min(rows + self.rows, self.n_in), min(rows, self.n_out)
        kept, table = 0, (3 * max(q, r) // 2) ** 2  # with room to grow
        if ensemble == "gaussian":
            kept += (q + r) * sides + 3 * table
        elif self.rule is None:
            kept += q * self.n_in + r * self.n_out + 3 * table
        if self.rule is not None:
            kept += rows * sides
        return self.count * (kept + _SMALL)

    def whole(self, itemsize: int) -> int:
        """Bytes of one matrix's D and moments; 0 where there is no D."""
        moments = 0 if self.rule is None else 1 + self.rule.moments
        return itemsize * self.n_in * self.n_out * moments


def tile_bytes(c: TaskConfiguration, matrices: Sequence[MatrixUse]) -> dict[MatrixUse, int]:
    """Bytes of tiles that each of a weight's matrices keeps between passes, where there are any."""
    size, room = c.dtype.itemsize, tile_room(c)
    whole = {m: m.whole(size) for m in matrices if m.rule is not None}
    total = sum(m.count * b for m, b in whole.items())
    return {m: min(b, shared_out(b, total, room)) for m, b in whole.items()}


@dataclass(frozen=True)
class TaskMemory:
    """Bytes of a solve: all that it adds to what Python and the libraries take.

    Attributes:
        parts: what does not grow with the steps, by name.
        matrices: what is wide. itemsize: bytes a number.
    """

    c: TaskConfiguration
    parts: Mapping[str, int]
    matrices: tuple[MatrixUse, ...]

    def bases(self, steps: int) -> int:
        """Bases and histories after so many steps."""
        kept = sum(m.numbers(self.c.ensemble, steps) for m in self.matrices)
        return int(_ROOM * self.c.dtype.itemsize * kept)

    @property
    def fixed(self) -> int:
        """Bytes whatever the step."""
        return sum(self.parts.values())

    @property
    def first_step(self) -> int:
        """Bytes until the first step is taken."""
        return self.fixed + self.bases(1)

    @property
    def at_most(self) -> int:
        """Bytes at the end if no row were a combination of earlier ones."""
        return self.fixed + self.bases(max(self.c.recipe.steps, 1))

    def check_first_step(self, budget: int) -> None:
        """Refuse what cannot take a single step."""
        if self.first_step > budget:
            need = {**self.parts, "bases": self.bases(1)}
            what = f"the first step of width={self.c.width}, depth={self.c.depth}"
            raise MemoryError(refusal(what, need, budget))


def predict(c: TaskConfiguration) -> TaskMemory:
    """The memory of a solve, from the plan and from a step at the base's width and at twice that.

    Rows of every product do not depend on the width; what a pass keeps grows in proportion to it.
    """
    base, sizes, kept = c.plan.base.width, [], []
    rows: dict[str, int] = {}
    for width in (base, 2 * base):
        small = c.at(width, c.depth, ensemble="fast", seeds=1, memory=None)
        work, updates = training(small, 0)
        counted = _Saved()
        with torch.autograd.graph.saved_tensors_hooks(counted.keep, lambda x: x):
            work.first_pass()
        kept.append(counted.bytes)
        sizes.append(width)
        for name, w in updates.wide.items():
            rows[name] = max(sum(len(z) for z, _ in m.pending) for m in w.matrices)
    slope = max(kept[1] - kept[0], 0) / (sizes[1] - sizes[0])
    saved = kept[0] + slope * max(c.width - sizes[0], 0)
    matrices = _matrices(c, rows)
    size = c.dtype.itemsize
    widest = max((m.rows * max(m.n_in, m.n_out) for m in matrices), default=0)
    products = sum(m.count * m.rows * (m.n_in + m.n_out) for m in matrices)
    sides = sum(m.count * (m.n_in + m.n_out) for m in matrices)
    count = sum(m.count for m in matrices)
    each = size * _FACTORS if c.ensemble == "fast" else 2 * _BLOCK // BLOCK
    parts = {
        "layers": _LAYER * count + each * sides,
        "tiles": sum(m.count * b for m, b in tile_bytes(c, matrices).items()),
        "weights": ordinary_bytes(c),
        "passes": int(saved) + size * (products + 2 * _QUERIED * widest),
        "libraries": OVERHEAD,
    }
    return TaskMemory(c, parts, matrices)


def _matrices(c: TaskConfiguration, rows: Mapping[str, int]) -> tuple[MatrixUse, ...]:
    plan, factors, out = c.plan, c.plan.factors(), []
    for name in wide_names(plan, c.stored):
        kind = plan.kinds[plan.names[name]]
        shape = [round(d) for d in kind.shape_at(plan.m, plan.r)]
        stacked = len(shape) == 3 and not kind.grows[0]
        n_out, n_in = (shape[1], shape[2]) if stacked else (shape[0], math.prod(shape[1:]))
        rule = rule_of(c.recipe, kind, factors[name])
        count = shape[0] if stacked else 1
        out.append(MatrixUse(name, n_out, n_in, count, rows[name], rule))
    return tuple(out)


def ordinary_bytes(c: TaskConfiguration) -> int:
    """Weights with entries, their gradients and what an optimizer keeps of them."""
    plan, wide = c.plan, set(wide_names(c.plan, c.stored))
    shapes = [
        plan.kinds[k].shape_at(plan.m, plan.r) for n, k in plan.names.items() if n not in wide
    ]
    entries = round(sum(math.prod(shape) for shape in shapes))
    states = {"sgd": 1, "lion": 1, "signsgd": 1}.get(c.recipe.optimizer, 2)
    return entries * c.dtype.itemsize * (2 + states)


class _Saved:
    """Counts the storage that a pass keeps for its backward pass."""

    def __init__(self) -> None:
        self.bytes = 0
        self._there: set[int] = set()

    def keep(self, x: Tensor) -> Tensor:
        where = x.untyped_storage().data_ptr()
        if where not in self._there:
            self._there.add(where)
            self.bytes += x.untyped_storage().nbytes()
        return x


class TaskMeter:
    """Memory during a run, and whether another step fits."""

    def __init__(self, c: TaskConfiguration, updates: WideUpdates, fixed: int, most: int) -> None:
        self._c, self.updates, self._fixed, self.budget = c, updates, fixed, most
        self.bytes, self._growth = fixed, 0

    def fits_another_step(self) -> bool:
        """Read what is kept, and judge."""
        kept = sum(m.grown for w in self.updates.wide.values() for m in w.matrices)
        now = self._fixed + int(_ROOM * kept)
        self._growth, self.bytes = max(now - self.bytes, 0), now
        return now + self._growth <= self.budget

    def error(self, s: int, k: int, path: str | None, remedy: str) -> MemoryBudgetError:
        """What is said where another step may not fit."""
        steps, next_step = self._c.recipe.steps, self.bytes + self._growth
        whole = self.bytes + self._growth * (steps - k)
        return MemoryBudgetError(
            f"memory={self.budget} bytes: seed {s} uses {self.bytes} after step {k} of {steps} and the "
            f"next step may need {next_step}; {remedy} with a larger memory= (about {whole} for the "
            "whole), or raise tol",
            path,
        )
