"""Small disks for tests, full ones and read-only ones, and a short solve that writes checkpoints."""

import contextlib
import subprocess
from pathlib import Path

import pytest

import leadline as ll

PROBLEM = ll.teacher(samples=6, dimension=4, test_samples=3)
HOW = dict(width=24, depth=2, seeds=2)
SGD = ll.SGD(lr=0.3, steps=3)


class Stop(Exception):
    """Ends a solve in the middle."""


def solve(path, stop=None, **more):
    """With a checkpoint after every record; raises ``Stop`` at that of number ``stop``."""
    calls = 0

    def watch(**_):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Stop

    how = HOW | dict(checkpoint=path, checkpoint_every=0.0, progress=watch) | more
    return ll.solve(PROBLEM, ll.ResNet(), SGD, **how)


@contextlib.contextmanager
def disk(folder, size):
    """A small disk; skips where there may be none."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "leadline-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        why = done.stderr.strip()
    except OSError as e:
        done, why = None, str(e)
    if done is None or done.returncode:
        pytest.skip(f"no disk can be mounted here: {why}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def read_only(folder):
    """Make a mounted disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def resident(folder):
    """Bytes in memory of files in a folder."""
    total, here = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            here = str(folder) in line
        elif here and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total
