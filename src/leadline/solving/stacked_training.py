"""The loop over steps of several seeds at once, each with a record of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from leadline.measure.record import Record
from leadline.problems.losses import chi, loss_value
from leadline.solving.configuration import Configuration
from leadline.solving.passes import Pass
from leadline.solving.stacked_network import StackedNetwork
from leadline.trajectory import has_diverged, too_large


class _Records:
    """The records of several runs, saved and restored together."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def state(self) -> dict[str, np.ndarray]:
        """Flat arrays for a checkpoint."""
        each = enumerate(self._records)
        return {f"{i}/{name}": x for i, r in each for name, x in r.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from ``state()``."""
        for i, record in enumerate(self._records):
            start = f"{i}/"
            there = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            record.restore(there)


class StackedTraining:
    """Training of several runs; a run that diverges leaves the stack, and the others go on.

    Args:
        going: the runs that go on, all by default: those of a checkpoint.

    Attributes:
        runs: all of them. records: of every run, in their order. k: steps taken. done: whether there is
            nothing left to do.
    """

    def __init__(
        self, configuration: Configuration, runs: Sequence[int], going: Sequence[int] | None = None
    ) -> None:
        self.configuration, self.runs = configuration, list(runs)
        going = self.runs if going is None else going
        problem, sgd = configuration.problem, configuration.sgd
        self.network = StackedNetwork(configuration, going)
        self.records = [configuration.record() for _ in runs]
        self._places = [self.runs.index(s) for s in going]
        """The runs that go on, in ``records``."""

        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.tensor(x, dtype=configuration.dtype, device=configuration.device)

        self.x, self.y = tensor(problem.x), tensor(problem.y)
        self.x_test = None if problem.x_test is None else tensor(problem.x_test)
        self.batches = sgd.batches(problem.samples, configuration.batch_order)
        self.full = sgd.batch_size is None or sgd.batch_size >= problem.samples
        self.k = 0
        self.done = False

    @property
    def going(self) -> list[int]:
        """The runs that have not diverged."""
        return list(self.network.runs)

    @property
    def record(self) -> _Records:
        """All records as one, for a checkpoint."""
        return _Records(self.records)

    @property
    def last_loss(self) -> float:
        """Mean of the last losses that were recorded of the runs that go on."""
        losses = [self.records[i].last_loss for i in self._places]
        return float(np.mean(losses)) if losses else float("nan")

    def advance(self) -> None:
        """Record step k if it is one to be recorded, then take the step from k to k+1."""
        try:
            with torch.inference_mode():
                self._advance()
        except RuntimeError as error:
            if not too_large(error):
                raise
            for i in self._places:
                self.records[i].diverge(self.k + 1)
            self.done = True

    def _advance(self) -> None:
        k, network, sgd = self.k, self.network, self.configuration.sgd
        loss = self.configuration.problem.loss
        if k == 0 and sgd.center:
            network.center(self.x)
        network.complete(k)
        last = k == sgd.steps
        done = network.forward(self.x) if self.full and not last else None
        if self.records[0].recorded(k):
            done = self._observe(done)
        if last or self.done:
            self.done = True
            return
        batch = self.batches[k]
        if done is None:
            done = network.forward(self.x[batch])
        done = self._without_diverged(done, batch)
        if self.done:
            return
        network.step(done, chi(loss, done.outputs, self.y[batch]), sgd.lr * sgd.multiplier(k))
        self._leave(network.broken)
        self.k = k + 1

    def _observe(self, done: Pass | None) -> Pass | None:
        """Record outputs of every run that is finite; what is left of the pass."""
        p, test = len(self.x), self.x_test if self.records[0].tested(self.k) else None
        if done is None:
            f = self.network.evaluate(self.x if test is None else torch.cat([self.x, test]))
            outputs, tested = f[:, :p], None if test is None else f[:, p:]
        else:
            outputs = done.outputs
            tested = None if test is None else self.network.evaluate(test)
        over = set(self.network.broken)
        for place, i in enumerate(self._places):
            if place not in over:
                there = None if tested is None else tested[place]
                if not self.records[i].observe(self.k, outputs[place], there):
                    over.add(place)
        return self._leave(over, done)

    def _without_diverged(self, done: Pass, batch: np.ndarray | slice) -> Pass:
        """The pass of the runs whose loss has not diverged, in steps that are not recorded too."""
        over = set(self.network.broken)
        over.update(np.flatnonzero(~done.outputs.isfinite().all((1, 2)).cpu().numpy()).tolist())
        if not self.full:
            for place, i in enumerate(self._places):
                first = float(self.records[i].arrays["train_loss"][0])
                value = loss_value(
                    self.configuration.problem.loss, done.outputs[place], self.y[batch]
                )
                if has_diverged(float(value), first):
                    over.add(place)
        left = self._leave(over, done)
        return done if left is None else left

    def _leave(self, over: set[int], done: Pass | None = None) -> Pass | None:
        """Runs in some places have diverged: they are recorded so, and the others go on."""
        if not over:
            return done
        ranks = self.network.largest_ranks()
        for place in over:
            record = self.records[self._places[place]]
            record.diverge(self.k)
            record.with_ranks(ranks[place : place + 1])
        stay = [place for place in range(len(self._places)) if place not in over]
        self._places = [self._places[place] for place in stay]
        if not stay:
            self.done = True
            return done
        return self.network.keep(stay, done)

    def finish(self) -> list[Record]:
        """All records, in the runs' order."""
        for rank, i in zip(self.network.largest_ranks(), self._places, strict=False):
            self.records[i].with_ranks(np.array([rank]))
        return self.records
