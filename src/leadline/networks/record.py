"""The arrays that a training fills, step by step and chunk by chunk; NaN where a run diverged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from leadline.problems.losses import accuracy, loss_value
from leadline.trajectory import Trajectory, has_diverged

if TYPE_CHECKING:
    from leadline.measure.observation import Measure


class Record:
    """Records of S runs: outputs, losses and accuracies of both splits, and measures.

    Args:
        problem: data and loss, on the CPU.
        seeds: S.
        steps: the steps to record; 0 and the last are among them.
        measured: the steps to measure.
    """

    def __init__(
        self, problem: Any, seeds: int, steps: tuple[int, ...], measured: tuple[int, ...]
    ) -> None:
        self.steps, self.measured = steps, measured
        self.diverged = np.full(seeds, -1, dtype=np.int64)
        self.measures: dict[str, np.ndarray] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self._loss = problem.loss
        self._first = np.full(seeds, np.nan)
        self._targets: dict[str, tuple[Tensor, Tensor | None]] = {}
        for split, y, labels in (
            ("train", problem.y, problem.labels),
            ("test", problem.y_test, problem.labels_test),
        ):
            if y is None or not len(y):
                continue
            known = None if labels is None else torch.as_tensor(np.array(labels))
            self._targets[split] = (torch.as_tensor(np.array(y)), known)
            shape = (seeds, len(steps))
            self.arrays[f"{split}_outputs"] = np.full((*shape, *np.shape(y)), np.nan)
            self.arrays[f"{split}_loss"] = np.full(shape, np.nan)
            if known is not None:
                self.arrays[f"{split}_accuracy"] = np.full(shape, np.nan)

    def losses(self, f: Tensor) -> np.ndarray:
        """Training losses (S',) of outputs (S', P, C) in float64."""
        return loss_value(self._loss, f.detach().double().cpu(), self._targets["train"][0]).numpy()

    def start(self, runs: range, losses: np.ndarray) -> None:
        """Remember the losses (S',) at step 0, which divergence is measured against."""
        self._first[runs.start : runs.stop] = losses

    def check(self, step: int, runs: range, losses: np.ndarray) -> None:
        """Mark the runs whose loss says that they have diverged."""
        for run, loss in zip(runs, losses, strict=True):
            if self.diverged[run] < 0 and has_diverged(float(loss), float(self._first[run])):
                self.diverged[run] = step

    def alive(self, runs: range) -> np.ndarray:
        """Which of the runs have not diverged, (S',) bool."""
        return self.diverged[runs.start : runs.stop] < 0

    def outputs(self, split: str, step: int, runs: range, f: Tensor) -> None:
        """Store outputs (S', P, C) and what follows from them, of the runs that are alive."""
        y, labels = self._targets[split]
        f = f.detach().double().cpu()
        row, alive = self.steps.index(step), self.alive(runs)
        at = np.arange(runs.start, runs.stop)[alive]
        f = f[torch.from_numpy(alive)]
        self.arrays[f"{split}_outputs"][at, row] = f.numpy()
        self.arrays[f"{split}_loss"][at, row] = loss_value(self._loss, f, y).numpy()
        if labels is not None:
            self.arrays[f"{split}_accuracy"][at, row] = accuracy(f, labels).numpy()

    def measure(self, step: int, run: int, numbers: Mapping[str, np.ndarray]) -> None:
        """Store the numbers of one run's snapshot; of a diverged run only their shapes."""
        for name, value in numbers.items():
            if name not in self.measures:
                shape = (len(self.diverged), len(self.measured), *value.shape)
                self.measures[name] = np.full(shape, np.nan)
            if self.diverged[run] < 0:
                self.measures[name][run, self.measured.index(step)] = value

    def trajectory(
        self, request: Measure | None, depth: int, info: Mapping[str, Any]
    ) -> Trajectory:
        """The finished result."""
        times = None if request is None else np.array(request.layers(depth)) / depth
        return Trajectory(
            steps=np.array(self.steps),
            **self.arrays,
            diverged=self.diverged,
            times=times,
            measured_steps=None if request is None else np.array(self.measured, dtype=np.int64),
            measures=self.measures,
            info=info,
        )
