"""Where a model holds its tensors: parameters, buffers, attributes, and lists of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def exchange(model: nn.Module, other: Callable[[str, Tensor], Tensor]) -> None:
    """Put other tensors in the place of a model's: parameters, buffers, attributes, lists of them."""

    seen: set[int] = set()

    def value(key: str, x: Any) -> Any:
        if isinstance(x, Tensor):
            return other(key, x)
        if id(x) in seen:
            return x
        seen.add(id(x))
        if type(x) is list:
            x[:] = [value(key, v) for v in x]
        elif type(x) is dict:
            for k, v in list(x.items()):
                new = value(str(k), v)
                if new is not v:
                    x[k] = new
        elif type(x) is tuple and any(isinstance(v, Tensor) for v in x):
            return tuple(value(key, v) for v in x)
        return x

    for module in model.modules():
        for key, x in list(module.__dict__.items()):
            if key != "_modules":
                new = value(key, x)
                if new is not x:
                    module.__dict__[key] = new
