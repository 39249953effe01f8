"""Finished runs from anywhere as rows that the analysis takes, and what of them is refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.errors import shown
from leadline.store.tables import table
from leadline.tabular.columns import Columns, empty
from leadline.tabular.names import UNFINISHED, UNNAMED, is_setting, role_of
from leadline.tabular.selection import equal
from leadline.transferring.meaning import SIZES, Meaning

ALIKE = 1e-4
"""Rates that differ by less, relatively, are one rate."""
LATE = 0.02
"""Runs of a size may end at steps that differ by so much, relatively."""
_DIVERGED = ("diverged", "nan", "inf", "+inf", "-inf", "infinity", "-infinity", "div")


@dataclass(frozen=True)
class Finished:
    """Rows with width, depth, lr, seed, scheme and the loss, as far as the table has them; and what was
    made of the table, in sentences."""

    rows: tuple[dict[str, Any], ...]
    metric: str
    notes: tuple[str, ...]


def finished(
    data: Any,
    metric: str = "loss",
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Finished:
    """Read and check.

    Raises:
        ValueError, TypeError, OSError: naming column, row and remedy.
    """
    t = table(data, where)
    meaning = Meaning.of(t, metric, columns)
    lost = _lost(t, meaning)
    rows, notes = _rows(t, meaning, lost), list[str]()
    rows = _last_steps(t, meaning, rows, notes)
    rows = _ended(rows, notes, list(lost.values()))
    _refuse_twice(t, rows)
    _refuse_early(t, meaning, rows)
    _same_rates(rows)
    _pair_seeds(rows, notes)
    notes += _varying(t, rows)
    kept = tuple({k: v for k, v in r.items() if not k.startswith(" ")} for r in rows)
    return Finished(kept, meaning.metric, (*meaning.notes, *notes))


def _lost(t: Columns, m: Meaning) -> dict[int, str]:
    """Lines of runs that ended before they had written their settings: their states."""
    if "state" not in m.columns:
        return {}
    settings = [m.columns[r] for r in (*SIZES, "lr", "seed") if r in m.columns]
    states = [str(s).strip().lower() for s in t.columns[m.columns["state"]]]
    return {
        i: state for i, state in enumerate(states)
        if state in UNFINISHED and any(empty(t.columns[n][i]) for n in settings)
    }  # fmt: skip


def _rows(t: Columns, m: Meaning, lost: Collection[int]) -> list[dict[str, Any]]:
    """Every line as a row; `` at`` is its line, `` step`` its step, `` empty`` whether it has no loss."""
    seeds = _seeds(t, m, lost)
    rows = []
    for i in range(len(t)):
        if i in lost:
            continue
        row: dict[str, Any] = {a: _size(t, m, a, i) for a in SIZES if a in m.columns}
        rate = m.rate(t, i)
        if not 0 < rate < math.inf:
            raise ValueError(
                f"{t.source}: column {m.columns['lr']!r} is {shown(t.columns[m.columns['lr']][i])} in "
                f"{t.row(i)}: give a rate > 0, of a schedule its largest"
            )
        row |= {"lr": rate, "seed": seeds[i]}
        scheme = t.columns[m.columns["scheme"]][i] if "scheme" in m.columns else None
        row["scheme"] = UNNAMED if empty(scheme) else str(scheme).strip()
        for name in t.columns:
            if is_setting(name) and name not in m.columns.values() and name not in row:
                row[name] = t.columns[name][i]
        row[" at"], row[" empty"] = i, empty(t.columns[m.columns[m.metric]][i])
        row[m.metric] = _loss_cell(t, m, i)
        row["diverged"] = math.isinf(row[m.metric])
        if "step" in m.columns:
            row[" step"] = t.number(m.columns["step"], i)
        state = t.columns[m.columns["state"]][i] if "state" in m.columns else None
        row[" state"] = str(state).strip().lower()
        row[" run"] = str(t.columns[m.columns["run"]][i]) if "run" in m.columns else ""
        rows.append(row)
    return rows


def _size(t: Columns, m: Meaning, axis: str, i: int) -> int:
    name = m.columns[axis]
    value = t.number(name, i)
    if not (math.isfinite(value) and value > 0 and value == int(value)):
        what = "is empty" if math.isnan(value) else f"is {t.columns[name][i]}"
        raise ValueError(
            f"{t.source}: column {name!r} {what} in {t.row(i)}: give a {axis} as a whole number > 0, or "
            "leave the row out"
        )
    return int(value)


def _seeds(t: Columns, m: Meaning, lost: Collection[int]) -> list[int]:
    if "seed" not in m.columns:
        return [0] * len(t)
    name = m.columns["seed"]
    cells = [0 if i in lost else cell for i, cell in enumerate(t.columns[name])]
    for i, cell in enumerate(cells):
        if empty(cell) or (isinstance(cell, float) and math.isnan(cell)):
            raise ValueError(
                f"{t.source}: column {name!r} is empty in {t.row(i)}: give the seed, or leave the row out"
            )
    try:
        numbers = [float(c) for c in cells]
        if all(x == int(x) for x in numbers):
            return [int(x) for x in numbers]
    except (TypeError, ValueError, OverflowError):
        pass
    order = {text: k for k, text in enumerate(sorted({str(c) for c in cells}))}
    return [order[str(c)] for c in cells]


def _loss_cell(t: Columns, m: Meaning, i: int) -> float:
    """The loss, infinite where the run diverged or was given up; so is an empty one for now."""
    name = m.columns[m.metric]
    value = t.columns[name][i]
    for flag in ("diverged", "stopped"):
        if flag in m.columns and _true(t.columns[m.columns[flag]][i]):
            return math.inf
    if empty(value) or (isinstance(value, str) and value.strip().lower() in _DIVERGED):
        return math.inf
    loss = t.number(name, i)
    if loss <= 0 and not math.isinf(loss):
        raise ValueError(
            f"{t.source}: column {name!r} is {loss:g} in {t.row(i)}: rates are compared by log loss, "
            "which needs losses > 0"
        )
    return loss if math.isfinite(loss) else math.inf


def _true(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "1.0", "yes")
    return not empty(value) and bool(value) and value == value


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(k) for k in ("scheme", *SIZES, "lr", "seed"))


def _last_steps(
    t: Columns, m: Meaning, rows: list[dict[str, Any]], notes: list[str]
) -> list[dict[str, Any]]:
    """One row a run, its last with a loss, where the table has a row a step.

    Raises:
        ValueError: a run without a loss that is not said to have diverged.
    """
    kept = rows
    if "step" in m.columns:
        by_run: dict[tuple[Any, ...], dict[Any, dict[str, Any]]] = {}
        for row in rows:
            if row[" empty"] and not row["diverged"]:
                continue
            steps = by_run.setdefault((*_place(row), row[" run"]), {})
            steps.setdefault(row[" step"], row)
        longest = max(map(len, by_run.values()))
        distinct = sum(map(len, by_run.values()))
        if longest > 1 and distinct == len(rows):
            kept = [_last(list(steps.values())) for steps in by_run.values()]
            notes.append(
                f"The table has {len(rows)} rows of {len(kept)} runs: the last step of each is compared."
            )
    for row in kept:
        ended = row[" state"] in UNFINISHED
        flagged = any(
            f in m.columns and _true(t.columns[m.columns[f]][row[" at"]])
            for f in ("diverged", "stopped")
        )
        if row[" empty"] and not flagged and not ended:
            name = m.columns[m.metric]
            raise ValueError(
                f"{t.source}: column {name!r} is empty in {t.row(row[' at'])}: write nan if the run "
                "diverged, leave the row out if it has not ended"
            )
    return kept


def _last(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the largest step, among those with a loss."""
    some = [r for r in rows if not r[" empty"]] or rows
    return max(some, key=lambda r: -math.inf if math.isnan(r[" step"]) else r[" step"])


def _ended(
    rows: list[dict[str, Any]], notes: list[str], lost: Sequence[str]
) -> list[dict[str, Any]]:
    """Without runs that are told not to have ended, unless their last loss was infinite.

    Args:
        lost: states of others, which are left out already.
    """
    out = [
        r for r in rows
        if r[" state"] not in UNFINISHED or (r["diverged"] and not r[" empty"])
    ]  # fmt: skip
    if lost or len(out) < len(rows):
        states = sorted({*lost, *(r[" state"] for r in rows if r[" state"] in UNFINISHED)})
        count = len(rows) - len(out) + len(lost)
        runs = (
            "1 run that has not ended is" if count == 1 else f"{count} runs that have not ended are"
        )
        notes.append(f"{runs} left out ({', '.join(states)}).")
    if not out:
        total = len(rows) + len(lost)
        raise ValueError(f"rows: none of {total} runs has ended: give finished runs")
    return out


def _refuse_twice(t: Columns, rows: list[dict[str, Any]]) -> None:
    """Refuse two runs in one place, with what tells them apart."""
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        other = seen.setdefault(_place(row), row)
        if other is row:
            continue
        a, b = other[" at"], row[" at"]
        place = ", ".join(f"{k}={_short(row[k])}" for k in (*SIZES, "lr", "seed") if k in row)
        apart = _apart(t, a, b)
        if apart is not None:
            x, y = (t.columns[apart][i] for i in (a, b))
            raise ValueError(
                f"{t.source}: {t.row(a)} and {t.row(b)} are both {place} and differ in {apart!r} ({x}, "
                f"{y}): give the runs of one {apart} at a time, where={{{apart!r}: {x!r}}} or --where "
                f"{apart}={x}; or, if it tells seeds apart, columns={{'seed': {apart!r}}} or --columns "
                f"seed={apart}"
            )
        raise ValueError(
            f"{t.source}: {t.row(a)} and {t.row(b)} are two runs with {place}: leave one out, or give "
            "the seeds in a column seed"
        )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _apart(t: Columns, a: int, b: int) -> str | None:
    """The column that tells two runs apart: a setting, else one of few values that is no result."""
    differ = [
        n for n, v in t.columns.items()
        if not empty(v[a]) and not empty(v[b]) and not equal(v[a], v[b]) and role_of(n) not in
        ("loss", "test_loss", "diverged", "stopped", "step", "state")
    ]  # fmt: skip
    for name in differ:
        if is_setting(name):
            return name
    for name in differ:
        values = {str(v) for v in t.columns[name]}
        if 2 * len(values) <= len(t):
            return name
    return None


def _refuse_early(t: Columns, m: Meaning, rows: list[dict[str, Any]]) -> None:
    """Refuse runs of one size that ended at different steps: the shorter ones' losses are no results."""
    if "step" not in m.columns:
        return
    by_size: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["diverged"] and not math.isnan(row[" step"]):
            by_size.setdefault(_place(row)[:-2], []).append(row)
    for same in by_size.values():
        first = min(same, key=lambda r: r[" step"])
        last = max(same, key=lambda r: r[" step"])
        if first[" step"] < (1 - LATE) * last[" step"]:
            raise ValueError(
                f"{t.source}: runs of one size end at different steps ({m.columns['step']}="
                f"{first[' step']:g} in {t.row(first[' at'])}, {last[' step']:g} in "
                f"{t.row(last[' at'])}): write nan if the "
                "shorter one diverged, leave it out if it has not ended"
            )


def _same_rates(rows: Iterable[dict[str, Any]]) -> None:
    """Rates that differ by rounding alone become one."""
    rows = list(rows)
    last, one = 0.0, {}
    for rate in sorted({r["lr"] for r in rows}):
        if rate > last * (1 + ALIKE):
            last = rate
        one[rate] = last
    for row in rows:
        row["lr"] = one[row["lr"]]


def _pair_seeds(rows: Sequence[dict[str, Any]], notes: list[str]) -> None:
    """Where every rate and size has as many seeds, but others: number them."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault(_place(row)[:-1], []).append(row)
    sets = {tuple(sorted(r["seed"] for r in cell)) for cell in cells.values()}
    if len(sets) == 1 or len({len(s) for s in sets}) > 1:
        return
    for cell in cells.values():
        for k, row in enumerate(sorted(cell, key=lambda r: r["seed"])):
            row["seed"] = k
    if len(next(iter(sets))) > 1:
        notes.append(
            "Seeds differ from run to run: they are numbered within each size and rate, and share nothing."
        )


def _varying(t: Columns, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings besides the rate that are not the same in all runs."""
    out = []
    names = [n for n in t.columns if any(n in r for r in rows) and is_setting(n)]
    for name in names:
        values = list(dict.fromkeys(str(r[name]) for r in rows))
        if len(values) < 2:
            continue
        by_size: dict[tuple[Any, ...], set[str]] = {}
        for r in rows:
            by_size.setdefault(_place(r)[:-2], set()).add(str(r[name]))
        within = any(len(v) > 1 for v in by_size.values())
        out.append(
            f"{name!r} takes {len(values)} values ({', '.join(values[:3])}{', …' * (len(values) > 3)}), "
            + ("also within one size: what is compared is the rate together with it."
               if within else "others at other sizes: what is compared is the size together with it.")
        )  # fmt: skip
    return out
