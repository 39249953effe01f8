"""``--dry-run`` of a model of yours: memory and time, from the first steps of each size that will run."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from leadline.cli.prediction import Cost
from leadline.limits.agreement import SEEDS
from leadline.limits.existence import check_has_limit
from leadline.limits.extrapolation import builders_first
from leadline.limits.ladder import first_sizes
from leadline.limits.networks import truncates
from leadline.matrixfree import elementwise_cost
from leadline.matrixfree.configuration import TaskConfiguration, budget
from leadline.matrixfree.initialization import training
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.memory import TaskMemory, tile_bytes
from leadline.matrixfree.memory import predict as predicted_memory
from leadline.reporting.progress import duration, size
from leadline.training.networks import budget as dense_budget
from leadline.training.trainer import check_dense_memory, dense_task_bytes

# The first steps are taken until there are so many, or so many seconds are over.
_STEPS, _SECONDS = 4, 10.0
_NOT_OF_THE_COMPUTATION = ("checkpoint", "checkpoint_every", "progress", "as_json", "quiet", "out")
_OF_LIMITS = ("rtol", "seconds", "over", "width", "depth", "sizes")


@dataclass(frozen=True)
class ModelCost(Cost):
    """Predicted cost of ``solve``, ``train``, ``limit`` or ``compare`` of a model.

    Attributes:
        steps: of a training.
        wide: weights that are multiplied and not stored, of the deepest.
        parts: bytes of the largest that do not grow with the steps.
        elementwise_seconds: those of passes over the history, which grow as T².
        measured_steps: that the time was measured on, of the size with the fewest.
    """

    steps: int
    wide: int
    parts: dict[str, int]
    elementwise_seconds: float
    measured_steps: int

    def text(self) -> str:
        """The prediction in words."""
        what = f"{self.wide} weights multiplied and not stored" if self.wide else "dense"
        takes = (
            f"{size(self.first_step_bytes)} for the first step, at most {size(self.at_most_bytes)}"
        )
        if not self.wide:
            takes = (
                f"{size(self.at_most_bytes)} for weights, gradients and what the optimizer keeps"
            )
        each = " of each size" if len(self.sizes) > 1 else ""
        lines = [
            f"{self.command}: {', '.join(f'{n}x{depth}' for n, depth in self.sizes)}; {what}",
            f"  memory: {takes}; budget {size(self.budget_bytes)}",
            f"  time: {'at least' if self.at_least else 'about'} {duration(self.seconds)} (from the first "
            f"{self.measured_steps} steps{each}; a factor of 2 is usual)",
        ]
        if self.elementwise_seconds:
            lines.append(
                f"  {duration(self.elementwise_seconds)} of it make updates from the history of all steps, "
                f"which grows as T²: {2 * self.steps} steps take four times as long"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Part:
    """A size that runs: so many seeds of it, dense or not."""

    c: TaskConfiguration
    seeds: int
    dense: bool = False


class _StepsTaken(Exception):
    """The first steps have told enough."""


def predict(command: str, task: Any, build: Any, recipe: Any, options: dict[str, Any]) -> ModelCost:
    """Predict a command's cost; first steps must fit the budget, as when it is run.

    Raises:
        MemoryError: one does not.
    """
    settings = {k: v for k, v in options.items() if k not in _NOT_OF_THE_COMPUTATION}
    parts = _parts(command, task, build, recipe, settings)
    needs = {id(p): predicted_memory(p.c) for p in parts if not p.dense}
    first = most = 0
    for p in parts:
        if p.dense:
            check_dense_memory(p.c)
            need = sum(dense_task_bytes(p.c).values())
            first, most = max(first, need), max(most, need)
        else:
            needs[id(p)].check_first_step(budget(p.c))
            first = max(first, needs[id(p)].first_step)
            most = max(most, needs[id(p)].at_most)
    largest = max(needs.values(), key=lambda need: need.at_most, default=None)
    seconds = elementwise = 0.0
    measured = recipe.steps
    for p in parts:
        times = _first_steps(p)
        measured = min(measured, len(times))
        seconds += p.seeds * _remaining(times, recipe.steps, grows=not p.dense)
        if not p.dense:
            elementwise += p.seeds * _elementwise(needs[id(p)], len(times))
    c = parts[0].c
    return ModelCost(
        command=command,
        sizes=tuple(dict.fromkeys((p.c.width, p.c.depth) for p in parts)),
        steps=recipe.steps,
        wide=max((len(need.matrices) for need in needs.values()), default=0),
        parts=dense_task_bytes(c) if largest is None else dict(largest.parts),
        first_step_bytes=first,
        at_most_bytes=most,
        budget_bytes=dense_budget(c.memory, c.device) if largest is None else budget(c),
        seconds=seconds + elementwise,
        elementwise_seconds=elementwise,
        measured_steps=measured,
        at_least=command in ("limit", "compare"),
    )


def _parts(
    command: str, task: Any, build: Any, recipe: Any, settings: dict[str, Any]
) -> list[_Part]:
    """What a command is sure to run."""
    if command in ("solve", "train"):
        c = TaskConfiguration(task, build, recipe, **settings)
        return [_Part(c, c.seeds, command == "train")]
    over, width, depth, sizes = (settings.get(k) for k in ("over", "width", "depth", "sizes"))
    settings = {
        k: v for k, v in settings.items() if k not in _OF_LIMITS and (k, v) != ("tol", None)
    }
    over = over or "both"
    if command == "limit":
        first = builders_first(
            task, build, recipe, over=over, width=width, depth=depth, options=settings
        )
        return _of_limit(first, over)
    base = settings["base"]
    one = TaskConfiguration(task, build, recipe, base["width"], base["depth"], **settings)
    deepen = over == "both"
    pairs = sizes or [(base["width"] * k, base["depth"] * (k if deepen else 1)) for k in (1, 2, 4)]
    parts = [_Part(one.at(n, depth), one.seeds, True) for n, depth in pairs]
    widest, deepest = max(n for n, _ in pairs), max(depth for _, depth in pairs)
    try:
        check_has_limit(one.plan, over)
    except ValueError:
        return [*parts, _Part(one.at(4 * widest, deepest), one.seeds)]
    at = None if deepen else deepest
    first = builders_first(task, build, recipe, over=over, width=None, depth=at, options=settings)
    return parts + _of_limit(first, over)


def _of_limit(first: TaskConfiguration, over: str) -> list[_Part]:
    """Sizes that ``limit`` solves in any case, with its checks of tol and of the ensemble."""
    parts = [
        _Part(first.at(n, depth), first.seeds)
        for n, depth in first_sizes(first.width, first.depth, over)
    ]
    if truncates(first):
        fine = first.at(first.width, first.depth, tol=first.tol / 10)
        parts.append(_Part(fine, first.seeds))
    if first.ensemble != "gaussian":
        usual = first.at(first.width, first.depth, ensemble="gaussian")
        parts.append(_Part(usual, max(first.seeds, SEEDS)))
        if first.seeds < SEEDS:
            parts.append(_Part(first, SEEDS))
    return parts


def _first_steps(part: _Part) -> list[float]:
    """Seconds of the first steps of run 0."""
    c = part.c
    if part.dense:
        model = c.model(0)
        work = TaskTraining(c, 0, model, c.optimizers(model))
    else:
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


def _elementwise(need: TaskMemory, measured: int) -> float:
    """Seconds that passes over the history take in one seed."""
    c, seconds = need.c, 0.0
    steps = c.recipe.steps
    if steps <= measured:
        return 0.0
    counts: Counter[Any] = Counter()
    for m, memory in tile_bytes(c, need.matrices).items():
        if m.rows:
            counts[m.n_in, m.n_out, m.rows, m.rule, memory] += m.count
    for (n_in, n_out, rows, rule, memory), count in counts.items():
        how = dict(rule=rule, dtype=c.dtype, device=c.device, memory=memory)
        seconds += count * elementwise_cost.predict(n_in, n_out, rows, steps, **how).seconds
    return seconds


def _remaining(times: list[float], steps: int, grows: bool) -> float:
    """Seconds of all steps: those measured, and the others.

    The first warms up, and is left out.

    Args:
        grows: does a step take longer than the one before? Then the others grow as the measured ones did.
    """
    if steps <= len(times) or not times:
        return sum(times)
    later = times[1:] or times
    pace = sum(later) / len(later)
    growth = max(later[-1] - later[0], 0.0) / max(len(later) - 1, 1) if grows else 0.0
    others = steps - len(times)
    return sum(times) + others * (pace + growth * others / 2)
