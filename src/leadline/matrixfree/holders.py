"""Where a model holds its tensors: parameters, buffers, attributes, and lists of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

# Attributes of a tensor that show its entries.
_ENTRIES = {"data", "T", "mT", "H", "mH", "real", "imag"}


class Replaced(nn.Parameter):
    """A parameter in whose place a module has another: what still holds it may not use it.

    ``exchange`` finds what modules hold, in lists and dicts too; not what a closure holds, or an object of
    another class.
    """

    replaced_: str

    @classmethod
    def of(cls, p: nn.Parameter, name: str) -> None:
        """Make a parameter one of these."""
        p.__class__ = cls
        p.__dict__["replaced_"] = name

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        attribute = getattr(getattr(func, "__self__", None), "__name__", "")
        read = getattr(func, "__name__", "") == "__get__" and attribute not in _ENTRIES
        if read or func is Tensor.__repr__:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        held = next(x for x in tree_leaves((args, kwargs)) if isinstance(x, Replaced))
        raise ValueError(
            f"parameter {held.replaced_!r} is wide, and the model uses it through something that is no "
            "module (a closure, functools.partial, a namedtuple, an object of another class), which keeps "
            "the tensor that was drawn: multiply by the module's attribute, or give "
            f"stored={held.replaced_!r} to keep its entries in memory"
        )


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
