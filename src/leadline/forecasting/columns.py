"""Which columns are axes, loss, cost and settings, as a user has named them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.errors import check_choice, check_type, shown
from leadline.store.tables import table
from leadline.tabular.columns import Columns, empty
from leadline.tabular.names import (
    AXES,
    LARGER_IS_BETTER,
    LETTERS,
    axis_of,
    is_setting,
    plain_name,
    role_of,
)
from leadline.tabular.selection import column_named, cut_list

DEFAULT = ("parameters", "width", "depth", "tokens", "samples", "steps")
"""Axes that are taken without being told, the first ones before the later ones where two go together."""
MAPPED = (*AXES, "loss", "seed", "group")
# A column's name stands for its axis where it is so short.
_SHORT = 10
# Forecasts that one command makes.
_KINDS = 50


@dataclass(frozen=True)
class Axis:
    """A column that losses are fitted against.

    Attributes:
        name: in formulas. role: what it is, or its name. unit: what its numbers are multiplied by.
    """

    name: str
    column: str
    role: str
    unit: float = 1.0


@dataclass(frozen=True)
class Meanings:
    """Columns by what they are.

    Attributes:
        group: the training that a row belongs to. flops: a cost, which may be an axis too.
        told: whether the axes were.
    """

    axes: tuple[Axis, ...]
    loss: str
    seed: str | None
    group: str | None
    flops: Axis | None
    settings: tuple[str, ...]
    notes: tuple[str, ...]
    told: bool


def meanings_of(
    t: Columns, loss: str, told: Mapping[str, str] | None, axes: Sequence[str] | None
) -> Meanings:
    """Read the header.

    Raises:
        ValueError, TypeError: no axis, no loss, or two columns that could be one thing.
    """
    columns = _told(t, told)
    notes: list[str] = []
    lost = columns.get("loss") or _loss(t, loss, notes)
    known: dict[str, Axis] = {}
    for role in AXES:
        axis = _axis(t, role, columns, lost)
        if axis is not None:
            known[role] = axis
    if axes is None:
        chosen = [known[r] for r in DEFAULT if r in known]
        if not chosen and "flops" in known:
            chosen = [known["flops"]]
    else:
        chosen = [_named_axis(t, name, known) for name in axes]
    if not chosen:
        raise ValueError(
            f"{t.source} has no column of a size (it has {cut_list(', '.join(t.columns))}): say which "
            "it is, columns={'parameters': NAME} or --columns parameters=NAME (also tokens, width, depth, "
            "samples, steps, flops), or axes=[NAME] or --axes NAME"
        )
    used = {lost, *(a.column for a in chosen)}
    seed = columns.get("seed") or next((c for c in t.columns if role_of(c) == "seed"), None)
    settings = tuple(
        c
        for c in t.columns
        if c not in used
        and c != seed
        and (axis_of(c) or ("",))[0] not in (*DEFAULT, "flops")
        and (is_setting(c) or role_of(c) in ("lr", "log2_lr", "log10_lr", "scheme"))
    )
    return Meanings(
        axes=tuple(chosen),
        loss=lost,
        seed=seed,
        group=columns.get("group"),
        flops=known.get("flops"),
        settings=settings,
        notes=tuple(notes),
        told=axes is not None,
    )


def _told(t: Columns, told: Mapping[str, str] | None) -> dict[str, str]:
    if told is None:
        return {}
    check_type(
        "columns", told, Mapping, "give a dict such as {'parameters': 'size', 'loss': 'nll'}"
    )
    out = {}
    for role, name in told.items():
        # N, D, params and other names that a column would be recognised by say it too.
        role = role if role in MAPPED else (axis_of(str(role)) or (role,))[0]
        check_choice("columns", role, MAPPED)
        out[role] = column_named(t, f"columns[{role!r}]", name)
    return out


def _loss(t: Columns, loss: str, notes: list[str]) -> str:
    """The loss's column; of several losses the one of training."""
    if loss in t.columns:
        name = loss
    elif loss != "loss":
        name = column_named(t, "loss", loss)
    else:
        roles = {c: role_of(c) for c in t.columns if not all(map(empty, t.columns[c]))}
        some = [c for c in roles if roles[c] == "loss" or LETTERS.get(c) == "loss"]
        some = some or [c for c in roles if roles[c] == "test_loss"]
        if not some:
            raise ValueError(
                f"{t.source} has no column 'loss' (it has {cut_list(', '.join(t.columns))}): say which it "
                "is, loss=NAME or --loss NAME"
            )
        name = some[0]
        if len(some) > 1:
            others = ", ".join(map(repr, some[1:]))
            notes.append(f"The loss is {name!r}; {others} could be it too (--loss NAME).")
    if better := sorted(set(plain_name(name).split("_")) & LARGER_IS_BETTER):
        raise ValueError(
            f"{t.source}: column {name!r} is better when it is larger ({better[0]}): give the column of "
            "a loss"
        )
    return name


def _axis(t: Columns, role: str, told: Mapping[str, str], loss: str) -> Axis | None:
    """The column of a role.

    Raises:
        ValueError: several, and they differ.
    """
    if role in told:
        unit = (axis_of(told[role]) or ("", 1.0))[1]
        return Axis(_name(told[role], role), told[role], role, unit)
    some = [
        c
        for c in t.columns
        if c != loss and c not in told.values() and (axis_of(c) or ("",))[0] == role
        and not all(map(empty, t.columns[c]))
    ]  # fmt: skip
    if not some:
        return None
    exact = [c for c in some if plain_name(c) == role or LETTERS.get(c) == role]
    first = (exact or some)[0]
    for other in some:
        if other == first or exact:
            continue
        if any(str(a) != str(b) for a, b in zip(t.columns[first], t.columns[other], strict=True)):
            raise ValueError(
                f"{t.source}: the columns {first!r} and {other!r} could both be the {role}, and differ: "
                f"say which it is, columns={{{role!r}: {first!r}}} or --columns {role}={first}"
            )
    return Axis(_name(first, role), first, role, (axis_of(first) or ("", 1.0))[1])


def _name(column: str, role: str) -> str:
    return column if len(column) <= _SHORT and column.isidentifier() else role


def _named_axis(t: Columns, name: str, known: Mapping[str, Axis]) -> Axis:
    for axis in known.values():
        if name in (axis.name, axis.column, axis.role):
            return axis
    meant = (axis_of(name) or ("",))[0]
    if meant in known and name not in t.columns:
        return known[meant]
    column = column_named(t, "axes", name)
    return Axis(column, column, column)


def together(sizes: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Two axes of which one is a power of the other in all runs, the later one second; or the last of
    several that the others determine, with the first of them."""
    names = [a for a, x in sizes.items() if len(np.unique(x)) > 1]
    logs = {a: np.log(sizes[a]) - np.log(sizes[a]).mean() for a in names}
    for k, axis in enumerate(names):
        if k == 0:
            continue
        before = np.stack([logs[a] for a in names[:k]], 1)
        fitted = np.linalg.lstsq(before, logs[axis], rcond=None)[0]
        left = logs[axis] - before @ fitted
        if (left**2).sum() < 1e-4 * (logs[axis] ** 2).sum():
            partner = names[int(np.argmax(np.abs(fitted * before.std(0))))]
            return partner, axis
    return None


def shown_names(values: Sequence[str]) -> str:
    """A few names for a sentence."""
    text = ", ".join(shown(v, 20).strip("'") for v in values[:4])
    return text + ", …" * (len(values) > 4)


def kinds_of(data: Any, by: str, where: Mapping[str, Any]) -> list[str]:
    """The different values of a column, in the order of the table.

    Raises:
        ValueError: no such column, or as many values as rows.
    """
    t = table(data, where, "data")
    name = column_named(t, "by", by)
    values = list(dict.fromkeys(str(v).strip() for v in t.columns[name] if not empty(v)))
    if not values or len(values) > _KINDS:
        raise ValueError(
            f"by={by!r}: column {name!r} takes {len(values)} values in {t.source}: give one of at "
            f"most {_KINDS}"
        )
    return values
