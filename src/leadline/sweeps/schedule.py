"""Groups of runs, their rates and order, the time they take, and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from leadline.planning.plans import Plan, plan
from leadline.sweeps.groups import train
from leadline.sweeps.rates import Network, NetworkRates, Planned, Rates
from leadline.sweeps.runs import Result, RunGroup, TrainingRun, builder_of
from leadline.tasks.data import TrainingData
from leadline.tracing.builder import Size, construct

# Multiply-adds of one run's step up to which runs are batched: beyond, a program of one is as quick.
_BATCHED = 3e8
# Entries of one stack of all parameters: more would fall out of the caches.
_ENTRIES = 2.5e6
# Parameters that take as long as what a run's step costs whatever its size (docs/status.md: about 70 µs
# at depth 8, and 4 ns a parameter).
_OVERHEAD = 2e4


@dataclass(frozen=True)
class SweepEstimate:
    """Runs and time of a sweep; printable.

    Attributes:
        runs: to train. stored: runs that are in the store already.
        programs: batched programs that train them.
        seconds: about how long that takes.
    """

    runs: int
    stored: int
    programs: int
    seconds: float

    def __str__(self) -> str:
        from leadline.reporting.progress import duration

        return (
            f"{self.runs} runs to train ({self.stored} are stored) in {self.programs} programs: "
            f"about {duration(self.seconds)}"
        )


def rates_of(
    build: Any, runs: Sequence[TrainingRun], base: Size, roles: Any, inputs: Any
) -> dict[TrainingRun, Rates]:
    """The rates of runs by their ``common``: one plan for each scheme, optimizer and set of arguments.

    Raises:
        ValueError: the builder's models share what trains.
    """
    plans: dict[tuple[Any, ...], Plan] = {}
    out: dict[TrainingRun, Rates] = {}
    # Between sizes of one depth, what depth alone leaves undecided is no matter.
    target = base if all(run.depth == base.depth for run in runs) else None
    for run in dict.fromkeys(run.common for run in runs):
        builder = builder_of(build, run)
        if isinstance(builder, Network):
            out[run] = NetworkRates(builder, run.width, run.depth)
            continue
        if run.arguments not in [arguments for _, _, arguments in plans]:
            _check_builds(builder, base)
        key = (run.scheme, run.optimizer, run.arguments)
        if key not in plans:
            how: dict[str, Any] = dict(
                scheme=run.scheme, optimizer=run.optimizer, roles=roles, inputs=inputs
            )
            plans[key] = plan(builder, base, target, **how)
        out[run] = Planned(replace(plans[key].at(run.width, run.depth), build=None))
    return out


def _check_builds(build: Any, base: Size) -> None:
    """Refuse a builder whose models share what trains: one run would begin where another ended."""
    first, second = (construct(build, base) for _ in range(2))
    present = {id(p) for p in first.parameters()} | {id(m) for m in first.modules()}
    held = [(n, m) for n, m in second.named_modules() if next(m.buffers(), None) is not None]
    for name, x in (*second.named_parameters(), *held):
        if id(x) in present:
            raise ValueError(
                f"build={build!r} returns models that share {name!r}: make it anew in every call, or pass "
                "what holds it in arguments="
            )


def groups(
    build: Any,
    data: TrainingData,
    runs: Sequence[TrainingRun],
    rates: Mapping[TrainingRun, Rates],
    workers: int,
    hopeless: float | None = None,
    device: str = "cpu",
) -> list[RunGroup]:
    """Group runs of one shape, the longest groups first; a seed's runs begin as one model: together."""
    gpu = torch.device(device).type != "cpu"
    alike: dict[TrainingRun, list[TrainingRun]] = {}
    at_seed = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    for run in sorted(runs, key=lambda run: at_seed[run.seed]):
        alike.setdefault(run.common, []).append(run)
    out = []
    for common, members in alike.items():
        entries = rates[common].entries
        rows = data.rows(common.batch_size)
        small = entries * rows <= _BATCHED and 2 * entries <= _ENTRIES
        batched = gpu or (small and common.precision == "float32")
        # A GPU takes all that fits into its memory, which is seen when it does not.
        most = len(members) if gpu else max(int(_ENTRIES / entries), 1) if batched else 1
        # Enough groups for every worker, of equal size.
        count = max(-(-len(members) // most), min(workers, len(members)))
        share, rest = divmod(len(members), count)
        whole = RunGroup(
            builder_of(build, common), rates[common], data, (), batched, hopeless, device
        )
        at = 0
        for i in range(count):
            size = share + (i < rest)
            out.append(replace(whole, runs=tuple(members[at : at + size])))
            at += size
    return sorted(out, key=cost, reverse=True)


def cost(group: RunGroup) -> float:
    """Predicted relative time of a group: parameters and a fixed cost, by run and step."""
    return (group.rates.entries + _OVERHEAD) * len(group.runs) * group.runs[0].steps


def estimate(work: Sequence[RunGroup], stored: int, workers: int) -> SweepEstimate:
    """Time two steps of every shape, one thread as the workers have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    total, timed = 0.0, {}
    try:
        for group in work:
            key = group.runs[0].common, len(group.runs)
            if key not in timed:
                timed[key] = _timed(group)
            total += timed[key]
    finally:
        torch.set_num_threads(threads)
    runs = sum(len(group.runs) for group in work)
    start = 1.5 if work else 0.0
    return SweepEstimate(runs, stored, len(work), start + total / max(min(workers, len(work)), 1))


def _timed(group: RunGroup) -> float:
    """Seconds of a group, from runs of one and of three steps."""
    times = []
    for steps in (1, 3):
        runs = tuple(replace(r, steps=steps) for r in group.runs)
        started = time.perf_counter()
        train(replace(group, runs=runs))
        times.append(time.perf_counter() - started)
    step = max(times[1] - times[0], 0.0) / 2
    return times[0] + step * (group.runs[0].steps - 1)


class Tally:
    """Counts the steps of groups and tells ``progress``.

    Args:
        work: the groups.
        stored: runs that need no training.
        progress: called as ``sweep`` says, once the first step is done: what starts before it (workers,
            recordings) says nothing about the time left.
    """

    def __init__(
        self, work: Sequence[RunGroup], stored: int, progress: Callable[..., None] | None
    ) -> None:
        self._progress = progress
        self._runs = [len(p.runs) for p in work]
        self._steps = [len(p.runs) * p.runs[0].steps for p in work]
        self._costs = [cost(p) for p in work]
        self._counts = [0] * len(work)
        self._ended: set[int] = set()
        self._stored = stored
        self._loss: float | None = None

    def watch(self, counts: Sequence[int]) -> None:
        """Take the steps of every group; ended groups count in full."""
        for i, count in enumerate(counts):
            if i not in self._ended:
                self._counts[i] = count
        self._tell()

    def end(self, index: int, results: Sequence[Result]) -> None:
        """A group ended, without results where it failed; runs that stopped early count in full."""
        self._ended.add(index)
        self._counts[index] = self._steps[index]
        losses = [r.loss for r in results if r.loss is not None]
        if losses:
            self._loss = min(losses)
        self._tell()

    def _tell(self) -> None:
        step = sum(self._counts)
        if self._progress is None or not step:
            return
        done = self._stored + sum(self._runs[i] for i in self._ended)
        parts = zip(self._costs, self._counts, self._steps, strict=True)
        self._progress(
            step=step,
            steps=sum(self._steps),
            runs=(done, self._stored + sum(self._runs)),
            loss=self._loss,
            share=sum(c * at / steps for c, at, steps in parts) / sum(self._costs),
        )
