"""Results, one line a mutant in the cache, and the score of a module with its interval."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mutants import Mutant
from scipy.special import betaincinv

KILLED = ("killed", "timeout")


class Results:
    """What was found of a module's mutants: a file that is only appended to."""

    def __init__(self, cache: Path, module: str) -> None:
        self.path = cache / "results" / (module.replace("/", "~") + ".jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """The latest line of each mutant; a line cut short by a kill is left out."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue
                self.rows[row["key"]] = row

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["key"]] = row
        with self.path.open("a") as out:
            out.write(json.dumps(row) + "\n")


def row(mutant: Mutant, **found: Any) -> dict[str, Any]:
    """A line of the results file."""
    return {
        "key": mutant.key,
        "module": mutant.module,
        "function": mutant.function,
        "line": mutant.lines[0],
        "text": mutant.line,
        "before": mutant.before,
        "after": mutant.after,
        "nth": mutant.nth,
        **found,
    }


def equivalent(path: Path) -> list[dict[str, Any]]:
    """Entries of equivalent.toml, each with a reason.

    Raises:
        ValueError: if one lacks a field.
    """
    entries = tomllib.loads(path.read_text()).get("mutant", []) if path.exists() else []
    for entry in entries:
        lacking = {"module", "function", "text", "before", "after", "why"} - set(entry)
        if lacking or not entry["why"].strip():
            raise ValueError(f"{path.name}: {entry} lacks {sorted(lacking) or 'why'}")
    return entries


def is_equivalent(mutant: Mutant, entries: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        e["module"] == mutant.module
        and e["function"] == mutant.function
        and e["text"] == mutant.line
        and e["before"] == mutant.before
        and e["after"] == mutant.after
        and e.get("nth", 0) == mutant.nth
        for e in entries
    )


def interval(killed: int, count: int) -> tuple[float, float]:
    """95 % Clopper-Pearson interval of a share."""
    low = betaincinv(killed, count - killed + 1, 0.025) if killed else 0.0
    high = betaincinv(killed + 1, count - killed, 0.975) if killed < count else 1.0
    return float(low), float(high)


HEAD = (
    "| module | mutants | killed | of them by time | survived | untouched | equivalent | score | 95 % |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def line(module: str, drawn: int, of: int, statuses: Iterable[str], same: int) -> str:
    """A module's line of the table: equivalent mutants are out of the score."""
    found = list(statuses)
    killed, count = sum(s in KILLED for s in found), len(found)
    low, high = interval(killed, count)
    share = f"{killed / count:.3f}" if count else "-"
    left = f", {drawn - count - same} to do" if drawn > count + same else ""
    return (
        f"| {module} | {drawn} of {of}{left} | {killed} | {found.count('timeout')} |"
        f" {found.count('survived')} | {found.count('untouched')} | {same} | {share} |"
        f" [{low:.3f}, {high:.3f}] |"
    )
