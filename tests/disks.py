"""Small disks of their own for tests: full ones, and read-only ones."""

import contextlib
import subprocess
from pathlib import Path

import pytest


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
