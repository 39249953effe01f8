"""``study``: every claim of the paper, measured and judged, in one folder with a report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline import available
from leadline.claims import engine, files
from leadline.claims.registry import NUMBERS, check_claims, claim
from leadline.claims.setting import PRESETS, TOY, Setting, check_source
from leadline.claims.verdict import Judgement
from leadline.disk import strict
from leadline.disk.plain import plain
from leadline.disk.write import attempt, check_folder, write_atomic
from leadline.errors import check_choice, check_int
from leadline.sweeps.store import Store
from leadline.trajectory import versions

if TYPE_CHECKING:
    from leadline.reporting.page import Page, Section


@dataclass(frozen=True, repr=False)
class Study:
    """Claims, measured and judged.

    Attributes:
        path: the folder with report.html, verdicts.json, data/ and store/.
        data: what each claim's verdict and figures are made of, by the claim's number.
        made: how each was made: preset, problem, seed, device, date, versions, machine.
        seconds: of the call that returned this; None if it was read back.
    """

    path: Path
    data: Mapping[int, Mapping[str, Any]]
    made: Mapping[int, Mapping[str, Any]]
    seconds: float | None = None

    @cached_property
    def verdicts(self) -> dict[int, Judgement]:
        """Each claim's verdict and those of its parts, computed from the data."""
        return {number: claim(number).judge(data) for number, data in self.data.items()}

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The report's sections, one a claim."""
        from leadline.claims.report import section

        return tuple(section(self, number) for number in self.data)

    def page(self) -> Page:
        """The report."""
        from leadline.claims.report import page

        return page(self)

    def command(self, number: int | None = None) -> str:
        """What measures a claim (None: all of these) again."""
        from leadline.claims.report import command

        made = self.made[next(iter(self.made)) if number is None else number]
        claims = tuple(self.data) if number is None else (number,)
        return command(made, claims)

    def to_json(self) -> dict[str, Any]:
        """verdicts.json."""
        from leadline.claims.report import verdicts_json

        return plain(verdicts_json(self))

    def write(self) -> Path:
        """Write verdicts.json and report.html; returns the report's path."""
        from leadline.reporting.page import render

        held = strict.seal(self.to_json())
        text = json.dumps(held, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(self.path / "verdicts.json", text.encode(), "out")
        return write_atomic(self.path / "report.html", render(self.page()).encode(), "out")

    def __repr__(self) -> str:
        from leadline.claims.report import text

        return text(self)


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
) -> Study:
    """Measure claims of arXiv 2512.21075v1 and judge each by its stated rule.

    Every cell (one call of solve, train, …) is in ``out``/store, durably, when it is done: the same
    call after an interrupt measures only what is missing. Claims measured in the same folder before
    with the same preset, problem and seed stay in its report.

    Args:
        claims: numbers 1 to 10; None is all.
        preset: "quick" (minutes on two cores), "standard" (half an hour), "full" (a GPU).
        problem: "digits" or "cifar10:PATH".
        out: folder.
        device: a torch device.
        seed: of weights and batches, >= 0.
        resume: False measures everything again.
        progress: called as ``progress(step=cells done, steps=cells, branch=what was done)``.
        workers: one-thread processes at once; None is one a core, 1 is this process.

    Raises:
        ValueError, TypeError, OSError: naming the argument, its value and the remedy, before any work.
    """
    started = time.perf_counter()
    wanted, setting = check_arguments(claims, preset, problem, device, seed, workers)
    folder = check_folder("out", out)
    for number in set(NUMBERS) - set(wanted):
        files.read_claim(folder, number)  # one that is damaged is refused now, not after the work
    chosen = {number: claim(number) for number in wanted}
    cells = {number: c.cells(setting) for number, c in chosen.items()}
    with Store(folder / "store") as store:
        everything = [cell for named in cells.values() for cell in named.values()]
        found = engine.measure(everything, store, workers=workers, resume=resume, progress=progress)
        spent = {n: engine.seconds(named, store) for n, named in cells.items()}
    made = _made(setting)
    held = {}
    for number, c in chosen.items():
        data = c.data(setting, engine.results(cells[number], found))
        held[number] = files.held(made | {"seconds": round(spent[number], 1)}, number, data)
        attempt(lambda number=number: files.write_claim(folder, number, held[number]))
    result = _read(folder, _identity(made), time.perf_counter() - started, held)
    attempt(result.write)
    return result


def check_arguments(
    claims: Iterable[int] | int | None,
    preset: str,
    problem: str,
    device: str,
    seed: int,
    workers: int | None,
) -> tuple[tuple[int, ...], Setting]:
    """Refuse bad arguments before any work."""
    wanted = check_claims(claims)
    if preset != TOY:
        check_choice("preset", preset, PRESETS)
    check_int("seed", seed, 0)
    if workers is not None:
        check_int("workers", workers, 1)
    if device != "cpu":
        available.device(device)
    source = check_source(problem)
    if preset == "full" and source == "digits":
        raise ValueError(
            "preset='full' needs more samples than problem='digits' has: give "
            "problem='cifar10:PATH', or preset='standard'"
        )
    return wanted, Setting(preset, source, seed, device)


def load(path: str | os.PathLike[str]) -> Study:
    """The study in a folder; verdicts and figures are made anew from its data.

    Raises:
        FileNotFoundError: there is none. ValueError: its files are damaged.
    """
    folder = Path(path)
    try:
        held = strict.unseal(strict.read(folder / "verdicts.json"))
        identity = {k: held["study"][k] for k in ("preset", "problem", "seed")}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{str(path)!r} holds no study: give the folder that leadline study --out wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{str(folder / 'verdicts.json')!r} is damaged: {e}; the same leadline study makes it "
            "again from its store"
        ) from None
    return _read(folder, identity, None, {})


def _read(
    folder: Path,
    identity: Mapping[str, Any],
    seconds: float | None,
    fresh: Mapping[int, Mapping[str, Any]],
) -> Study:
    """All claims of a folder that were made the same way, and those at hand."""
    data, made = {}, {}
    for number in NUMBERS:
        held = fresh.get(number) or files.read_claim(folder, number)
        if held is not None and _identity(held["made"]) == identity:
            made[number], data[number] = held["made"], held["data"]
    return Study(folder, data, made, seconds)


def _identity(made: Mapping[str, Any]) -> dict[str, Any]:
    return {k: made[k] for k in ("preset", "problem", "seed")}


def _made(setting: Setting) -> dict[str, Any]:
    return {
        "preset": setting.preset,
        "problem": setting.source,
        "seed": setting.seed,
        "device": setting.device,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "machine": _machine(setting.device),
    }


def _machine(device: str) -> str:
    """The machine's class: cores, architecture, memory, GPU."""
    import platform

    import psutil

    memory = psutil.virtual_memory().total / 2**30
    gpu = "no GPU used"
    if device != "cpu":
        import torch

        gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"{os.cpu_count()} cores {platform.machine()}, {memory:.0f} GiB, {gpu}"
