"""A builder's model without the memory of its wide weights: what was drawn into them is noted instead.

While the builder runs, tensors that have the shape of a wide weight are allocated on the meta device. Every
operation on one is written down: from that follows the standard deviation of its entries; and a parameter
that only happens to have such a shape (a vocabulary as large as the width) gets its values after all, by
the same operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leadline.tracing.builder import Builder, Size, construct, seeded

_FACTORIES = {
    f"aten::{n}"
    for n in "empty zeros ones full randn rand empty_strided new_empty new_zeros new_ones new_full "
    "normal".split()
}
# Entries of a sample: a standard deviation is then known to 3.5e-4.
_SAMPLE = 1 << 22
_VIEWS = {f"aten::{n}" for n in "detach alias view _unsafe_view t transpose lift_fresh".split()}


@dataclass
class Draw:
    """What was done to one tensor since it was made.

    Attributes:
        steps: functions of the tensor so far, in order; the first makes it from a shape.
        unknown: an operation whose result cannot be made again; "" if there is none.
    """

    shape: tuple[int, ...]
    steps: list[tuple[str, Callable[..., Tensor], tuple[Any, ...]]] = field(default_factory=list)
    unknown: str = ""

    def values(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor, drawn anew."""
        out = torch.empty(0)
        for _, make, _ in self.steps:
            out = make(out, self.shape if shape is None else shape)
        return out

    def std(self) -> float:
        """Standard deviation of independent entries of mean 0.

        Raises:
            ValueError: they are not that, or it cannot be told.
        """
        if self.unknown:
            raise ValueError(f"its values come from {self.unknown}")
        known = self._known()
        if known is not None:
            mean, std = known
        else:
            sample = self.values((_SAMPLE,)).double()
            mean, std = float(sample.mean()), float(sample.std())
            mean = 0.0 if abs(mean) < 6 * std / math.sqrt(_SAMPLE) else mean
        if mean:
            raise ValueError(f"its values have the mean {mean:.3g}, not 0")
        return std

    def _known(self) -> tuple[float, float] | None:
        """Mean and standard deviation where the operations say them."""
        mean, std = math.nan, math.nan
        for name, _, numbers in self.steps:
            if name in ("normal_", "normal", "randn"):
                mean, std = (*numbers, *(0.0, 1.0)[len(numbers) :])[:2]
            elif name in ("uniform_", "rand"):
                low, high = (*numbers, *(0.0, 1.0)[len(numbers) :])[:2]
                mean, std = (low + high) / 2, (high - low) / math.sqrt(12)
                mean = 0.0 if abs(mean) < 1e-9 * std else mean
            elif name in ("zero_", "zeros", "fill_", "ones", "full", "new_zeros", "new_ones"):
                value = {"ones": 1.0, "new_ones": 1.0}.get(
                    name, float(numbers[0]) if numbers else 0.0
                )
                mean, std = value, 0.0
            elif name in ("mul_", "mul"):
                mean, std = mean * numbers[0], std * abs(numbers[0])
            elif name in ("div_", "div"):
                mean, std = mean / numbers[0], std / abs(numbers[0])
            elif name not in ("empty", "new_empty", "empty_strided", "clone", "_to_copy"):
                return None
        return None if math.isnan(std) else (mean, std)


class _Hollow(TorchDispatchMode):
    """Sends tensors of these shapes to the meta device and writes down what happens to them."""

    def __init__(self, shapes: Iterable[tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = set(shapes)
        self.draws: dict[int, Draw] = {}
        self._kept: list[Tensor] = []

    def draw(self, x: Tensor) -> Draw | None:
        """What was done to a tensor; None if it is an ordinary one."""
        return self.draws.get(x.untyped_storage()._cdata) if x.is_meta else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in _FACTORIES:
            return self._made(func, name, args, kwargs)
        tracked = [x for x in _tensors((args, kwargs)) if self.draw(x) is not None]
        if not tracked:
            return func(*args, **kwargs)
        if name in _VIEWS:
            return func(*args, **kwargs)
        x = tracked[0]
        draw = self.draws[x.untyped_storage()._cdata]
        first = args and args[0] is x and len(tracked) == 1
        whole = math.prod(x.shape) == math.prod(draw.shape)
        short = name.removeprefix("aten::").split(".")[0]
        if func._schema.is_mutable:
            if not (first and whole and short.endswith("_")):
                draw.unknown = short if first else f"{short} with another tensor"
                return args[0] if args else x
            self._note(draw, short, func, args, kwargs)
            return x
        out = func(*args, **kwargs)
        for made in _tensors(out):
            if made.is_meta:
                there = Draw(tuple(made.shape), list(draw.steps), draw.unknown)
                if first and whole and made.numel() == x.numel() and made is out:
                    self._note(there, short, func, args, kwargs)
                else:
                    there.unknown = short
                self._keep(made, there)
        return out

    def _made(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor:
        at = next((i for i, a in enumerate(args) if isinstance(a, list | tuple | torch.Size)), None)
        meta = torch.device("meta")
        if at is None or tuple(args[at]) not in self.shapes or kwargs.get("device") == meta:
            return func(*args, **kwargs)
        shape, likes = tuple(args[at]), _tensors(args)
        dtype = kwargs.get("dtype") or (likes[0].dtype if likes else None)
        plain = torch.empty(shape, dtype=dtype, device=meta)
        draw = Draw(shape)
        device, dtype = kwargs.get("device"), plain.dtype
        before, after = args[:at], args[at + 1 :]
        short = name.removeprefix("aten::")
        if short == "empty_strided":
            before, after, short = (), (), "empty"

        def make(_: Tensor, shape: tuple[int, ...]) -> Tensor:
            if short == "normal":
                return torch.empty(shape, dtype=dtype, device=device).normal_(*before)
            base = short.removeprefix("new_")
            return getattr(torch, base)(shape, *after, dtype=dtype, device=device)

        numbers = tuple(v for v in (*before, *after) if isinstance(v, int | float))
        draw.steps.append((short, make, numbers))
        self._keep(plain, draw)
        return plain

    def _note(self, draw: Draw, short: str, func: Any, args: Any, kwargs: Any) -> None:
        rest = args[1:]
        numbers = tuple(
            float(v)
            for v in rest
            if isinstance(v, int | float) or (isinstance(v, Tensor) and v.numel() == 1)
        )
        for key in ("mean", "std", "from", "to"):
            if key in kwargs:
                numbers = (*numbers, float(kwargs[key]))
        if any(isinstance(v, Tensor) and v.numel() != 1 for v in rest):
            short = f"{short} with a tensor"

        def make(x: Tensor, shape: tuple[int, ...]) -> Tensor:
            return func(x, *rest, **kwargs)

        if short in ("normal_", "uniform_", "zero_", "fill_"):
            # What was there before is gone; only the tensor itself is still needed.
            del draw.steps[1:]
        draw.steps.append((short, make, numbers))

    def _keep(self, x: Tensor, draw: Draw) -> None:
        self._kept.append(x)
        self.draws[x.untyped_storage()._cdata] = draw


def _tensors(x: Any) -> list[Tensor]:
    return [v for v in tree_leaves(x) if isinstance(v, Tensor)]


def hollow_model(
    build: Builder, at: Size, seed: int, wide: dict[str, tuple[int, ...]]
) -> tuple[nn.Module, dict[str, Draw]]:
    """The builder's model, whose wide weights are on the meta device, and how they were drawn.

    Args:
        wide: shapes of the weights that stay without memory, by name.

    Raises:
        ValueError: the builder needs their values.
    """
    hollow = _Hollow(wide.values())

    def without_memory(width: int, depth: int) -> nn.Module:
        with hollow:
            return build(width, depth)

    try:
        model = construct(without_memory, at, seed)
    except ValueError as e:
        raise ValueError(
            f"{e}; its wide weights ({', '.join(list(wide)[:3])}, ...) have no memory here: if the builder "
            "looks at their values, give stored= with the names of those"
        ) from e
    draws: dict[str, Draw] = {}
    parameters = dict(model.named_parameters())
    for name in wide:
        draw = hollow.draw(parameters[name])
        if draw is None:
            raise ValueError(
                f"parameter {name!r} was not made while the builder ran (are its values loaded, or kept "
                f"from before?): make it in the builder, or give stored={name!r}"
            )
        draws[name] = draw
    kept: dict[int, Tensor] = {id(parameters[name]): parameters[name] for name in wide}
    with seeded(seed + 1), torch.no_grad():
        for module in model.modules():
            for group in (module._parameters, module._buffers, module.__dict__):
                _fill(hollow, group, kept)
    return model, draws


def _fill(hollow: _Hollow, group: dict[str, Any], kept: dict[int, Tensor]) -> None:
    """Give tensors that are not wide their values.

    Args:
        kept: tensors by the identity of those that they stand for: wide weights stand for themselves.
    """
    for key, x in list(group.items()):
        draw = hollow.draw(x) if isinstance(x, Tensor) else None
        if draw is not None:
            if id(x) not in kept:
                kept[id(x)] = _filled(key, x, draw)
            group[key] = kept[id(x)]


def _filled(name: str, x: Tensor, draw: Draw) -> Tensor:
    """A tensor that is not wide, with its values."""
    if draw.unknown or math.prod(draw.shape) != x.numel():
        raise ValueError(
            f"tensor {name!r} has the shape of a wide weight, {tuple(x.shape)}, and its values come from "
            f"{draw.unknown or 'a part of another tensor'}: give a size at which the two differ"
        )
    values = draw.values().reshape(x.shape)
    return nn.Parameter(values, x.requires_grad) if isinstance(x, nn.Parameter) else values
