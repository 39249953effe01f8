"""One task after the other, in this process, on all its threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from leadline.sweeps.executors.base import Outcome, Pulse, Report, Watch, attempt


class Inline:
    """The simplest executor: nothing has to pickle. ``watch`` is called from within the function."""

    workers = 1
    pickles = False

    def prepare(self) -> None:
        """Nothing to start."""

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
    """What ``watch`` raised: no error of the task, so nothing in the task may catch it."""

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
