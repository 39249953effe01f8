"""One task after the other, in this process, on all its threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from leadline.sweeps.executors.base import Outcome, attempt


class Inline:
    """The simplest executor: nothing has to pickle."""

    workers = 1
    pickles = False

    def prepare(self) -> None:
        """Nothing to start."""

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Outcomes in order."""
        for i, task in enumerate(tasks):
            yield attempt(function, i, task)
