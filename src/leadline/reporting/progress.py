"""Live progress on stderr, of a terminal or a notebook: one line with time left, loss, rank and memory."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO


class Progress:
    """A callable for ``progress=``; leave its ``with`` block to end the line.

    Args:
        seeds: runs that follow each other, for the time left.
        stream: None is stderr. On a terminal and in a notebook one line is rewritten; elsewhere a plain
            line is written at most every ``every`` seconds.
        quiet: write nothing.
    """

    def __init__(
        self,
        seeds: int = 1,
        *,
        stream: TextIO | None = None,
        every: float = 5.0,
        quiet: bool = False,
    ) -> None:
        self._seeds, self._every, self._quiet = seeds, every, quiet
        self._stream = sys.stderr if stream is None else stream
        # A notebook's stream is no terminal, and rewrites a line as one does.
        self._live = self._stream.isatty() or type(self._stream).__module__.startswith("ipykernel.")
        self._unit: tuple[Any, ...] | None = None
        self._started = self._wrote = time.monotonic()
        self._first, self._last = 0.0, 0
        self._width = 0

    def __call__(self, **report: Any) -> None:
        """Show a report: step, steps, loss, and what else the caller knows.

        Args:
            report: the time left follows from ``share``, of the work that is done, where steps differ in
                what they cost; without it from step and steps.
        """
        now = time.monotonic()
        step, steps = int(report["step"]), int(report["steps"])
        share = float(report.get("share", step / max(steps, 1)))
        unit = (report.get("branch"), report.get("seed"), str(report.get("seeds")))
        if unit != self._unit or step < self._last:
            self._unit, self._started, self._first = unit, now, share
        self._last = step
        if self._quiet or now - self._wrote < (0.1 if self._live else self._every):
            return
        self._wrote = now
        self._write(line(report, self._left(now, share, self._others(report))))

    def _others(self, report: Mapping[str, Any]) -> float:
        """Runs, or groups of runs, that follow the present one."""
        seed, runs = report.get("seed"), report.get("seeds")
        if seed is not None and not isinstance(runs, range):
            return max(self._seeds - 1 - seed, 0)
        return (
            max(self._seeds - runs.stop, 0) / len(runs) if isinstance(runs, range) and runs else 0.0
        )

    def _left(self, now: float, share: float, others: float) -> float | None:
        """Seconds left of this branch, as far as it is known."""
        done = share - self._first
        if done <= 0:
            return None
        return (now - self._started) / done * (1 - share + others)

    def _write(self, text: str) -> None:
        if self._live:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


def line(report: dict[str, Any], left: float | None) -> str:
    """One report as text."""
    parts = [str(report["branch"])] if report.get("branch") else []
    if report.get("runs") is not None:
        parts.append("{}/{} runs".format(*report["runs"]))
    if report.get("seed") is not None and not isinstance(report.get("seeds"), range):
        parts.append(f"seed {report['seed']}")
    elif isinstance(report.get("seeds"), range):
        runs = report["seeds"]
        parts.append(f"seeds {runs[0]}–{runs[-1]}" if len(runs) > 1 else f"seed {runs[0]}")
    parts.append(f"step {report['step']}/{report['steps']}")
    if report.get("loss") is not None:
        parts.append(f"loss {report['loss']:.4g}")
    if report.get("rank") is not None:
        parts.append(f"rank {report['rank']}")
    if report.get("bytes") is not None:
        parts.append(size(report["bytes"]))
    if left is not None:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


def size(count: float) -> str:
    """Bytes in binary units.

    >>> size(3 * 2**29)
    '1.5 GiB'
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log2(max(count, 1)) / 10), len(units) - 1)
    return f"{count / 1024**power:.3g} {units[power]}" if power else f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """A time span in words.

    >>> duration(75), duration(4000)
    ('1 min 15 s', '1 h 7 min')
    >>> duration(4e5), duration(1e10)
    ('4.63 days', '317 years')
    """
    if seconds >= 2 * 31557600:
        return f"{seconds / 31557600:.3g} years"
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.3g} days"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {round(seconds / 60) % 60} min"
