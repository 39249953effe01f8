"""Training a ``ResNet`` of finite size by plain PyTorch: autograd and ``torch.optim.SGD``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline import available
from leadline.architecture import COUPLINGS, ResNet
from leadline.available import OVERHEAD, budget_of, memory_on, refusal
from leadline.dense.weights import count_entries
from leadline.describe import describe
from leadline.errors import MemoryBudgetError, check_choice, check_int
from leadline.measure.observation import Measure
from leadline.measure.record import Record, assemble, check_task, data_bytes, record_bytes
from leadline.recipes.sgd import SGD
from leadline.training.loop import EVALUATED, Job, run
from leadline.trajectory import Trajectory, versions

if TYPE_CHECKING:
    from leadline.problems import Problem


def train_network(
    problem: Problem,
    network: ResNet,
    sgd: Any,
    *,
    width: int,
    depth: int,
    coupling: str,
    seeds: int,
    seed: int,
    dtype: str | torch.dtype,
    device: str | torch.device,
    record_every: int,
    measure: Measure | None,
    memory: float | None,
    progress: Callable[..., Any] | None,
) -> Trajectory:
    """See ``train``."""
    started = time.perf_counter()
    check_task(problem, network, sgd, measure)
    n, L = check_int("width", width, 1), check_int("depth", depth, 1)
    check_choice("coupling", coupling, COUPLINGS)
    S, seed = check_int("seeds", seeds, 1), check_int("seed", seed, 0)
    every = check_int("record_every", record_every, 1)
    kind = available.dtype(dtype)
    place = available.device(device)
    sgd.check_width(problem.samples, n)
    need = dense_bytes(
        problem,
        network,
        sgd,
        n,
        L,
        kind,
        coupling=coupling,
        seeds=S,
        record_every=every,
        measure=measure,
    )
    together = need.together(budget(memory, place))
    records = [Record.empty(problem, sgd, every) for _ in range(S)]

    def put(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.array(a), dtype=kind, device=place)

    test = problem.x_test
    job = Job(
        network=network,
        sgd=sgd,
        width=n,
        depth=L,
        seed=seed,
        independent=coupling == "independent",
        dtype=kind,
        device=place,
        loss=problem.loss,
        x=put(problem.x),
        y=put(problem.y),
        x_test=None if test is None else put(test),
        measure=measure,
        progress=progress,
        chunk_bytes=need.shared["evaluation"],
    )
    drawing = 0.0
    for first in range(0, S, together):
        runs = range(first, min(S, first + together))
        drawing += run(job, runs, records[first : first + together])
    info = {
        "kind": "train",
        **describe(problem, network, sgd),
        "width": n,
        "depth": L,
        "coupling": coupling,
        "seeds": S,
        "seed": seed,
        "dtype": str(kind).removeprefix("torch."),
        "device": str(place),
        "record_every": every,
        "versions": versions(),
        "parameters_bytes": need.parameters,
        "draw_seconds": drawing,
        "seconds": time.perf_counter() - started,
    }
    return assemble(records, info, sgd, measure)


# Numbers that a layer keeps for the backward pass, of every row and neuron.
_SAVED = 4
# Evaluating works through parts of the inputs that take no more.
_PART = 1 << 27


def budget(value: float | None, device: torch.device) -> int:
    """A budget in bytes: the value, or 60 % of what the device has available."""
    if value is not None:
        return budget_of(value)
    return int(0.6 * memory_on(device))


@dataclass(frozen=True)
class DenseBytes:
    """Bytes of training dense networks.

    Attributes:
        shared, one: by name, of all runs, and of each of those that are trained together.
        parameters: of one run's weights.
    """

    width: int
    depth: int
    shared: dict[str, int]
    one: dict[str, int]
    parameters: int

    @property
    def least(self) -> int:
        """Bytes with a single run at a time."""
        return sum(self.shared.values()) + sum(self.one.values())

    def together(self, budget: int) -> int:
        """How many runs fit into memory together, at least one."""
        if self.least > budget:
            what = f"one network of width={self.width} and depth={self.depth}"
            raise MemoryBudgetError(refusal(what, self.shared | self.one, budget))
        return (budget - sum(self.shared.values())) // sum(self.one.values())


def dense_bytes(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    n: int,
    L: int,
    dtype: torch.dtype,
    *,
    coupling: str = "reused",
    seeds: int = 1,
    record_every: int = 1,
    measure: Measure | None = None,
) -> DenseBytes:
    """All that ``train`` adds to what Python and the libraries take."""
    P, d, C, size = problem.samples, problem.dimension, problem.outputs, dtype.itemsize
    entries = count_entries(network, n, L, d, C)
    if coupling == "independent":
        entries["hidden"] *= 2
    weights = L * network.block_layers
    copies = 2 if sgd.momentum else 1
    learned = copies * sum(entries[role] for role in sgd.train) if sgd.steps else 0
    rows = min(sgd.batch_size or P, P)
    # A weight's gradient and its product with the decay, in the making.
    making = 3 * n * max(n, d, C)
    shared = {
        "data": data_bytes(problem, size),
        "records": record_bytes(problem, sgd, record_every, measure, seeds),
        "evaluation": min(_PART, EVALUATED * size * n * max(P, problem.test_samples)),
        "libraries": OVERHEAD,
    }
    one = {
        "weights": size * (sum(entries.values()) + learned + making),
        "activations": size * _SAVED * rows * n * (weights + 1) + 16 * rows * C,
    }
    if sgd.center:
        one["center"] = 8 * 4 * n * P
    if measure is not None:
        kept = len(measure.times) * P * n * (2 + (2 * C if measure.backward else 0))
        graph = _SAVED * P * n * (weights + 1) if measure.backward else 0
        shared["measures"] = size * (kept + graph) + 8 * 4 * P**2
        one["initial"] = size * len(measure.times) * P * n if measure.initial else 0
    return DenseBytes(n, L, shared, one, size * sum(entries.values()))
