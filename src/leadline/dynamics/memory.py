"""How much memory a solve takes: predicted before work, metered during it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from leadline import available
from leadline.architecture import ResNet
from leadline.dynamics.noise import AHEAD, BLOCK
from leadline.dynamics.run import Run
from leadline.dynamics.shards import Shards
from leadline.measure.memory import OVERHEAD, budget_of, data_bytes, record_bytes, refusal
from leadline.measure.observation import Measure
from leadline.recipe import SGD

if TYPE_CHECKING:
    from leadline.problems import Problem

# Bytes a number of a row takes while it is asked about, remembered or not (float32).
_ASKED, _GLANCED = 48, 42
# Gram matrices of all rows at once: usually, and where more rows than neurons leave it singular.
_GRAMS, _SINGULAR = 5, 10
# Bytes of a weight that has revealed nothing yet, and of its two generators a block.
_LAYER, _BLOCK = 16384, 2048


def budget(memory: int | None, device: torch.device, shards: Shards | None = None) -> int:
    """The budget of a process in bytes: as given, or 80 % of what the device has available.

    Processes on one machine share what it has; all processes get the smallest of their budgets.
    """
    if memory is not None:
        return budget_of(memory)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = available.memory()
        if shards is not None and not shards.alone:
            free //= int(os.environ.get("LOCAL_WORLD_SIZE", shards.size))
    return int(0.8 * (free if shards is None else shards.least(free)))


@dataclass(frozen=True)
class Prediction:
    """Bytes of a solve, of a process that holds ``here`` of the neurons: all that it adds to what Python
    and the libraries take.

    Attributes:
        parts: what does not grow with the rank, by name: data, records, weights (U and v), passes (rows
            that a question holds at once), layers (each weight's own), libraries.
        row: one direction in all bases of all layers, both sides, questions and answers.
        table: a square table of coefficients of all layers, by the rank's square.
        batch: rows asked a step. most: the largest rank that all questions together allow.
    """

    width: int
    depth: int
    parts: dict[str, int]
    row: int
    table: int
    batch: int
    most: int

    @property
    def fixed(self) -> int:
        """Bytes whatever the rank."""
        return sum(self.parts.values())

    def bases(self, rank: int) -> int:
        """Bytes of bases and tables at a rank, with what growing takes."""
        return self.row * rank + self.table * rank**2

    @property
    def first_step(self) -> int:
        """Bytes until the first step is taken."""
        return self.fixed + self.bases(min(self.batch, self.most))

    @property
    def at_most(self) -> int:
        """Bytes if no question were a combination of earlier ones; ranks usually saturate."""
        return self.fixed + self.bases(self.most)

    def check_first_step(self, budget: int) -> None:
        """Refuse what cannot take a single step."""
        if self.first_step > budget:
            need = self.parts | {"bases": self.bases(min(self.batch, self.most))}
            what = f"the first step of width={self.width}, depth={self.depth}"
            raise MemoryError(refusal(what, need, budget))


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
    *,
    seeds: int = 1,
    record_every: int = 1,
    measure: Measure | None = None,
) -> Prediction:
    """Predict the memory of a solve; seeds run one after the other.

    Args:
        here: neurons that a process holds; default: all.
        storage: of the bases; None is dtype. spilled: the bases are in files; one weight's are in memory
            at a time.
    """
    n = width if here is None else here
    size, stored = dtype.itemsize, (storage or dtype).itemsize
    samples, test, c = problem.samples, problem.test_samples, problem.outputs
    batch = samples if sgd.batch_size is None else min(sgd.batch_size, samples)
    weights = depth * network.block_layers
    most = min(width, batch * max(sgd.steps, 1))
    asked = test if batch == samples else samples + test
    snapshot = 0 if measure is None else _snapshot(measure, samples, c)
    ends = n * (problem.dimension + c)
    ahead = 2 * 4 * min(max(AHEAD, n * min(batch, 64)), n * batch)
    parts = {
        "data": data_bytes(problem, size),
        "records": record_bytes(problem, sgd, record_every, measure, seeds),
        # Drawn in double precision where they are made orthogonal; later a step's gradients.
        "weights": ends * max(20 + size, size * (6 if sgd.momentum else 4)),
        "passes": size * batch * n * weights
        + n * max(_ASKED * batch, _GLANCED * asked) * (size + 4) // 8
        + 8 * max(_GRAMS * batch**2, (_SINGULAR if asked > n else _GRAMS) * asked**2)
        + (24 * n * samples if sgd.center else 0),
        "layers": weights * (_LAYER + _BLOCK * -(-n // BLOCK) + ahead),
        "libraries": OVERHEAD,
    }
    if measure is not None:
        rows = 2 * samples if measure.initial else samples
        parts["measures"] = (
            n
            * size
            * (
                weights * (4 * snapshot + 2 * rows)
                + 8 * snapshot
                + len(measure.layers(depth)) * samples * (2 + 2 * c * measure.backward)
            )
        )
    copies = 1 if spilled else weights
    # The largest of the bases is copied when it outgrows its room; rounded ones are read as wider copies.
    making = stored
    making += 4 * size if stored != size else 0
    return Prediction(
        width=width,
        depth=depth,
        parts=parts,
        row=n * (4 * stored * copies + making),
        table=size * weights * (3 if sgd.momentum else 2) * 2,
        batch=batch,
        most=most,
    )


def _snapshot(measure: Measure, samples: int, outputs: int) -> int:
    """Rows that a snapshot adds to the bases of every weight before it forgets them: both sides."""
    forward = samples * (2 if measure.initial else 1)
    return (forward + (samples * outputs if measure.backward else 0)) // 2 + 1


class Meter:
    """Memory during a run, and whether another step fits."""

    def __init__(self, budget: int, run: Run, plan: Prediction) -> None:
        self._budget, self._run, self._plan = budget, run, plan
        self._rows = self._read()
        self._growth = 0
        # A direction of one side of one weight; the same on every process: all stop at the same step.
        self._row = plan.row / (2 * run.depth * run.network.block_layers)

    def _read(self) -> int:
        return int(self._run.ranks.sum())

    def _at(self, rows: int) -> int:
        """Bytes with so many directions in all, evenly over the weights' two sides."""
        rank = rows * self._row / self._plan.row
        return int(self._plan.fixed + self._row * rows + self._plan.table * rank**2)

    @property
    def bytes(self) -> int:
        """Bytes now, of all that the solve adds to what Python and the libraries take."""
        return self._at(self._rows)

    @property
    def next_step(self) -> int:
        """Bytes after the next step, if it grows as the last one did."""
        return self._at(self._rows + self._growth)

    def whole(self, steps: int, k: int) -> int:
        """Bytes of the whole training, if every step grows as the last one did."""
        return min(self._at(self._rows + self._growth * max(steps - k, 1)), self._plan.at_most)

    def fits_another_step(self) -> bool:
        """Read the ranks and judge."""
        now = self._read()
        self._growth, self._rows = now - self._rows, now
        return self.next_step <= self._budget
