"""Tensors without memory say that they have some, so that what initializes them does not pass over them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DEVICE, _ON_CPU = Tensor.device.__get__, Tensor.is_cpu.__get__  # ty: ignore[missing-attribute]
_PLACES = (_DEVICE, _ON_CPU, Tensor.is_meta.__get__)  # ty: ignore[missing-attribute]


class Noting(Protocol):
    """Who knows the tensors without memory."""

    memory: bool

    def draw(self, x: Tensor) -> Any:
        """What was noted of one; None for an ordinary tensor."""
        ...

    def overwrite(self, x: Tensor, name: str, func: Any, numbers: tuple[float, ...]) -> Tensor:
        """Note a function that gives every entry a random value, as one operation."""
        ...


class _Disguise(TorchFunctionMode):
    """Answers where a tensor is."""

    def __init__(self, noting: Noting) -> None:
        super().__init__()
        self.noting = noting

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PLACES and self.noting.draw(args[0]) is not None:
            return torch.device("cpu") if func is _DEVICE else func is _ON_CPU
        return func(*args, **(kwargs or {}))


@contextmanager
def disguised(noting: Noting) -> Generator[None]:
    """Initializations of torch pass over tensors on the device "meta"; within this they do not.

    A truncated normal draw repeats what it rejects, which a tensor without values cannot tell.
    """
    truncated = nn.init._no_grad_trunc_normal_

    def trunc_normal_(x: Tensor, *numbers: float, generator: Any = None) -> Tensor:
        if noting.draw(x) is None:
            return truncated(x, *numbers, generator=generator)
        if noting.memory:
            truncated(x, *numbers, generator=generator)
        return noting.overwrite(x, "trunc_normal_", truncated, numbers)

    nn.init._no_grad_trunc_normal_ = trunc_normal_  # ty: ignore[invalid-assignment]
    try:
        if noting.memory:
            yield
        else:
            with _Disguise(noting):
                yield
    finally:
        nn.init._no_grad_trunc_normal_ = truncated
