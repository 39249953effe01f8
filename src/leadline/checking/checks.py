"""``check``: train small sizes for a few steps and say which layers collapse or explode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from leadline import available
from leadline.checking.arguments import plan_of, recipe_of, sizes_of
from leadline.checking.deciding import remedy
from leadline.checking.experiment import Experiment
from leadline.checking.notes import FAINT, TRANSIENT, about_the_base, final_losses
from leadline.checking.report import FAILED, CheckReport, Row
from leadline.checking.training import Setup, linear_rate, reference
from leadline.errors import LARGEST_RATE, check_int, check_real
from leadline.parametrization.schemes import Scheme
from leadline.planning.plans import Plan
from leadline.schedules import Schedule, check_schedule, course
from leadline.tasks.task import data_of
from leadline.tracing.builder import Builder, Size


def check(
    task: Any,
    build: Builder | Plan,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    steps: int = 4,
    seeds: int = 3,
    lr: float | None = None,
    *,
    base: Mapping[str, int] | Size | None = None,
    scheme: str | Scheme = "auto",
    optimizer: str | Callable[[nn.Module, Plan, float], Any] | None = None,
    scheduler: Callable[[Any], Any] | None = None,
    weight_decay: float = 0.0,
    schedule: Schedule = "constant",
    warmup: int = 0,
    clip: float | None = None,
    accumulation: int = 1,
    precision: str = "float32",
    apply: Callable[[nn.Module, Plan], nn.Module] | None = None,
    builder: Builder | None = None,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
    until_decided: float | None = None,
    device: str | None = None,
    progress: bool = True,
) -> CheckReport:
    """Train every width (at the smallest depth) and every depth (at the smallest width) a few steps.

    For every module that owns parameters: RMS of its output at initialization and of the change of it. For
    every parameter: RMS of the part of the change that is its own (ΔW · current input), and its effect on
    the model's output, f(θ_0 + Δθ) - f(θ_0) along the direction in which the loss falls, all layers of a
    kind together. For every repeated block: RMS of its output, of its change, and the relative distance
    from its linearization in its own weights (reported; layers whose distance falls with size train
    lazily). Each is fitted as a power of width and of depth.

    Each seed is a model of the builder's own draw. The seeds of a size run as one program where the model
    can be mapped over a stack of parameters, one after the other where it cannot. What fails has to fail
    in as many new seeds too.

    Args:
        task: a ``Task`` (your own loss and batches), a ``Problem`` or a ``Text``. Every step trains on
            the batch of step 0, so that what it changes is seen on it.
        build: a builder (width, depth) -> model, or a plan.
        widths, depths: multiples of the base's; three or more sizes an axis, one leaves the axis out. By
            default 1, 2 and 4 times the base's width, and 1, 2, 4 and 8 times its depth.
        steps: of training, at every size. seeds: models of every size, each of its own draw.
        lr: the base's learning rate; by default the largest one with a linear response, so that the
            verdicts are about scaling alone. Loss curves say something about transfer only at a rate
            like the one you train with.
        base: for a builder, the size that the parametrization refers to; by default the smallest of
            widths and depths, or width 64 and depth 4.
        scheme: for a builder; see ``leadline.plan``.
        optimizer: for a builder the optimizer's name, by default "adamw"; or a function
            (model, plan, lr) -> torch optimizer, if it is not the one of plan.param_groups.
        scheduler: (optimizer) -> scheduler, stepped after every step.
        weight_decay, schedule, warmup, clip, accumulation, precision: as for ``sweep``; the schedule is
            that of the steps that are taken.
        apply: (model, plan) -> model, if it is not plan.apply.
        builder: the builder of a plan that was read from a file.
        roles, inputs: for a builder; see ``leadline.plan``. inputs are by default what the loss calls
            the model with.
        until_decided: seconds that the check may take to decide: it adds seeds and larger sizes by itself
            until nothing that matters is undecided, or the next step would take longer.
        device: a torch device, to which models and the batch are moved; models are drawn where the
            builder draws them. None leaves both where they are.
        progress: show it on stderr.

    Raises:
        ValueError, TypeError: a bad argument, a loss that fails or is no scalar, or an optimizer that
            torch does not have; before any training.
    """
    started = time.perf_counter()
    data = recipe_of(data_of(task), accumulation, precision)
    how = dict(scheme=scheme, optimizer=optimizer, roles=roles, inputs=inputs)
    plan = plan_of(data, build, base, widths, depths, how)
    if not callable(optimizer):
        optimizer = None
    source = plan.build if builder is None else builder
    if source is None:
        raise ValueError("this plan has no builder (files do not keep it): give builder=")
    sizes = sizes_of(plan, widths, depths)
    steps, seeds = check_int("steps", steps, 1), check_int("seeds", seeds, 1)
    if lr is not None:
        lr = check_real("lr", lr, 0.0, LARGEST_RATE, open_minimum=True)
    if plan.build is None:
        plan = replace(plan, build=source)
    place = None if device is None else available.device(device)
    if place is not None:
        data = data.on(place)
    setup = Setup(
        plan,
        source,
        data,
        lr or 1.0,
        steps,
        optimizer=optimizer,
        scheduler=scheduler,
        apply=apply,
        weight_decay=check_real("weight_decay", weight_decay, 0.0, LARGEST_RATE),
        course=tuple(course(check_schedule("schedule", schedule), warmup, steps).tolist()),
        clip=None if clip is None else check_real("clip", clip, 0.0, open_minimum=True),
        device=place,
    )
    if weight_decay and setup.optimizer is not None:
        raise TypeError(
            f"weight_decay={weight_decay} beside a function optimizer, which sets its own: leave it out"
        )
    if until_decided is not None:
        until_decided = check_real("until_decided", until_decided, 0.0)
    smallest = sizes["width" if "width" in sizes else "depth"][0]
    notes = []
    if lr is None:
        rate = linear_rate(setup, smallest)
        notes.append(
            f"lr={rate:.3g} was chosen for a linear response; give lr= to see loss curves at yours"
        )
        setup = replace(setup, lr=rate)
    setup = replace(setup, reference=reference(setup))
    experiment = Experiment(setup, sizes, seeds, progress)
    experiment.train(seeds)
    rows, said = _decided(experiment, started, until_decided)
    notes += said
    sizes, measured = experiment.sizes, experiment.measured
    lost = {t: m for results in measured.values() for r in results for t, m in r.lost.items()}
    for axis, note in (("depth", TRANSIENT), ("width", FAINT)):
        if any(r.verdict == "transient" and r.axis == axis for r in rows):
            notes.append(note)
    losses, warnings = final_losses(sizes, measured)
    notes += warnings + about_the_base(rows, sizes, plan.optimizer_rule)
    scheme = plan.scheme if isinstance(plan.scheme, str) else plan.scheme.name
    title = f"check of {scheme}, {plan.optimizer_rule.name}"
    step = remedy(experiment, rows)
    return CheckReport(
        tuple(rows),
        tuple(lost.values()),
        losses,
        tuple(notes),
        setup.lr,
        title,
        experiment.seeds,
        time.perf_counter() - started,
        None if step is None else step.words,
        0.0 if step is None else step.seconds,
        sum(setup.course) if optimizer is None else float(steps),
    )


def _decided(
    experiment: Experiment, started: float, seconds: float | None
) -> tuple[list[Row], list[str]]:
    """Rows of what is trained and, within a time, of what is added to decide; and what was added."""
    rows, added = experiment.rows(), []
    while seconds is not None:
        step = remedy(experiment, rows)
        left = seconds - (time.perf_counter() - started)
        if step is None or any(r.verdict in FAILED for r in rows) or step.seconds > left:
            break
        if step.axis is None:
            before = experiment.seeds
            experiment.train(step.seeds, until=started + seconds)
            if experiment.seeds == before:
                break
            added = [a for a in added if "seeds" not in a] + [f"{experiment.seeds} seeds"]
        else:
            size = experiment.enlarge(step.axis)
            added.append(f"{step.axis} {getattr(size, step.axis)}")
        rows = experiment.rows()
    return rows, [f"added to decide: {', '.join(added)}"] if added else []
