"""What the sizes of a ladder say together: the limit so far, and whether it is enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.limits.estimate import SOURCES, Extrapolation, estimate
from leadline.limits.ladder import LEVELS, Ladder
from leadline.matrixfree.configuration import TaskConfiguration

# A series that would misfit so much so rarely is not believed.
MISFIT = 0.01


@dataclass(frozen=True)
class Standing:
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
    def of(cls, ladder: Ladder, rtol: float) -> Standing:
        """Estimate and judge."""
        deepen, builder = ladder.over == "both", isinstance(ladder.first, TaskConfiguration)
        runs, largest = ladder.runs, list(ladder.cells.values())[-1]
        steps, gone = largest.steps, ladder.diverges
        target = rtol * float(largest.mean()[0])
        arrays: dict[str, Any] = {"train_outputs": None}
        bar = np.full(len(steps), np.nan)
        contributions = dict.fromkeys((*SOURCES, "truncation"), math.nan)
        train = None
        for part in ("train", "test"):
            outputs = getattr(largest, f"{part}_outputs")
            if getattr(largest, f"{part}_loss") is None:
                continue
            if not runs:
                arrays |= {f"{part}_loss": bar, f"{part}_loss_error": bar}
                if outputs is not None:
                    arrays |= {f"{part}_outputs": np.full(outputs.shape[1:], np.nan)}
                continue
            kind, y = _loss_of(ladder, part)
            how = {"rank": ladder.rank, "deepen": deepen, "any_fall": builder}
            limit_of_part = estimate(runs, part, kind, y, **how)
            extrapolated = limit_of_part.outputs
            if kind is None and outputs is not None:
                problem = ladder.first.problem
                assert problem is not None
                targets = problem.y if part == "train" else problem.y_test
                extrapolated = estimate(runs, part, problem.loss, targets, **how).outputs
            sources = limit_of_part.sources | {"truncation": ladder.truncation(f"{part}_loss")}
            error = np.hypot(limit_of_part.bar, sources["truncation"])
            for name, value in (
                ("outputs", None if outputs is None else extrapolated),
                ("loss", limit_of_part.loss),
                ("loss_error", error),
            ):
                if value is None:
                    continue
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
        enough, series = ladder.enough, "1/n and 1/L" if deepen else "1/n"
        if worst <= target:
            short = f"error bar {worst:.2g} is within rtol={rtol:g}, but "
            if enough:
                short += f"the sizes do not follow a series in {series} (p = {p_value:.1g})"
            else:
                depths = f" and {LEVELS} depths" if deepen else ""
                short += f"there are not {LEVELS} widths{depths} to test it"
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


def _loss_of(ladder: Ladder, part: str) -> tuple[str | None, np.ndarray | None]:
    """The loss of outputs and its targets; None where losses are extrapolated as numbers."""
    problem = ladder.first.problem
    if problem is None or ladder.random:
        return None, None
    return problem.loss, problem.y if part == "train" else problem.y_test
