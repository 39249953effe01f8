"""Real modules: the first step of each, which a stack of them must reproduce, and training one by one.

A stack trains what its functions read through parameters and buffers. A model may read more: a tensor kept
as a plain attribute, a view of a parameter, a cache, a counter. So every seed's model takes its first step
by itself, as a user would. A stack whose losses and gradients differ from it, or a model that holds more
than a stack can replace, is not trained as a stack at all.
"""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from leadline.parametrization.optimizers import BETAS, EPS
from leadline.sweeps.optimizers import clipped
from leadline.sweeps.rates import Rates
from leadline.sweeps.runs import Result, RunGroup, TrainingRun, diverged
from leadline.sweeps.stacks import NotStacked, State, same_gradients, unregistered
from leadline.tasks.data import TrainingData, copied, mean_loss
from leadline.tracing.builder import seed_of_passes, seeded
from leadline.tracing.held import alike, registered

# Steps between two readings of the losses.
EVERY = 10


@dataclass
class FirstSteps:
    """By seed: the state at initialization, and the model's own first loss and gradients.

    Attributes:
        model: one of them, whose parameters and buffers a stack replaces.
        trained: names of the parameters that train.
    """

    model: nn.Module
    trained: tuple[str, ...]
    states: dict[int, State]
    losses: dict[int, Tensor]
    gradients: dict[int, list[Tensor]]

    def different(
        self, seeds: Sequence[int], gradients: Sequence[Tensor], losses: Tensor
    ) -> list[int]:
        """The seeds whose first step a stack takes otherwise, by more than rounding.

        Args:
            seeds: of its members, in order.
        """
        out = []
        for seed, loss in self.losses.items():
            if seed not in seeds:
                continue
            row = list(seeds).index(seed)
            same = same_gradients([g[row] for g in gradients], self.gradients[seed])
            if not same or not alike([losses[row]], [loss]):
                out.append(seed)
        return out


def first_steps(group: RunGroup) -> FirstSteps:
    """Draw a model for every seed and take its first step, without moving it.

    Raises:
        NotStacked: a model holds more than a stack can replace.
    """
    out: FirstSteps | None = None
    expected: tuple[bytes, list[str]] | None = None
    for seed in dict.fromkeys(run.seed for run in group.runs):
        model = group.model(seed)
        state = {n: t.clone() for n, t in registered(model).items()}
        trained = tuple(group.rates.factors(model))
        loss, gradients = own_step(group, model, trained, seed)
        held = unregistered(model), list(state)
        if out is None:
            # Once more: caches are filled now, and whatever still changes is a state of its own.
            own_step(group, model, trained, seed)
            if unregistered(model) != held[0]:
                raise NotStacked("the model keeps a state that is no parameter or buffer")
            out, expected = FirstSteps(model, trained, {}, {}, {}), held
        if held != expected:
            raise NotStacked("models differ by seed in more than parameters and buffers")
        out.states[seed], out.losses[seed], out.gradients[seed] = state, loss, gradients
    assert out is not None
    return out


def own_step(
    group: RunGroup, model: nn.Module, trained: Sequence[str], seed: int
) -> tuple[Tensor, list[Tensor]]:
    """The model's own loss and gradients.

    Raises:
        NotStacked: it draws random numbers, or replaces parameters, buffers or its inputs.
    """
    before = dict((*model.named_parameters(), *model.named_buffers()))
    with seeded(seed), torch.enable_grad():
        numbers = _generators()
        batch = group.data.batch(0, group.runs[0].batch_size, seed)
        inputs = copied(batch)
        loss = group.data.loss(model, inputs)
        p = [before[n] for n in trained]
        gradients = torch.autograd.grad(loss, p, materialize_grads=True)
        if _generators() != numbers:
            raise NotStacked("the model draws random numbers")
    pairs = zip(tree_leaves(inputs), tree_leaves(batch), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor)):
        raise NotStacked("the model changes its inputs in place")
    after = dict((*model.named_parameters(), *model.named_buffers()))
    replaced = [n for n in before.keys() | after.keys() if before.get(n) is not after.get(n)]
    if replaced:
        raise NotStacked(f"the model replaces {sorted(replaced)[0]!r}")
    return loss.detach(), list(gradients)


def _generators() -> tuple[Any, ...]:
    """States of the global random generators."""
    state: tuple[Any, ...] = (random.getstate(), pickle.dumps(np.random.get_state()))  # noqa: NPY002
    state += (torch.get_rng_state().numpy().tobytes(),)
    if torch.cuda.is_initialized():
        state += tuple(s.numpy().tobytes() for s in torch.cuda.get_rng_state_all())
    return state


def train_alone(
    group: RunGroup, run: TrainingRun, report: Callable[[int], None] | None = None
) -> Result:
    """Train one run with the real module, autograd and torch's own optimizers, as a user would."""
    started = time.perf_counter()
    data = group.data.on(group.device)
    curve: list[Tensor] = []
    over = False
    with seeded(seed_of_passes(run.seed)):
        model = group.model(run.seed)
        optimizers = _optimizers(model, group.rates, run)
        base = [[g["lr"] for g in o.param_groups] for o in optimizers]
        course = group.course.tolist()
        for step in range(run.steps):
            for o in optimizers:
                o.zero_grad()
            curve.append(_backward(model, data, data.batch(step, run.batch_size, run.seed)))
            if run.clip is not None:
                _clip(model, group.rates, run.clip)
            for o, rates in zip(optimizers, base, strict=True):
                for g, lr in zip(o.param_groups, rates, strict=True):
                    g["lr"] = lr * course[step]
                o.step()
            if step % EVERY == EVERY - 1 or step == run.steps - 1:
                over = bool(diverged(float(curve[-1]), float(curve[0])))
            if over:
                break
            if report is not None:
                report(step + 1)
        losses = (None, None) if over else _evaluated(model, data)
    seconds = time.perf_counter() - started
    return Result(
        *losses,
        diverged=over,
        stopped=False,
        steps_done=len(curve),
        seconds=seconds,
        curve=torch.stack(curve).float().cpu().numpy(),
    )


def _backward(model: nn.Module, data: TrainingData, batch: Any) -> Tensor:
    """Set the gradients of the mean loss; the loss."""
    # The data stay as they are, whatever the model does to its inputs.
    parts = data.parts(copied(batch))
    losses = []
    for some, part in parts:
        loss = some.loss(model, part)
        (loss / len(parts)).backward()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def _clip(model: nn.Module, rates: Rates, largest: float) -> None:
    parameters = dict(model.named_parameters())
    held = [
        (parameters[n], f.fold)
        for n, (f, _) in rates.factors(model).items()
        if parameters[n].grad is not None
    ]
    gradients = [p.grad[None] for p, _ in held if p.grad is not None]
    for (p, _), g in zip(held, clipped(gradients, [a for _, a in held], largest), strict=True):
        p.grad = g[0]


def _evaluated(model: nn.Module, data: TrainingData) -> tuple[float | None, float | None]:
    """Losses at the end on training and test data."""
    model.eval()
    losses: list[float | None] = []
    with torch.no_grad():
        for batches in (data.train(), data.test()):
            value = np.nan if batches is None else float(mean_loss(data, model, batches))
            losses.append(value if np.isfinite(value) else None)
    return losses[0], losses[1]


def _optimizers(model: nn.Module, rates: Rates, run: TrainingRun) -> list[Optimizer]:
    """Torch's, with the rates of every parameter; equal ones are merged."""
    parameters = dict(model.named_parameters())
    groups: dict[tuple[bool, float, float, float], list[Tensor]] = {}
    for name, (f, muon) in rates.factors(model).items():
        key = (muon, run.lr * f.lr, run.weight_decay * f.weight_decay, EPS * f.eps)
        groups.setdefault(key, []).append(parameters[name])
    kind = rates.optimizer
    betas = rates.betas(kind.betas or BETAS)
    matrices, rest = [], []
    for (muon, lr, decay, eps), some in groups.items():
        group: dict[str, Any] = {"params": some, "lr": lr, "weight_decay": decay}
        if muon:
            matrices.append(group)
        else:
            group |= {} if kind.takes_momentum else {"betas": betas}
            rest.append(group | ({"eps": eps} if kind.has_eps or kind.orthogonal else {}))
    return kind.make(rest, matrices, {"momentum": run.momentum} if kind.takes_momentum else {})
