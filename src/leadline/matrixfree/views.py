"""Torch's functions that look at a part of a wide weight: other views of the same matrices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from leadline.matrixfree.weight import (
    WideWeight,
    first,
    handles,
    named,
    refusal,
    trained_,
    transposed,
    view,
)

_REAL = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


@handles(*named("t", "adjoint"))
def _t(weight: WideWeight) -> WideWeight:
    return transposed(weight)


@handles(*named("transpose", "swapaxes", "swapdims"))
def _transpose(weight: WideWeight, a: int, b: int) -> WideWeight:
    dims = len(weight.layout_.shape)
    if {a % dims, b % dims} == {dims - 1, dims - 2}:
        return transposed(weight)
    raise refusal(weight.layout_.name, f"transpose({a}, {b})")


@handles(*named("permute"))
def _permute(weight: WideWeight, *dims: Any) -> WideWeight:
    order = tuple(dims[0]) if dims and isinstance(dims[0], list | tuple) else dims
    count = len(weight.layout_.shape)
    order = tuple(d % count for d in order)
    if order == tuple(range(count)):
        return weight
    if order == (*range(count - 2), count - 1, count - 2):
        return transposed(weight)
    raise refusal(weight.layout_.name, f"permute{order}")


@handles(*named("contiguous", "clone", "alias"))
def _same(weight: WideWeight, *args: Any, **kwargs: Any) -> WideWeight:
    return view(weight, weight.layout_)


@handles(*named("detach"))
def _detach(weight: WideWeight) -> WideWeight:
    return view(weight, replace(weight.layout_, trained=False))


@handles(*named("requires_grad_"))
def _requires_grad_(weight: WideWeight, requires_grad: bool = True) -> WideWeight:
    return trained_(weight, requires_grad)


@handles(*named("register_hook", "register_post_accumulate_grad_hook", "retain_grad"))
def _hook(weight: WideWeight, *args: Any) -> Any:
    raise refusal(weight.layout_.name, "a hook on its gradient")


@handles(*named("to", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "type"))
def _cast(weight: Any, *args: Any, **kwargs: Any) -> Any:
    """Products have the type of what is multiplied."""
    if not isinstance(weight, WideWeight):
        return weight.to(*(a.dtype if isinstance(a, WideWeight) else a for a in args), **kwargs)
    types = [d for d in (*args, *kwargs.values()) if isinstance(d, torch.dtype)]
    types += [d.dtype for d in (*args, *kwargs.values()) if isinstance(d, Tensor)]
    if not set(types) <= _REAL or any(isinstance(d, str) and "Tensor" in d for d in args):
        raise refusal(weight.layout_.name, f"a conversion to {types[0] if types else args[0]}")
    return view(weight, weight.layout_)


@handles(*named("mul", "multiply", "__mul__", "__rmul__"))
def _mul(a: Any, b: Any) -> WideWeight:
    weight, c = (a, b) if isinstance(a, WideWeight) else (b, a)
    many = isinstance(c, Tensor) and (c.numel() != 1 or c.ndim > len(weight.layout_.shape))
    if isinstance(c, WideWeight) or many:
        raise refusal(weight.layout_.name, "a product entry by entry")
    c = c.reshape(()) if isinstance(c, Tensor) else float(c)
    return view(weight, replace(weight.layout_, factor=weight.layout_.factor * c))


@handles(*named("div", "true_divide", "__truediv__"))
def _div(weight: Any, c: Any, **kwargs: Any) -> WideWeight:
    if not isinstance(weight, WideWeight) or kwargs:
        raise refusal(first((weight, c), {}).layout_.name, "a division by it")
    return _mul(weight, 1.0 / c)


@handles(*named("neg", "__neg__"))
def _neg(weight: WideWeight) -> WideWeight:
    return _mul(weight, -1.0)


def _block(weight: WideWeight, dim: int, start: int, stop: int) -> WideWeight:
    """Entries [start, stop) of an axis."""
    layout = weight.layout_
    dims = len(layout.shape)
    dim %= dims
    start, stop, _ = slice(start, stop).indices(layout.shape[dim])
    if (start, stop) == (0, layout.shape[dim]):
        return weight
    if layout.stacked and dim == 0:
        part = replace(layout, matrices=layout.experts[start:stop], index=None)
        return view(weight, part)
    if layout.kernel:
        raise refusal(layout.name, "a part of a convolution's kernel")
    of_rows = (dim == dims - 2) != layout.transposed
    at = (layout.rows if of_rows else layout.columns)[0]
    place = (at + start, at + max(stop, start))
    return view(weight, replace(layout, **{"rows" if of_rows else "columns": place}))


@handles(*named("narrow"))
def _narrow(weight: WideWeight, dim: int, start: int, length: int) -> WideWeight:
    start = int(start)
    start += weight.layout_.shape[dim] if start < 0 else 0
    return _block(weight, dim, start, start + length)


@handles(*named("chunk"))
def _chunk(weight: WideWeight, chunks: int, dim: int = 0) -> tuple[WideWeight, ...]:
    size = weight.layout_.shape[dim]
    return _split(weight, -(-size // chunks), dim)


@handles(*named("split", "split_with_sizes"))
def _split(weight: WideWeight, sizes: Any, dim: int = 0) -> tuple[WideWeight, ...]:
    whole = weight.layout_.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, whole - i) for i in range(0, whole, sizes)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(_block(weight, dim, b - s, b) for s, b in zip(sizes, ends, strict=True))


@handles(*named("unbind"))
def _unbind(weight: WideWeight, dim: int = 0) -> tuple[WideWeight, ...]:
    layout = weight.layout_
    if not layout.stacked or dim % len(layout.shape):
        raise refusal(layout.name, f"unbind({dim})")
    return tuple(view(weight, layout.one(m)) for m in layout.experts)


@handles(Tensor.__iter__)
def _iterate(weight: WideWeight) -> Any:
    return iter(_unbind(weight))


@handles(*named("select"))
def _select(weight: WideWeight, dim: int, index: Any) -> WideWeight:
    return _unbind(weight, dim)[int(index)]


@handles(*named("index_select"))
def _index_select(weight: WideWeight, dim: int, index: Tensor) -> WideWeight:
    if dim != 0:
        raise refusal(weight.layout_.name, f"index_select along axis {dim}")
    return _item(weight, index)


@handles(Tensor.__getitem__)
def _item(weight: WideWeight, at: Any) -> WideWeight:
    layout = weight.layout_
    steps = at if isinstance(at, tuple) else (at,)
    if Ellipsis in [s for s in steps if not isinstance(s, Tensor)]:
        i = steps.index(Ellipsis)
        gap = (slice(None),) * (len(layout.shape) - len(steps) + 1)
        steps = (*steps[:i], *gap, *steps[i + 1 :])
    out, dim = weight, 0
    for s in steps:
        if isinstance(s, slice) and s.step in (None, 1):
            whole = out.layout_.shape[dim]
            start, stop, _ = s.indices(whole)
            out, dim = _block(out, dim, start, stop), dim + 1
        elif out.layout_.stacked and dim == 0 and isinstance(s, int | Tensor):
            if isinstance(s, int) or s.ndim == 0:
                out = _unbind(out)[int(s)]
            elif (
                s.ndim == 1 and s.dtype in (torch.int32, torch.int64) and out.layout_.index is None
            ):
                out, dim = view(out, replace(out.layout_, index=s)), 1
            else:
                raise refusal(layout.name, "an index of this kind")
        else:
            raise refusal(layout.name, f"[{at!r}]")
    return out


@handles(*named("flatten"))
def _flatten(weight: WideWeight, start_dim: int = 0, end_dim: int = -1) -> WideWeight:
    shape = weight.layout_.shape
    start, end = start_dim % len(shape), end_dim % len(shape)
    return _reshape(weight, *shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])


@handles(*named("reshape", "view", "view_as", "reshape_as"))
def _reshape(weight: Any, *shape: Any) -> Any:
    if not isinstance(weight, WideWeight):
        return weight.reshape(first(shape, {}).layout_.shape)
    layout = weight.layout_
    if len(shape) == 1 and isinstance(shape[0], Tensor):
        shape = tuple(shape[0].shape)
    sizes = tuple(shape[0]) if shape and isinstance(shape[0], list | tuple) else shape
    if sizes.count(-1) == 1 and all(isinstance(k, int) for k in sizes):
        rest = prod(k for k in sizes if k != -1)
        sizes = tuple(prod(layout.shape) // max(rest, 1) if k == -1 else k for k in sizes)
    if sizes == layout.shape:
        return weight
    if layout.kernel and sizes == (layout.shape[0], prod(layout.shape[1:])):
        return view(weight, replace(layout, kernel=()))
    raise refusal(layout.name, f"a view of shape {sizes}")


def _new(make: str, weight: Any, *args: Any, **kwargs: Any) -> Tensor:
    """A tensor with entries, of a wide weight's type and on its device."""
    others = (*args, *kwargs.values())
    if not isinstance(weight, WideWeight) or any(isinstance(x, WideWeight) for x in others):
        raise refusal(first((weight, *args), kwargs).layout_.name, make)
    return getattr(torch.empty(0, dtype=weight.dtype, device=weight.device), make)(*args, **kwargs)


for _make in ("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor"):
    handles(*named(_make))(partial(_new, _make))
