"""Settings that no law has a term for: the best of each size is kept, or the table refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from leadline.errors import shown
from leadline.forecasting.columns import Meanings, shown_names
from leadline.forecasting.runs import numbered, numbered_rows
from leadline.intervals import f_tail
from leadline.tabular.columns import Columns, empty
from leadline.tabular.names import role_of

# Different texts of a column that may tell kinds of runs apart.
_KINDS = 20
_SURE = 1e-3


def keep_best(
    t: Columns,
    m: Meanings,
    sizes: Mapping[str, np.ndarray],
    loss: np.ndarray,
    ended: np.ndarray,
    notes: list[str],
) -> np.ndarray:
    """(N,) whether a row has its size's best settings, by the mean log loss over seeds.

    Raises:
        ValueError: runs of a size differ in a setting that is no number, such as a data set.
    """
    cell = numbered_rows(list(sizes.values()))
    tuned = []
    for name in m.settings:
        values = [_text(v) for v in t.columns[name]]
        if not _differs(cell[ended], [v for v, e in zip(values, ended, strict=True) if e]):
            continue
        if all(_number(v) for v in values) and role_of(name) != "scheme":
            tuned.append(name)
            continue
        refuse_kinds(t, name, values)
    _refuse_hidden(t, m, cell, loss)
    if not tuned:
        return ended.copy()
    return _best(t, tuned, cell, loss, ended, notes)


def _best(
    t: Columns,
    tuned: list[str],
    cell: np.ndarray,
    loss: np.ndarray,
    ended: np.ndarray,
    notes: list[str],
) -> np.ndarray:
    codes = {n: np.array([_text(v) for v in t.columns[n]]) for n in tuned}
    combination = numbered_rows([numbered(c) for c in codes.values()])
    keep = np.zeros(len(t), bool)
    ends, log = 0, np.log(np.where(np.isfinite(loss), loss, np.inf))
    for c in np.unique(cell[ended]):
        rows = np.flatnonzero((cell == c) & ended)
        options = np.unique(combination[rows])
        means = [log[rows[combination[rows] == o]].mean() for o in options]
        best = options[int(np.argmin(means))]
        keep |= (cell == c) & (combination == best) & ended
        if len(tuned) == 1 and len(options) > 2:
            values = np.array([float(v) for v in codes[tuned[0]][rows]])
            mine = values[combination[rows] == best][0]
            ends += mine in (values.min(), values.max())
    count = len(set(combination[ended]))
    names = " and ".join(map(repr, tuned))
    text = (
        f"Runs of a size differ in {names} ({count} values): the best of each size is kept, "
        f"{int(keep.sum())} of {int(ended.sum())} runs; --where NAME=VALUE keeps another."
    )
    if ends:
        text += (
            f" At {ends} of {len(np.unique(cell))} sizes the best is the smallest or largest tried: "
            "their best may be lower still."
        )
    notes.append(text)
    return keep


def refuse_kinds(t: Columns, name: str, values: list[str]) -> None:
    """Refuse runs of several kinds, with the options that tell them apart."""
    kinds = list(dict.fromkeys(v for v in values if v))
    raise ValueError(
        f"{t.source}: column {name!r} takes {len(kinds)} values within one size "
        f"({shown_names(kinds)}), and "
        f"no law has a term for it: give the runs of one, where={{{name!r}: {kinds[0]!r}}} or --where "
        f"{name}={kinds[0]}, or a forecast of each, --by {name}"
    )


def _refuse_hidden(t: Columns, m: Meanings, cell: np.ndarray, loss: np.ndarray) -> None:
    """Refuse a column of texts that is known for nothing, where it clearly decides the loss."""
    ok = np.isfinite(loss)
    used = {m.loss, m.seed, *(a.column for a in m.axes), *m.settings}
    log = np.log(np.where(ok, loss, 1.0))
    for name, cells in t.columns.items():
        if name in used or role_of(name) is not None or not all(isinstance(c, str) for c in cells):
            continue
        values = [_text(v) for v in cells]
        kinds = numbered(np.array(values))
        if not 1 < kinds.max() + 1 <= _KINDS or not _differs(cell, values):
            continue
        rows = np.flatnonzero(ok)
        if _decides(log[rows], numbered(cell[rows]), numbered(kinds[rows])):
            refuse_kinds(t, name, values)


def _decides(log: np.ndarray, cell: np.ndarray, kinds: np.ndarray) -> bool:
    """Whether kinds differ within sizes: an F-test of their means beside the sizes'."""
    count = np.bincount(cell)
    left = log - (np.bincount(cell, log) / count)[cell]
    design = np.eye(kinds.max() + 1)[kinds][:, 1:]
    sums = np.zeros((len(count), design.shape[1]))
    np.add.at(sums, cell, design)
    design = design - (sums / count[:, None])[cell]
    fitted = design @ np.linalg.lstsq(design, left, rcond=None)[0]
    q, dof = np.linalg.matrix_rank(design), len(log) - len(count)
    if q < 1 or dof - q < 2:
        return False
    rest = ((left - fitted) ** 2).sum() / (dof - q)
    return bool(rest >= 0 and f_tail((fitted**2).sum() / q / max(rest, 1e-18), q, dof - q) < _SURE)


def _differs(cell: np.ndarray, values: list[str]) -> bool:
    seen: dict[int, str] = {}
    return any(v and seen.setdefault(int(c), v) != v for c, v in zip(cell, values, strict=True))


def _text(value: object) -> str:
    if empty(value):
        return ""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{float(value):.12g}"
    text = str(value).strip()
    return f"{float(text):.12g}" if _number(text) else shown(text, 60).strip("'")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
