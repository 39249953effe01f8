"""``check``: train small sizes for a few steps and say which layers collapse or explode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import numpy as np
from torch import nn

from leadline import available
from leadline.checking.arguments import plan_of, sizes_of
from leadline.checking.exponents import (
    BAND,
    QUANTITIES,
    Exponent,
    expected,
    expected_stream,
    exponent,
    slack,
    verdict,
)
from leadline.checking.quantities import Measurement
from leadline.checking.report import FAILED, CheckReport, Row
from leadline.checking.training import Setup, linear_rate, reference, run
from leadline.errors import LARGEST_RATE, check_int, check_real
from leadline.parametrization.optimizers import Optimizer
from leadline.parametrization.schemes import Scheme
from leadline.planning.plans import Plan
from leadline.reporting.progress import Progress
from leadline.tasks.task import data_of
from leadline.tracing.builder import Builder, Size
from leadline.tracing.kinds import Kind


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
    apply: Callable[[nn.Module, Plan], nn.Module] | None = None,
    builder: Builder | None = None,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
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
        lr: the base's learning rate; by default the largest one with a linear response, so that the
            verdicts are about scaling alone. Loss curves say something about transfer only at a rate
            like the one you train with.
        base: for a builder, the size that the parametrization refers to; by default the smallest of
            widths and depths, or width 64 and depth 4.
        scheme: for a builder; see ``leadline.plan``.
        optimizer: for a builder the optimizer's name, by default "adamw"; or a function
            (model, plan, lr) -> torch optimizer, if it is not the one of plan.param_groups.
        scheduler: (optimizer) -> scheduler, stepped after every step.
        apply: (model, plan) -> model, if it is not plan.apply.
        builder: the builder of a plan that was read from a file.
        roles, inputs: for a builder; see ``leadline.plan``. inputs are by default what the loss calls
            the model with.
        device: a torch device, to which models and the batch are moved; models are drawn where the
            builder draws them. None leaves both where they are.
        progress: show it on stderr.

    Raises:
        ValueError, TypeError: a bad argument, a loss that fails or is no scalar, or an optimizer that
            torch does not have; before any training.
    """
    data = data_of(task)
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
        device=place,
    )
    smallest = sizes["width" if "width" in sizes else "depth"][0]
    notes = []
    if lr is None:
        rate = linear_rate(setup, smallest)
        notes.append(
            f"lr={rate:.3g} was chosen for a linear response; give lr= to see loss curves at yours"
        )
        setup = replace(setup, lr=rate)
    setup = replace(setup, reference=reference(setup))
    measured = _measure(setup, sizes, range(seeds), progress)
    rows = _all_rows(plan, sizes, measured)
    if any(r.verdict in FAILED for r in rows):
        # Among a hundred intervals of 95 % some miss: a failure has to show in as many new seeds too.
        again = _measure(setup, sizes, range(seeds, 2 * seeds), progress)
        suspects = [
            {(*r.key, r.verdict) for r in _all_rows(plan, sizes, some)}
            for some in (measured, again)
        ]
        measured = {s: measured[s] + again[s] for s in measured}
        rows = [
            r
            if r.verdict not in FAILED or all((*r.key, r.verdict) in s for s in suspects)
            else replace(r, verdict="inconclusive")
            for r in _all_rows(plan, sizes, measured)
        ]
    lost = {t: m for results in measured.values() for r in results for t, m in r.lost.items()}
    if any(_shallow(r) for r in rows):
        notes.append(
            "the stream shrinks with depth, as far as a base that is too shallow explains: at "
            "initialization its branches outweigh what it begins with; take a deeper base, or let branches "
            "begin small (last gain or weight 0)"
        )
    losses, warnings = _losses(sizes, measured)
    notes += warnings + _base(rows, sizes, plan.optimizer_rule)
    scheme = plan.scheme if isinstance(plan.scheme, str) else plan.scheme.name
    title = f"check of {scheme}, {plan.optimizer_rule.name}"
    return CheckReport(tuple(rows), tuple(lost.values()), losses, tuple(notes), setup.lr, title)


def _measure(
    setup: Setup, sizes: dict[str, list[Size]], seeds: range, progress: bool
) -> dict[Size, list[Measurement]]:
    """Train every size with these seeds."""
    measured: dict[Size, list[Measurement]] = {}
    todo = list(dict.fromkeys(s for v in sizes.values() for s in v))
    each = setup.steps + 1
    with Progress(quiet=not progress) as bar:
        for i, size in enumerate(todo):
            at = count(i * each)

            def done(at: Iterator[int] = at, size: Size = size) -> None:
                bar(step=next(at), steps=len(todo) * each, branch=f"{size}")

            done()
            measured[size] = run(setup, size, seeds, done)
    return measured


def _all_rows(
    plan: Plan, sizes: dict[str, list[Size]], measured: dict[Size, list[Measurement]]
) -> list[Row]:
    return [row for axis in sizes for row in _rows(plan, axis, sizes[axis], measured)]


def _rows(
    plan: Plan, axis: str, sizes: list[Size], measured: dict[Size, list[Measurement]]
) -> list[Row]:
    kinds = {k.template: k for k in reversed(plan.kinds)}
    modules = {k.template.rpartition(".")[0]: k for k in reversed(plan.kinds)}
    modules |= {k.template.rpartition(".")[0]: k for k in plan.kinds if len(k.shape) > 1}
    x = np.array([getattr(s, axis) for s in sizes])
    results = [r for s in sizes for r in measured[s]]
    keys = [k for k in results[0].values if all(k in r.values for r in results)]
    out = []
    for quantity, template in sorted(keys, key=lambda k: (k[1], _order(k[0]))):
        values = np.array([[r.values[quantity, template] for r in measured[s]] for s in sizes])
        kind = kinds.get(template) or modules.get(template)
        if quantity not in QUANTITIES:
            kind = None
        e = exponent(x, values)
        if quantity == "nonlinear":
            target, word = None, _lazy(e)
        else:
            power = expected(plan, kind, quantity) if kind else expected_stream(plan, quantity)
            target = getattr(power, axis)
            word = verdict(e, target, slack(plan, kind, quantity, axis))
        place = _place(kind) if kind else "block"
        means = tuple(float(v) for v in values.mean(1))
        numbers = tuple(int(v) for v in x)
        out.append(Row(template, place, quantity, axis, e, target, word, numbers, means))
    return out


def _shallow(r: Row) -> bool:
    below = (
        r.exponent is not None and r.expected is not None and r.exponent.high < r.expected - BAND
    )
    return r.quantity == "stream" and r.axis == "depth" and r.verdict == "inconclusive" and below


def _order(quantity: str) -> int:
    names = (*QUANTITIES, "stream", "change of stream", "nonlinear")
    return names.index(quantity)


def _lazy(e: Exponent | None) -> str:
    """A block whose distance from its linearization falls with size, and goes on to."""
    if e is None:
        return "n/a"
    return "lazy" if max(e.high, e.ahead) < -BAND else "not lazy" if e.low > -BAND else "n/a"


def _place(kind: Kind) -> str:
    if kind.position is None:
        return kind.role
    where = "last" if kind.last else "inner"
    return f"{where} {kind.position + 1}/{kind.layers}, {kind.role}"


def _losses(
    sizes: dict[str, list[Size]], measured: dict[Size, list[Measurement]]
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Final losses, and where a larger size ends worse than a smaller one beyond the seeds' noise."""
    out: dict[str, dict[int, float]] = {}
    notes = []
    for axis, members in sizes.items():
        final = {getattr(s, axis): np.array([r.losses[-1] for r in measured[s]]) for s in members}
        out[axis] = {k: float(v.mean()) for k, v in final.items()}
        pairs = list(final.items())
        for (a, x), (b, y) in pairwise(pairs):
            gap = y.mean() - x.mean()
            noise = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / len(x)) if len(x) > 1 else np.inf
            if not np.isfinite(gap) or gap > 3 * noise:
                notes.append(
                    f"larger trains worse: {axis} {b} ends at {y.mean():.4g}, {a} at {x.mean():.4g} "
                    f"(noise {noise:.1g})"
                )
    return out, notes


def _base(rows: list[Row], sizes: dict[str, list[Size]], optimizer: Optimizer) -> list[str]:
    """The smallest size from which local slopes of what was learned stay within the band."""
    notes = []
    for axis, members in sizes.items():
        outside = [
            [abs(slope - r.expected) > BAND for slope in r.exponent.slopes]
            for r in rows
            if r.axis == axis and r.quantity in ("change", "own update")
            if r.exponent is not None and r.expected is not None
        ]
        good = len(members) - 1
        while good > 0 and sum(o[good - 1] for o in outside) <= 0.1 * len(outside):
            good -= 1
        if good < len(members) - 1:
            notes.append(
                f"a base {axis} of {getattr(members[good], axis)} is large enough: from there local slopes "
                "of nine in ten changes stay within the band"
            )
            continue
        note = f"no {axis} here is large enough as a base: local slopes still drift"
        if axis == "width" and optimizer.update != "gradient":
            # The sign of a sum of P outer products is aligned with each of P inputs only if n >> P.
            note += (
                "; steps of normalised size need widths above the number of samples (or tokens) in a "
                "batch: take larger widths or a smaller batch"
            )
        notes.append(note)
    return notes
