"""The loop over steps of one seed, resumable between steps, and what it measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from leadline.measure.observation import Measure, Snapshot, numbers
from leadline.problems.losses import chi, loss_value
from leadline.solving.configuration import Configuration
from leadline.solving.network import RevealedNetwork
from leadline.solving.passes import Pass
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
        self.record = configuration.record()

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
        network.complete(k)
        last = k == sgd.steps
        batch = None if last else self.batches[k]
        done = network.forward(self.x) if self.full and not last else None
        if done is not None and not done.outputs.isfinite().all():
            raise FloatingPointError("the outputs are not finite")
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
        p, test = len(self.x), self.x_test if self.record.tested(k) else None
        if outputs is None:
            f = self.network.evaluate(self.x if test is None else torch.cat([self.x, test]))
            return self.record.observe(k, f[:p], None if test is None else f[p:])
        return self.record.observe(
            k, outputs, None if test is None else self.network.evaluate(test)
        )


class _Kept:
    """Keeps the stream at some layers, and what is shown of the weights if that is wanted."""

    def __init__(self, layers: Sequence[int], weights: bool) -> None:
        self._layers, self._weights = layers, weights
        self.features: dict[int, Tensor] = {}
        self.weights: list[Tensor] = []

    def stream(self, layer: int, h: Tensor) -> None:
        if layer in self._layers:
            self.features[layer] = h

    def weight(self, a: Tensor) -> None:
        if self._weights:
            self.weights.append(a)


def snapshot(run: RevealedNetwork, x: Tensor, request: Measure) -> Snapshot:
    """What ``request`` needs on inputs x (P, d), by queries that are forgotten."""
    p, layers = len(x), request.layers(run.depth)
    tangent = "tangent_kernel" in request.quantities
    start = run.mark()
    rows, initial = x, None
    if request.initial:
        rows = torch.cat([x, x])
        initial = torch.arange(2 * p, device=x.device) >= p
    seen = _Kept(layers, tangent)
    done = run.observe(rows, seen, initial)
    shot = Snapshot(h=[seen.features[l][:p] for l in layers], neurons=run.shards)
    if request.initial:
        shot.h_initial = [seen.features[l][p:] for l in layers]
    if request.backward:
        _add_backward(run, _first(done, p), [a[:p] for a in seen.weights], shot, layers)
    run.rollback(start)
    return shot


def _add_backward(
    run: RevealedNetwork, done: Pass, inputs: list[Tensor], shot: Snapshot, layers: Sequence[int]
) -> None:
    """Backward features, and the parts of the tangent kernel if the weights' inputs are known."""
    x, c = done.x, run.v.value.shape[1]
    p = len(x)
    seen = _Kept(layers, bool(inputs))
    z0 = run.backward(done, run.v.value.mT.repeat_interleave(p, dim=0), seen)

    def by_sample(rows: Tensor) -> Tensor:
        return rows.reshape(c, p, run.shards.width).transpose(0, 1)

    shot.z = [by_sample(seen.features[l]) for l in layers]
    if not inputs:
        return
    hidden = x.new_zeros((p, p))
    network, gram = run.network, run.shards.gram
    for i, (a, b) in enumerate(zip(inputs, seen.weights[::-1], strict=True)):
        factor = network.rate_factor(i % network.block_layers, run.depth) * network.gain**2
        hidden += factor * gram(by_sample(b)) * gram(a)
    shot.tangent = {
        "input": gram(by_sample(z0)) * (x @ x.mT) / x.shape[1],
        "hidden": hidden,
        "readout": gram(done.top),
    }


def _first(done: Pass, p: int) -> Pass:
    """A pass restricted to its first p inputs."""
    return Pass(
        done.x[:p],
        done.outputs[:p],
        done.top[:p],
        [[None if s is None else s[:p] for s in block] for block in done.slopes],
        [[c[:p] for c in block] for block in done.coefficients],
    )
