"""Which runs train together, in which order, and how long that will take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from leadline.sweeps.data import Samples, Tokens
from leadline.sweeps.program import Program, train
from leadline.sweeps.rates import Network, Rates
from leadline.sweeps.specification import Run, WithArguments

# Multiply-adds of one run's step up to which runs are batched: beyond, a program of one is as quick.
_BATCHED = 3e8
# Entries of one stack of all parameters: more would fall out of the caches.
_ENTRIES = 2.5e6
# Parameters that take as long as what a run's step costs whatever its size (docs/status.md: about 70 µs
# at depth 8, and 4 ns a parameter).
_OVERHEAD = 2e4


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep would do."""

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


def programs(
    build: Any,
    data: Samples | Tokens,
    runs: Sequence[Run],
    rates: Mapping[tuple[Any, ...], Rates],
    workers: int,
    hopeless: float | None,
    device: str = "cpu",
) -> list[Program]:
    """Group runs of one shape, longest programs first."""
    gpu = torch.device(device).type != "cpu"
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.program, []).append(run)
    out = []
    for key, members in groups.items():
        builder, own = builder_of(build, members[0]), rates[key]
        entries = own.entries
        x, _ = data.batch(0, members[0].batch_size, 0)
        rows = x.shape[0] * (x.shape[1] if isinstance(data, Tokens) else 1)
        batched = gpu or (entries * rows <= _BATCHED and 2 * entries <= _ENTRIES)
        # A GPU takes all that fits into its memory, which is seen when it does not.
        most = len(members) if gpu else max(int(_ENTRIES / entries), 1) if batched else 1
        # Enough programs for every worker, of equal size.
        count = max(-(-len(members) // most), min(workers, len(members)))
        share, rest = divmod(len(members), count)
        at = 0
        for i in range(count):
            size = share + (i < rest)
            part = tuple(members[at : at + size])
            at += size
            out.append(Program(builder, own, data, part, batched, hopeless, device))
    return sorted(out, key=cost, reverse=True)


def builder_of(build: Any, run: Run) -> Any:
    """The builder with the run's arguments; a network of the run's scheme."""
    if isinstance(build, Network):
        return build.of(run.scheme)
    return WithArguments(build, run.arguments) if run.arguments else build


def cost(program: Program) -> float:
    """What a program takes, as far as its sizes say: parameters, and a step's own cost, by run and step."""
    return (program.rates.entries + _OVERHEAD) * len(program.runs) * program.runs[0].steps


def estimate(work: Sequence[Program], stored: int, workers: int) -> SweepEstimate:
    """Time two steps of every shape, one thread as the workers have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    total, seen = 0.0, {}
    try:
        for p in work:
            key = (*p.runs[0].program, len(p.runs))
            if key not in seen:
                seen[key] = _timed(p)
            total += seen[key]
    finally:
        torch.set_num_threads(threads)
    runs = sum(len(p.runs) for p in work)
    start = 1.5 if work else 0.0
    return SweepEstimate(runs, stored, len(work), start + total / max(min(workers, len(work)), 1))


def _timed(program: Program) -> float:
    """Seconds of a program, from runs of one and of three steps."""
    times = []
    for steps in (1, 3):
        runs = tuple(replace(r, steps=steps) for r in program.runs)
        started = time.perf_counter()
        train(replace(program, runs=runs))
        times.append(time.perf_counter() - started)
    step = max(times[1] - times[0], 0.0) / 2
    return times[0] + step * (program.runs[0].steps - 1)
