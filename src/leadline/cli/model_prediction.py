"""``solve FILE.py --dry-run``: memory and time of a model of yours, from its first steps."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from leadline.matrixfree import elementwise_cost, memory
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.initialization import training
from leadline.reporting.progress import duration, size

# The first steps are taken until there are so many, or so many seconds are over.
_STEPS, _SECONDS = 4, 10.0
_NOT_OF_THE_COMPUTATION = ("checkpoint", "checkpoint_every", "progress", "as_json", "quiet")
_NETWORKS_ALONE = ("variance_reduction", "storage", "spill")


@dataclass(frozen=True)
class ModelCost:
    """Predicted cost of a solve of a model.

    Attributes:
        wide: weights that are multiplied and not stored; parts: bytes that do not grow with the steps.
        first_step_bytes, at_most_bytes: of one seed.
        seconds: of all seeds; elementwise_seconds, those of passes over the history, which grow as T².
        measured_steps: that the time was measured on.
    """

    width: int
    depth: int
    steps: int
    wide: int
    parts: dict[str, int]
    first_step_bytes: int
    at_most_bytes: int
    budget_bytes: int
    seconds: float
    elementwise_seconds: float
    measured_steps: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The prediction in words."""
        lines = [
            f"solve: {self.width}x{self.depth}, {self.wide} weights multiplied and not stored",
            f"  memory: {size(self.first_step_bytes)} for the first step, at most "
            f"{size(self.at_most_bytes)}; budget {size(self.budget_bytes)}",
            f"  time: about {duration(self.seconds)} (from the first {self.measured_steps} steps; a factor "
            "of 2 is usual)",
        ]
        if self.elementwise_seconds:
            lines.append(
                f"  {duration(self.elementwise_seconds)} of it make updates from the history of all steps, "
                f"which grows as T²: {2 * self.steps} steps take four times as long"
            )
        return "\n".join(lines)


class _StepsTaken(Exception):
    """The first steps have told enough."""


def predict(task: Any, build: Any, recipe: Any, options: dict[str, Any]) -> ModelCost:
    """Predict a solve's cost; its first step must fit the budget, as when it is run.

    Raises:
        MemoryError: it does not.
    """
    left_out = (*_NOT_OF_THE_COMPUTATION, *_NETWORKS_ALONE)
    settings = {k: v for k, v in options.items() if k not in left_out}
    c = TaskConfiguration(task, build, recipe, **settings)
    most, need = memory.budget(c), memory.predict(c)
    need.check_first_step(most)
    times = _first_steps(c)
    rest, elementwise = _remaining(times, recipe.steps), 0.0
    counts: Counter[Any] = Counter()
    for m in need.matrices:
        counts[m.n_in, m.n_out, m.rows, m.rule] += m.count
    how = dict(dtype=c.dtype, device=c.device)
    for (n_in, n_out, rows, rule), count in counts.items():
        if rule is not None and rows and recipe.steps > len(times):
            one = elementwise_cost.predict(n_in, n_out, rows, recipe.steps, rule=rule, **how)
            elementwise += count * one.seconds
    return ModelCost(
        width=c.width,
        depth=c.depth,
        steps=recipe.steps,
        wide=len(need.matrices),
        parts=dict(need.parts),
        first_step_bytes=need.first_step,
        at_most_bytes=need.at_most,
        budget_bytes=most,
        seconds=c.seeds * (rest + elementwise),
        elementwise_seconds=c.seeds * elementwise,
        measured_steps=len(times),
    )


def _first_steps(c: TaskConfiguration) -> list[float]:
    """Seconds of the first steps of run 0."""
    work, _ = training(c, 0)
    started = time.perf_counter()
    at: list[float] = []

    def done() -> None:
        at.append(time.perf_counter() - started)
        if len(at) >= _STEPS or at[-1] > _SECONDS:
            raise _StepsTaken

    with contextlib.suppress(_StepsTaken):
        work.run(done)
    return [b - a for a, b in itertools.pairwise([0.0, *at])]


def _remaining(times: list[float], steps: int) -> float:
    """Seconds of all steps: those measured, and the others, which grow as the measured ones did.

    The first warms up, and is left out of the growth.
    """
    if steps <= len(times) or not times:
        return sum(times)
    later = times[1:] or times
    pace = sum(later) / len(later)
    growth = max(later[-1] - later[0], 0.0) / max(len(later) - 1, 1)
    others = steps - len(times)
    return sum(times) + others * (pace + growth * others / 2)
