"""How long it takes to start: ./dev bench start

Seconds of a Python process that imports leadline, and of ``leadline --help``, less those of a Python that
does nothing: medians and ranges of interleaved runs, and the smallest seconds of processor time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from history import keep, size, spread

COMMANDS = {
    "python": ["-c", "pass"],
    "import leadline (<= 0.15)": ["-c", "import leadline"],
    "leadline --help (<= 0.3)": ["-m", "leadline", "--help"],
}
ROUNDS = size(15, 3)


def run(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a Python with these arguments."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system
    return wall, used - before.children_user - before.children_system


def measure() -> dict:
    for arguments in COMMANDS.values():
        run(arguments)
    rounds = [{name: run(arguments) for name, arguments in COMMANDS.items()} for _ in range(ROUNDS)]
    rows = {}
    for name in COMMANDS:
        wall = [r[name][0] for r in rounds]
        own = [r[name][0] - (name != "python") * r["python"][0] for r in rounds]
        rows[name] = {
            "seconds": statistics.median(wall),
            "without Python's own": own,
            "processor seconds": min(r[name][1] for r in rounds),
        }
    return rows


if __name__ == "__main__":
    rows = measure()
    for name, row in rows.items():
        own, used = spread(row["without Python's own"]), row["processor seconds"]
        print(
            f"{name:26s} {row['seconds']:.3f} s; without Python's own {own}; processor {used:.2f}"
        )
    keep("start", rows)
