"""``limit``: infinite width and depth from growing sizes, with an error bar and a test of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.architecture import ResNet, refuse_for_builder, refuse_for_network
from leadline.disk.write import check_folder
from leadline.errors import MemoryBudgetError, check_int, check_progress, check_real
from leadline.limits.existence import check_has_limit, check_over
from leadline.limits.kernels_of_sizes import check_measurable, measured_limit
from leadline.limits.ladder import Ladder, first_sizes, first_tol, first_width
from leadline.limits.networks import (
    Solved,
    check_memory,
    facts,
    first_size,
    of_first,
    sized,
)
from leadline.limits.result import Limit
from leadline.limits.standing import Standing
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.run_state import check_identified
from leadline.measure.record import check_task
from leadline.planning.plans import Plan
from leadline.solving.configuration import Configuration
from leadline.tracing.builder import Size, size
from leadline.trajectory import versions

if TYPE_CHECKING:
    from leadline.measure.observation import Measure
    from leadline.parametrization.schemes import Scheme
    from leadline.recipes.base import Recipe
    from leadline.tracing.builder import Builder

# The arguments of a size that are the same for all sizes.
_INFO = (
    "problem network sgd recipe recorded coupling ensemble seeds seed accumulation tol stored "
    "variance_reduction dtype"
).split()
# Most limits need a fraction of it; near instability no time is enough.
SECONDS = 300.0
# The first depth of a ResNet.
DEPTH = 8


def limit(
    task: Any,
    build: ResNet | Builder | Plan,
    recipe: Recipe,
    rtol: float = 0.01,
    *,
    over: str = "both",
    width: int | None = None,
    depth: int | None = None,
    base: Mapping[str, int] | Size | None = None,
    scheme: str | Scheme = "auto",
    coupling: str = "reused",
    ensemble: str = "gaussian",
    seeds: int = 4,
    seed: int = 0,
    accumulation: int = 1,
    tol: float | None = None,
    variance_reduction: str | None = None,
    dtype: Any = "float32",
    device: Any = "cpu",
    record_every: int = 1,
    measure: Measure | None = None,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
    stored: str | Sequence[str] = (),
    seconds: float | None = SECONDS,
    memory: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    group: Any = None,
    progress: Callable[..., Any] | None = None,
) -> Limit:
    """Extrapolate ``solve`` to infinite width and depth, or to infinite width at a given depth.

    The outputs of a network of width n and depth L differ from their limit by a series in 1/n and
    1/L. From (width, depth) on, the size that promises most for its time is added, until the error
    bar of the training loss is at most ``rtol`` times the initial loss at every recorded step, and
    the sizes follow the series (``leadline.limits.series``).

    Of a builder's models on a ``Problem`` outputs are extrapolated, as of a ``ResNet``, unless they stay
    random in the limit (dropout; numbers drawn for what does not grow, such as a readout's bias). Then, and
    on a ``Task`` or a ``Text``, which have no outputs, the mean loss of every step is extrapolated as a
    number.

    Args:
        task, build, recipe, base, scheme, accumulation, roles, inputs, stored: as in ``solve``.
        over: "both", or "width": the limit of infinite width at the given ``depth``, by at least three
            widths.
        ensemble: "fast" is checked against "gaussian" at the first size, by ten seeds of each.
        variance_reduction: for a ``ResNet``: None is "balanced", for the fast ensemble "ends".
        rtol: > 0 and < 1. width: the first n; None takes room enough for the problem (of a builder, a
            multiple of the base's width). depth: the first L; None is 8 (of a builder, twice the base's).
            Later sizes are these times powers of two.
        measure: what to extrapolate besides: kernels and movement, from the sizes that the losses
            needed, each with its error bar (``Limit.measures``), which does not have to meet rtol. Depth
            times must be layers of the first size; modules must be there at every depth.
        tol: as in ``solve``. None begins at half of rtol (at most 0.01; at 0.001 for a builder or
            the fast ensemble) and is lowered
            until what it drops at the first size is worth less than a tenth of the bar.
        seconds: time budget: the next size is not begun if it would end later (the first three
            are solved in any case). None is no budget: near instability that may be forever.
        memory: budget in bytes, as in ``solve``.
        checkpoint: folder that keeps every finished size; the same call goes on from there.
        seeds: S ≥ 2 at every size.
        group: for a ``ResNet``, as in ``solve``.
        coupling, seed, dtype, device, record_every, progress: as in ``solve``.

    Returns:
        A ``Limit``; ``converged`` is False, with the reason and what to do, when a budget ended the
        work or networks diverge.

    Raises:
        ValueError, TypeError: bad arguments, or a scheme that has no limit.
        MemoryError: the first size does not fit.
    """
    over = check_over(over)
    rtol = check_rtol(rtol)
    seeds, progress = check_int("seeds", seeds, 2), check_progress(progress)
    if seconds is not None:
        seconds = check_real("seconds", seconds, 0.0, open_minimum=True)
    if over == "width" and depth is None:
        raise ValueError("over='width' is at one depth, and none is given: give depth=")
    shared: dict[str, Any] = dict(
        coupling=coupling,
        ensemble=ensemble,
        seeds=seeds,
        seed=seed,
        tol=first_tol(rtol, isinstance(build, ResNet) and ensemble == "gaussian")
        if tol is None
        else tol,
        dtype=dtype,
        device=device,
        record_every=record_every,
        measure=measure,
        memory=memory,
    )
    of_builders = dict(base=base, roles=roles, inputs=inputs)
    of_builders |= dict(scheme=scheme, accumulation=accumulation, stored=stored)
    of_networks = dict(variance_reduction=variance_reduction, group=group)
    at: dict[str, Any] = dict(over=over, width=width, depth=depth)
    if isinstance(build, ResNet):
        refuse_for_network(**of_builders)
        first = _of_network(task, build, recipe, **at, options=of_networks | shared)
    else:
        refuse_for_builder(**of_networks)
        first = builders_first(task, build, recipe, **at, options=of_builders | shared)
        if checkpoint is not None:
            check_identified(first.builder, first.task, first.recipe, "checkpoint")
    return _limit(
        first,
        over,
        rtol=rtol,
        seconds=seconds,
        checkpoint=checkpoint,
        progress=progress,
        chooses=tol is None,
    )


def _of_network(
    problem: Any,
    network: ResNet,
    sgd: Any,
    *,
    over: str,
    width: int | None,
    depth: int | None,
    options: dict[str, Any],
) -> Configuration:
    """The first size of a ``ResNet``."""
    check_task(problem, network, sgd)
    check_has_limit(network, over)
    if options["variance_reduction"] is None:
        options["variance_reduction"] = "ends" if options["ensemble"] == "fast" else "balanced"
    return Configuration(
        problem,
        network,
        sgd,
        width=first_width(problem) if width is None else width,
        depth=DEPTH if depth is None else depth,
        **options,
    )


def builders_first(
    task: Any,
    build: Any,
    recipe: Recipe,
    *,
    over: str,
    width: int | None,
    depth: int | None,
    options: dict[str, Any],
) -> TaskConfiguration:
    """The first size of ``limit`` of a builder's models; the plan is read at the base."""
    base = build.base if isinstance(build, Plan) else options["base"]
    at = Size(1, 1) if base is None else size("base", base)
    one = TaskConfiguration(task, build, recipe, at.width, at.depth, **options)
    check_has_limit(one.plan, over)
    usual = first_size(one)
    return one.at(
        usual[0] if width is None else check_int("width", width, 1),
        usual[1] if depth is None else check_int("depth", depth, 1),
    )


def _limit(
    first: Solved,
    over: str,
    *,
    rtol: float,
    seconds: float | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: Callable[..., Any] | None,
    chooses: bool,
) -> Limit:
    """Solve sizes until the bar is met, or a budget ends the work."""
    if checkpoint is not None:
        checkpoint = check_folder("checkpoint", checkpoint)
    started = time.perf_counter()
    check_measurable(first, over)
    ladder = Ladder(first, progress, checkpoint, over, rtol if chooses else None)

    def stopped(n: int, l: int, waiting: bool, seeds: int | None = None) -> str:
        """Solve a size; or why not."""
        # One clock decides for all processes.
        need = of_first(first, ladder.predict_seconds(n, l, seeds)) if waiting else 0.0
        spent = of_first(first, ladder.seconds)
        if seconds is not None and waiting and spent + need > seconds:
            return (
                f"stopped by seconds={seconds:g}: {{short}}; width={n}, depth={l} would "
                f"take about {need:.0f} s more: give seconds={math.ceil(1.2 * (spent + need))}"
            )
        try:
            check_memory(sized(first, n, l))
            ladder.solve(n, l, seeds)
        except MemoryError as e:
            if isinstance(e, MemoryBudgetError) and e.checkpoint is not None:
                # Finished sizes are kept, not parts of one.
                Path(e.checkpoint).unlink(missing_ok=True)
                reason = f"width={n}, depth={l} grew past the budget of {first.memory} bytes"
            else:
                reason = str(e)
            if not ladder.cells:
                raise
            return f"stopped by memory: {{short}}; {reason}"
        return ""

    message = ""
    for step in first_sizes(first.width, first.depth, over):
        message = message or stopped(*step, waiting=False)
    while True:
        state = Standing.of(ladder, rtol)
        if state.verdict or message:
            break
        assert state.train is not None
        seeds = ladder.next_seeds(state.train, state.target)
        size_ = ladder.next_size(state.train, state.target)
        message = stopped(*size_, waiting=True, seeds=seeds)
    return Limit(
        steps=state.steps,
        **state.arrays,
        contributions=state.contributions,
        sizes=tuple(ladder.rows()),
        p_value=state.p_value,
        converged=state.converged,
        message=state.verdict or message.format(short=state.short),
        agreement=ladder.agreement,
        measures=measured_limit(ladder),
        info={
            **{name: value for name, value in facts(ladder.first).items() if name in _INFO},
            "kind": "limit",
            "over": over,
            **({"depth": first.depth} if over == "width" else {}),
            "rtol": rtol,
            "versions": versions(),
            "seconds": time.perf_counter() - started,
        },
    )


def check_rtol(rtol: float) -> float:
    """Refuse what is no share of the initial loss."""
    return check_real("rtol", rtol, 0.0, 1.0, open_minimum=True, open_maximum=True)
