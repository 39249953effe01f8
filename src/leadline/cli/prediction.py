"""``--dry-run``: memory and time, predicted from a short run of a smaller network."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leadline.limits.existence import check_has_limit
from leadline.limits.extrapolation import DEPTH
from leadline.limits.ladder import first_sizes, first_tol, first_width
from leadline.reporting.progress import duration, size
from leadline.solving import memory
from leadline.solving.configuration import Configuration
from leadline.solving.solver import solve_network
from leadline.training.networks import dense_bytes
from leadline.training.trainer import train

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem
    from leadline.recipes.sgd import SGD

_PROBE_SECONDS = 1.0
_PROBE_WIDTH = 256
_PROBE_STEPS = 1000
_PROBE_LAYERS = 8
_ROUGH = "a rough estimate, from a run of at most a second at small size; a factor of 3 is usual"


@dataclass(frozen=True)
class Cost:
    """Predicted cost of a command.

    Attributes:
        sizes: (width, depth) that are sure to run.
        first_step_bytes, at_most_bytes: of one seed of the size that takes most.
        seconds: of all seeds.
        at_least: whether more sizes may follow.
    """

    command: str
    sizes: tuple[tuple[int, int], ...]
    first_step_bytes: int
    at_most_bytes: int
    budget_bytes: int
    seconds: float
    at_least: bool

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The prediction in words."""
        least = "at least " if self.at_least else "about "
        return "\n".join(
            [
                f"{self.command}: " + ", ".join(f"{n}x{depth}" for n, depth in self.sizes),
                f"  memory: {size(self.first_step_bytes)} for the first step, at most "
                f"{size(self.at_most_bytes)}; budget {size(self.budget_bytes)}",
                f"  time: {least}{duration(self.seconds)} ({_ROUGH})",
            ]
        )


def predict(
    command: str, problem: Problem, network: ResNet, sgd: SGD, options: dict[str, Any]
) -> Cost:
    """Predict the cost of a command; the first step must fit the budget, as when it is run."""
    solved, trained = _sizes(command, problem, network, options)
    names = (
        *("coupling", "ensemble", "seeds", "dtype", "device", "record_every"),
        *("memory", "tol", "storage", "spill"),
    )
    settings = {name: options[name] for name in names if options.get(name) is not None}
    if command != "solve" and options.get("tol") is None and "rtol" in options:
        settings["tol"] = first_tol(options["rtol"], options["ensemble"] == "gaussian")
    sizes = [
        Configuration(problem, network, sgd, width=n, depth=depth, **settings)
        for n, depth in (*solved, *trained)
    ]
    budget = memory.budget(sizes[0])
    first = most = 0
    for configuration in sizes[: len(solved)]:
        need = memory.predict(configuration)
        need.check_first_step(budget)
        first, most = max(first, need.first_step), max(most, need.at_most)
    seeds, dtype = sizes[0].seeds, sizes[0].dtype
    records: dict[str, Any] = dict(seeds=seeds, record_every=sizes[0].record_every)
    for n, depth in trained:
        dense = dense_bytes(problem, network, sgd, n, depth, dtype, **records)
        dense.together(budget)
        first, most = max(first, dense.least), max(most, dense.least)
    short_run = ShortRun(problem, network, sgd, {k: options[k] for k in ("dtype", "device")})
    seconds = 0.0
    if solved:
        work = sum(n * depth for n, depth in solved)
        seconds += seeds * work * short_run.seconds(solve_network, solved, 1)
    if trained:
        work = sum(n**2 * depth for n, depth in trained)
        seconds += seeds * work * short_run.seconds(train, trained, 2)
    return Cost(
        command=command,
        sizes=tuple(dict.fromkeys((*solved, *trained))),
        first_step_bytes=first,
        at_most_bytes=most,
        budget_bytes=budget,
        seconds=seconds,
        at_least=command in ("limit", "compare"),
    )


def _sizes(
    command: str, problem: Problem, network: ResNet, options: dict[str, Any]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Sizes that are solved, and that are trained; a limit's are the first ones."""
    over = options.get("over", "both")
    if command == "compare":
        usual = [(64 * k, 4 * k if over == "both" else 4) for k in (1, 2, 4)]
        trained: list[tuple[int, int]] = list(options["sizes"] or usual)
        if network.table.rate_width == 0.0:
            solved = []
        else:
            try:
                check_has_limit(network, over)
                deepest = max(depth for _, depth in trained)
                solved = _ladder(problem, None, None if over == "both" else deepest, over)
            except ValueError:
                solved = [(4 * max(n for n, _ in trained), max(depth for _, depth in trained))]
        return 2 * solved, 2 * trained
    if command == "limit":
        check_has_limit(network, over)
        return _ladder(problem, options["width"], options["depth"], over), []
    one = [(options["width"], options["depth"])]
    return (one, []) if command == "solve" else ([], one)


def _ladder(
    problem: Problem, width: int | None, depth: int | None, over: str
) -> list[tuple[int, int]]:
    """What ``limit`` solves at least: the first size also with a finer tol."""
    width = first_width(problem) if width is None else width
    sizes = first_sizes(width, DEPTH if depth is None else depth, over)
    return [sizes[0], *sizes]


class _Enough(Exception):
    """The probe has run for long enough."""


@dataclass(frozen=True)
class ShortRun:
    """A short run of a small network: one block, a small width, steps until time is up."""

    problem: Problem
    network: ResNet
    sgd: SGD
    settings: dict[str, Any]

    def seconds(self, run: Callable[..., Any], sizes: list[tuple[int, int]], power: int) -> float:
        """Seconds of one seed by n^power·L, for ``run`` (solve or train) of these sizes."""
        most = max(n for n, _ in sizes)
        need = 4 * self.problem.samples if self.sgd.center else 1
        width = min(most, max(_PROBE_WIDTH, need))
        deep = min(max(depth for _, depth in sizes), 2)
        layers, steps = self.network.block_layers, self.sgd.steps
        network = dataclasses.replace(self.network, block_layers=min(layers, _PROBE_LAYERS))
        sgd = dataclasses.replace(self.sgd, steps=min(steps, _PROBE_STEPS))
        warm = dataclasses.replace(sgd, steps=min(sgd.steps, 1))
        how = dict(width=width, seeds=1, **self.settings)
        run(self.problem, network, warm, depth=1, **how)
        started = time.perf_counter()
        times: list[float] = []

        def watch(**report: Any) -> None:
            times.append(time.perf_counter() - started)
            if times[-1] > _PROBE_SECONDS:
                raise _Enough

        try:
            run(self.problem, network, sgd, depth=deep, progress=watch, **how)
            total = time.perf_counter() - started
        except _Enough:
            total = times[-1]
        if len(times) < steps:
            paces = [b - a for a, b in itertools.pairwise([0.0, *times])]
            total += statistics.median(paces[-5:]) * (steps - len(times))
        return total * layers / (network.block_layers * width**power * deep)
