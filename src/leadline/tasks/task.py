"""``Task``: the user's own loss and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from leadline.errors import shown
from leadline.identity.names import check_told, named, readable, told_or_not
from leadline.problems import Problem
from leadline.problems.texts import Text
from leadline.tasks.builtin import Samples, Tokens
from leadline.tasks.data import TrainingData, moved
from leadline.tasks.sources import FixedBatch, Source, source

# Batches of the stream that the loss at the end is a mean of, as a seed has them that no run trains with.
_EVALUATED, _NOBODY = 4, 2**31
_MISSING: Any = object()


@dataclass(frozen=True, eq=False)
class Task:
    """What a model of your own is trained on: a loss and batches.

    Args:
        loss: (model, batch) -> scalar tensor, the mean over the batch.
        batch: one batch, the same at every step. A batch is a tensor, or tuples, lists and dicts of
            tensors, or whatever the loss takes.
        batches: instead of batch: a list of batches; anything that can be iterated over again and again,
            such as a DataLoader (a new epoch begins where one ends; one that shuffles does so by the
            run's seed); a function (step, generator) -> batch, whose random numbers come from the
            generator or from torch's, NumPy's or Python's global ones; or a function of nothing that
            returns an iterator.
        eval_batch: held-out data for ``test_loss``.
        name: says what the task is in stores, instead of a digest of loss and batches. Two tasks of one
            name count as the same.

    Raises:
        TypeError, ValueError: naming the argument, its value and the remedy.

    >>> import torch
    >>> x = torch.ones(4, 3)
    >>> Task(lambda model, batch: model(batch).square().mean(), batch=x)
    Task(lambda, one batch of tensors (4, 3))
    """

    loss: Callable[[nn.Module, Any], Tensor]
    batch: Any = field(default=_MISSING, kw_only=True)
    batches: Any = field(default=_MISSING, kw_only=True)
    eval_batch: Any = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    source: Source = field(init=False, repr=False)
    """Where batches come from."""

    def __post_init__(self) -> None:
        if not callable(self.loss):
            raise TypeError(
                f"loss={shown(self.loss)} cannot be called: give a function (model, batch) -> scalar"
            )
        missing = self.batch is _MISSING, self.batches is _MISSING
        if all(missing):
            raise ValueError(
                "the task has no data: give batch= (the same at every step) or batches= (a list, a "
                "DataLoader, or a function of step and generator)"
            )
        if not any(missing):
            raise ValueError("batch= and batches= are both there: give one of them")
        if self.name is not None:
            named(self.name, self.loss)
        kept = FixedBatch(self.batch) if missing[1] else source(self.batches)
        object.__setattr__(self, "source", kept)

    def __repr__(self) -> str:
        what = self.name or readable(self.loss)
        if isinstance(self.source, FixedBatch):
            tensors = [x for x in tree_flatten(self.batch)[0] if isinstance(x, Tensor)]
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors[:4])
            return f"Task({what}, one batch of tensors {shapes})"
        return f"Task({what}, batches={shown(self.batches, 60)})"

    def identity(self, store: bool = False) -> str:
        """What the task is, as text.

        Args:
            store: is it kept to compare with others?

        Raises:
            TypeError: it is, and loss or batches cannot be told from others.
        """
        if self.name is not None:
            return f"task(named:{self.name})"
        parts = {
            "loss": self.loss,
            "batches": self.source.identity,
            "eval_batch": self.eval_batch,
        }
        if not store:
            digests = [told_or_not(x) for x in parts.values()]
        else:
            try:
                digests = [check_told(f"task.{k}", x, "store") for k, x in parts.items()]
            except TypeError as e:
                head = str(e).partition(": give it a name")[0]
                raise TypeError(
                    f"{head}: give the task a name, ll.Task(..., name='my-task'), or give no store"
                ) from None
        return f"task({'; '.join(digests)})"


class TaskData(TrainingData):
    """A ``Task`` as data of a training."""

    def __init__(self, task: Task, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        self.task = task

    @property
    def name(self) -> str:
        """Loss and batches, each with a digest."""
        return self.task.identity()

    def on(self, device: str | torch.device) -> TrainingData:
        """The same with batches on this device."""
        same = torch.device(device) == self.device
        return self if same else TaskData(self.task, device)._like(self)

    def batch(self, step: int, size: int | None, seed: int) -> Any:
        """The batch of a step.

        Raises:
            ValueError: a size, which is the task's own.
        """
        if size is not None:
            raise ValueError(
                f"batch_size={size} is none of a Task's, whose batches come with their size: make them in "
                "that size, and leave batch_size out"
            )
        return moved(self.task.source.at(step, seed), self.device, self.dtype)

    def train(self) -> list[Any]:
        """The one batch, or four batches of the stream."""
        count = 1 if isinstance(self.task.source, FixedBatch) else _EVALUATED
        return [self.batch(i, None, _NOBODY) for i in range(count)]

    def test(self) -> list[Any] | None:
        """The held-out batch."""
        kept = self.task.eval_batch
        return None if kept is None else [moved(kept, self.device, self.dtype)]

    def shared(self, size: int | None) -> bool:
        """Do all seeds have the same batches?"""
        return self.task.source.shared

    def _loss(self, model: nn.Module, batch: Any) -> Any:
        return self.task.loss(model, batch)


def data_of(task: Any, argument: str = "task") -> TrainingData:
    """A task, a problem or a text as data of a training.

    Raises:
        TypeError: nothing that can be trained on.
    """
    if isinstance(task, TrainingData):
        return task
    if isinstance(task, Task):
        return TaskData(task)
    if isinstance(task, Problem):
        return Samples(task)
    if isinstance(task, Text):
        return Tokens(task)
    remedy = "give ll.Task(loss, batch=...), a Problem or a Text first, then the builder"
    raise TypeError(f"{argument}={shown(task)} cannot be trained on: {remedy}")
