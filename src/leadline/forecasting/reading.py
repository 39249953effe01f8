"""Finished runs from what a user has: columns recognised, checked, the best setting of each size kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leadline.errors import check_list
from leadline.forecasting.columns import Axis, Meanings, meanings_of, shown_names, together
from leadline.forecasting.runs import FLOPS, Runs, make_runs, numbered
from leadline.forecasting.settings import keep_best
from leadline.store.tables import table
from leadline.tabular.columns import Columns, empty
from leadline.tabular.names import UNFINISHED, role_of
from leadline.tabular.quantities import check_marks, quantities
from leadline.tabular.selection import column_named

_FEWEST = 3
# No training reaches such a loss: digits of it are rounding.
_LEAST, _MOST = 1e-100, 1e100
_COUNTED = ("width", "depth", "parameters", "tokens", "samples", "steps", "batch")


def read_runs(
    data: Any,
    loss: str = "loss",
    *,
    columns: Mapping[str, str] | None = None,
    axes: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    group: str | None = None,
    thousands: str = "",
    decimal: str = ".",
) -> Runs:
    """Read and check.

    Raises:
        ValueError, TypeError, OSError: naming column, row and remedy.
    """
    check_marks(thousands, decimal)
    if axes is not None:
        axes = check_list("axes", axes, 20, what="columns")
    t = table(data, where, "data")
    m = meanings_of(t, loss, columns, axes)
    marks = dict(thousands=thousands, decimal=decimal)
    y, ended = _losses(t, m.loss, marks)
    notes = list(m.notes)
    if not ended.all():
        count = int((~ended).sum())
        notes.append(f"{_runs(count)} that {'has' if count == 1 else 'have'} not ended "
                     f"{'is' if count == 1 else 'are'} left out.")  # fmt: skip
    ok = np.isfinite(y) & ended
    if not ok.any():
        raise ValueError(
            f"{t.source}: all {len(t)} runs diverged (column {m.loss!r} is nowhere finite): "
            "lower the learning rate and run again"
        )
    sizes, roles, costs = _sizes(t, m, marks, ok, notes)
    diverged = int((~ok & ended).sum())
    if diverged:
        are = "is" if diverged == 1 else "are"
        notes.append(
            f"{_runs(diverged)} without a finite loss (diverged) {are} left out, of {len(t)}."
        )
    keep = keep_best(t, m, sizes, np.where(ok, y, np.inf), ended, notes)
    rows = np.flatnonzero(keep & ok)
    group = group or m.group
    labels = None if group is None else _groups(t, group)
    out = make_runs(
        {a: x[rows] for a, x in sizes.items()},
        y[rows],
        roles=roles,
        groups=None if labels is None else numbered(labels[rows]),
        costs=None if costs is None else costs[rows],
        cost_column="" if costs is None or m.flops is None else m.flops.column,
        diverged=diverged,
        notes=(*notes, *_twice(t, m, rows, sizes)),
        label=lambda i: t.row(int(rows[i])),
        read=_read(m, sizes, roles),
    )
    _refuse_few(t, out)
    return out


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _losses(t: Columns, name: str, marks: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) losses, not finite where a run diverged; and whether it has ended."""
    cells = t.columns[name]
    words = ("diverged", "nan", "inf", "+inf", "-inf", "infinity", "-infinity", "div")
    plain = [None if isinstance(c, str) and c.strip().lower() in words else c for c in cells]
    y = np.array(
        quantities(
            Columns({name: plain}, t.row, t.source),
            name,
            whole=False,
            **marks,
        )
    )
    ended = np.ones(len(t), bool)
    for column in t.columns:
        role = role_of(column)
        for i, value in enumerate(t.columns[column]):
            if role in ("diverged", "stopped") and _true(value):
                y[i] = np.nan
            elif role == "state" and str(value).strip().lower() in UNFINISHED:
                ended[i] = np.isinf(y[i])
    for i in np.flatnonzero(np.isfinite(y) & ended):
        if y[i] <= 0:
            raise ValueError(
                f"{t.source}: column {name!r} is {y[i]:g} in {t.row(i)}: a law of sizes needs losses "
                "> 0; leave accuracies and shifted losses out"
            )
        if not _LEAST < y[i] < _MOST:
            raise ValueError(
                f"{t.source}: column {name!r} is {y[i]:g} in {t.row(i)}, which no training has: leave the "
                "row out, or give the loss nan if the run diverged"
            )
    return y, ended


def _true(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "1.0", "yes")
    return not empty(value) and bool(value) and value == value


def _sizes(
    t: Columns, m: Meanings, marks: Mapping[str, str], ok: np.ndarray, notes: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, str], np.ndarray | None]:
    """(N,) by axis, what each is, and a column of costs."""
    sizes = {a.name: _column(t, a, marks) for a in m.axes}
    roles = {a.name: a.role for a in m.axes}
    costs = None
    if m.flops is not None and m.flops.name not in sizes:
        costs = _column(t, m.flops, marks)
        known = {r: a for a, r in roles.items() if len(np.unique(sizes[a][ok])) > 1}
        if len(known) == 1 and (role := next(iter(known))) in ("parameters", "tokens"):
            other, name = ("tokens", "D") if role == "parameters" else ("parameters", "N")
            sizes[name], roles[name] = costs / (FLOPS * sizes[known[role]]), other
            notes.append(
                f"{name} ({other}) is taken as {m.flops.column}/({FLOPS}·{known[role]}), for the table "
                "has none."
            )
    varying = {a: x[ok] for a, x in sizes.items() if len(np.unique(x[ok])) > 1}
    if not m.told and "parameters" in {roles[a] for a in varying}:
        # Parameters say what width and depth say.
        aside = [a for a in varying if roles[a] in ("width", "depth")]
        for axis in aside:
            del varying[axis], sizes[axis], roles[axis]
        if aside:
            said = (
                f"{' and '.join(map(repr, aside))} {'is' if len(aside) == 1 else 'are'} left aside"
            )
            notes.append(f"{said}, for the table has parameters: --axes takes them.")
    while (pair := together(varying)) is not None:
        first, second = pair
        notes.append(
            f"{second!r} moves with {first!r} in these runs, which do not say which of them lowers the "
            f"loss: the law is one of {first!r} along that line, and {second!r} is left out."
        )
        del varying[second], sizes[second], roles[second]
    return sizes, roles, costs


def _column(t: Columns, axis: Axis, marks: Mapping[str, str]) -> np.ndarray:
    whole = axis.role in _COUNTED and axis.unit == 1
    x = axis.unit * np.array(quantities(t, axis.column, whole=whole, **marks))
    for i in np.flatnonzero(~np.isfinite(x)):
        raise ValueError(
            f"{t.source}: column {axis.column!r} has no finite number in {t.row(i)}: fill it in, or "
            "leave the row out"
        )
    for i in np.flatnonzero(x <= 0):
        raise ValueError(
            f"{t.source}: column {axis.column!r} is {x[i]:g} in {t.row(i)}: give a size > 0"
        )
    return x


def _groups(t: Columns, group: str) -> np.ndarray:
    name = column_named(t, "group", group)
    return np.array([str(v) for v in t.columns[name]])


def _twice(
    t: Columns, m: Meanings, rows: np.ndarray, sizes: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    if m.seed is None:
        return ()
    key = [
        (str(t.columns[m.seed][i]), *(x[i] for x in sizes.values()),
         *(str(t.columns[c][i]) for c in m.settings))
        for i in rows
    ]  # fmt: skip
    count = len(key) - len(set(key))
    return (
        (f"{count} rows repeat the size and seed of another: they count twice.",) if count else ()
    )


def _read(m: Meanings, sizes: Mapping[str, np.ndarray], roles: Mapping[str, str]) -> str:
    """Which columns are what, for the first line of an answer."""
    said = []
    for axis in sizes:
        column = next((a.column for a in m.axes if a.name == axis), axis)
        text = roles[axis] if column == roles[axis] else f"{roles[axis]} from {column!r}"
        said.append(text)
    loss = "loss" if m.loss == "loss" else f"loss from {m.loss!r}"
    cost = [] if m.flops is None or m.flops.name in sizes else [f"cost from {m.flops.column!r}"]
    return ", ".join([*said, loss, *cost])


def _refuse_few(t: Columns, runs: Runs) -> None:
    if runs.cells >= _FEWEST:
        return
    sizes = np.unique(np.stack(list(runs.sizes.values()), 1), axis=0)
    seen = shown_names(["×".join(f"{v:g}" for v in size) for size in sizes])
    what = "one size" if runs.cells == 1 else "two sizes"
    raise ValueError(
        f"{t.source} has only {what} ({'×'.join(runs.sizes)}: {seen}): give runs of at least "
        f"{_FEWEST} sizes, better 4 values of each axis"
    )
