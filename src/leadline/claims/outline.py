"""What a study would measure, without measuring it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leadline.claims.cell import Cell
from leadline.claims.registry import claim
from leadline.claims.study import check_arguments
from leadline.sweeps.store import Store, run_id


@dataclass(frozen=True)
class Line:
    """One claim's share: cells, how many are stored, and its largest by width times depth."""

    claim: int
    title: str
    cells: int
    stored: int
    largest: str


@dataclass(frozen=True)
class Outline:
    """All claims; cells that claims share count for each."""

    lines: tuple[Line, ...]
    cells: int
    stored: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        from leadline.reporting.tables import text_table

        rows = [(str(x.claim), x.title, str(x.cells), str(x.stored), x.largest) for x in self.lines]
        body = text_table(("", "claim", "cells", "stored", "largest cell"), rows, left=2)
        return f"{body}\n\n{self.cells} different cells, {self.stored} of them stored"


def outline(
    claims: Iterable[int] | int | None = None,
    preset: str = "quick",
    problem: str = "digits",
    out: str | os.PathLike[str] = "leadline-study",
    device: str = "cpu",
    seed: int = 0,
    workers: int | None = None,
) -> Outline:
    """What ``study`` with these arguments would measure.

    Raises:
        ValueError, TypeError, OSError: as ``study`` does.
    """
    wanted, setting = check_arguments(claims, preset, problem, device, seed, workers)
    cells = {number: claim(number).cells(setting) for number in wanted}
    ids = {n: {run_id(c.spec()) for c in named.values()} for n, named in cells.items()}
    stored: set[str] = set()
    folder = Path(out) / "store"
    if folder.is_dir():
        with Store(folder, create=False) as store:
            stored = {i for known in ids.values() for i in known if store.has(i)}
    lines = tuple(
        Line(n, claim(n).title, len(ids[n]), len(ids[n] & stored), _largest(cells[n].values()))
        for n in wanted
    )
    return Outline(lines, len(set().union(*ids.values())), len(stored))


def _largest(cells: Iterable[Cell]) -> str:
    def size(c: Cell) -> int:
        return (c.arguments.get("width") or 1) * (c.arguments.get("depth") or 1)

    return max(cells, key=size).label
