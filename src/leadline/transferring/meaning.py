"""Which column of a table of finished runs is what, and which of its runs are meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from leadline.errors import check_choice, check_type
from leadline.tabular.columns import Columns, empty
from leadline.tabular.names import LARGER_IS_BETTER, ROLES, meanings, plain_name, role_of
from leadline.tabular.selection import column_named, cut_list

SIZES = ("width", "depth")
LOSSES = ("loss", "test_loss")
MAPPED = ("width", "depth", "lr", "loss", "test_loss", "seed", "scheme", "step")
"""What ``columns`` may name."""
_RATES = {"lr": None, "log2_lr": 2.0, "log10_lr": 10.0}


@dataclass(frozen=True)
class Meaning:
    """Columns by what they are; ``base`` is 2 or 10 where the rate's is a logarithm."""

    columns: Mapping[str, str]
    base: float | None
    metric: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, t: Columns, metric: str, told: Mapping[str, str] | None) -> Meaning:
        told = _told(t, told)
        columns: dict[str, str] = {}
        for role in (*SIZES, "seed", "scheme", "step", "state", "diverged", "stopped", "run"):
            name = told.get(role) or _one(t, role)
            if name is not None:
                columns[role] = name
        if not any(a in columns for a in SIZES):
            raise ValueError(_missing(t, "width", "of the width or the depth"))
        rate = told.get("lr") or _one(t, "lr", tuple(_RATES))
        if rate is None:
            raise ValueError(_missing(t, "lr", "of the learning rate"))
        base = _RATES.get(role_of(rate) or "lr")
        metric, loss, notes = _loss(t, metric, told)
        columns |= {"lr": rate, metric: loss}
        said = [f"{r} from {c!r}" for r, c in columns.items() if r in MAPPED[:-1] and c != r]
        if base is not None:
            power = f"lr from {rate!r}"
            said = [f"{s}, to the base {base:g}" if s == power else s for s in said]
        if said:
            notes = [f"Read: {'; '.join(said)}.", *notes]
        return cls(columns, base, metric, tuple(notes))

    def rate(self, t: Columns, i: int) -> float:
        value = t.number(self.columns["lr"], i)
        try:
            return value if self.base is None else self.base**value
        except OverflowError:
            return math.inf


def _told(t: Columns, told: Mapping[str, str] | None) -> dict[str, str]:
    if told is None:
        return {}
    check_type("columns", told, Mapping, "give a dict such as {'width': 'n_embd', 'lr': 'base_lr'}")
    out = {}
    for role, name in told.items():
        check_choice("columns", role, MAPPED)
        out[role] = column_named(t, f"columns[{role!r}]", name)
    return out


def _loss(t: Columns, metric: str, told: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """The metric, its column and what to say of it."""
    notes: list[str] = []
    if metric in told:
        name = told[metric]
    elif metric in LOSSES:
        name = _one(t, metric)
        other = LOSSES[1 - LOSSES.index(metric)]
        beside = told.get(other) or (_candidates(t, (other,)) or [None])[0]
        if name is None and beside is not None:
            name = told.get(other) or _one(t, other)
            what = "training" if metric == "loss" else "test"
            notes.append(f"The table has no {what} loss: {name!r} is compared.")
            metric = other
        elif name is not None and beside is not None:
            notes.append(f"Compared by {name!r}; metric {other!r} compares by {beside!r}.")
        if name is None:
            raise ValueError(_missing(t, metric, "of the loss"))
    else:
        name = column_named(t, "metric", metric)
    words = set(plain_name(name).split("_"))
    if better := sorted(words & LARGER_IS_BETTER):
        raise ValueError(
            f"{t.source}: column {name!r} is better when it is larger ({better[0]}): give the column of "
            "a loss"
        )
    return metric, name, notes


def _missing(t: Columns, role: str, what: str) -> str:
    for name in t.columns:
        if role_of(name) == role:
            return f"{t.source}: column {name!r} is empty: fill it in; a run that diverged has the loss nan"
    return (
        f"{t.source} has no column {what} (it has {cut_list(', '.join(t.columns))}): say which it is, "
        f"columns={{{role!r}: NAME}} or --columns {role}=NAME"
    )


def _candidates(t: Columns, roles: tuple[str, ...]) -> list[str]:
    """Columns that are by their names in these roles, those first whose names are listed first."""
    order = [n for role in roles for n in ROLES[role]]
    out = []
    for name, values in t.columns.items():
        if role_of(name) in roles and not all(empty(v) for v in values):
            ranks = [order.index(m) for m in meanings(name) if m in order]
            out.append((min(ranks), len(meanings(name)), name))
    return [name for *_, name in sorted(out, key=lambda c: c[:2])]


_LITERAL = ("width", "depth", "seed", "scheme", "step", "state", "diverged", "stopped", "run")
"""Where several columns differ, the one of the first name counts; elsewhere they are refused."""


def _one(t: Columns, role: str, roles: tuple[str, ...] = ()) -> str | None:
    """The column of a role; None if there is none.

    Raises:
        ValueError: several, and they differ.
    """
    names = _candidates(t, roles or (role,))
    if len(names) < 2:
        return names[0] if names else None
    first = names[0]
    if role in ("step", "state", "run") or (role in _LITERAL and plain_name(first) == role):
        return first
    for other in names[1:]:
        for i in range(len(t)):
            a, b = (_comparable(t, n, i) for n in (first, other))
            if a is None or b is None or a == b:
                continue
            if isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=1e-6):
                continue
            raise ValueError(
                f"{t.source}: the columns {first!r} and {other!r} could both be the {role}, and differ "
                f"in {t.row(i)} ({t.columns[first][i]}, {t.columns[other][i]}): say which it is, "
                f"columns={{{role!r}: {first!r}}} or --columns {role}={first}"
            )
    return first


def _comparable(t: Columns, name: str, i: int) -> float | str | None:
    """A cell's number, of a logarithm what it is of; its text; None where it says nothing."""
    value = t.columns[name][i]
    if empty(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value).strip()
    base = _RATES.get(role_of(name) or "")
    if math.isnan(number):
        return None
    return number if base is None or abs(number) > 300 else base**number
