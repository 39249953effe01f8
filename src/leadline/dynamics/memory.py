"""How much memory a solve takes: predicted before work, metered during it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from leadline import available
from leadline.architecture import ResNet
from leadline.dynamics.noise import AHEAD
from leadline.dynamics.run import Run
from leadline.dynamics.shards import Shards
from leadline.errors import check_int
from leadline.recipe import SGD

if TYPE_CHECKING:
    from leadline.problems import Problem


def budget(memory: int | None, device: torch.device, shards: Shards | None = None) -> int:
    """The budget of a process in bytes: as given, or 80 % of what the device has available.

    Processes on one machine share what it has; all processes get the smallest of their budgets.
    """
    if memory is not None:
        return check_int("memory", memory, 1)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = available.memory()
        if shards is not None and not shards.alone:
            free //= int(os.environ.get("LOCAL_WORLD_SIZE", shards.size))
    return int(0.8 * (free if shards is None else shards.least(free)))


@dataclass(frozen=True)
class Prediction:
    """Bytes of a solve.

    Attributes:
        fixed: U, v, the rows that a pass holds at once, and noise made ahead.
        row: one direction in all bases of all layers, both sides, questions and answers.
        Of a process that holds ``here`` of the neurons.
        batch: rows asked a step. most: the largest rank that all questions together allow.
    """

    width: int
    depth: int
    fixed: int
    row: int
    batch: int
    most: int

    @property
    def first_step(self) -> int:
        """Bytes until the first step is taken."""
        return self.fixed + self.row * min(self.batch, self.most)

    @property
    def at_most(self) -> int:
        """Bytes if no question were a combination of earlier ones; ranks usually saturate."""
        return self.fixed + self.row * self.most

    def check_first_step(self, budget: int) -> None:
        """Refuse what cannot take a single step."""
        if self.first_step > budget:
            raise MemoryError(
                f"width={self.width}, depth={self.depth} need {self.first_step:,} bytes for the "
                f"first step, more than the budget memory={budget:,}: use less width or depth, a "
                "smaller batch, or a larger budget"
            )


def predict(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    width: int,
    depth: int,
    dtype: torch.dtype,
    here: int | None = None,
    storage: torch.dtype | None = None,
    spilled: bool = False,
) -> Prediction:
    """Predict the memory of one seed; seeds run one after the other.

    Args:
        here: neurons that a process holds; default: all.
        storage: of the bases; None is dtype. spilled: the bases are in files and count for nothing.
    """
    n = width if here is None else here
    size = dtype.itemsize
    batch = problem.samples if sgd.batch_size is None else sgd.batch_size
    weights = depth * network.block_layers
    test = 0 if problem.x_test is None else len(problem.x_test)
    # A question's rows in float64, and noise in the making, on top of the rows themselves.
    passes = batch * n * weights + 7 * n * (batch + max(test, problem.samples))
    ends = n * (problem.dimension + problem.outputs) * (2 if sgd.momentum else 1)
    most = min(width, batch * max(sgd.steps, 1))
    # Rows of noise made ahead (in a first step), in float32, for training and for evaluations.
    ahead = 2 * weights * 4 * n * min(AHEAD // width, batch)
    return Prediction(
        width=width,
        depth=depth,
        fixed=size * (passes + ends) + ahead,
        row=0 if spilled else 4 * (storage or dtype).itemsize * n * weights,
        batch=batch,
        most=most,
    )


class Meter:
    """Memory of the bases during a run, and whether another step fits."""

    def __init__(self, budget: int, run: Run) -> None:
        self._budget, self._run = budget, run
        self._before = self._rows = self._read()
        self._growth = 0
        settings = run.settings
        size, stored = settings.dtype.itemsize, (settings.storage or settings.dtype).itemsize
        # The same on every process: all of them stop at the same step.
        self._row = 0 if settings.spill is not None else 2 * stored * run.shards.widest
        self._other = size * run.shards.widest * (run.u.value.shape[1] * 2 + run.v.value.shape[1])

    def _read(self) -> int:
        return int(self._run.ranks.sum())

    @property
    def bytes(self) -> int:
        """Bytes of bases, U and v."""
        return self._row * self._rows + self._other

    @property
    def next_step(self) -> int:
        """Bytes after the next step, if it grows as the last one did."""
        return self.bytes + self._row * self._growth

    def whole(self, steps: int, k: int) -> int:
        """Bytes of the whole training, if every step grows as the last one did."""
        return self.bytes + self._row * self._growth * max(steps - k, 1)

    def fits_another_step(self) -> bool:
        """Read the ranks and judge."""
        now = self._read()
        self._growth, self._rows = now - self._rows, now
        return self.next_step <= self._budget
