"""``forecast``: laws fitted to runs, and in plain words what the data do not determine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leadline.errors import check_choice, check_int, check_progress, check_real
from leadline.forecasting.analysis import analyse
from leadline.forecasting.answers import compare_limit, read_limit
from leadline.forecasting.choice import EXPONENTS, LAWS, candidates
from leadline.forecasting.notes import sentences
from leadline.forecasting.reading import read_runs
from leadline.forecasting.result import Forecast
from leadline.forecasting.runs import Runs
from leadline.intervals import percentiles

# Each is a fit: a hundred thousand take minutes and change no digit of an interval.
_MOST_DRAWS = 100_000


def forecast(
    data: Any,
    *,
    loss: str = "loss",
    columns: Mapping[str, str] | None = None,
    axes: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    group: str | None = None,
    law: str = "auto",
    exponents: str = "auto",
    limit: Any = None,
    gain: float = 1.0,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    thousands: str = "",
    decimal: str = ".",
    progress: Callable[..., None] | None = None,
) -> Forecast:
    """How the loss falls with the sizes that runs have, and where it ends.

    Fits E + a sum of powers A·N^-a + B·D^-b + …, Kaplan's form, and a product of powers, each with and
    without the floor E, to finished runs by robust regression of log(loss). Chosen is what predicts the
    largest sizes from the smaller ones; intervals are bootstraps over what the runs show to be independent.

    Args:
        data: one row a run (or a checkpoint), as a list of dicts, a dict of columns, a data frame, or the
            path of a table or a store. Columns are known by the names that people give them:
            parameters (N), tokens (D), flops (C), width, depth, samples, steps, loss, seed. Runs of the
            same size are replicates; a loss that is not finite is a diverged run.
        loss: name of the loss column.
        columns: which column is what, {"parameters": "size"}, where its name does not say it.
        axes: what the loss is fitted against, by column; by default all sizes that vary.
        where: only rows of these values, by column.
        group: column of the training that a row belongs to, where rows are checkpoints. Whole trainings
            are resampled then; without it they are looked for.
        law: "auto", "sum", "kaplan" or "product".
        exponents: "auto", "free" (none is fixed) or "theory" (all are 1; intervals then hold if that
            is true).
        limit: a ``Limit``, or (value, error), to compare the floor with.
        gain: percent of the loss that a doubling has to gain to be worth it.
        confidence: of the intervals.
        draws: of the bootstrap, 50 to 100,000. seed: of its randomness.
        thousands, decimal: marks in numbers that are text.
        progress: called with branch, step, steps.

    Raises:
        ValueError, TypeError, OSError: unusable data or arguments, named with row and remedy.
    """
    check_choice("exponents", exponents, EXPONENTS)
    check_choice("law", law, LAWS)
    progress = check_progress(progress)
    gain = check_real("gain", gain, 0.0, 100.0, open_minimum=True)
    confidence = check_real("confidence", confidence, 0.5, 0.999)
    draws, seed = check_int("draws", draws, 50, _MOST_DRAWS), check_int("seed", seed, 0)
    known = None if limit is None else read_limit(limit)
    runs = read_runs(
        data, loss, columns=columns, axes=axes, where=where, group=group, thousands=thousands,
        decimal=decimal,
    )  # fmt: skip
    _refuse_unfit(runs, exponents, law)
    started = time.perf_counter()

    def report(branch: str, step: int, steps: int) -> None:
        if progress is not None:
            progress(branch=branch, step=step, steps=steps)

    made = analyse(runs, exponents, law, draws, np.random.default_rng(seed), report)
    floor = percentiles([f.floors for f in made.laws], confidence)
    return Forecast(
        floor=floor,
        law=str(made.laws[0].law),
        held_out=made.choice.table,
        held_out_sizes=made.choice.cells,
        resampled=made.way,
        noise=made.noise,
        limit=None if known is None else compare_limit(floor, *known),
        misfit=made.misfit,
        outliers=made.outliers,
        notes=(*runs.notes, *sentences(made, floor, exponents, confidence)),
        runs=made.runs,
        laws=made.laws,
        gain=float(gain),
        confidence=float(confidence),
        seconds=time.perf_counter() - started,
    )


def _refuse_unfit(runs: Runs, exponents: str, law: str) -> None:
    laws = candidates(runs, exponents, law)
    if not laws:
        raise ValueError("data: no law can be fitted to so few runs: give runs of more sizes")
    if law not in ("auto", *(k.kind for k in laws)):
        raise ValueError(
            f"law={law!r} needs {'two' if law == 'kaplan' else 'two or three'} axes of three values "
            "each, exponents that are fitted and more runs than parameters: give law='auto' (--law auto)"
        )
