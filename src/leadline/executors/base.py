"""The contract of executors, and the simplest one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Seconds between two readings of what tasks have done.
EVERY = 1.0

Report = Callable[[int], None]
"""Called by a function with how much of its task is done."""
Watch = Callable[[Sequence[int]], None]
"""Called by an executor with how much of every task is done."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one task."""

    index: int
    """Its place among the tasks."""
    value: Any = None
    error: str | None = None
    """The exception of its function, in words."""


class Executor(Protocol):
    """Runs a function on tasks, in any order, some at once.

    A task whose function raises has an error in its outcome; the others go on. A task whose worker
    dies is run once more; if it dies again that is its error. Leaving the iterator early stops the
    workers.
    """

    workers: int
    """Tasks that run at once."""
    pickles: bool
    """Do functions and tasks have to pickle?"""

    def prepare(self) -> None:
        """Start slow parts (workers) in the background, and return at once: a run follows."""
        ...

    def run(
        self, function: Any, tasks: Sequence[Any], watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Outcomes as they come, one for each task.

        Args:
            function: called with a task; with ``watch`` also with a ``Report``, which it calls as often
                as it likes with how much of the task is done, a whole number.
            watch: called in this process, at most once a second while outcomes are waited for, with
                the last number of every task (0 before its first). Numbers may be a second or two old,
                and begin anew in a task that runs again. What it raises ends the run.
        """
        ...


class Pulse:
    """Calls ``watch`` with what ``read`` says, at most once every ``EVERY`` seconds."""

    def __init__(self, watch: Watch | None, read: Callable[[], Sequence[int]]) -> None:
        self._watch, self._read, self._next = watch, read, -math.inf

    def __call__(self) -> None:
        """Call if it is time."""
        if self._watch is None:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY
            self._watch(list(self._read()))


def sparing(put: Callable[[int], None]) -> Report:
    """A report that is passed on at most once every ``EVERY`` seconds."""
    count = [0]
    pulse = Pulse(lambda now: put(now[0]), lambda: count)

    def report(done: int) -> None:
        count[0] = done
        pulse()

    return report


def attempt(function: Any, index: int, task: Any, report: Report | None = None) -> Outcome:
    """Call; an exception is an outcome too."""
    try:
        return Outcome(index, function(task) if report is None else function(task, report))
    except Exception as e:
        return Outcome(index, error=f"{type(e).__name__}: {e}")


class Inline:
    """One task after the other, in this process, on all its threads: nothing has to pickle.

    ``watch`` is called from within the function.
    """

    workers = 1
    pickles = False

    def prepare(self) -> None:
        """Nothing has to be started."""

    def run(
        self, function: Any, tasks: Sequence[Any], watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Outcomes in order."""
        counts = [0] * len(tasks)
        pulse = Pulse(watch, lambda: counts)
        for i, task in enumerate(tasks):
            report = None if watch is None else _report(counts, i, pulse)
            try:
                outcome = attempt(function, i, task, report)
            except _Raised as e:
                raise e.error from None
            yield outcome


class _Raised(BaseException):
    """An exception of ``watch``: no error of the task, so nothing in the task may catch it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _report(counts: list[int], index: int, pulse: Pulse) -> Report:
    def report(count: int) -> None:
        counts[index] = count
        try:
            pulse()
        except Exception as e:
            raise _Raised(e) from e

    return report
