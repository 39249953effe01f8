"""The first call of a task on a model: does it work, and what does the model take?"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from leadline.tasks.data import TrainingData, copied
from leadline.tasks.task import TaskData
from leadline.tracing.builder import seeded


def first_call(data: TrainingData, model: nn.Module, size: int | None = None) -> Any:
    """Take the loss of a model on the first batch and on the held-out one, so that errors come before any
    work.

    Args:
        size: samples of the batch; None is the data's usual one.

    Returns:
        What the loss calls the model with: a tensor, a tuple of arguments or a dict of keywords; None if it
        does not call it as a whole.

    Raises:
        ValueError: the loss failed, is no scalar, is not finite on the first batch, or has no gradient.
    """
    calls: list[Any] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not calls:
            calls.append(_inputs(module, copied(args), copied(kwargs)))

    handle = model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with seeded(0), torch.enable_grad():
            loss = data.loss(model, copied(data.batch(0, size, 0)))
    finally:
        handle.remove()
    what, _ = data.words
    if not loss.requires_grad:
        raise ValueError(
            f"{what} has no gradient: it has to depend on the model's parameters, without detach(), "
            ".item() or torch.no_grad()"
        )
    if not bool(torch.isfinite(loss.detach())):
        raise ValueError(
            f"{what} is {float(loss.detach())} on the first batch, before any training: look for NaN in "
            "the batch, or for a log or a division by 0 in the loss"
        )
    if isinstance(data, TaskData):
        _held_out(data, model)
    return calls[0] if calls else None


def _held_out(data: TaskData, model: nn.Module) -> None:
    was = model.training
    try:
        with seeded(0), torch.no_grad():
            for batch in data.test() or ():
                data.loss(model.eval(), copied(batch))
    except ValueError as e:
        raise ValueError(f"eval_batch: {e}") from e
    finally:
        model.train(was)


def _inputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Arguments of a call in one form."""
    if not kwargs:
        return args[0] if len(args) == 1 and isinstance(args[0], Tensor) else args
    if not args:
        return kwargs
    bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    flat: dict[str, Any] = {}
    for name, value in bound.items():
        kind = inspect.signature(model.forward).parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return None
        flat |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return flat
