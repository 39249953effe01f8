"""Problems and texts as data of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leadline.problems import Problem
from leadline.problems.losses import loss_value
from leadline.problems.texts import Text
from leadline.tasks.data import TrainingData

# Test and training losses at the end are means over at most this many sequences of a text.
_EVALUATED = 64
# Sequences of a text's step, where no batch size says otherwise.
_SEQUENCES = 16


def output(result: Any) -> Tensor:
    """The tensor of what a model returns."""
    return result if isinstance(result, Tensor) else result.logits


class Samples(TrainingData):
    """A ``Problem``: inputs (P, d), targets (P, C)."""

    def __init__(self, problem: Problem, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        self.problem = problem
        self.x, self.y = self._tensor(problem.x), self._tensor(problem.y)
        self._none = torch.empty(0, dtype=torch.int64)
        # The order of the samples in each seed's present epoch.
        self._orders: dict[int, tuple[int, Tensor]] = {}
        self.words = (
            f"the loss on {problem.name}",
            f"models take inputs (samples, {problem.dimension}) and put out "
            f"(samples, {problem.outputs}); a loss and batches of another form: ll.Task",
        )

    @property
    def name(self) -> str:
        """Name and fingerprint."""
        return f"{self.problem.name}#{self.problem.fingerprint()[:12]}"

    def on(self, device: str | torch.device) -> TrainingData:
        """The same with batches on this device."""
        same = torch.device(device) == self.device
        return self if same else Samples(self.problem, device)._like(self)

    def typed(self, dtype: torch.dtype) -> TrainingData:
        """The same with inputs and targets of this type."""
        out = super().typed(dtype)
        if isinstance(out, Samples) and out is not self:
            out.x, out.y = out._tensor(self.problem.x), out._tensor(self.problem.y)
        return out

    def _tensor(self, a: np.ndarray) -> Tensor:
        return torch.tensor(a, dtype=self.dtype or torch.float32).to(self.device)

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

    def train(self) -> list[Any]:
        """All training samples."""
        return [(self.x, self.y)]

    def first(self, rows: int) -> tuple[Tensor, Tensor]:
        """The first samples."""
        return self.x[:rows], self.y[:rows]

    def test(self) -> list[Any] | None:
        """All test samples."""
        p = self.problem
        if p.x_test is None or p.y_test is None:
            return None
        return [(self._tensor(p.x_test), self._tensor(p.y_test))]

    def _loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean over samples."""
        x, y = batch
        f = output(model(x))
        if f.shape != y.shape:
            raise ValueError(
                f"the model puts out {tuple(f.shape)}, the targets are {tuple(y.shape)}"
            )
        return loss_value(self.problem.loss, f, y)

    def shared(self, size: int | None) -> bool:
        """Is the batch the full one?"""
        return size is None or size >= len(self.x)


class Tokens(TrainingData):
    """A ``Text``: prediction of the next token."""

    def __init__(self, text: Text, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        self.text = text
        self.words = (
            f"the loss on {text.name}",
            f"models take token ids (batch, {text.context}) below {text.vocabulary} and put out logits "
            f"(batch, {text.context}, {text.vocabulary})",
        )

    @property
    def name(self) -> str:
        """Name and fingerprint."""
        return f"{self.text.name}#{self.text.fingerprint()[:12]}"

    def on(self, device: str | torch.device) -> TrainingData:
        """The same with batches on this device."""
        return Tokens(self.text, device)._like(self)

    def _tensors(self, pair: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        x, y = (torch.as_tensor(a).to(self.device) for a in pair)
        return x, y

    def batch(self, step: int, size: int | None, seed: int) -> tuple[Tensor, Tensor]:
        """Random sequences of a step."""
        return self._tensors(self.text.batch(step, _SEQUENCES if size is None else size, seed))

    def train(self) -> list[Any]:
        """Sequences that no seed trains on in this order."""
        return [self._tensors(self.text.batch(0, _EVALUATED, 2**31))]

    def first(self, rows: int) -> tuple[Tensor, Tensor]:
        """The first sequences that have so many tokens together."""
        x, y = self.train()[0]
        count = -(-rows // x.shape[1])
        return x[:count], y[:count]

    def test(self) -> list[Any] | None:
        """Fixed sequences of the test text."""
        return [self._tensors(self.text.test_batch(_EVALUATED))]

    def _loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Mean cross-entropy in nats."""
        x, y = batch
        f = output(model(x))
        if f.shape[:-1] != y.shape or f.shape[-1] < self.text.vocabulary:
            raise ValueError(
                f"the model puts out {tuple(f.shape)}, a text with {self.text.vocabulary} tokens needs "
                f"{(*y.shape, self.text.vocabulary)}"
            )
        return nn.functional.cross_entropy(f.reshape(-1, f.shape[-1]), y.reshape(-1))

    def shared(self, size: int | None) -> bool:
        """Every seed has its own."""
        return False
