"""``limit``: infinite width and depth from growing sizes, with an error bar and a test of it."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.architecture import ResNet
from leadline.disk.write import check_folder
from leadline.errors import MemoryBudgetError, check_int, check_real
from leadline.limits.estimate import SOURCES, Extrapolation, estimate
from leadline.limits.ladder import LEVELS, Ladder, Size, first_sizes, first_width
from leadline.limits.result import Limit
from leadline.measure.record import check_task
from leadline.recipes.sgd import SGD
from leadline.solving import memory as memory_use
from leadline.solving.configuration import Configuration
from leadline.solving.solver import Progress
from leadline.trajectory import versions

if TYPE_CHECKING:
    from leadline.problems import Problem

# A series that would misfit so much so rarely is not believed.
MISFIT = 0.01
# The arguments of a size that are the same for all sizes.
_INFO = "problem network sgd coupling ensemble seeds seed tol variance_reduction dtype".split()
# Most limits need a fraction of it; near instability no time is enough.
SECONDS = 300.0


def limit(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    rtol: float = 0.01,
    *,
    coupling: str = "reused",
    ensemble: str = "gaussian",
    width: int | None = None,
    depth: int = 8,
    seeds: int = 4,
    seed: int = 0,
    tol: float = 1e-3,
    variance_reduction: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    record_every: int = 1,
    seconds: float | None = SECONDS,
    memory: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    group: Any = None,
    progress: Progress | None = None,
) -> Limit:
    """Extrapolate ``solve`` to infinite width and depth.

    The outputs of a network of width n and depth L differ from their limit by a series in 1/n and
    1/L. From (width, depth) on, the size that promises most for its time is added, until the error
    bar of the training loss is at most ``rtol`` times the initial loss at every recorded step, and
    the sizes follow the series (``leadline.limits.series``).

    Args:
        ensemble: "fast" is checked against "gaussian" at the first size, by ten seeds of each.
        variance_reduction: None is "balanced", for the fast ensemble "ends".
        rtol: > 0 and < 1. width: the first n; None takes room enough for the problem.
        seconds: time budget: the next size is not begun if it would end later (the first three
            are solved in any case). None is no budget: near instability that may be forever.
        memory: budget in bytes, as in ``solve``.
        checkpoint: folder that keeps every finished size; the same call goes on from there.
        The rest as in ``solve``.

    Returns:
        A ``Limit``; ``converged`` is False, with the reason and what to do, when a budget ended the
        work or networks diverge.

    Raises:
        ValueError, TypeError: bad arguments, or a scheme that has no limit.
        MemoryError: the first size does not fit.
    """
    check_task(problem, network, sgd)
    rtol = check_rtol(rtol)
    seeds = check_int("seeds", seeds, 2)
    if seconds is not None:
        seconds = check_real("seconds", seconds, 0.0, open_minimum=True)
    check_has_limit(network)
    width = first_width(problem) if width is None else width
    if variance_reduction is None:
        variance_reduction = "ends" if ensemble == "fast" else "balanced"
    first = Configuration(
        problem,
        network,
        sgd,
        width=width,
        depth=depth,
        coupling=coupling,
        ensemble=ensemble,
        seeds=seeds,
        seed=seed,
        tol=tol,
        variance_reduction=variance_reduction,
        dtype=dtype,
        device=device,
        record_every=record_every,
        memory=memory,
        group=group,
    )
    if checkpoint is not None:
        checkpoint = check_folder("checkpoint", checkpoint)
    started = time.perf_counter()
    ladder = Ladder(first, progress, checkpoint)

    def stopped(size: Size, waiting: bool) -> str:
        """Solve a size; or why not."""
        configuration = replace(first, width=size[0], depth=size[1])
        # One clock decides for all processes.
        need = configuration.shards.of_first(ladder.predict_seconds(*size)) if waiting else 0.0
        spent = configuration.shards.of_first(ladder.seconds)
        if seconds is not None and waiting and spent + need > seconds:
            return (
                f"stopped by seconds={seconds:g}: {{short}}; width={size[0]}, depth={size[1]} would "
                f"take about {need:.0f} s more: give seconds={math.ceil(1.2 * (spent + need))}"
            )
        try:
            memory_use.predict(configuration).check_first_step(memory_use.budget(configuration))
            ladder.solve(*size)
        except MemoryError as e:
            if isinstance(e, MemoryBudgetError) and e.checkpoint is not None:
                # Finished sizes are kept, not parts of one.
                Path(e.checkpoint).unlink(missing_ok=True)
                reason = f"width={size[0]}, depth={size[1]} grew past the budget of {memory} bytes"
            else:
                reason = str(e)
            if not ladder.cells:
                raise
            return f"stopped by memory: {{short}}; {reason}"
        return ""

    message = ""
    for size in first_sizes(first.width, first.depth):
        message = message or stopped(size, waiting=False)
    while True:
        state = _State.of(ladder, rtol)
        if state.verdict or message:
            break
        assert state.train is not None
        message = stopped(ladder.next_size(state.train, state.target), waiting=True)
    return Limit(
        steps=state.steps,
        **state.arrays,
        contributions=state.contributions,
        sizes=tuple(ladder.rows()),
        p_value=state.p_value,
        converged=state.converged,
        message=state.verdict or message.format(short=state.short),
        agreement=ladder.agreement,
        info={
            **{name: value for name, value in first.info.items() if name in _INFO},
            "kind": "limit",
            "rtol": rtol,
            "versions": versions(),
            "seconds": time.perf_counter() - started,
        },
    )


def check_rtol(rtol: float) -> float:
    """Refuse what is no share of the initial loss."""
    return check_real("rtol", rtol, 0.0, 1.0, open_minimum=True, open_maximum=True)


def check_has_limit(network: ResNet) -> None:
    """Refuse a network without a feature-learning limit in width and depth."""
    table, k = network.table, network.block_layers
    drift = max(table.drift(j, k) for j in range(k))
    if not network.skip:
        raise ValueError("skip=False has no infinite-depth limit: give skip=True, or use solve")
    if table.rate_width == 0.0:
        raise ValueError(
            f"scheme={network.scheme!r} is lazy in the limit: use leadline.lazy, or "
            "scheme='depth-mup' or 'auto'"
        )
    if table.noise > 0 or drift > 0:
        raise ValueError(
            f"scheme={network.scheme!r} with block_layers={k} has no infinite-depth limit (its "
            f"updates grow like L^{max(table.noise, drift):g}): use scheme='auto', or solve at a "
            "given depth"
        )


@dataclass(frozen=True)
class _State:
    """What the sizes say together.

    Attributes:
        verdict: why no further size is needed, or "". short: what is missing, for other endings.
        train: None where every size diverged.
    """

    steps: np.ndarray
    arrays: dict[str, Any]
    contributions: dict[str, float]
    target: float
    p_value: float
    converged: bool
    verdict: str
    short: str
    train: Extrapolation | None

    @classmethod
    def of(cls, ladder: Ladder, rtol: float) -> _State:
        """Estimate and judge."""
        problem = ladder.first.problem
        runs, largest = ladder.runs, list(ladder.cells.values())[-1]
        steps, gone = largest.steps, ladder.diverges
        target = rtol * float(largest.mean()[0])
        arrays: dict[str, Any] = {}
        bar = np.full(len(steps), np.nan)
        contributions = dict.fromkeys((*SOURCES, "truncation"), math.nan)
        train = None
        for part, y in (("train", problem.y), ("test", problem.y_test)):
            if y is None:
                continue
            if not runs:
                empty = np.full(np.shape(getattr(largest, f"{part}_outputs"))[1:], np.nan)
                arrays |= {f"{part}_outputs": empty}
                arrays |= {f"{part}_loss": bar, f"{part}_loss_error": bar}
                continue
            limit_of_part = estimate(runs, part, problem.loss, y, ladder.rank)
            sources = limit_of_part.sources | {"truncation": ladder.truncation(f"{part}_loss")}
            error = np.hypot(limit_of_part.bar, sources["truncation"])
            for name, value in (
                ("outputs", limit_of_part.outputs),
                ("loss", limit_of_part.loss),
                ("loss_error", error),
            ):
                value = np.array(value)
                value[steps >= gone] = np.nan
                arrays[f"{part}_{name}"] = value
            if part == "train":
                train, bar = limit_of_part, error
                k = int(np.argmax(bar))
                contributions = {source: float(x[k]) for source, x in sources.items()}
        worst = float(bar.max())
        p_value = math.nan if train is None else train.p_value
        short = f"error bar {worst:.2g}, rtol asks for {target:.2g}"
        enough = min(ladder.levels) >= LEVELS
        if worst <= target:
            short = f"error bar {worst:.2g} is within rtol={rtol:g}, but "
            if enough:
                short += f"the sizes do not follow a series in 1/n and 1/L (p = {p_value:.1g})"
            else:
                short += f"there are not {LEVELS} widths and {LEVELS} depths to test it"
        converged = bool(worst <= target and enough and p_value >= MISFIT and math.isinf(gone))
        agreement = ladder.agreement
        converged = converged and (agreement is None or agreement.agrees)
        verdict = ladder.divergence
        if not verdict and agreement is not None and not agreement.agrees:
            verdict = (
                f"undecided: ensemble={ladder.first.ensemble!r} {agreement}: give width="
                f"{2 * agreement.width}, where finite networks differ less, or ensemble='gaussian'"
            )
        if converged:
            verdict = f"error bar {worst:.2g} within rtol={rtol:g} of the initial loss"
        return cls(steps, arrays, contributions, target, p_value, converged, verdict, short, train)
