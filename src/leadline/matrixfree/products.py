"""Torch's functions that multiply by a wide weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leadline.matrixfree.weight import (
    Layout,
    WideWeight,
    first,
    handles,
    named,
    no_kernel,
    plain_matrix,
    refusal,
)


@handles(*named("linear"))
def _linear(
    x: Tensor, weight: Any, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    if isinstance(x, WideWeight) or not isinstance(weight, WideWeight):
        raise refusal(first((x, weight, bias), {}).layout_.name, "a product of two weights")
    plain_matrix(weight, "linear with a kernel or a stack of matrices")
    y = weight.layout_.times(x)
    return y if bias is None else y + bias


def _stack_times(layout: Layout, x: Tensor, last: bool) -> Tensor:
    """Products of every expert with its rows x (..., experts, p, n), or with all rows x (p, n)."""
    experts = layout.experts
    if not experts:  # no row was sent to any; the gradient is 0, not missing
        rows = x[None] if x.ndim == 2 else x
        return layout.one(layout.matrices[0]).times(rows[..., :0, :, :], last)
    if len(experts) == 1 and x.ndim > 2:
        return layout.one(experts[0]).times(x, last)
    parts = x.unbind(-3) if x.ndim > 2 and x.shape[-3] != 1 else [x] * len(experts)
    if x.ndim > 2 and x.shape[-3] == 1:
        parts = [x.squeeze(-3)] * len(experts)
    if layout.index is None:
        answers = [layout.one(m).times(p, last) for m, p in zip(experts, parts, strict=True)]
        return torch.stack(answers, dim=-3)
    # All rows of an expert in one query.
    index, at = layout.index.tolist(), {}
    for i, e in enumerate(index):
        at.setdefault(e, []).append(i)
    answers: list[Any] = [None] * len(index)
    for e, places in at.items():
        rows = torch.stack([parts[i] for i in places])
        ys = layout.one(layout.matrices[e]).times(rows, last)
        for i, y in zip(places, ys, strict=True):
            answers[i] = y
    return torch.stack(answers, dim=-3)


@handles(*named("matmul", "__matmul__", "mm", "bmm", "mv"))
def _matmul(a: Any, b: Any) -> Tensor:
    if isinstance(a, WideWeight) and isinstance(b, WideWeight):
        raise refusal(a.layout_.name, "a product of two weights")
    if isinstance(a, WideWeight):
        no_kernel(a)
        x = b[..., None] if b.ndim == 1 else b
        times = _stack_times if a.layout_.stacked else Layout.times
        y = times(a.layout_, x.mT, True).mT.contiguous()
        return y[..., 0] if b.ndim == 1 else y
    no_kernel(b)
    x = a[None] if b.layout_.stacked and a.ndim == 1 else a
    times = _stack_times if b.layout_.stacked else Layout.times
    y = times(b.layout_, x, False)
    return y[..., 0, :] if x is not a else y


@handles(Tensor.__rmatmul__)
def _rmatmul(a: Any, b: Any) -> Tensor:
    return _matmul(b, a)


@handles(*named("addmm", "baddbmm", "addmv"))
def _addmm(added: Tensor, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if isinstance(added, WideWeight):
        raise refusal(added.layout_.name, "a sum with other entries")
    y = _matmul(a, b)
    y = y if alpha == 1 else alpha * y
    return y + (added if beta == 1 else beta * added)


@handles(torch.einsum)
def _einsum(equation: Any, *operands: Any) -> Tensor:
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    wide = [x for x in operands if isinstance(x, WideWeight)]
    name = wide[0].layout_.name
    if (
        not isinstance(equation, str)
        or len(operands) != 2
        or len(wide) != 1
        or "->" not in equation
    ):
        raise refusal(name, f"einsum({equation!r}) with other than one more operand and an arrow")
    no_kernel(wide[0])
    left, out = equation.replace(" ", "").split("->")
    terms = dict(zip(operands, left.split(","), strict=True))
    weight = wide[0]
    (x,) = (o for o in operands if o is not weight)
    of_x, of_w = terms[x], terms[weight]
    e, (i, j) = of_w[:-2], of_w[-2:]
    summed, new = (j, i) if j in of_x else (i, j)
    if summed not in of_x or summed in out or new in of_x or new not in out or "." in of_w:
        raise refusal(name, f"einsum({equation!r})")
    rest = "".join(c for c in of_x.replace("...", "") if c not in (e, summed))
    dots = "..." if "..." in of_x else ""
    layout = weight.layout_
    if not e:
        y = layout.times(torch.einsum(f"{of_x}->{dots}{rest}{summed}", x), last=summed == j)
        return torch.einsum(f"{dots}{rest}{new}->{out}", y).contiguous()
    if e in of_x:
        parts = torch.einsum(f"{of_x}->{e}{dots}{rest}{summed}", x).unbind(0)
    else:
        parts = (torch.einsum(f"{of_x}->{dots}{rest}{summed}", x),) * len(layout.experts)
    answers = [
        layout.one(m).times(p, summed == j) for m, p in zip(layout.experts, parts, strict=True)
    ]
    return torch.einsum(f"{e}{dots}{rest}{new}->{out}", torch.stack(answers)).contiguous()


@handles(*named("grouped_mm", "_grouped_mm"))
def _grouped(x: Tensor, weight: Any, *, offs: Tensor, bias: Any = None, **kwargs: Any) -> Tensor:
    name = first((x, weight), {}).layout_.name
    if not isinstance(weight, WideWeight) or isinstance(x, WideWeight) or bias is not None:
        raise refusal(name, "grouped_mm in this form")
    if not weight.layout_.stacked or x.ndim != 2:
        raise refusal(name, "grouped_mm with other than rows (p, n) and a stack of matrices")
    parts, start = [], 0
    for m, end in zip(weight.layout_.experts, offs.tolist(), strict=True):
        if end > start:
            parts.append(weight.layout_.one(m).times(x[start:end], last=False))
        start = end
    if start < len(x):
        parts.append(x.new_zeros(len(x) - start, weight.layout_.shape[-1]))
    return torch.cat(parts)


@handles(torch.conv1d, torch.conv2d, torch.conv3d, *named("conv1d", "conv2d", "conv3d"))
def _convolution(
    x: Tensor,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(x, WideWeight) or not isinstance(weight, WideWeight) or not weight.layout_.kernel:
        raise refusal(first((x, weight, bias), {}).layout_.name, "a convolution in this form")
    kernel = weight.layout_.kernel
    dims = len(kernel)
    stride, dilation = (_each(v, dims) for v in (stride, dilation))
    single = x.ndim == dims + 1
    x = x[None] if single else x
    x = F.pad(x, _padding(padding, kernel, dilation))
    for d, (k, s, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + d, (k - 1) * gap + 1, s)[..., ::gap]
    # (N, C, *places, *kernel) -> (N, *places, C·kernel), the order of a kernel's entries.
    places = range(2, 2 + dims)
    x = x.permute(0, *places, 1, *range(2 + dims, 2 + 2 * dims))
    layout = weight.layout_
    at, size = layout.rows[0], (layout.rows[1] - layout.rows[0]) // groups
    ys = [
        replace(layout, rows=(at + g * size, at + (g + 1) * size)).times(part.flatten(1 + dims))
        for g, part in enumerate(x.chunk(groups, 1 + dims))
    ]
    y = (ys[0] if groups == 1 else torch.cat(ys, -1)).movedim(-1, 1).contiguous()
    if bias is not None:
        y = y + bias.view(-1, *[1] * dims)
    return y[0] if single else y


def _each(value: Any, dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    return tuple(value) * (dims if len(value) == 1 else 1)


def _padding(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """The padding as ``F.pad`` takes it: the last axis first, before and after."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        pairs = [
            (g * (k - 1) // 2, g * (k - 1) - g * (k - 1) // 2)
            for k, g in zip(kernel, dilation, strict=True)
        ]
    else:
        pairs = [(p, p) for p in _each(padding, len(kernel))]
    return [p for pair in reversed(pairs) for p in pair]
