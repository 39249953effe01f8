"""Several seeds of a solve as one program: a network whose rows have a leading axis of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from leadline.dense.weights import centred
from leadline.solving.checkpoint_tensors import State
from leadline.solving.completion import CompleteOperator
from leadline.solving.configuration import Configuration
from leadline.solving.network import SCRATCH, TRAINING, RevealedNetwork
from leadline.solving.operator import Operator
from leadline.solving.passes import Pass
from leadline.solving.stacked_operator import StackedNeurons, StackedOperator
from leadline.solving.updates import StoredWeight

# Largest width at which the operations' start counts; above it seeds only crowd each other's caches.
WIDTH = 4096
_NAMES = "stack."


class StackedNetwork(RevealedNetwork):
    """The state of the training of several runs, each with its own draws.

    Attributes:
        broken: places of runs that were not finite since the last ``keep``.
    """

    def __init__(self, configuration: Configuration, runs: Sequence[int]) -> None:
        self.runs, self.broken = list(runs), set()
        super().__init__(configuration, self.runs[0])

    def _prepare(self) -> None:
        self.shards = StackedNeurons(self.n, device=self.settings.device)
        self.settings = replace(self.settings, seeds=(len(self.runs),), shards=self.shards)

    def _ends(self, s: int) -> tuple[Tensor, Tensor]:
        u, v = zip(*(super(StackedNetwork, self)._ends(s) for s in self.runs), strict=True)
        return torch.stack(u), torch.stack(v)

    def _operator(self, l: int, j: int) -> Operator:
        noises, scratches = (
            [self._noise(s, kind, l, j) for s in self.runs] for kind in (TRAINING, SCRATCH)
        )
        return StackedOperator(self.settings, noises, scratches, self.broken)

    def center(self, x: Tensor) -> None:
        """Take every run's v off the span of the features of x (P, d) at initialization."""
        top = self.forward(x).top
        self.v = StoredWeight(
            torch.stack([centred(v, h) for v, h in zip(self.v.value, top, strict=True)])
        )

    def keep(self, places: list[int], done: Pass | None = None) -> Pass | None:
        """Go on with the runs in some places; and what is left of a pass."""
        self.runs = [self.runs[i] for i in places]
        self.broken.clear()
        self.u.keep(places)
        self.v.keep(places)
        self.u_initial = self.u_initial[places]
        for block in self.operators:
            for o in block:
                assert isinstance(o, StackedOperator | CompleteOperator)
                o.keep(places)
        if done is None:
            return None
        return Pass(
            done.x,
            done.outputs[places],
            done.top[places],
            [[None if s is None else s[places] for s in block] for block in done.slopes],
            [[c[places] for c in block] for block in done.coefficients],
        )

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a checkpoint, by names that are not those of one run's neurons."""
        return {f"{_NAMES}{k}": v for k, v in super().tensors().items()}

    def restore(self, state: State) -> None:
        """Continue from ``tensors()`` of the same runs."""
        super().restore(state.under(_NAMES))

    def complete(self, k: int) -> None:
        """Draw every W(0) whole before step k, where that pays; elsewhere take out padding."""
        super().complete(k)
        for block in self.operators:
            for o in block:
                if isinstance(o, StackedOperator):
                    o.tighten()

    def largest_ranks(self) -> np.ndarray:
        """(runs,): the largest rank of each; where W(0) was drawn whole, of all runs before that."""
        rows = [
            o.largest.max(1)
            if isinstance(o, StackedOperator)
            else np.full(len(self.runs), max(o.ranks))
            for block in self.operators
            for o in block
        ]
        return np.max(rows, axis=0)
