"""A few training steps of one size, as the user would take them, with all seeds at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leadline.checking.members import Members
from leadline.checking.quantities import Measured, Probe
from leadline.checking.ratios import Settings, lost_ratios, settings
from leadline.planning.plan import Plan
from leadline.tracing.builder import Builder, Size, construct


@dataclass(frozen=True)
class Setup:
    """How every size is trained."""

    plan: Plan
    build: Builder
    batch: Any
    loss_fn: Callable[[nn.Module, Any], Tensor]
    lr: float
    steps: int
    optimizer: Callable[[nn.Module, Plan, float], Any] | None = None
    scheduler: Callable[[Any], Any] | None = None
    apply: Callable[[nn.Module, Plan], nn.Module] | None = None
    device: torch.device | None = None
    """Where models train; None leaves them where they are made."""
    reference: tuple[Settings, ...] | None = None
    """Optimizer settings at the base: when made, with the scheduler, and after every step."""


def torch_optimizers(model: nn.Module, plan: Plan, lr: float) -> list[Optimizer]:
    """The torch optimizers of a plan.

    Raises:
        ValueError: torch has no such optimizer.
    """
    if not plan.optimizer.orthogonal:
        return plan.optimizer.make(plan.param_groups(model, lr))
    matrices, rest = (plan.param_groups(model, lr, part=part) for part in ("muon", "adamw"))
    return plan.optimizer.make(rest, matrices)


def run(
    setup: Setup, size: Size, seeds: Sequence[int], done: Callable[[], None] = lambda: None
) -> list[Measured]:
    """Build, apply, train and compare one size, with every seed.

    Args:
        done: called after every step, and when all is compared.

    Raises:
        ValueError: the loss is no scalar, or the optimizer is none.
    """
    plan, members = start(setup, size, seeds)
    probe = Probe(plan, members)
    losses, lost = train(setup, plan, members, done)
    values = probe.measure()
    done()
    return [Measured(v, losses[i], lost) for i, v in enumerate(values)]


def start(setup: Setup, size: Size, seeds: Sequence[int]) -> tuple[Plan, Members]:
    """The plan of a size, and its models at initialization."""
    plan = setup.plan.at(size.width, size.depth)
    models = []
    for seed in seeds:
        model = construct(setup.build, size, seed)
        model = plan.apply(model) if setup.apply is None else setup.apply(model, plan)
        models.append(model if setup.device is None else model.to(setup.device))
    return plan, Members(models, setup.batch, setup.loss_fn, seeds)


def train(
    setup: Setup, plan: Plan, members: Members, done: Callable[[], None] = lambda: None
) -> tuple[list[list[float]], dict[str, str]]:
    """Losses of every member before each step and after the last, and what lost the plan's ratios.

    Every member has optimizers and schedulers of its own, so that any of them will do; their gradients
    come from one program where the models allow it.
    """
    all_optimizers = [_optimizers(setup, plan, model) for model in members.models]
    lost: dict[str, str] = {}

    def compare(step: int, culprit: str) -> None:
        if setup.reference is not None:
            first = members.models[0]
            found = lost_ratios(plan, first, all_optimizers[0], setup.reference[step], culprit)
            for template, message in found.items():
                lost.setdefault(template, message)

    compare(0, "take plan.param_groups(model, lr=...) for the optimizer, or its factors")
    every = [o for optimizers in all_optimizers for o in optimizers]
    schedulers = [] if setup.scheduler is None else [setup.scheduler(o) for o in every]
    by = f"the scheduler {type(schedulers[0]).__name__}" if schedulers else "the optimizer"
    by += " set absolute values; use plan.scheduler(factory, optimizer, lr=...)"
    compare(1, by)
    losses = []
    for step in range(setup.steps):
        for o in every:
            o.zero_grad()
        losses.append(members.backward())
        for o in every:
            o.step()
        for s in schedulers:
            s.step()
        compare(2 + step, by)
        done()
    losses.append(members.losses())
    return [list(of) for of in zip(*losses, strict=True)], lost


def reference(setup: Setup) -> tuple[Settings, ...]:
    """What optimizer and scheduler do at the base, step by step, without training."""
    plan, members = start(setup, setup.plan.base, (0,))
    model = members.models[0]
    optimizers = _optimizers(setup, plan, model)
    out = [settings(plan, model, optimizers)]
    schedulers = [] if setup.scheduler is None else [setup.scheduler(o) for o in optimizers]
    out.append(settings(plan, model, optimizers))
    for _ in range(setup.steps):
        for o in optimizers:
            o.step()
        for s in schedulers:
            s.step()
        out.append(settings(plan, model, optimizers))
    return tuple(out)


def _optimizers(setup: Setup, plan: Plan, model: nn.Module) -> list[Optimizer]:
    make: Callable[..., Any] = torch_optimizers if setup.optimizer is None else setup.optimizer
    made = make(model, plan, setup.lr)
    found = list(made) if isinstance(made, list | tuple) else [made]
    for o in found:
        if not hasattr(o, "param_groups") or not hasattr(o, "step"):
            raise TypeError(
                f"optimizer returned {type(o).__name__}: return a torch optimizer, or a list of them"
            )
    return found


def linear_rate(setup: Setup, size: Size) -> float:
    """The largest rate, by factors of 4, at which halving it halves the change of the output.

    Raises:
        ValueError: there is none above 1e-7.
    """
    lr = 0.25 if setup.plan.optimizer.update == "gradient" else 1 / 64
    while lr > 1e-7:
        moved = []
        for rate in (lr, lr / 2):
            plan, members = start(setup, size, (0,))
            probe = Probe(plan, members)
            train(replace(setup, lr=rate, scheduler=None), plan, members)
            moved.append(probe.moved())
        full, half = moved
        norm = float(torch.linalg.vector_norm(full))
        if norm > 0 and float(torch.linalg.vector_norm(full - 2 * half)) < 0.1 * norm:
            return lr
        lr /= 4
    raise ValueError(
        "no learning rate above 1e-7 gives a linear response at the base: the loss may not depend on "
        "the model, or be noisy; give lr="
    )
