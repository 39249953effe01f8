"""What an activation function of the user's must be, checked once on a few numbers.

Solvers call φ on tensors of any shape, in both precisions, with and without gradients, and take its
slope by autograd. Whatever would fail there, or make a network that is not the one described, is
refused here, by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leadline.activations.records import Function, check_slope, name
from leadline.errors import cut

if TYPE_CHECKING:
    from torch import Tensor

_ROWS, _COLUMNS = 3, 7
_REMEDY = "give an elementwise torch function, such as torch.sin"


def check(phi: Function) -> None:
    """Call φ on a probe.

    Raises:
        TypeError: φ is no function of torch tensors, or returns none of the same kind.
        ValueError: it is not elementwise, changes its input, is random, is not finite, or has no
            finite gradient.
    """
    import torch

    label = f"activation={name(phi)}"
    _check_kind(phi, label)
    # No zero: a kink is no reason to refuse.
    grid = torch.linspace(-3.0, 3.0, _ROWS * _COLUMNS + 1, dtype=torch.float64)
    grid = grid[grid != 0][: _ROWS * _COLUMNS]
    mixed = grid[torch.arange(len(grid)) * 8 % len(grid)].reshape(_ROWS, _COLUMNS)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=()):
        for dtype in (torch.float32, torch.float64):
            h = mixed.to(dtype)
            y = _value(phi, h, label)
            _check_elementwise(phi, h, y, label)
            _check_gradient(phi, h, label)


def _check_kind(phi: Function, label: str) -> None:
    """What is known without a call, where a call's error would not say it."""
    import numpy as np
    import torch

    if isinstance(phi, np.ufunc):
        there = getattr(torch, phi.__name__, None)
        remedy = f"give torch.{phi.__name__}" if callable(there) else _REMEDY
        raise TypeError(f"{label} is NumPy's and has no gradient: {remedy}")
    if isinstance(phi, type):
        raise TypeError(f"{label} is a class: give an instance, such as {phi.__name__}()")
    if isinstance(phi, torch.nn.Module) and any(p.requires_grad for p in phi.parameters()):
        raise ValueError(
            f"{label} has parameters that require a gradient, and nothing here trains them: give a "
            "function with fixed numbers in their place, such as torch.nn.LeakyReLU(0.25) for PReLU"
        )


def _value(phi: Function, h: Tensor, label: str) -> Tensor:
    """φ of a copy of h, checked for its form."""
    import torch

    argument = h.clone()
    y = _call(phi, argument, label)
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"{label} returns {type(y).__name__}, not a tensor: {_REMEDY}")
    if y.dtype != h.dtype:
        raise TypeError(
            f"{label} returns {_plain(y.dtype)} for {_plain(h.dtype)}: give a function that keeps "
            "the dtype, as by .to(h.dtype)"
        )
    if y.shape != h.shape:
        raise ValueError(
            f"{label} returns the shape {tuple(y.shape)} for {tuple(h.shape)}, so it is not "
            f"elementwise: {_REMEDY}"
        )
    if not torch.equal(argument, h):
        raise ValueError(
            f"{label} changes its input in place: give a function that returns a new tensor "
            "(inplace=False, torch.relu rather than torch.relu_)"
        )
    if y.requires_grad:
        raise ValueError(
            f"{label} uses a tensor that requires a gradient, and nothing here trains it: detach it "
            "(tensor.detach())"
        )
    wrong = ~y.isfinite()
    if wrong.any():
        raise ValueError(
            f"{label} is {float(y[wrong][0])} at {float(h[wrong][0]):.3g}: give a function that is "
            "finite for every number"
        )
    return y


def _check_elementwise(phi: Function, h: Tensor, y: Tensor, label: str) -> None:
    """Refuse a function whose value at a number depends on the numbers beside it, or on the call."""
    import torch

    if not torch.equal(_call(phi, h.clone(), label), y):
        raise ValueError(
            f"{label} gives other values the second time: give a function without randomness or "
            "memory (a module in its eval() mode)"
        )
    others: list[tuple[Tensor, Tensor]] = [
        (h.flip(0, 1), y.flip(0, 1)),
        (h[:1, :5].reshape(-1), y[:1, :5].reshape(-1)),
        (h.reshape(1, _COLUMNS, _ROWS, 1), y.reshape(1, _COLUMNS, _ROWS, 1)),
    ]
    # Vectorised and leftover numbers may round differently.
    near = 1e-4 if h.dtype == torch.float32 else 1e-9
    for there, expected in others:
        try:
            value = phi(there.clone())
            same = value.shape == expected.shape and torch.allclose(
                value, expected, rtol=near, atol=near
            )
        except Exception:
            same = False
        if not same:
            raise ValueError(
                f"{label} is not elementwise: a value depends on its neighbours or its place; "
                f"{_REMEDY}"
            )


def _check_gradient(phi: Function, h: Tensor, label: str) -> None:
    import torch

    h = h.clone().requires_grad_(True)
    y = _call(phi, h, label)
    try:
        (slope,) = torch.autograd.grad(y.sum(), h)
    except RuntimeError as e:
        raise ValueError(
            f"{label} has no gradient by autograd ({_first_line(e)}): {_REMEDY}, made of "
            "differentiable torch functions"
        ) from None
    check_slope(phi, h.detach(), y.detach(), slope.detach())


def _call(phi: Callable[[Tensor], Any], h: Tensor, label: str) -> Any:
    try:
        return phi(h)
    except Exception as e:
        raise TypeError(
            f"{label} fails on a tensor of {_plain(h.dtype)} of shape {tuple(h.shape)} with "
            f"{type(e).__name__}: {_first_line(e)}; {_REMEDY}"
        ) from e


def _first_line(e: Exception) -> str:
    return cut(str(e).strip().partition("\n")[0], 120)


def _plain(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
