"""What ``limit`` solves at many sizes: a ``ResNet`` or a builder's models, asked in one way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn.modules.dropout import _DropoutNd

from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.solver import solve_task
from leadline.recipes.elementwise import Adam, AdamW, Lion, SignSGD
from leadline.solving import memory as memory_use
from leadline.solving import solver
from leadline.solving.configuration import Configuration
from leadline.tracing.builder import construct
from leadline.trajectory import Trajectory

Solved = Configuration | TaskConfiguration

# Least width at which a builder's ladder begins by itself, where a step's time grows as n and as n².
_LEAST_WIDTH = {1: 256, 2: 128}


def run(one: Solved, progress: Any = None) -> Trajectory:
    """Solve what a configuration describes."""
    if isinstance(one, TaskConfiguration):
        return solve_task(one, progress)
    return solver.run(one, progress)


def sized(one: Solved, n: int, l: int, **changes: Any) -> Solved:
    """The same at another width and depth, with other settings."""
    if isinstance(one, TaskConfiguration):
        return one.at(n, l, **changes)
    return replace(one, width=n, depth=l, **changes)


def facts(one: Solved) -> dict[str, Any]:
    """All that the answer depends on."""
    return one.info("solve") if isinstance(one, TaskConfiguration) else one.info


def leads(one: Solved) -> bool:
    """Does this process write files?"""
    return isinstance(one, TaskConfiguration) or one.shards.leads


def of_first(one: Solved, value: float) -> float:
    """A number that all processes have to agree on: the first one's."""
    return value if isinstance(one, TaskConfiguration) else one.shards.of_first(value)


def check_memory(one: Solved) -> None:
    """Refuse a size whose first step does not fit, where that can be known before it.

    Raises:
        MemoryError: naming the parts.
    """
    if isinstance(one, Configuration):
        memory_use.predict(one).check_first_step(memory_use.budget(one))


def is_elementwise(one: Solved) -> bool:
    """Are hidden weights updated entry by entry, in a time that grows as n²?"""
    kinds = (Adam, AdamW, Lion, SignSGD)
    return isinstance(one, TaskConfiguration) and isinstance(one.recipe, kinds)


def truncates(one: Solved) -> bool:
    """Does the answer depend on tol? Without remembered queries and with exact updates it does not."""
    return one.tol > 0 and not (one.ensemble == "fast" and is_elementwise(one))


def power(one: Solved) -> int:
    """The power of n that the time of a layer grows with."""
    return 2 if is_elementwise(one) else 1


def first_size(one: TaskConfiguration) -> tuple[int, int]:
    """Where a builder's ladder begins by itself: multiples of its base."""
    base, width = one.plan.base, one.plan.base.width
    while width < _LEAST_WIDTH[power(one)]:
        width *= 2
    return width, 2 * base.depth


def is_random(one: Solved) -> bool:
    """Do outputs stay random in the limit? A few random numbers, or dropout, are not averaged by width."""
    if not isinstance(one, TaskConfiguration):
        return False
    plan = one.plan
    averaged = {
        k.template for k in plan.kinds if k.role in ("input", "hidden", "readout", "vector")
    }
    model, other = (construct(one.builder, plan.base, seed) for seed in (0, 1))
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        if plan.naming.template(name) not in averaged and not torch.equal(p, q):
            return True
    if any(not torch.equal(x, y) for x, y in zip(model.buffers(), other.buffers(), strict=True)):
        return True
    return any(isinstance(m, _DropoutNd) and m.p > 0 for m in model.modules())
