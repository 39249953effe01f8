"""A few training steps of one size, as the user would take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leadline.checking.quantities import Measured, Probe, scalar_loss
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
    reference: tuple[Settings, ...] | None = None
    """Optimizer settings at the base: when made, with the scheduler, and after every step."""


def torch_optimizers(model: nn.Module, plan: Plan, lr: float) -> list[Optimizer]:
    """The torch optimizers of a plan.

    Raises:
        ValueError: torch has no such optimizer.
    """
    name = plan.optimizer.name
    if name.startswith("muon"):
        adjust = "match_rms_adamw" if name == "muon-match-rms" else "original"
        matrices = plan.param_groups(model, lr, part="muon")
        rest = plan.param_groups(model, lr, part="adamw")
        made: list[Optimizer] = []
        if matrices:
            made.append(torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn=adjust))
        return [*made, torch.optim.AdamW(rest)] if rest else made
    groups = plan.param_groups(model, lr)
    classes: dict[str, Any] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adafactor": torch.optim.Adafactor,
    }
    if name not in classes:
        raise ValueError(
            f"torch has no {name}: give optimizer=, a callable (model, plan, lr) that makes yours"
        )
    return [classes[name](groups, lr=lr)]


def run(setup: Setup, size: Size, seed: int) -> Measured:
    """Build, apply, train and compare one size.

    Raises:
        ValueError: the loss is no scalar, or the optimizer is none.
    """
    plan, model = start(setup, size, seed)
    probe = Probe(plan, model, setup.batch, setup.loss_fn)
    losses, lost = train(setup, plan, model, seed)
    return Measured(probe.measure(), losses, lost)


def start(setup: Setup, size: Size, seed: int) -> tuple[Plan, nn.Module]:
    """The plan of a size, and its model at initialization."""
    plan = setup.plan.at(size.width, size.depth)
    model = construct(setup.build, size, seed)
    return plan, plan.apply(model) if setup.apply is None else setup.apply(model, plan)


def train(
    setup: Setup, plan: Plan, model: nn.Module, seed: int
) -> tuple[list[float], dict[str, str]]:
    """Losses before each step and after the last, and what lost the plan's ratios."""
    optimizers = _optimizers(setup, plan, model)
    lost: dict[str, str] = {}

    def compare(step: int, culprit: str) -> None:
        if setup.reference is not None:
            found = lost_ratios(plan, model, optimizers, setup.reference[step], culprit)
            for template, message in found.items():
                lost.setdefault(template, message)

    compare(0, "take plan.param_groups(model, lr=...) for the optimizer, or its factors")
    schedulers = [] if setup.scheduler is None else [setup.scheduler(o) for o in optimizers]
    by = f"the scheduler {type(schedulers[0]).__name__}" if schedulers else "the optimizer"
    by += " set absolute values; use plan.scheduler(factory, optimizer, lr=...)"
    compare(1, by)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(setup.steps):
            for o in optimizers:
                o.zero_grad()
            loss = scalar_loss(setup.loss_fn, model, setup.batch)
            losses.append(float(loss.detach()))
            loss.backward()
            for o in optimizers:
                o.step()
            for s in schedulers:
                s.step()
            compare(2 + step, by)
        with torch.no_grad():
            losses.append(float(scalar_loss(setup.loss_fn, model, setup.batch)))
    return losses, lost


def reference(setup: Setup) -> tuple[Settings, ...]:
    """What optimizer and scheduler do at the base, step by step, without training."""
    plan, model = start(setup, setup.plan.base, 0)
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
            plan, model = start(setup, size, 0)
            probe = Probe(plan, model, setup.batch, setup.loss_fn)
            train(replace(setup, lr=rate, scheduler=None), plan, model, 0)
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
