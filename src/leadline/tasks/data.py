"""What a training reads: batches, and the loss of a model on one of them."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from leadline.errors import check_choice
from leadline.places import failed

PRECISIONS = ("float32", "bfloat16")
_PLAIN = (Tensor, type(None), bool, int, float, str, bytes)


class TrainingData(ABC):
    """Batches and a loss; every batch is a function of step, size and seed alone.

    Args:
        device: where batches lie.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.precision = "float32"
        self.dtype: torch.dtype | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, as text: equal names have equal batches and losses."""

    @abstractmethod
    def on(self, device: str | torch.device) -> TrainingData:
        """The same with batches on this device."""

    @abstractmethod
    def batch(self, step: int, size: int | None, seed: int) -> Any:
        """The batch of a step; size None is the data's usual one."""

    @abstractmethod
    def train(self) -> list[Any]:
        """Batches on which the loss at the end is the mean."""

    def first(self, rows: int) -> Any:
        """The first of the training batches, or so much of it as has so many samples or tokens."""
        return self.train()[0]

    @abstractmethod
    def test(self) -> list[Any] | None:
        """Batches of data that no run trains on."""

    @abstractmethod
    def shared(self, size: int | None) -> bool:
        """Do all seeds have the same batches?"""

    @abstractmethod
    def _loss(self, model: nn.Module, batch: Any) -> Any:
        """The loss as its author wrote it."""

    words = "loss(model, batch)", "it is called with models of the builder and batches of the task"
    """What fails where a loss fails, and what to know about it."""

    def stacked(self, step: int, size: int | None, seeds: Sequence[int]) -> Any:
        """The batches of several runs, stacked; None where they cannot be."""
        made = {s: self.batch(step, size, s) for s in dict.fromkeys(seeds)}
        return stack([made[s] for s in seeds])

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar loss of a model on a batch.

        Raises:
            ValueError: it failed, with the place in the user's file; or it is no scalar.
        """
        what, remedy = self.words
        try:
            with self._autocast():
                value = self._loss(model, batch)
        except (torch.OutOfMemoryError, FloatingPointError):
            raise
        except Exception as e:
            raise failed(what, e, remedy) from e
        if not isinstance(value, Tensor) or value.numel() != 1:
            shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{what} returned {shown}: return a scalar tensor of (model, batch)")
        return value.float().reshape(()) if self.precision != "float32" else value.reshape(())

    def precise(self, precision: str) -> TrainingData:
        """The same with losses in this precision: "float32", or "bfloat16" by torch.autocast."""
        if precision == self.precision:
            return self
        out = copy.copy(self)
        out.precision = check_choice("precision", precision, PRECISIONS)
        return out

    def typed(self, dtype: torch.dtype) -> TrainingData:
        """The same with floating-point batches of this type; they are as they were made otherwise."""
        if dtype == self.dtype:
            return self
        out = copy.copy(self)
        out.dtype = dtype
        return out

    def _like(self, other: TrainingData) -> TrainingData:
        """These data with the precision and the type of others."""
        kept = self.precise(other.precision)
        return kept if other.dtype is None else kept.typed(other.dtype)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def parts(self, batch: Any) -> list[tuple[TrainingData, Any]]:
        """Batches whose losses are averaged, each with its data: a step may take one after the other."""
        return [(self, batch)]

    def rows(self, size: int | None) -> int:
        """Rows that pass through every layer in a step: samples, or tokens of sequences."""
        tensors = [x for x in tree_flatten(self.batch(0, size, 0))[0] if isinstance(x, Tensor)]
        counts = [
            x.numel() if not x.is_floating_point() and x.ndim > 1 else x.shape[0]
            for x in tensors
            if x.ndim
        ]
        return max(counts, default=1)


class LossModule(nn.Module):
    """The loss of a model as a module of a batch, whose parameters can then be replaced."""

    def __init__(self, model: nn.Module, data: TrainingData) -> None:
        super().__init__()
        self.model, self.data = model, data

    def forward(self, batch: Any) -> Tensor:
        """The loss on a batch."""
        return self.data.loss(self.model, batch)


def mean_loss(data: TrainingData, model: nn.Module, batches: Sequence[Any]) -> Tensor:
    """The mean over batches, each a copy, whatever the model does to its inputs."""
    return torch.stack([data.loss(model, copied(b)) for b in batches]).mean()


def moved(batch: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """The batch on a device: its tensors, and whatever else can move itself.

    Args:
        dtype: of floating-point tensors; None leaves it.
    """

    def move(x: Any) -> Any:
        if dtype is not None and isinstance(x, Tensor) and x.is_floating_point():
            return x.to(device, dtype)
        return x.to(device) if callable(getattr(x, "to", None)) else x

    return tree_map(move, batch)


def copied(batch: Any) -> Any:
    """The batch with tensors of its own."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, batch)


def stack(batches: Sequence[Any]) -> Any:
    """Batches with one more axis in front; None where their structures, shapes or other values differ."""
    flat = [tree_flatten(b) for b in batches]
    leaves, spec = flat[0]
    if any(s != spec for _, s in flat) or not plain(leaves):
        return None
    out = []
    for values in zip(*(x for x, _ in flat), strict=True):
        first = values[0]
        if isinstance(first, Tensor):
            if any(x.shape != first.shape or x.dtype != first.dtype for x in values):
                return None
            out.append(torch.stack(list(values)))
        elif any(type(x) is not type(first) or x != first for x in values):
            return None
        else:
            out.append(first)
    return tree_unflatten(out, spec)


def plain(leaves: Sequence[Any]) -> bool:
    """Are all leaves of a batch tensors or plain values, so that nothing hides in them?"""
    return all(isinstance(x, _PLAIN) for x in leaves)


class Accumulated(TrainingData):
    """Several batches of other data as one: the mean of their losses, one batch after the other.

    Args:
        data: whose batches they are.
        count: how many make one, >= 1.
    """

    def __init__(self, data: TrainingData, count: int) -> None:
        super().__init__(data.device)
        self.data, self.count, self.precision = data, count, data.precision
        self.dtype = data.dtype
        self.words = data.words

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.data.name

    def on(self, device: str | torch.device) -> TrainingData:
        """The same with batches on this device."""
        return Accumulated(self.data.on(device), self.count)

    def batch(self, step: int, size: int | None, seed: int) -> Any:
        """The next so many batches."""
        first = step * self.count
        return [self.data.batch(first + i, size, seed) for i in range(self.count)]

    def train(self) -> list[Any]:
        """All batches of the data's as one."""
        return [self.data.train()]

    def test(self) -> list[Any] | None:
        """All batches of the data's as one."""
        kept = self.data.test()
        return None if kept is None else [kept]

    def precise(self, precision: str) -> TrainingData:
        """The same with losses in this precision."""
        return Accumulated(self.data.precise(precision), self.count)

    def typed(self, dtype: torch.dtype) -> TrainingData:
        """The same with floating-point batches of this type."""
        return Accumulated(self.data.typed(dtype), self.count)

    def shared(self, size: int | None) -> bool:
        """Do all seeds have the same batches of the data?"""
        return self.data.shared(size)

    def parts(self, batch: Any) -> list[tuple[TrainingData, Any]]:
        """One by one, so that no more than one batch's activations are kept."""
        return [(self.data, b) for b in batch]

    def _loss(self, model: nn.Module, batch: Any) -> Any:
        return torch.stack([self.data.loss(model, b) for b in batch]).mean()
