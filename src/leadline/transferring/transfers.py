"""``transfer``: does my learning rate carry over, and what do I lose if I trust it?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leadline.errors import check_bool, check_choice, check_int, check_list
from leadline.parametrization.schemes import Scheme
from leadline.sweeps.driver import Sweep, sweep
from leadline.sweeps.grid import grid_of
from leadline.sweeps.schedule import SweepEstimate
from leadline.tabular.names import UNNAMED
from leadline.transferring.advice import without_options
from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import anchor, landscapes, other_axis
from leadline.transferring.meaning import SIZES
from leadline.transferring.result import Transfer
from leadline.transferring.tables import finished
from leadline.transferring.wording import judged

METRICS = ("loss", "test_loss")

# A grid that has not reached an optimum in so many steps has none.
_MOST_EXTENSIONS = 100


def transfer(
    task: Any,
    build: Callable[..., Any],
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    lrs: Sequence[float],
    schemes: Sequence[str | Scheme] = ("auto",),
    seeds: int | Sequence[int] = 3,
    metric: str = "loss",
    extend: int = 0,
    dry_run: bool = False,
    **settings: Any,
) -> Transfer | SweepEstimate:
    """Sweep learning rates over width (at the smallest depth) and over depth (at the smallest width).

    How drift, regret, sharpness and verdict are defined: ``leadline.transferring.analysis``.

    Args:
        task: a ``Task`` (your own loss and batches), a ``Problem`` or a ``Text``.
        build: as for ``sweep``.
        widths, depths: the first of each is the base; one value leaves that axis out.
        lrs: of the base, increasing by equal factors is best; they have to bracket every optimum.
        seeds: as for ``sweep``; intervals need two or more.
        schemes: those compared, by name or as tables of your own (``Scheme``).
        metric: "loss" (training set, at the end) or "test_loss".
        extend: how often the grid may be extended by two rates on a side where it does not bracket an
            optimum; 0 only says in which direction to extend.
        dry_run: return a ``SweepEstimate`` of runs and time instead, as ``sweep`` does, without what
            ``extend`` would add.
        settings: as for ``sweep``: steps, batch_size, optimizer, schedule, clip, store, executor, ... With
            several values of weight_decay (or of warmup) and one learning rate the transfer of that is
            judged in the same way: does the base's best weight decay stay the best?

    Raises:
        ValueError: a bad argument, or one size only.
    """
    check_choice("metric", metric, METRICS)
    grid = grid_of(width=widths, depth=depths, lr=lrs)
    widths, depths = grid["width"], grid["depth"]
    hyperparameter, values = _judged(grid["lr"], settings)
    schemes = grid_of(scheme=schemes)["scheme"]
    names = [s if isinstance(s, str) else s.name for s in schemes]
    extend, dry_run = (
        check_int("extend", extend, 0, _MOST_EXTENSIONS),
        check_bool("dry_run", dry_run),
    )
    axes = [a for a, v in (("width", widths), ("depth", depths)) if len(set(v)) > 1]
    if not axes:
        raise ValueError(
            f"widths={list(widths)!r} and depths={list(depths)!r} hold one size: give two or more of one"
        )
    # Both axes as one sweep: the base's runs are on both, and programs of both run side by side.
    over = functools.partial(
        sweep,
        task,
        build,
        widths=widths,
        depths=depths,
        sizes="axes",
        base=dict(width=min(widths), depth=min(depths)),
        seeds=seeds,
        scheme=schemes,
        **({"lrs": grid["lr"]} | settings),
    )
    argument = "lrs" if hyperparameter == "lr" else hyperparameter
    if dry_run:
        estimate = over(**{argument: values}, dry_run=True)
        assert isinstance(estimate, SweepEstimate)
        return estimate
    rows: dict[str, dict[str, Any]] = {}

    def result(new: Sequence[float]) -> Transfer:
        rows.update({r["id"]: r for r in _rows(over(**{argument: new}))})
        return from_rows(rows.values(), names, metric, axes, hyperparameter)

    outcome = result(values)
    rates = sorted(set(values))
    for _ in range(extend):
        new = further(outcome, rates)
        if hyperparameter == "warmup":
            new = [v for v in dict.fromkeys(round(v) for v in new) if v >= 1 and v not in rates]
        if not new:
            break
        rates = sorted({*rates, *new})
        outcome = result(new)
    return outcome


def _judged(lrs: list[Any], settings: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The hyperparameter with several values, and its values.

    Raises:
        ValueError: several have, or none has three.
    """
    values = {"lr": lrs}
    for name in ("weight_decay", "warmup"):
        if name in settings:
            values[name] = grid_of(**{name: settings[name]})[name]
    several = [name for name, v in values.items() if len(set(v)) > 1]
    if len(several) > 1:
        raise ValueError(
            f"{several[0]} and {several[1]} both have several values: one hyperparameter is judged at a "
            "time, give one value of the others"
        )
    (name,) = several or ["lr"]
    label = "lrs" if name == "lr" else name
    if len(set(values[name])) < 3:
        raise ValueError(
            f"{label}={list(values[name])!r} are too few to find an optimum: give three or more"
        )
    if min(values[name]) <= 0:
        raise ValueError(
            f"{label}={list(values[name])!r} holds 0, which no factor reaches: give values above 0"
        )
    return name, values[name]


def further(outcome: Transfer, lrs: Sequence[float]) -> list[float]:
    """Two rates beyond each end of a grid that cuts an optimum off, at the grid's own spacing."""
    edges = {s.edge for a in outcome.axes for s in a.sizes}
    low, high = min(lrs), max(lrs)
    factor = (high / low) ** (1 / (len(set(lrs)) - 1))
    down = [low / factor, low / factor**2] if edges & {"low", "all diverged"} else []
    return down + ([high * factor, high * factor**2] if "high" in edges else [])


def _rows(done: Sweep | SweepEstimate) -> list[dict[str, Any]]:
    """The runs of a sweep.

    Raises:
        ValueError: some could not be trained.
    """
    assert isinstance(done, Sweep)
    if done.failed:
        raise ValueError(f"runs failed: {'; '.join(done.failed)}")
    return done.rows


def from_rows(
    rows: Iterable[Mapping[str, Any]],
    schemes: Sequence[str] | None = None,
    metric: str = "loss",
    axes: Sequence[str] = SIZES,
    hyperparameter: str = "lr",
) -> Transfer:
    """The analysis of rows with width, depth, lr, seed, scheme and the metric.

    Raises:
        ValueError: no runs, one size only, two runs in one place, holes in the grid.
    """
    kept = tuple(dict(r) for r in rows)
    if not kept:
        raise ValueError("there are no runs to compare")
    names = (
        list(dict.fromkeys(r.get("scheme", UNNAMED) for r in kept)) if schemes is None else schemes
    )
    varying = [a for a in axes if len({r.get(a) for r in kept}) > 1]
    if not varying:
        raise ValueError("the runs hold one size: give two or more")
    places = {(s, a): anchor(kept, s, a) for s in names for a in varying}
    # A size that is alone at every other size is on no axis; where none is on one, the error says so.
    there = [p for p, at in places.items() if at is not None] or list(places)
    notes = [
        f"No two {axis}s of {scheme!r} are at one {other_axis(axis)}: nothing is said over {axis}."
        for scheme, axis in places
        if (scheme, axis) not in there
    ]
    for axis in varying:
        at = {places[p] for p in there if p[1] == axis}
        if len(at) == 1 and len({r.get(other_axis(axis)) for r in kept}) > 1:
            notes.append(f"The {axis} rows are of runs at {other_axis(axis)} {at.pop()}.")
    rows = judged(kept, hyperparameter)
    results = [analyse(s, axis, landscapes(rows, s, axis, metric)) for s, axis in there]
    return Transfer(tuple(results), kept, metric, tuple(notes), hyperparameter)


def transfer_from(
    rows: Any,
    schemes: Sequence[str] | None = None,
    metric: str = "loss",
    axes: Sequence[str] = SIZES,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Transfer:
    """The analysis of ``transfer``, from runs that were made anywhere.

    Columns are recognised by their names and by those of common tools (``n_embd``, ``train/loss``,
    ``config.learning_rate``, ``log2lr``, …). What was read from which column is in the result's ``notes``.
    Rates are the base's, as in ``transfer``: those to which the scheme's factors still apply; where there
    are none, the rate itself.

    Args:
        rows: a list of dicts, a frame of pandas or polars, a dict of columns, the path of a table (CSV,
            JSON, JSON lines, parquet; .gz), or a folder: a store, TensorBoard's event files, or one table a
            run. A row a run, or a row a step, of which each run's last is taken. A loss that is NaN or
            infinite is a run that diverged.
        schemes: those compared; None: all in the column scheme, or one.
        metric: "loss" (training), "test_loss", or a column's name.
        axes: "width", "depth" or both.
        columns: which column is what, such as ``{"lr": "peak"}``, for width, depth, lr, loss, test_loss,
            seed, scheme, step.
        where: only the runs with these values in these columns; a list means any of it.

    Raises:
        ValueError: no column for the rate, the loss or a size, or several that differ; two runs in one
            place; rates or seeds that a size lacks; one size only; losses that are not above 0.
        TypeError, OSError: what cannot be read.

    >>> runs = [
    ...     dict(width=w, lr=2.0**k, seed=s, loss=1 + (k + 3) ** 2 / 50 + s / 99)
    ...     for w in (64, 256) for k in range(-6, 1) for s in range(3)
    ... ]
    >>> print(transfer_from(runs).answer[0])
    Train every width up to 256 with 0.125: it costs at most 0.99 % of loss at width 256.
    """
    axes = [check_choice("axes", a, SIZES) for a in check_list("axes", axes, 2)]
    read = finished(rows, check_type_text("metric", metric), columns, where)
    if schemes is not None:
        have = dict.fromkeys(str(r.get("scheme", UNNAMED)) for r in read.rows)
        schemes = [check_choice("schemes", s, have) for s in check_list("schemes", schemes, 100)]
    made = from_rows(read.rows, schemes, read.metric, axes)
    results = tuple(without_options(a) for a in made.axes)
    return replace(made, axes=results, notes=(*read.notes, *made.notes))


def check_type_text(name: str, value: Any) -> str:
    """The value if it is text."""
    if not isinstance(value, str):
        raise TypeError(
            f"{name}={value!r} is no text: give {', '.join(METRICS)} or a column's name"
        )
    return value
