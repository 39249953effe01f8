"""Other draws of the same builder, even of one that seeds its own random numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from leadline.tracing.builder import Builder, Size, construct


class _Fresh(TorchDispatchMode):
    """Every random operation draws from a seed of its own, whatever was seeded before it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        # The generator of the CPU looks at 32 bits.
        self.next = seed << 20

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.next += 1
            given = kwargs.get("generator")
            if given is not None:
                other = torch.Generator(given.device).manual_seed(self.next)
                kwargs = {**kwargs, "generator": other}
            else:
                torch.default_generator.manual_seed(self.next)
                if torch.cuda.is_initialized():
                    torch.cuda.manual_seed_all(self.next)
        return func(*args, **kwargs)


def again(build: Builder, at: Size, seed: int, fresh: bool) -> nn.Module:
    """The builder's model with other random numbers; the caller's go on as if nothing happened.

    Args:
        seed: at least 1; 0 is that of the first.
        fresh: whatever the builder seeds itself: what is equal in two of these is no draw (as far as
            torch draws it). False is faster.
    """
    with warnings.catch_warnings(action="ignore"), _Fresh(seed) if fresh else nullcontext():
        return construct(build, at, seed)


def reseeds(build: Builder, at: Size, other: Mapping[str, Tensor]) -> bool:
    """Does the builder seed its own random numbers?

    Args:
        other: parameters of a fresh model.
    """
    models = (again(build, at, seed, fresh=False) for seed in (0, 1))
    first, second = (dict(m.named_parameters()) for m in models)
    return any(torch.equal(p, second[n]) and not torch.equal(p, other[n]) for n, p in first.items())
