"""The runs of a cell of ``claims_map`` as a table in a file."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

METRICS = ("loss", "test_loss")


def read(path: Path) -> list[dict[str, Any]]:
    """The runs of a table."""
    out = []
    with gzip.open(path, "rt", newline="") as file:
        for line in csv.DictReader(file):
            what = {"scheme": line.pop("scheme"), "depth": int(line.pop("depth"))}
            what |= {"lr": float(line.pop("lr"))}
            for seed, both in line.items():
                if not both:
                    # Left out.
                    continue
                losses = dict(zip(METRICS, map(float, both.split()), strict=True))
                out.append(what | {"seed": int(seed)} | losses)
    return out


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """A line a scheme, depth and rate; a column a seed: training and test loss."""
    seeds = sorted({r["seed"] for r in rows})
    lines: dict[tuple[Any, ...], dict[int, str]] = {}
    for r in rows:
        line = lines.setdefault((r["scheme"], r["depth"], r["lr"]), {})
        line[r["seed"]] = " ".join(f"{r[k]:.4g}" for k in METRICS)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["scheme", "depth", "lr", *seeds])
    writer.writerows([*what, *(line.get(s, "") for s in seeds)] for what, line in lines.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    # No time stamp: the same runs are the same file.
    part.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    part.replace(path)
