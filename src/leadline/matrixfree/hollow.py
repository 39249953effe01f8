"""A builder's model without the memory of its wide weights: what was drawn into them is noted instead.

While the builder runs, tensors that have the shape of a wide weight are allocated on the meta device. Every
operation on one is written down: from that follows the standard deviation of its entries, and which tensors
depend on one another. A parameter that only happens to have such a shape (a vocabulary as large as the
width) gets its values after all, by the same operations; where these cannot be repeated one by one (a
mask's triangle), the builder runs a second time with the memory of everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from leadline.available import memory as memory_available
from leadline.matrixfree.disguise import disguised
from leadline.matrixfree.drawn import Draw
from leadline.matrixfree.holders import exchange
from leadline.tracing.builder import Builder, Size, construct, seeded
from leadline.tracing.modes import OperationMode

_FACTORIES = {
    f"aten::{n}"
    for n in "empty zeros ones full randn rand empty_strided new_empty new_zeros new_ones new_full "
    "normal".split()
}
# What overwrites all entries, each anew; and what changes each entry by itself.
_RANDOM = frozenset(
    "normal uniform rand randn exponential cauchy log_normal geometric random".split()
)
_OVERWRITES = _RANDOM | {"zero", "fill"}
_ENTRYWISE = _OVERWRITES | frozenset(
    "mul div add sub neg clamp clamp_min clamp_max erfinv erf sqrt abs pow tanh exp log sign clone "
    "_to_copy empty_like zeros_like ones_like full_like rand_like randn_like".split()
)


class NeedsMemoryError(ValueError):
    """The values of a tensor that is not wide cannot be made from what was noted."""


class _Hollow(OperationMode):
    """Writes down what happens to tensors of these shapes, and sends them to the meta device.

    Args:
        memory: do they keep their values?

    Attributes:
        seen: draws of random numbers whose results the builder read.
    """

    def __init__(self, shapes: Iterable[tuple[int, ...]], memory: bool) -> None:
        super().__init__()
        self.shapes, self.memory = set(shapes), memory
        self.draws: dict[int, Draw] = {}
        self.seen: set[int] = set()
        self._kept: list[Tensor] = []
        self._events = 0

    def draw(self, x: Tensor) -> Draw | None:
        """What was done to a tensor; None if it is an ordinary one."""
        with torch._C.DisableTorchFunction():
            if not self.memory and not x.is_meta:
                return None
        return self.draws.get(x.untyped_storage()._cdata)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in _FACTORIES and "out" not in kwargs:
            at = next((i for i, a in enumerate(args) if isinstance(a, list | tuple)), None)
            if at is not None:
                return self._made(func, name, at, args, kwargs)
        tracked = [x for x in _tensors((args, kwargs)) if self.draw(x) is not None]
        if not tracked:
            return func(*args, **kwargs)
        short = name.removeprefix("aten::")
        if short in ("_local_scalar_dense", "equal", "is_nonzero"):
            for x in tracked:
                self.seen |= self._draw(x).events
        plain = args and args[0] is tracked[0] and len(tracked) == 1 and self.whole(tracked[0])
        plain = plain and not any(x.numel() != 1 for x in _tensors((args[1:], kwargs)))
        plain = plain and short.removesuffix("_") in _ENTRYWISE
        if func._schema.is_mutable:
            return self._changed(func, short, args, kwargs, tracked, bool(plain))
        out = func(*args, **kwargs)
        for made in _tensors(out):
            if made.untyped_storage()._cdata in self.draws:
                continue  # a view
            draw = Draw(tuple(made.shape), events=self._union(tracked), unknown=short)
            if plain and made is out:
                draw.steps, draw.unknown = (
                    list(self._draw(args[0]).steps),
                    self._draw(args[0]).unknown,
                )
                self._note(draw, short, func, args, kwargs)
            self._keep(made, draw)
        return out

    def _draw(self, x: Tensor) -> Draw:
        return self.draws[x.untyped_storage()._cdata]

    def whole(self, x: Tensor) -> bool:
        """Does it show all entries of its memory?"""
        return x.numel() == math.prod(self._draw(x).shape)

    def _union(self, tracked: Sequence[Tensor]) -> frozenset[int]:
        return frozenset().union(*(self._draw(x).events for x in tracked))

    def _event(self) -> frozenset[int]:
        self._events += 1
        return frozenset({self._events})

    def _changed(
        self, func: Any, short: str, args: Any, kwargs: Any, tracked: list[Tensor], plain: bool
    ) -> Any:
        """An operation in place."""
        x = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("out", tracked[0])
        if self.draw(x) is None:
            if not self.memory:
                raise NeedsMemoryError(f"{short} of a tensor that is not wide")
            self._keep(x, Draw(tuple(x.shape), unknown=short))
        result = func(*args, **kwargs) if self.memory else x
        draw, whole = self._draw(x), self.whole(x)
        if short.removesuffix("_") in _OVERWRITES and whole and plain:
            # What was there before is gone; only the tensor itself is still needed.
            del draw.steps[1:]
            draw.unknown, draw.events = "", frozenset()
        if plain:
            self._note(draw, short, func, args, kwargs)
        else:
            draw.unknown = short if whole else f"{short} of a part"
            draw.events |= self._union(tracked)
            if short.removesuffix("_") in _RANDOM:
                draw.events |= self._event()
        return result

    def _made(self, func: Any, name: str, at: int, args: Any, kwargs: Any) -> Tensor:
        meta = torch.device("meta")
        if tuple(args[at]) not in self.shapes or kwargs.get("device") == meta:
            return func(*args, **kwargs)
        shape, likes = tuple(args[at]), _tensors(args)
        dtype = kwargs.get("dtype") or (likes[0].dtype if likes else None)
        plain = torch.empty(shape, dtype=dtype, device=meta)
        draw = Draw(shape)
        device, dtype = kwargs.get("device"), plain.dtype
        if self.memory:
            plain = func(*args, **kwargs)
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
        draw.events = self._event() if short in _RANDOM else frozenset()
        self._keep(plain, draw)
        return plain

    def _note(self, draw: Draw, short: str, func: Any, args: Any, kwargs: Any) -> None:
        rest = args[1:]
        told = {k: v for k, v in kwargs.items() if not isinstance(v, torch.Generator)}
        numbers = tuple(
            float(v)
            for v in (*rest, *told.values())
            if isinstance(v, int | float) or (isinstance(v, Tensor) and v.numel() == 1)
        )
        shown = short if set(told) <= {"from", "to", "mean", "std"} else f"{short} {sorted(told)}"

        def make(x: Tensor, shape: tuple[int, ...]) -> Tensor:
            return func(x, *rest, **told)

        draw.steps.append((shown if short != "_to_copy" else short, make, numbers))
        if short.removesuffix("_").removesuffix("_like") in _RANDOM:
            draw.events |= self._event()

    def overwrite(self, x: Tensor, name: str, func: Any, numbers: tuple[float, ...]) -> Tensor:
        """Note a function that gives every entry a random value, as one operation."""
        draw = self._draw(x)
        del draw.steps[1:]
        draw.steps.append((name, lambda y, _: func(y, *numbers), numbers))
        draw.unknown, draw.events = "", self._event()
        return x

    def _keep(self, x: Tensor, draw: Draw) -> None:
        self._kept.append(x)
        self.draws[x.untyped_storage()._cdata] = draw


def _tensors(x: Any) -> list[Tensor]:
    return [v for v in tree_leaves(x) if isinstance(v, Tensor)]


def hollow_model(
    build: Builder, at: Size, seed: int, wide: dict[str, tuple[int, ...]]
) -> tuple[nn.Module, dict[str, Draw]]:
    """The builder's model, whose wide weights are on the meta device, and how they were drawn.

    Where values of other tensors cannot be had so, the builder runs with the memory of everything.

    Args:
        wide: shapes of the weights that stay without memory, by name.

    Raises:
        ValueError: the builder needs their values, or other tensors depend on them.
    """
    try:
        return _built(build, at, seed, wide, memory=False)
    except NeedsMemoryError as e:
        entries = sum(math.prod(shape) for shape in wide.values())
        if 8 * entries > memory_available():
            need = f"{8 * entries / 2**30:.3g} GiB"
            raise ValueError(
                f"{e}; that takes {need} for a moment, more than there is: give a smaller width"
            ) from e
    return _built(build, at, seed, wide, memory=True)


def _built(
    build: Builder, at: Size, seed: int, wide: dict[str, tuple[int, ...]], memory: bool
) -> tuple[nn.Module, dict[str, Draw]]:
    hollow = _Hollow(wide.values(), memory)

    def noted(width: int, depth: int) -> nn.Module:
        with hollow, disguised(hollow):
            return build(width, depth)

    try:
        model = construct(noted, at, seed)
    except ValueError as e:
        raise (e if memory else NeedsMemoryError(str(e))) from e
    if hasattr(model, "_orig_mod"):
        raise ValueError(
            "build returns a model of torch.compile, which would compile products with wide weights: "
            "return the model itself"
        )
    parameters, draws = dict(model.named_parameters()), {}
    for name in wide:
        p = parameters[name]
        draw = hollow.draw(p)
        if draw is None or not hollow.whole(p):
            raise ValueError(
                f"parameter {name!r} was not made while the builder ran (are its values loaded, kept from "
                f"before, or a part of another tensor?): make it in the builder, or give stored={name!r}"
            )
        draws[name] = draw
        _check_hooks(name, p)
    names = {id(parameters[name]): name for name in wide}
    _check_independence(hollow, model, names, draws)
    if not memory:
        kept: dict[int, Tensor] = {id(parameters[name]): parameters[name] for name in wide}
        events: set[int] = set()
        with seeded(seed + 1), torch.no_grad():
            exchange(model, lambda key, x: _filled(hollow, key, x, kept, events))
    return model, draws


def _check_hooks(name: str, p: Tensor) -> None:
    """Refuse hooks, which would see the gradient."""
    if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
        raise ValueError(
            f"parameter {name!r} has a hook on its gradient, which is never formed: give stored={name!r} "
            "to keep its entries in memory"
        )


def _check_independence(
    hollow: _Hollow, model: nn.Module, names: dict[int, str], draws: dict[str, Draw]
) -> None:
    """Refuse wide weights on whose values other tensors depend.

    Raises:
        ValueError: one was copied, or its values were read.
    """
    drawn: dict[int, str] = {}
    storages = {id(d): n for n, d in draws.items()}
    for name, draw in draws.items():
        if draw.events & hollow.seen:
            raise ValueError(
                f"the builder reads values of parameter {name!r}, which is wide: give stored={name!r} to "
                "keep its entries in memory"
            )
        for e in draw.events:
            if e in drawn:
                raise ValueError(
                    f"parameters {drawn[e]!r} and {name!r} are copies of one draw (copy.deepcopy?), and "
                    f"wide weights are independent: draw each anew, or give stored=[{drawn[e]!r}, "
                    f"{name!r}] to "
                    "keep their entries in memory"
                )
            drawn[e] = name

    def check(key: str, x: Tensor) -> Tensor:
        draw = hollow.draw(x)
        if draw is not None and id(x) not in names:
            name = storages.get(id(draw)) or next(
                (drawn[e] for e in draw.events if e in drawn), None
            )
            if name is not None:
                raise ValueError(
                    f"tensor {key!r} is made of the values of parameter {name!r}, which is wide: give "
                    f"stored={name!r} to keep its entries in memory"
                )
        return x

    exchange(model, check)


def _filled(
    hollow: _Hollow, name: str, x: Tensor, kept: dict[int, Tensor], events: set[int]
) -> Tensor:
    """A tensor that is not wide, with its values.

    Args:
        kept: tensors by the identity of those that they stand for: wide weights stand for themselves.
        events: draws of random numbers in those so far.
    """
    draw = hollow.draw(x)
    if draw is None or id(x) in kept:
        return kept.get(id(x), x)
    if draw.unknown or not hollow.whole(x) or draw.events & events or x._backward_hooks:
        raise NeedsMemoryError(
            f"tensor {name!r} has the shape of a wide weight, {tuple(x.shape)}, and its values come from "
            f"{draw.unknown or 'another tensor'}"
        )
    events |= draw.events
    values = draw.values().reshape(x.shape)
    if isinstance(x, nn.Parameter):
        values = nn.Parameter(values, x.requires_grad)
        values.__dict__.update(x.__dict__)
    kept[id(x)] = values
    return values
