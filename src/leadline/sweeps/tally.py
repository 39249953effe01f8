"""How far a sweep is: steps inside programs, programs that ended, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leadline.sweeps.program import Program, Result
from leadline.sweeps.schedule import cost


class Tally:
    """Counts steps of programs and tells ``progress``.

    Args:
        work: the programs.
        stored: runs that need no training.
        progress: called as ``sweep`` says, once the first step is done: what starts before it (workers,
            recordings) says nothing about the time left.
    """

    def __init__(
        self, work: Sequence[Program], stored: int, progress: Callable[..., None] | None
    ) -> None:
        self._progress = progress
        self._runs = [len(p.runs) for p in work]
        self._steps = [len(p.runs) * p.runs[0].steps for p in work]
        self._costs = [cost(p) for p in work]
        self._counts = [0] * len(work)
        self._ended: set[int] = set()
        self._stored = stored
        self._loss: float | None = None

    def watch(self, counts: Sequence[int]) -> None:
        """Take what every program has done; those that ended have done all."""
        for i, count in enumerate(counts):
            if i not in self._ended:
                self._counts[i] = count
        self._tell()

    def end(self, index: int, results: Sequence[Result]) -> None:
        """A program ended, without results where it failed; runs that stopped early count in full."""
        self._ended.add(index)
        self._counts[index] = self._steps[index]
        losses = [r.values["loss"] for r in results if r.values["loss"] is not None]
        if losses:
            self._loss = min(losses)
        self._tell()

    def _tell(self) -> None:
        step = sum(self._counts)
        if self._progress is None or not step:
            return
        done = self._stored + sum(self._runs[i] for i in self._ended)
        parts = zip(self._costs, self._counts, self._steps, strict=True)
        self._progress(
            step=step,
            steps=sum(self._steps),
            runs=(done, self._stored + sum(self._runs)),
            loss=self._loss,
            share=sum(c * at / steps for c, at, steps in parts) / sum(self._costs),
        )
