"""``study``: every claim of the paper, measured and judged, in one folder with a report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leadline import available
from leadline.claims import cells
from leadline.claims.cells import Cell
from leadline.claims.claim import FIGURES, NUMBERS, PRESETS, TOY, Name, Setting, check_claims, claim
from leadline.claims.sources import check_source
from leadline.claims.studies import Study, content, identity_of, read, read_claim, write_claim
from leadline.disk.write import attempt, check_folder
from leadline.errors import check_choice, check_int, check_progress
from leadline.reporting.page import machine
from leadline.store.store import Store, run_id
from leadline.tabular.tables import text_table
from leadline.trajectory import versions


def study(
    claims: Iterable[int] | int | None = None,
    preset: str = "quick",
    problem: str = "digits",
    out: str | os.PathLike[str] = "leadline-study",
    device: str = "cpu",
    seed: int = 0,
    resume: bool = True,
    progress: Callable[..., None] | None = None,
    workers: int | None = None,
    figures: Iterable[int] | int | None = None,
) -> Study:
    """Measure claims of arXiv 2512.21075v1 and judge each by its stated rule.

    Every cell (one call of solve, train, …) is in ``out``/store, durably, when it is done: the same
    call after an interrupt measures only what is missing. Claims measured in the same folder before
    with the same preset, problem and seed stay in its report.

    Args:
        claims: numbers 1 to 10; None is all, or none where figures are named.
        preset: "quick" (minutes on two cores), "standard" (half an hour), "full" (a GPU).
        problem: "digits", "cifar10:PATH" or "mnist:FOLDER" (MNIST, Fashion-MNIST; "mnist:FOLDER?side=14"
            takes means of pixels, "?center=false" leaves the mean in).
        out: folder.
        device: a torch device.
        seed: of weights and batches, >= 0.
        resume: False measures everything again.
        progress: called as ``progress(step=cells done, steps=cells, branch=what was done)``.
        workers: one-thread processes at once; None is one a core, 1 is this process.
        figures: 1 to 3: the paper's own figures, drawn by its protocol, with statistics beside each.

    Raises:
        ValueError, TypeError, OSError: naming the argument, its value and the remedy, before any work.
    """
    started, progress = time.perf_counter(), check_progress(progress)
    request = Request(claims, preset, problem, device, seed, workers, figures)
    wanted, setting = request.wanted, request.setting
    folder = check_folder("out", out)
    for number in {*NUMBERS, *FIGURES} - set(wanted):
        read_claim(folder, number)  # one that is damaged is refused now, not after the work
    chosen = {number: claim(number) for number in wanted}
    named = {number: c.cells(setting) for number, c in chosen.items()}
    with Store(folder / "store") as store:
        everything = [cell for claim_cells in named.values() for cell in claim_cells.values()]
        arrays = cells.measure(everything, store, workers=workers, resume=resume, progress=progress)
        spent = {n: cells.seconds(c, store) for n, c in named.items()}
    made = _made(setting)
    fresh = {}
    for number, c in chosen.items():
        data = c.data(setting, cells.results(named[number], arrays))
        fresh[number] = content(made | {"seconds": round(spent[number], 1)}, number, data)
        attempt(lambda number=number: write_claim(folder, number, fresh[number]))
    result = read(folder, identity_of(made), time.perf_counter() - started, fresh)
    attempt(result.write)
    return result


@dataclass(frozen=True)
class Request:
    """What ``study`` is asked to measure, whose arguments these are.

    Raises:
        ValueError, TypeError, OSError: when it is made, naming the argument, its value and the remedy.
    """

    claims: Iterable[int] | int | None = None
    preset: str = "quick"
    problem: str = "digits"
    device: str = "cpu"
    seed: int = 0
    workers: int | None = None
    figures: Iterable[int] | int | None = None

    def __post_init__(self) -> None:
        assert self.wanted
        if self.preset != TOY:
            check_choice("preset", self.preset, PRESETS)
        check_int("seed", self.seed, 0)
        if self.workers is not None:
            check_int("workers", self.workers, 1)
        if self.device != "cpu":
            available.device(self.device)
        if self.preset == "full" and self.setting.source == "digits":
            raise ValueError(
                "preset='full' needs more samples than problem='digits' has: give "
                "problem='mnist:FOLDER' or 'cifar10:PATH', or preset='standard'"
            )

    @cached_property
    def wanted(self) -> tuple[Name, ...]:
        """Numbers of claims, then names of figures."""
        return check_claims(self.claims, self.figures)

    @cached_property
    def setting(self) -> Setting:
        """What all claims are measured with."""
        return Setting(self.preset, check_source(self.problem), self.seed, self.device)


def _made(setting: Setting) -> dict[str, Any]:
    return {
        "preset": setting.preset,
        "problem": setting.source,
        "seed": setting.seed,
        "device": setting.device,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "machine": machine(setting.device),
    }


@dataclass(frozen=True)
class OutlineLine:
    """A claim's or a figure's share: cells, how many are stored, its largest by width times depth."""

    claim: Name
    title: str
    cells: int
    stored: int
    largest: str


@dataclass(frozen=True)
class Outline:
    """All claims; cells that claims share count for each."""

    lines: tuple[OutlineLine, ...]
    cells: int
    stored: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [(str(x.claim), x.title, str(x.cells), str(x.stored), x.largest) for x in self.lines]
        body = text_table(("", "claim", "cells", "stored", "largest cell"), rows, left=2)
        return f"{body}\n\n{self.cells} different cells, {self.stored} of them stored"


def outline(
    claims: Iterable[int] | int | None = None,
    *,
    out: str | os.PathLike[str] = "leadline-study",
    **arguments: Any,
) -> Outline:
    """What ``study`` with these arguments would measure.

    Raises:
        ValueError, TypeError, OSError: as ``study`` does.
    """
    request = Request(claims, **arguments)
    wanted, setting = request.wanted, request.setting
    named = {number: claim(number).cells(setting) for number in wanted}
    ids = {n: {run_id(c.spec()) for c in cells_of.values()} for n, cells_of in named.items()}
    stored: set[str] = set()
    folder = Path(out) / "store"
    if folder.is_dir():
        with Store(folder, create=False) as store:
            stored = {i for known in ids.values() for i in known if store.has(i)}
    lines = tuple(
        OutlineLine(
            n, claim(n).title, len(ids[n]), len(ids[n] & stored), _largest(named[n].values())
        )
        for n in wanted
    )
    return Outline(lines, len(set().union(*ids.values())), len(stored))


def _largest(cells: Iterable[Cell]) -> str:
    def size(c: Cell) -> int:
        return (c.arguments.get("width") or 1) * (c.arguments.get("depth") or 1)

    return max(cells, key=size).label
