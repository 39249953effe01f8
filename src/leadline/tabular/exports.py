"""Exports that are no table of runs: one run a column (charts of W&B), one run a file (TensorBoard).

What a run's width, depth, rate and seed are, then stands in its name: ``width=64,lr=0.001,seed=0``,
``w64-lr1e-3-s0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leadline.tabular import events
from leadline.tabular.columns import Columns, empty, from_dicts
from leadline.tabular.files import ENDINGS, from_file
from leadline.tabular.names import plain_name, role_of

MOST_FILES = 100_000
"""Files of a folder that are looked at."""

_SHORT = {"w": "width", "d": "depth", "l": "depth", "s": "seed", "n": "width"}
_PAIR = re.compile(
    r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z_]*?|log2_?lr|log10_?lr)[=:_-]?"
    r"(2\^-?[0-9]+|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9.^])"
)


def settings_of(name: str) -> dict[str, float]:
    """Width, depth, rate and seed that a run's name holds.

    >>> settings_of("width=64,lr=0.001,seed=0"), settings_of("w128-d4-lr1e-3")
    ({'width': 64.0, 'lr': 0.001, 'seed': 0.0}, {'width': 128.0, 'depth': 4.0, 'lr': 0.001})
    """
    out: dict[str, float] = {}
    # Whole names first, such as n_embd; then with _ between the parts.
    for text in (name, name.replace("_", " ")):
        for key, value in _PAIR.findall(text):
            out |= _setting(key, value, out)
    return out


def _setting(key: str, value: str, known: Mapping[str, float]) -> dict[str, float]:
    name = plain_name(key)
    role = _SHORT.get(name) or role_of(name)
    if role not in ("width", "depth", "lr", "log2_lr", "log10_lr", "seed") or role in known:
        return {}
    return {role: 2.0 ** float(value[2:]) if value.startswith("2^") else float(value)}


def chart(t: Columns) -> Columns:
    """A chart of W&B (``Step``, then ``RUN - METRIC`` for every run) as one row a run: its last value.

    Other tables are returned as they are.
    """
    names = [n for n in t.columns if not n.endswith(("__MIN", "__MAX"))]
    pairs = [(n, *n.rpartition(" - ")[::2]) for n in names[1:]]
    if not pairs or role_of(names[0]) != "step" or not all(run and what for _, run, what in pairs):
        return t
    runs: dict[str, dict[str, Any]] = {}
    for column, run, metric in pairs:
        at = [i for i, v in enumerate(t.columns[column]) if not empty(v)]
        row = runs.setdefault(run, {"run": run, **settings_of(run)})
        if metric.endswith(("_step", "epoch")) or not at:
            continue
        row[metric] = t.columns[column][at[-1]]
        row["step"] = t.columns[names[0]][at[-1]]
    order = list(runs)
    return from_dicts(list(runs.values()), t.source, lambda i: f"the run {order[i]!r}")


def from_folder(folder: Path, name: str = "data") -> Columns:
    """Every run of a folder: TensorBoard's event files, or tables of one run each, also in folders below.

    Raises:
        ValueError: no such files.
    """
    source = f"{name}={str(folder)!r}"
    files = sorted(p for p in _below(folder) if p.is_file())
    logs = [p for p in files if "tfevents" in p.name]
    rows: dict[str, dict[str, Any]] = {}
    for path in logs:
        here = str(path.parent.relative_to(folder))
        run = here if here != "." else path.parent.name
        row = rows.setdefault(run, {"run": run, **settings_of(run)})
        _later(row, events.last_values(path))
    rows = _with_parents(rows)
    if not logs:
        for path in (p for p in files if p.name.endswith(ENDINGS)):
            run = str(path.relative_to(folder)).removesuffix("".join(path.suffixes[-1:]))
            for line in _one_run(from_file(path, name), run):
                rows[f"{run} {len(rows)}"] = line
    if not rows:
        raise ValueError(
            f"{source} has no event files of TensorBoard and no tables ({', '.join(ENDINGS)}): give "
            "the folder of a store, of event files or of one table a run"
        )
    order = [str(r["run"]) for r in rows.values()]
    return from_dicts(list(rows.values()), source, lambda i: f"the run {order[i]!r}")


def _below(folder: Path) -> Iterable[Path]:
    for count, path in enumerate(folder.rglob("*")):
        if count >= MOST_FILES:
            raise ValueError(f"{str(folder)!r} holds more than {MOST_FILES:,} files: give fewer")
        yield path


_STAMP = re.compile(r"[0-9]{9,}\.[0-9]+")


def _with_parents(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """torch writes hyperparameters into a folder below the run's, named after the time."""
    out = dict(rows)
    for run, row in rows.items():
        above, _, last = run.rpartition("/")
        if above in out and _STAMP.fullmatch(last):
            out[above] = {k: v for k, v in row.items() if k != "step"} | out[above]
            del out[run]
    return out


def _later(row: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Several event files of one run: that of the largest step is last."""
    if new.get("step", 0) >= row.get("step", 0):
        row |= new
    else:
        row |= {k: v for k, v in new.items() if k not in row}


def _one_run(t: Columns, run: str) -> list[dict[str, Any]]:
    """A file's rows, with what its name says of the run; TensorBoard's scalars as one row."""
    said = {"run": run, **settings_of(run)}
    if {plain_name(n) for n in t.columns} == {"wall_time", "step", "value"}:
        step, value = (next(n for n in t.columns if plain_name(n) == k) for k in ("step", "value"))
        tag = re.split(r"-tag-|tag_", run)[-1] if "tag" in run else "loss"
        last = max(range(len(t)), key=lambda i: t.number(step, i), default=None)
        if last is None:
            return []
        return [said | {tag: t.columns[value][last], "step": t.columns[step][last]}]
    rows = [{k: v[i] for k, v in t.columns.items()} for i in range(len(t))]
    return [said | row for row in rows]
