"""The loop over steps of one seed, resumable between steps."""

from __future__ import annotations

import numpy as np
import torch

from leadline.measure.observation import numbers
from leadline.measure.record import Record
from leadline.problems.losses import chi, loss_value
from leadline.solving.configuration import Configuration
from leadline.solving.network import RevealedNetwork
from leadline.solving.snapshots import snapshot
from leadline.trajectory import has_diverged, too_large


class Training:
    """Training of run s.

    Attributes:
        network: its state. record: what was recorded so far.
        k: steps taken. done: whether there is nothing left to do.
    """

    def __init__(self, configuration: Configuration, s: int = 0) -> None:
        self.configuration = configuration
        problem, sgd, measure = configuration.problem, configuration.sgd, configuration.measure
        self.network = RevealedNetwork(configuration, s)
        self.record = Record.empty(problem, sgd, configuration.record_every, measure)

        def tensor(x: np.ndarray) -> torch.Tensor:
            return torch.tensor(x, dtype=configuration.dtype, device=configuration.device)

        self.x, self.y = tensor(problem.x), tensor(problem.y)
        self.x_test = None if problem.x_test is None else tensor(problem.x_test)
        self.batches = sgd.batches(problem.samples, configuration.batch_order)
        self.measured = () if measure is None else frozenset(measure.at(sgd.steps))
        self.full = sgd.batch_size is None or sgd.batch_size >= problem.samples
        self.k = 0
        self.done = False

    def advance(self) -> None:
        """Record step k if it is one to be recorded, then take the step from k to k+1."""
        try:
            with torch.inference_mode():
                self._advance()
        except FloatingPointError:
            self.record.diverge(self.k)
            self.done = True
        except RuntimeError as error:
            if not too_large(error):
                raise
            self.record.diverge(self.k + 1)
            self.done = True

    def _advance(self) -> None:
        k, network, sgd = self.k, self.network, self.configuration.sgd
        loss, measure = self.configuration.problem.loss, self.configuration.measure
        if k == 0 and sgd.center:
            network.center(self.x)
        last = k == sgd.steps
        batch = None if last else self.batches[k]
        done = network.forward(self.x) if self.full and not last else None
        if self.record.recorded(k) and not self._observe(k, None if done is None else done.outputs):
            self.done = True
            return
        if measure is not None and k in self.measured:
            shot = snapshot(network, self.x, measure)
            self.record.measure(k, numbers(measure, shot, lambda h: network.phi(h)[0]))
        if batch is None:
            self.done = True
            return
        if done is None:
            done = network.forward(self.x[batch])
        if not self.full and has_diverged(
            float(loss_value(loss, done.outputs, self.y[batch])),
            float(self.record.arrays["train_loss"][0]),
        ):
            raise FloatingPointError("the batch's loss has diverged")
        network.step(done, chi(loss, done.outputs, self.y[batch]), sgd.lr * sgd.multiplier(k))
        self.k = k + 1

    def _observe(self, k: int, outputs: torch.Tensor | None) -> bool:
        """Record outputs at step k; False if training has diverged."""
        p, test = len(self.x), self.x_test
        if outputs is None:
            f = self.network.evaluate(self.x if test is None else torch.cat([self.x, test]))
            return self.record.observe(k, f[:p], None if test is None else f[p:])
        return self.record.observe(
            k, outputs, None if test is None else self.network.evaluate(test)
        )
