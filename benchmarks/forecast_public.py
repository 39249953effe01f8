"""Published answers beside ours on public tables: ./dev bench forecast_public DIR

DIR holds the tables (chinchilla.csv, porian_tuned.csv, open_lm.csv, gemstones_late.csv,
gemstones_checkpoints.csv); none is part of the repository. One line a number: published, ours with its
interval, whether it covers. Keeps them in benchmarks/results/forecast_public.json.
"""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from history import keep, size

import leadline as ll
from leadline.forecasting import resampling
from leadline.forecasting.estimate import estimate, prepare, with_scale
from leadline.forecasting.misfit import trainings
from leadline.forecasting.resampling import bootstrap

DRAWS = size(1000, 50)
ND = dict(parameters="width", tokens="samples")
Row = dict[str, Any]


def row(what: str, published: float, ours: Any) -> Row:
    covers = bool(ours.low <= published <= ours.high)
    print(
        f"  {what}: published {published:.4g}, ours {ours:.4g}{'' if covers else '  NOT COVERED'}",
        flush=True,
    )
    return dict(what=what, published=published, **ours.to_json(), covers=covers)


def widths(f: Any, way: str, what: str) -> list[Row]:
    """Widths of the intervals over those of resampled rows, or of resampled trainings."""
    runs = replace(f.runs, groups=trainings(f.runs)) if way == "groups" else f.runs
    law = next(k.law for k in f.laws if k.law.floor)
    data = with_scale(law, prepare(runs, np.ones(len(runs))))
    with mock.patch.object(resampling, "FEW_GROUPS", 0):
        drawn = bootstrap(estimate(law, data), data, DRAWS, np.random.default_rng(0), way)
    ours = {"E": f.floor} | {f"exponent of {a}": x for a, x in f.exponents.items()}
    theirs = {"E": drawn.floors} | {f"exponent of {a}": x for a, x in drawn.exponents.items()}
    out = []
    for name, x in ours.items():
        low, high = np.quantile(theirs[name][1:], (0.025, 0.975))
        ratio = float((x.high - x.low) / (high - low))
        print(
            f"  {name}: width {ratio:.2f} times that of {what} [{low:.4g}, {high:.4g}]", flush=True
        )
        out.append(dict(what=f"{name}: width over that of {what}", value=ratio))
    return out


def chinchilla(folder: Path) -> list[Row]:
    """Besiroglu et al. 2024: without the five highest losses, and with them."""
    table = list(csv.DictReader((folder / "chinchilla.csv").open()))
    worst = sorted(float(r["loss"]) for r in table)[-5]
    out = []
    for name, rows in (
        ("240 rows", [r for r in table if float(r["loss"]) < worst]), ("245 rows", table)
    ):  # fmt: skip
        f = ll.forecast(rows, columns=ND, axes=["width", "samples"], draws=DRAWS)
        numbers = (
            ("E", 1.817, f.floor), ("A", 482.0, f.coefficients["N"]), ("B", 2085.4, f.coefficients["D"]),
            ("alpha", 0.347, f.exponents["N"]), ("beta", 0.367, f.exponents["D"]),
        )  # fmt: skip
        out += [row(f"Chinchilla, {name}: {k}", value, ours) for k, value, ours in numbers]
        print(f"  {f.resampled}; outliers {[(o.row, o.left_out) for o in f.outliers]}")
        if len(rows) == 240:
            out += widths(f, "pairs", "resampled rows")
    return out


def porian(folder: Path) -> list[Row]:
    """Porian et al. 2024: N* grows as C^.497; sums of powers miss."""
    path = folder / "porian_tuned.csv"
    f = ll.forecast(path, columns=ND, axes=["width", "samples"], draws=DRAWS)
    print(f"  misfit said: {f.misfit.grave}")
    return [row("Porian: exponent of N*, isoFLOP minima", 0.497, f.isoflop().exponent)]


def open_lm(folder: Path) -> list[Row]:
    """412M predicted from the three smaller sizes, each data set by itself."""
    table = list(csv.DictReader((folder / "open_lm.csv").open()))
    out = []
    for name in sorted({r["dataset"] for r in table}):
        rows = [r for r in table if r["dataset"] == name]
        small = [r for r in rows if float(r["N"]) < 4e8]
        f = ll.forecast(small, draws=DRAWS)
        for r in (r for r in rows if float(r["N"]) >= 4e8):
            loss = f.predict(N=float(r["N"]), samples=float(r["samples"]), run=True)
            out.append(row(f"open_lm {name}, 412M, {float(r['mult']):g}", float(r["loss"]), loss))
    half = [np.log(r["high"] / r["low"]) / 2 for r in out]
    covered = np.mean([r["covers"] for r in out])
    print(f"  covered {covered:.0%} of {len(out)}, half-width at most {max(half):.1%}")
    return out


def gemstones(folder: Path) -> list[Row]:
    """Gemstones: exponents over width, depth and tokens; trainings found by themselves."""
    f = ll.forecast(folder / "gemstones_late.csv", draws=DRAWS)
    print(f"  {f.resampled}")
    numbers = (("width", 0.261), ("depth", 0.142), ("samples", 0.542))
    out = [row(f"Gemstones late: exponent of {a}", x, f.exponents[a]) for a, x in numbers]
    return [*out, row("Gemstones late: E", 0.0, f.floor)]


def checkpoints(folder: Path) -> list[Row]:
    """Intervals beside those of resampled trainings; then one training of Gemstones left out, and its ten
    checkpoints predicted."""
    every = ll.forecast(folder / "gemstones_checkpoints.csv", draws=DRAWS)
    out = widths(every, "groups", "resampled trainings")
    table = list(csv.DictReader((folder / "gemstones_checkpoints.csv").open()))
    sizes = sorted({(r["width"], r["depth"]) for r in table})
    hits = []
    for left in sizes[: size(len(sizes), 1)]:
        rest = [r for r in table if (r["width"], r["depth"]) != left]
        f = ll.forecast(rest, draws=size(200, 50))
        for r in (r for r in table if (r["width"], r["depth"]) == left):
            at = {a: float(r[a]) for a in ("width", "depth", "samples")}
            loss = f.predict_at(at, run=True)
            hits.append(loss.low <= float(r["loss"]) <= loss.high)
    print(f"  leave one training out: {np.mean(hits):.1%} of {len(hits)} covered", flush=True)
    what = "Gemstones checkpoints: one training left out, covered"
    return [*out, dict(what=what, value=float(np.mean(hits)))]


PARTS = (chinchilla, porian, open_lm, gemstones, checkpoints)


def main(folder: str | None, names: list[str]) -> None:
    if folder is None:
        print("give the folder of the public tables")
        return
    for part in PARTS:
        if names and part.__name__ not in names:
            continue
        print(part.__name__, flush=True)
        started = time.perf_counter()
        rows = part(Path(folder))
        seconds = time.perf_counter() - started
        print(f"  {seconds:.0f} s")
        keep("forecast_public", {part.__name__: {"rows": rows, "seconds": round(seconds, 1)}})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None, sys.argv[2:])
