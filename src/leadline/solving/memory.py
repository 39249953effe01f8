"""How much memory a solve takes: predicted before work, metered during it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from leadline.available import OVERHEAD, budget_of, memory_on, refusal
from leadline.measure.observation import Measure
from leadline.measure.record import data_bytes, record_bytes
from leadline.solving.configuration import Configuration
from leadline.solving.network import RevealedNetwork
from leadline.solving.noise import AHEAD, BLOCK
from leadline.solving.stacked_operator import PADDING

# Bytes a number of a row takes during a query, and where its answers are only sampled (float32).
_QUERIED, _SAMPLED = 48, 42
# Gram matrices of all rows at once: usually, and where more rows than neurons leave it singular.
_GRAMS, _SINGULAR = 5, 10
# Bytes of a weight that has revealed nothing yet, and of its two generators a block.
_LAYER, _BLOCK = 16384, 2048
# Numbers a neuron of a W(0) that is multiplied fast: three signs on each side, singular values.
_FACTORS = 7


def budget(c: Configuration) -> int:
    """The budget of a process in bytes: as given, or 80 % of what the device has available.

    Processes on one machine share what it has; all processes get the smallest of their budgets.
    """
    if c.memory is not None:
        return budget_of(c.memory)
    free = memory_on(c.device)
    if c.device.type == "cpu" and not c.shards.alone:
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", c.shards.size))
    return int(0.8 * c.shards.least(free))


@dataclass(frozen=True)
class Prediction:
    """Bytes of a solve in one process: all that it adds to what Python and the libraries take.

    Attributes:
        parts: what does not grow with the rank, by name: data, records, weights (U and v), passes (rows
            that a query holds at once), layers (each weight's own), libraries.
        row: one direction in all bases of all layers, both sides, queries and answers (fast: no answers).
        table: a square table of coefficients of all layers, by the rank's square.
        batch: rows queried a step. most: the largest rank that all queries together allow.
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
        """Bytes if no query were a combination of earlier ones; ranks usually saturate."""
        return self.fixed + self.bases(self.most)

    def stacked(self, seeds: int) -> int:
        """Bytes of several seeds that are solved together, with all that they may need."""
        shared = sum(self.parts[name] for name in ("data", "records", "libraries"))
        # Seeds that reveal fewer directions than others have rows of zeros, up to PADDING, and a step's.
        rows = min(PADDING * self.most + 2 * self.batch, 2 * self.most)
        return shared + seeds * (self.fixed - shared + self.bases(int(rows)))

    def check_first_step(self, budget: int) -> None:
        """Refuse what cannot take a single step."""
        if self.first_step > budget:
            need = self.parts | {"bases": self.bases(min(self.batch, self.most))}
            what = f"the first step of width={self.width}, depth={self.depth}"
            raise MemoryError(refusal(what, need, budget))

    def check_stack(self, seeds: int, budget: int) -> None:
        """Refuse to go on with seeds that were solved together in more memory."""
        if (need := self.stacked(seeds)) > budget:
            raise MemoryError(
                f"memory={budget} bytes: the checkpoint has {seeds} seeds that go on together and may need "
                f"{need}: give memory={need}, or another checkpoint"
            )


def predict(c: Configuration) -> Prediction:
    """The memory of a solve in a process with the most neurons, one seed at a time."""
    problem, network, sgd, measure = c.problem, c.network, c.sgd, c.measure
    n = c.shards.widest
    size, stored = c.dtype.itemsize, c.stored_dtype.itemsize
    samples, test, outputs = problem.samples, problem.test_samples, problem.outputs
    batch = samples if sgd.batch_size is None else min(sgd.batch_size, samples)
    weights = c.depth * network.block_layers
    most = min(c.width, batch * max(sgd.steps, 1))
    sampled = test if batch == samples else samples + test
    snapshot = 0 if measure is None else _snapshot(measure, samples, outputs)
    ends = n * (problem.dimension + outputs)
    ahead = 2 * 4 * min(max(AHEAD, n * min(batch, 64)), n * batch)
    fast = c.ensemble == "fast"
    if fast:
        # Signs and singular values; nothing is drawn, but a pass keeps every weight's input.
        each = _LAYER + _FACTORS * n * size * (1 if c.coupling == "reused" else 2)
    else:
        each = _LAYER + _BLOCK * -(-n // BLOCK) + ahead
    parts = {
        "data": data_bytes(problem, size),
        "records": record_bytes(problem, sgd, c.record_every, measure, c.seeds),
        # Drawn in double precision where they are made orthogonal; later a step's gradients.
        "weights": ends * max(20 + size, size * (6 if sgd.momentum else 4)),
        "passes": (2 if fast else 1) * size * batch * n * weights
        + n * max(_QUERIED * batch, _SAMPLED * sampled) * (size + 4) // 8
        + 8 * max(_GRAMS * batch**2, (_SINGULAR if sampled > n else _GRAMS) * sampled**2)
        + (24 * n * samples if sgd.center else 0),
        "layers": weights * each,
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
                + len(measure.layers(c.depth)) * samples * (2 + 2 * outputs * measure.backward)
            )
        )
    # Bases in files: one weight's are in memory at a time.
    copies = weights if c.spill is None else 1
    # Queries and answers of both sides; without a memory of W(0) only the queries that were learned from.
    rows, tables = (2, 1) if fast else (4, 2)
    # The largest of the bases is copied when it outgrows its room; rounded ones are read as wider copies.
    making = stored
    making += 4 * size if stored != size else 0
    return Prediction(
        width=c.width,
        depth=c.depth,
        parts=parts,
        row=n * (rows * stored * copies + making),
        table=size * weights * (tables + bool(sgd.momentum)) * 2,
        batch=batch,
        most=most,
    )


def _snapshot(measure: Measure, samples: int, outputs: int) -> int:
    """Rows that a snapshot adds to the bases of every weight before it forgets them: both sides."""
    forward = samples * (2 if measure.initial else 1)
    return (forward + (samples * outputs if measure.backward else 0)) // 2 + 1


class Meter:
    """Memory during a run, and whether another step fits."""

    def __init__(self, budget: int, network: RevealedNetwork, prediction: Prediction) -> None:
        self._budget, self._network, self._prediction = budget, network, prediction
        self._rows = self._read()
        self._growth = 0
        # A direction of one side of one weight; the same on every process: all stop at the same step.
        self._row = prediction.row / network.ranks.size

    def _read(self) -> int:
        return self._network.directions

    def _at(self, rows: int) -> int:
        """Bytes with so many directions in all, evenly over the weights' two sides."""
        rank = rows * self._row / self._prediction.row
        more = int(self._row * rows + self._prediction.table * rank**2)
        return min(self._prediction.fixed + more, self._prediction.at_most)

    @property
    def bytes(self) -> int:
        """Bytes now, of all that the solve adds to what Python and the libraries take."""
        return self._at(self._rows) + self._network.whole_bytes

    @property
    def next_step(self) -> int:
        """Bytes after the next step, if it grows as the last one did."""
        return self._at(self._rows + self._growth)

    def whole(self, steps: int, k: int) -> int:
        """Bytes of the whole training, if every step grows as the last one did."""
        return self._at(self._rows + self._growth * max(steps - k, 1))

    def fits_another_step(self) -> bool:
        """Read the ranks and judge."""
        now = self._read()
        self._growth, self._rows = now - self._rows, now
        return self.next_step <= self._budget
