"""``compare``: the limit, the lazy limit and real networks of growing size, side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from leadline.architecture import COUPLINGS, ENSEMBLES, ResNet, refuse_for_network
from leadline.describe import describe
from leadline.disk.write import attempt, check_folder
from leadline.errors import check_choice, check_int, check_list, check_progress, check_real, shown
from leadline.kernels.kernels import check_limit
from leadline.limits.existence import check_has_limit, check_over
from leadline.limits.extrapolation import SECONDS, check_rtol, limit
from leadline.limits.lazy_training import lazy
from leadline.limits.result import Limit
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.measure.record import check_task
from leadline.planning.plans import Plan
from leadline.problems.losses import accuracy
from leadline.reporting.comparisons import COLUMNS, Comparison, Computation
from leadline.solver import solve
from leadline.tracing.builder import Size, size
from leadline.training.trainer import train
from leadline.trajectory import Trajectory, versions

if TYPE_CHECKING:
    from leadline.parametrization.schemes import Scheme
    from leadline.problems import Problem
    from leadline.recipes.base import Recipe
    from leadline.recipes.sgd import SGD
    from leadline.tracing.builder import Builder

# In scheme ntk the initial outputs are random at infinite width too, and averaging them is cheap.
_LAZY_SEEDS = 64


def compare(
    task: Any,
    build: ResNet | Builder | Plan,
    recipe: Recipe,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    over: str = "both",
    base: Mapping[str, int] | Size | None = None,
    scheme: str | Scheme = "auto",
    couplings: str | Sequence[str] | None = None,
    ensemble: str = "gaussian",
    seeds: int = 4,
    seed: int = 0,
    accumulation: int = 1,
    rtol: float = 0.01,
    tol: float | None = None,
    seconds: float | None = SECONDS,
    memory: int | None = None,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    record_every: int = 1,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[..., Any] | None = None,
) -> Comparison:
    """The limit of each coupling, the lazy limit, and dense networks of growing size.

    For each coupling the finite networks are trained with that coupling: "reused" ones are real
    networks, "independent" ones have a backward pass through other weights. Where the network has
    no limit, ``solve`` at four times the largest width and the largest depth stands in for it; for
    scheme ntk the limit is the lazy one.

    A builder's models have no lazy branch, and dense ones have the coupling "reused" alone: with
    "independent" its limit stands beside the same networks.

    Args:
        task, build, recipe, base, scheme, accumulation, roles, inputs: as in ``solve``.
        sizes: (width, depth) of the finite networks, in the order they are trained; None is three, each
            twice the one before, from (64, 4) or a builder's base on.
        over: "both", or "width": limits of infinite width at the depth of ``sizes``, which then is one.
        couplings: None is both, of a builder "reused".
        ensemble: of the limits and of what stands in for them, as in ``solve``.
        seeds: S ≥ 2, of every branch (lazy in ntk has more). rtol, tol: as in ``limit``
            (tol of a ``solve`` that stands in for one: 1e-3).
        seconds: time budget of the limits, each coupling has an equal share; None is none.
        memory: budget in bytes of each branch.
        out: folder; each finished branch is written there before the next one starts, and
            ``Comparison.save`` at the end. What cannot be written is an ``UnwrittenWarning``.
        seed, dtype, device, record_every: as in ``solve``.
        progress: called as ``progress(branch=name, **what the branch reports)``.

    Raises:
        ValueError, TypeError, OSError: naming the argument, its value and the remedy.
        MemoryError: a branch does not fit; those finished are in ``out``.
    """
    over = check_over(over)
    network = build if isinstance(build, ResNet) else None
    wanted: Any = couplings
    if couplings is None:
        wanted = ("reused",) if network is None else COUPLINGS
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    wanted = check_list("couplings", wanted, 100, what="couplings")
    wanted = [check_choice("couplings", coupling, COUPLINGS) for coupling in wanted]
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"couplings={shown(couplings)}: give one or both of {', '.join(COUPLINGS)}"
        )
    ensemble = check_choice("ensemble", ensemble, ENSEMBLES)
    pairs = None if sizes is None else _check_sizes(sizes)
    seeds, seed = check_int("seeds", seeds, 2), check_int("seed", seed, 0)
    rtol, progress = check_rtol(rtol), check_progress(progress)
    if tol is not None:
        tol = check_real("tol", tol, 0.0, 1.0, open_maximum=True)
    of_solve = 1e-3 if tol is None else tol
    record_every = check_int("record_every", record_every, 1)
    if seconds is not None:
        seconds = check_real("seconds", seconds, 0.0, open_minimum=True)
    kind = str(dtype).removeprefix("torch.")
    of_builders: dict[str, Any] = dict(base=base, scheme=scheme, roles=roles, inputs=inputs)
    of_builders["accumulation"] = accumulation
    problem: Problem | None
    if network is not None:
        refuse_for_network(**of_builders)
        check_task(task, network, recipe)
        problem, plan = task, network
        described = describe(task, network, cast("SGD", recipe))
        of_builders, first = {}, (64, 4)
    else:
        models = cast("Builder | Plan", build)
        at = models.base if isinstance(models, Plan) else base
        at = Size(1, 1) if at is None else size("base", at)
        one = TaskConfiguration(
            task, models, recipe, at.width, at.depth, tol=of_solve, **of_builders
        )
        problem, build = one.problem, one.plan
        plan, first = one.plan, (at.width, at.depth)
        described = {k: one.info("compare")[k] for k in ("problem", "network", "recipe")}
        of_builders = {"accumulation": one.accumulation}
    deepen = over == "both"
    if pairs is None:
        pairs = [(first[0] * k, first[1] * (k if deepen else 1)) for k in (1, 2, 4)]
    widest, deepest = max(n for n, _ in pairs), max(depth for _, depth in pairs)
    if not deepen and len({depth for _, depth in pairs}) > 1:
        raise ValueError(
            f"sizes={shown(sizes)} have several depths, and over='width' is at one: give one depth"
        )
    folder = None if out is None else check_folder("out", out)

    is_lazy = network is not None and network.table.rate_width == 0.0
    lazy_depth = deepest
    if deepen and network is not None and _passes(check_limit, network):
        lazy_depth = None
    has_limit = _passes(lambda what: check_has_limit(what, over), plan)
    notes = _notes(
        network,
        plan,
        is_lazy=is_lazy,
        has_limit=has_limit,
        lazy_depth=lazy_depth,
        widest=widest,
        deepest=deepest,
    )
    trained = wanted if network is not None else ["reused"]
    if trained != wanted and "independent" in wanted:
        notes.append(
            "dense networks of a builder are trained by true backpropagation alone: the limit of the "
            "independent coupling stands beside the same networks"
        )
    branches: list[Computation] = []

    def add(
        run: Callable[..., Trajectory | Limit],
        role: str,
        width: int | None,
        depth: int | None,
        coupling: str | None,
        **how: Any,
    ) -> None:
        label = {"finite": "train", "reference": "solve"}.get(role, role)
        shape = f"{width}x{depth}" if width else ""
        name = "-".join(part for part in (label, shape, coupling) if part)
        if run is not lazy:
            how |= {"dtype": kind, "device": device, "memory": memory, "coupling": coupling}
            how |= of_builders
            if progress is not None:
                how["progress"] = lambda **kw: progress(branch=name, **kw)
        if role != "limit" or depth is not None:
            how["depth"] = depth
        if width is not None:
            how["width"] = width
        count = max(seeds, _LAZY_SEEDS) if role == "lazy" and is_lazy else seeds
        result = run(task, build, recipe, seeds=count, seed=seed, record_every=record_every, **how)
        branch = Computation(name, role, width, depth, coupling, result)
        branches.append(branch)
        if folder is not None:
            attempt(lambda: branch.write(folder))

    if network is not None:
        add(lazy, "lazy", None, lazy_depth, None, seconds=None)
    for coupling in trained:
        for width, depth in pairs:
            add(train, "finite", width, depth, coupling)
    for coupling in wanted if not is_lazy else ():
        if has_limit:
            share = None if seconds is None else seconds / len(wanted)
            how = {"rtol": rtol, "tol": tol, "ensemble": ensemble, "seconds": share, "over": over}
            add(limit, "limit", None, None if deepen else deepest, coupling, **how)
            result = branches[-1].result
            if isinstance(result, Limit) and not result.converged:
                # Each coupling had its share of the budget.
                said = re.sub(
                    r"(?<=seconds=)[\d.]+(?:e[-+]\d+)?",
                    lambda s: f"{len(wanted) * float(s[0]):g}",
                    result.message,
                )
                notes.append(f"limit-{coupling}: {said}")
        else:
            how = {"tol": of_solve, "ensemble": ensemble, "test_every": record_every}
            add(solve, "reference", 4 * widest, deepest, coupling, **how)

    order = {"limit": 0, "reference": 0, "lazy": 1, "finite": 2}
    branches.sort(key=lambda b: order[b.role])
    comparison = Comparison(
        rows=tuple(_row(b, branches, problem) for b in branches),
        branches=tuple(branches),
        notes=tuple(notes),
        info={
            "kind": "compare",
            **described,
            "sizes": [list(pair) for pair in pairs],
            "over": over,
            "couplings": list(wanted),
            "ensemble": ensemble,
            "seeds": seeds,
            "seed": seed,
            **of_builders,
            "rtol": rtol,
            "tol": tol,
            "dtype": kind,
            "device": str(device),
            "record_every": record_every,
            "versions": versions(),
            "seconds": sum(float(b.result.info["seconds"]) for b in branches),
        },
    )
    if folder is not None:
        attempt(lambda: comparison.save(folder))
    return comparison


def target(branch: Computation, branches: Sequence[Computation]) -> Computation | None:
    """What a finite branch converges to; None for the others."""
    if branch.role != "finite":
        return None
    ends = [b for b in branches if b.role in ("limit", "reference")]
    same = [b for b in ends if b.coupling == branch.coupling]
    return (same or [b for b in branches if b.role == "lazy"] or ends)[0]


def _row(
    branch: Computation, branches: Sequence[Computation], problem: Problem | None
) -> dict[str, Any]:
    """The table's row of a branch."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: getattr(branch, name) for name in ("name", "width", "depth", "coupling")}
    known = (None, None) if problem is None else (problem.labels, problem.labels_test)
    for part, labels in zip(("train", "test"), known, strict=True):
        loss, error = branch.loss(part), branch.error(part)
        if loss is None or error is None:
            continue
        row[f"{part}_loss"], row[f"{part}_loss_error"] = float(loss[-1]), float(error[-1])
        if labels is not None:
            row[f"{part}_accuracy"] = _accuracy(branch.result, part, labels)
    end = target(branch, branches)
    row["gap"] = None if end is None else branch.gap(end)
    row["seconds"] = float(branch.result.info["seconds"])
    return row


def _accuracy(result: Trajectory | Limit, part: str, labels: np.ndarray) -> float:
    """Mean over seeds at the last step; for a limit that of its outputs."""
    if isinstance(result, Trajectory):
        return float(result.mean(f"{part}_accuracy")[-1])
    outputs = np.array(getattr(result, f"{part}_outputs")[-1])
    if not np.isfinite(outputs).all():
        return float("nan")
    return float(accuracy(torch.from_numpy(outputs), torch.tensor(labels)))


def _notes(
    network: ResNet | None,
    plan: ResNet | Plan,
    *,
    is_lazy: bool,
    has_limit: bool,
    lazy_depth: int | None,
    widest: int,
    deepest: int,
) -> list[str]:
    """What stands in for a limit that does not exist."""
    notes = []
    if is_lazy:
        notes.append(
            f"scheme={shown(plan.scheme)} is lazy: its limit is the lazy one, a mean over at least "
            f"{_LAZY_SEEDS} seeds"
        )
    elif not has_limit:
        reason = f"scheme={shown(plan.scheme)}"
        if network is not None and not network.skip:
            reason = "skip=False"
        what = "infinite-depth limit"
        if network is None and not _passes(lambda p: check_has_limit(p, "width"), plan):
            what = "feature-learning limit in width"
        notes.append(
            f"{reason} has no {what}: solve at width={4 * widest}, depth={deepest} stands in for it"
        )
    if network is not None and lazy_depth is not None:
        notes.append(f"the lazy limit is taken in width only, at depth={lazy_depth}")
    return notes


def _passes(check: Callable[[Any], None], network: ResNet | Plan) -> bool:
    try:
        check(network)
    except ValueError:
        return False
    return True


def _check_sizes(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(width, depth) pairs as ints, at least one and all different."""
    remedy = "give pairs (width, depth), such as ((64, 4), (128, 8))"
    listed = check_list("sizes", sizes, 1000, what="pairs (width, depth)")
    try:
        pairs = [(width, depth) for width, depth in listed]
    except (TypeError, ValueError):
        raise TypeError(f"sizes={shown(sizes)} are not pairs: {remedy}") from None
    pairs = [
        (check_int("width in sizes", n, 1), check_int("depth in sizes", l, 1)) for n, l in pairs
    ]
    if not pairs or len(set(pairs)) < len(pairs):
        raise ValueError(f"sizes={shown(sizes)} is empty or repeats a size: {remedy}")
    return pairs
