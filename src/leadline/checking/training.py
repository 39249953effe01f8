"""A few training steps of one size, as the user would take them, with all seeds at once.

Did an optimizer or a scheduler keep the ratios to the base that the plan prescribes? The same optimizer
and scheduler are made at the base, where every factor is 1: what they do there is the reference, kind by
kind and step by step. So groups may have rates of their own (an embedding's ten times the others', Muon's
and AdamW's), and schedules any course, as long as each keeps its ratio to the base.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from leadline.checking.members import Members
from leadline.checking.quantities import Inspection, Measurement
from leadline.planning.plans import Plan
from leadline.tasks.data import TrainingData
from leadline.tracing.builder import Builder, Size, construct

_WORDS = {"lr": "learning rate", "weight_decay": "weight decay", "eps": "eps"}
Settings = dict[str, dict[str, dict[str, float]]]
"""Template of a kind, name of a parameter, setting: its value."""


@dataclass(frozen=True)
class Setup:
    """How every size is trained."""

    plan: Plan
    build: Builder
    data: TrainingData
    lr: float
    steps: int
    optimizer: Callable[[nn.Module, Plan, float], Any] | None = None
    scheduler: Callable[[Any], Any] | None = None
    apply: Callable[[nn.Module, Plan], nn.Module] | None = None
    weight_decay: float = 0.0
    course: tuple[float, ...] = ()
    """Factors on the learning rate, step by step; none is 1 at every step."""
    clip: float | None = None
    """Largest norm of the gradient, in the base's units."""
    device: torch.device | None = None
    """Where models train; None leaves them where they are made."""
    reference: tuple[Settings, ...] | None = None
    """Optimizer settings at the base: when made, with the scheduler, and after every step."""


def torch_optimizers(
    model: nn.Module, plan: Plan, lr: float, weight_decay: float = 0.0
) -> list[Optimizer]:
    """The torch optimizers of a plan.

    Raises:
        ValueError: torch has no such optimizer.
    """
    if not plan.optimizer_rule.orthogonal:
        return plan.optimizer_rule.make(plan.param_groups(model, lr, weight_decay))
    matrices, rest = (
        plan.param_groups(model, lr, weight_decay, part=part) for part in ("muon", "adamw")
    )
    return plan.optimizer_rule.make(rest, matrices)


def run(
    setup: Setup, size: Size, seeds: Sequence[int], done: Callable[[], None] = lambda: None
) -> list[Measurement]:
    """Build, apply, train and compare one size, with every seed.

    Args:
        done: called after every step, and when all is compared.

    Raises:
        ValueError: the loss is no scalar, or the optimizer is none.
    """
    plan, members = start(setup, size, seeds)
    inspection = Inspection(plan, members)
    losses, lost = train(setup, plan, members, done)
    values = inspection.measure()
    done()
    return [Measurement(v, losses[i], lost) for i, v in enumerate(values)]


def start(setup: Setup, size: Size, seeds: Sequence[int]) -> tuple[Plan, Members]:
    """The plan of a size, and its models at initialization."""
    plan = setup.plan.at(size.width, size.depth)
    models = []
    for seed in seeds:
        model = construct(setup.build, size, seed)
        model = plan.apply(model) if setup.apply is None else setup.apply(model, plan)
        models.append(model if setup.device is None else model.to(setup.device))
    return plan, Members(models, setup.data, seeds)


def train(
    setup: Setup, plan: Plan, members: Members, done: Callable[[], None] = lambda: None
) -> tuple[list[list[float]], dict[str, str]]:
    """Losses of every member before each step and after the last, and messages about lost ratios.

    Every member has optimizers and schedulers of its own, so that any of them will do; their gradients
    come from one program where the models allow it.
    """
    all_optimizers = [_optimizers(setup, plan, model) for model in members.models]
    lost: dict[str, str] = {}

    def compare(step: int, culprit: str) -> None:
        if setup.reference is not None:
            first = members.models[0]
            messages = lost_ratios(plan, first, all_optimizers[0], setup.reference[step], culprit)
            for template, message in messages.items():
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
        if setup.clip is not None:
            for model in members.models:
                plan.clip_grad_norm_(model, setup.clip)
        with _scaled(every, setup.course[step] if setup.course else 1.0):
            for o in every:
                o.step()
        for s in schedulers:
            s.step()
        compare(2 + step, by)
        done()
    losses.append(members.losses())
    return [list(of) for of in zip(*losses, strict=True)], lost


@contextmanager
def _scaled(optimizers: Sequence[Optimizer], factor: float) -> Generator[None]:
    """All learning rates times a factor, for one step."""
    groups = [g for o in optimizers for g in o.param_groups]
    before = [g["lr"] for g in groups]
    try:
        for g, lr in zip(groups, before, strict=True):
            g["lr"] = lr * factor
        yield
    finally:
        for g, lr in zip(groups, before, strict=True):
            g["lr"] = lr


def reference(setup: Setup) -> tuple[Settings, ...]:
    """Settings of optimizer and scheduler at the base, step by step, without training."""
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
    if setup.optimizer is None:
        return torch_optimizers(model, plan, setup.lr, setup.weight_decay)
    made = setup.optimizer(model, plan, setup.lr)
    optimizers = list(made) if isinstance(made, list | tuple) else [made]
    for o in optimizers:
        if not hasattr(o, "param_groups") or not hasattr(o, "step"):
            raise TypeError(
                f"optimizer returned {type(o).__name__}: return a torch optimizer, or a list of them"
            )
    return optimizers


def linear_rate(setup: Setup, size: Size) -> float:
    """The largest rate, by factors of 4, at which halving it halves the change of the output, to 10 %.

    Where a model has no such rate (experts that are chosen, and choices jump), the one that comes nearest,
    to 50 %.

    Raises:
        ValueError: there is none above 1e-7.
    """
    nearest, least = 0.0, 0.5
    lr = 0.25 if setup.plan.optimizer_rule.update == "gradient" else 1 / 64
    while lr > 1e-7:
        moved = []
        for rate in (lr, lr / 2):
            plan, members = start(setup, size, (0,))
            inspection = Inspection(plan, members)
            train(replace(setup, lr=rate, scheduler=None, course=()), plan, members)
            moved.append(inspection.moved())
        full, half = moved
        norm = float(torch.linalg.vector_norm(full))
        if norm > 0:
            off = float(torch.linalg.vector_norm(full - 2 * half)) / norm
            if off < 0.1:
                return lr
            if off < least:
                nearest, least = lr, off
        lr /= 4
    if nearest:
        return nearest
    raise ValueError(
        "no learning rate above 1e-7 gives a linear response at the base: the loss may not depend on "
        "the model, or be noisy; give lr="
    )


def settings(plan: Plan, model: nn.Module, optimizers: Sequence[Optimizer]) -> Settings:
    """The optimizers' present settings of every parameter; {} for one that they do not hold."""
    groups = {id(p): g for o in optimizers for g in o.param_groups for p in g["params"]}
    kinds = plan.kind_of(model)
    out: Settings = {}
    for name, p in model.named_parameters():
        if kinds[name].role != "frozen":
            out.setdefault(kinds[name].label, {})[name] = _of(groups.get(id(p)))
    return out


def _of(group: dict[str, Any] | None) -> dict[str, float]:
    if group is None:
        return {}
    eps = group.get("eps")
    eps = eps[-1] if isinstance(eps, tuple | list) else eps
    values = {"lr": group["lr"], "weight_decay": group.get("weight_decay", 0.0), "eps": eps}
    return {k: float(v) for k, v in values.items() if v is not None}


def lost_ratios(
    plan: Plan, model: nn.Module, optimizers: Sequence[Optimizer], base: Settings, culprit: str
) -> dict[str, str]:
    """Compare settings with the base's times the plan's factors.

    Args:
        base: ``settings`` at the base, at the same step.
        culprit: who set them last, and the remedy.

    Returns:
        Messages by label of a kind.
    """
    at_base = plan.at(plan.base.width, plan.base.depth)
    out: dict[str, str] = {}
    kinds = {k.label: k for k in plan.kind_of(model).values()}
    for template, members in settings(plan, model, optimizers).items():
        here, there = plan.kind_factors(kinds[template]), at_base.kind_factors(kinds[template])
        missing = [n for n, s in members.items() if not s]
        if missing:
            out[template] = (
                f"{template}: not in the optimizer: {missing[0]} is never trained; give it all of "
                "plan.param_groups(model, lr=...)"
            )
            continue
        for what, word in _WORDS.items():
            if what == "eps" and not plan.uses(kinds[template]).has_eps:
                continue
            ratio = getattr(here, what) / getattr(there, what)
            # Layers of a kind may differ at the base (layerwise decay): any of their values will do.
            values = {s[what] for s in base.get(template, {}).values() if what in s}
            for s in members.values():
                if what not in s or not values or any(_close(s[what], v * ratio) for v in values):
                    continue
                first = next(iter(values))
                out.setdefault(
                    template,
                    f"{template}: its {word} is {s[what]:.4g} at {plan.target}, the plan asks "
                    f"{first * ratio:.4g} ({ratio:.4g} × the base's {first:.4g}): {culprit}",
                )
    return out


def _close(a: float, b: float) -> bool:
    return a == b or (a * b > 0 and abs(math.log(a / b)) < 1e-4)
