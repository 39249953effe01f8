"""What a sweep trains on: batches that any process can make again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from leadline.problems import Problem
    from leadline.problems.texts import Text

# Test and training losses at the end are means over at most this many sequences of a text.
_EVALUATED = 64


class Samples:
    """A ``Problem``: inputs (P, d), targets (P, C)."""

    def __init__(self, problem: Problem, device: str | torch.device = "cpu") -> None:
        self.problem, self.device = problem, torch.device(device)
        self.kind = problem.loss
        self.x, self.y = self._tensor(problem.x), self._tensor(problem.y)
        self._none = torch.empty(0, dtype=torch.int64)
        # The order of the samples in each seed's present epoch.
        self._orders: dict[int, tuple[int, Tensor]] = {}

    @property
    def name(self) -> str:
        """Name and fingerprint."""
        return f"{self.problem.name}#{self.problem.fingerprint()[:12]}"

    def on(self, device: str | torch.device) -> Samples:
        """The same with batches on this device."""
        same = torch.device(device) == self.device
        return self if same else Samples(self.problem, device)

    def _tensor(self, a: np.ndarray) -> Tensor:
        return torch.tensor(a, dtype=torch.float32).to(self.device)

    def batch(self, step: int, size: int | None, seed: int) -> tuple[Tensor, Tensor]:
        """The batch of a step: all samples, or ``size`` of them without replacement in an epoch."""
        if size is None or size >= len(self.x):
            return self.x, self.y
        rows = self._rows(step, size, seed).to(self.device)
        return self.x.index_select(0, rows), self.y.index_select(0, rows)

    def stacked(self, step: int, size: int | None, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The batches of several runs, (K, B, ...)."""
        each = size or len(self.x)
        rows = torch.cat([self._rows(step, each, s) for s in seeds]).to(self.device)
        x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
        return x.unflatten(0, (-1, each)), y.unflatten(0, (-1, each))

    def _rows(self, step: int, size: int, seed: int) -> Tensor:
        epoch, k = divmod(step, len(self.x) // size)
        known, order = self._orders.get(seed, (-1, self._none))
        if known != epoch:
            order = torch.from_numpy(
                np.random.default_rng([seed, epoch, 1]).permutation(len(self.x))
            )
            self._orders[seed] = (epoch, order)
        return order[k * size : (k + 1) * size]

    def train(self) -> tuple[Tensor, Tensor]:
        """All training samples."""
        return self.x, self.y

    def test(self) -> tuple[Tensor, Tensor] | None:
        """All test samples."""
        p = self.problem
        if p.x_test is None or p.y_test is None:
            return None
        return self._tensor(p.x_test), self._tensor(p.y_test)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over samples."""
        from leadline.problems.losses import loss_value

        return loss_value(self.kind, outputs, targets)

    def shared(self, size: int | None) -> bool:
        """Do all runs have the same batch?"""
        return size is None or size >= len(self.x)


class Tokens:
    """A ``Text``: next-byte prediction."""

    def __init__(self, text: Text, device: str | torch.device = "cpu") -> None:
        self.text, self.device = text, torch.device(device)

    @property
    def name(self) -> str:
        """Name and fingerprint."""
        return f"{self.text.name}#{self.text.fingerprint()[:12]}"

    def on(self, device: str | torch.device) -> Tokens:
        """The same with batches on this device."""
        return Tokens(self.text, device)

    def _tensors(self, pair: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        x, y = (torch.as_tensor(a).to(self.device) for a in pair)
        return x, y

    def batch(self, step: int, size: int | None, seed: int) -> tuple[Tensor, Tensor]:
        """Random sequences of a step."""
        return self._tensors(self.text.batch(step, 16 if size is None else size, seed))

    def stacked(self, step: int, size: int | None, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The batches of several runs, (K, B, T)."""
        made = {s: self.batch(step, size, s) for s in set(seeds)}
        return torch.stack([made[s][0] for s in seeds]), torch.stack([made[s][1] for s in seeds])

    def train(self) -> tuple[Tensor, Tensor]:
        """Sequences that no seed trains on in this order."""
        return self._tensors(self.text.batch(0, _EVALUATED, 2**31))

    def test(self) -> tuple[Tensor, Tensor] | None:
        """Fixed sequences of the test text."""
        return self._tensors(self.text.test_batch(_EVALUATED))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        return torch.nn.functional.cross_entropy(
            outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
        )

    def shared(self, size: int | None) -> bool:
        """Do all runs have the same batch?"""
        return False


def data_of(data: Any) -> Samples | Tokens:
    """The data as batches.

    Raises:
        TypeError: neither a Problem nor a Text.
    """
    from leadline.problems import Problem

    if isinstance(data, Problem):
        return Samples(data)
    if hasattr(data, "test_batch") and hasattr(data, "batch"):
        return Tokens(data)
    raise TypeError(f"data={type(data).__name__} cannot be trained on: give a Problem or a Text")
