"""The training loop of a few runs at once, stacked along a leading axis, and what it measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from leadline import activations
from leadline.dense.forward import Weights, forward, param_groups
from leadline.dense.weights import centred, draw
from leadline.measure.observation import Measure, Snapshot, gram, numbers
from leadline.measure.record import Record
from leadline.problems.losses import loss_value
from leadline.trajectory import has_diverged, too_large

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.recipes.sgd import SGD


EVALUATED = 5
"""Numbers of every row and neuron that evaluating a layer takes."""


@dataclass(frozen=True)
class Job:
    """A training, checked, its data on the device; runs of it are trained by ``run``."""

    network: ResNet
    sgd: SGD
    width: int
    depth: int
    seed: int
    independent: bool
    dtype: torch.dtype
    device: torch.device
    loss: str
    x: Tensor
    y: Tensor
    x_test: Tensor | None
    measure: Measure | None
    progress: Callable[..., Any] | None
    chunk_bytes: int = 1 << 28
    """That evaluating a part of the inputs may take."""

    @property
    def full_batch(self) -> bool:
        """Whether every step sees all samples."""
        size = self.sgd.batch_size
        return size is None or size >= len(self.x)


def run(job: Job, runs: range, records: Sequence[Record]) -> float:
    """Draw and train the given runs, filling their records; returns the seconds spent drawing."""
    started = time.perf_counter()
    weights = draw(
        job.network,
        job.width,
        job.depth,
        job.x.shape[1],
        job.y.shape[1],
        seed=job.seed,
        runs=runs,
        independent=job.independent,
        dtype=job.dtype,
        device=job.device,
    )
    drawing = time.perf_counter() - started
    if job.sgd.center:
        center(job, weights, records)
    groups = param_groups(job.network, job.sgd, weights, job.depth)
    for group in groups:
        for p in group["params"]:
            p.requires_grad_()
    # foreach would hold another copy of all gradients when there is weight decay.
    optimizer = torch.optim.SGD(groups, foreach=False)
    rates = [group["lr"] for group in groups]
    order = job.sgd.batches(len(job.x), job.seed)
    initial: list[Sequence[Tensor] | None] = [None] * len(runs)

    for step in range(job.sgd.steps + 1):
        before = _alive(records)
        losses = outputs = None
        if step < job.sgd.steps:
            rows = None if job.full_batch else torch.from_numpy(order[step]).to(job.device)
            outputs = forward(job.network, weights, job.x if rows is None else job.x[rows])
            losses = loss_value(job.loss, outputs, job.y if rows is None else job.y[rows])
            outputs = outputs.detach() if rows is None else None
        if losses is not None and step:
            _check(records, step, losses)
        if records[0].recorded(step):
            _observe(job, weights, records, step, outputs)
        _measure(job, weights, records, step, initial)
        if losses is None:
            break
        alive = _alive(records)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * job.sgd.multiplier(step)
        optimizer.zero_grad()
        losses.backward(torch.from_numpy(alive).to(losses))
        try:
            optimizer.step()
        except RuntimeError as error:
            if not too_large(error):
                raise
            for at in np.flatnonzero(alive):
                records[at].diverge(step + 1)
            break
        _clear(weights, optimizer, np.flatnonzero(before & ~alive))
        if job.progress is not None:
            known = losses.detach().double().cpu().numpy()[alive]
            loss = float(known.mean()) if len(known) else float("nan")
            job.progress(step=step + 1, steps=job.sgd.steps, loss=loss, seeds=runs)
        if not alive.any():
            break
    return drawing


def evaluate(job: Job, weights: Weights, x: Tensor, take_h: bool = False) -> Tensor:
    """Outputs (S, P, C), or h_L (S, P, n), without gradients, in chunks of inputs."""
    stack, n = weights.readout.shape[:2]
    rows = max(1, job.chunk_bytes // (EVALUATED * stack * n * weights.readout.element_size()))
    parts = []
    with torch.no_grad():
        for start in range(0, len(x), rows):
            last = _LastFeatures()
            f = forward(job.network, weights, x[start : start + rows], last)
            parts.append(last.h if take_h else f)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class _LastFeatures:
    """Keeps h of the latest layer."""

    h: Tensor

    def stream(self, index: int, h: Tensor) -> None:
        self.h = h

    def layer(self, index: int, a: Tensor, u: Tensor) -> None:
        pass


def center(job: Job, weights: Weights, records: Sequence[Record]) -> None:
    """Take v off the span of the training h_L, in place.

    A run whose features are not finite has diverged before its first step.
    """
    features = evaluate(job, weights, job.x, take_h=True)
    for at, (h, v) in enumerate(zip(features, weights.readout, strict=True)):
        if h.isfinite().all():
            v.copy_(centred(v, h))
            continue
        records[at].diverge(0)
        for w in weights.tensors:
            w[at].zero_()


def _alive(records: Sequence[Record]) -> np.ndarray:
    """Which runs have not diverged: (S,) bool."""
    return np.array([record.diverged < 0 for record in records])


def _check(records: Sequence[Record], step: int, losses: Tensor) -> None:
    """Mark the runs that a step's batch losses (S,) show to have diverged."""
    for record, loss in zip(records, losses.detach().double().tolist(), strict=True):
        first = float(record.arrays["train_loss"][0])
        if record.diverged < 0 and has_diverged(loss, first):
            record.diverge(step)


def _observe(
    job: Job, weights: Weights, records: Sequence[Record], step: int, outputs: Tensor | None
) -> None:
    """Record a step's outputs; those of the training inputs are computed unless given."""
    outputs = evaluate(job, weights, job.x) if outputs is None else outputs
    test = None if job.x_test is None else evaluate(job, weights, job.x_test)
    for at, record in enumerate(records):
        if record.diverged < 0:
            record.observe(step, outputs[at], None if test is None else test[at])


def _measure(
    job: Job,
    weights: Weights,
    records: Sequence[Record],
    step: int,
    initial: list[Sequence[Tensor] | None],
) -> None:
    """Measure every run if the step is one to be measured; keep the features of step 0 for movement."""
    request = job.measure
    if request is None:
        return
    wanted = step in request.at(job.sgd.steps)
    if not wanted and (step or not request.initial):
        return
    phi = activations.find(job.network.activation).value
    for at, record in enumerate(records):
        if record.diverged >= 0:
            continue
        snapshot = take(job.network, weights.run(at), job.x, request, initial[at])
        if step == 0:
            initial[at] = snapshot.h_initial
        if wanted:
            record.measure(step, numbers(request, snapshot, phi))


def _clear(weights: Weights, optimizer: torch.optim.SGD, dead: np.ndarray) -> None:
    """Zero the weights and momentum of diverged runs, so that they cost and say nothing."""
    with torch.no_grad():
        for at in dead.tolist():
            for w in weights.tensors:
                w[at].zero_()
                buffer = optimizer.state.get(w, {}).get("momentum_buffer")
                if buffer is not None:
                    buffer[at].zero_()


class _Tap:
    """Keeps h at some layers; adds up the hidden tangent kernel while gradients flow back."""

    def __init__(self, network: ResNet, depth: int, layers: Sequence[int], tangent: bool) -> None:
        self.network, self.depth = network, depth
        self.layers, self.tangent = set(layers), tangent
        self.h: dict[int, Tensor] = {}
        self.hidden: Tensor | None = None

    def stream(self, index: int, h: Tensor) -> None:
        if index == 0 and torch.is_grad_enabled():
            h.requires_grad_()
        if index in self.layers:
            self.h[index] = h

    def layer(self, index: int, a: Tensor, u: Tensor) -> None:
        if not self.tangent:
            return
        position = index % self.network.block_layers
        c = self.network.rate_factor(position, self.depth)
        inputs = gram(a.detach()) * (c * self.network.gain**2)

        def add(g: Tensor) -> None:
            part = gram(g) * inputs
            self.hidden = part if self.hidden is None else self.hidden.add_(part)

        u.register_hook(add)


def take(
    network: ResNet,
    weights: Weights,
    x: Tensor,
    request: Measure,
    h_initial: Sequence[Tensor] | None = None,
) -> Snapshot:
    """Observe one network on inputs x (P, d).

    Backward features are ∂f_c/∂h through the coupling's own backward pass, divided by the output
    multiplier. The hidden part of the tangent kernel is the sum over hidden weights of
    c·gain²·(z·z'/n)(a·a'/n), z the gradient by the weight's output and a its input.

    Args:
        weights: of one network (no leading axis), without gradients.
        h_initial: ``Snapshot.h`` before training; None takes the present features.
    """
    k = network.block_layers
    depth = len(weights.hidden) // k
    chosen = request.layers(depth)
    tangent = "tangent_kernel" in request.quantities
    tap = _Tap(network, depth, (*chosen, 0, depth) if tangent else chosen, tangent)
    with torch.set_grad_enabled(request.backward):
        f = forward(network, weights, x, tap)
    z = _backward(network, weights, f, tap.h) if request.backward else {}
    h = {layer: value.detach() for layer, value in tap.h.items()}
    parts = None
    if tangent and tap.hidden is not None:
        parts = {
            "input": gram(z[0]) * (x @ x.mT / x.shape[-1]),
            "hidden": tap.hidden / f.shape[-1],
            "readout": gram(h[depth]),
        }
    features = [h[layer] for layer in chosen]
    return Snapshot(
        h=features,
        h_initial=(h_initial or features) if request.initial else None,
        z=[z[layer] for layer in chosen] if request.backward else None,
        tangent=parts,
    )


def _backward(
    network: ResNet, weights: Weights, f: Tensor, h: dict[int, Tensor]
) -> dict[int, Tensor]:
    """z_l (P, C, n) by layer: one backward pass per output, all samples at once."""
    n, outputs = weights.readout.shape[-2:]
    ones = torch.full_like(f[:, 0], 1 / network.readout(n))
    layers = list(h)
    parts = [
        torch.autograd.grad(
            f[:, c], [h[layer] for layer in layers], ones, retain_graph=c < outputs - 1
        )
        for c in range(outputs)
    ]
    return {layer: torch.stack(part, 1) for layer, *part in zip(layers, *parts, strict=True)}
