"""What an executor is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Outcome:
    """What became of one task."""

    index: int
    """Its place among the tasks."""
    value: Any = None
    error: str | None = None
    """What its function raised, in words."""


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
        """Begin to start what takes time, and return at once: a run follows."""
        ...

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Outcomes as they come, one for each task."""
        ...


def attempt(function: Any, index: int, task: Any) -> Outcome:
    """Call, and turn what is raised into an outcome."""
    try:
        return Outcome(index, function(task))
    except Exception as e:
        return Outcome(index, error=f"{type(e).__name__}: {e}")
