"""What a module holds: parameters and buffers, which a stack of models replaces, and everything else."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from leadline.identity.digest import Walk
from leadline.identity.plain import Unidentified

# Sums in another order differ by a few units in the last place, amplified by depth; what a stack may get
# wrong (another seed's numbers, a missing path of the gradient) by much more.
_ROUNDING = 1e4
_SMALL = 1e-5


class Entangled(Exception):
    """A model is more than a function of its parameters, buffers and inputs; the message says how."""


def registered(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones once."""
    return {n: t.detach() for n, t in (*model.named_parameters(), *model.named_buffers())}


def places(model: nn.Module) -> dict[str, str]:
    """Every place where a parameter or buffer is kept, and its name: a tied one has several places.

    A module that is registered twice is one place. (``functional_call`` with ``tie_weights`` takes it for
    two, and leaves the second filled.)
    """
    named = (*model.named_parameters(), *model.named_buffers())
    known = {id(t): n for n, t in named}
    return {
        f"{prefix}.{local}" if prefix else local: known[id(t)]
        for prefix, module in model.named_modules()
        for held in (module._parameters, module._buffers)
        for local, t in held.items()
        if t is not None
    }


def call(
    model: nn.Module,
    at: Mapping[str, str],
    state: Mapping[str, Tensor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """The model's output with these parameters and buffers instead of its own.

    Args:
        at: its ``places``.
        state: a tensor for every name.

    Raises:
        Entangled: the model puts another tensor in the place of one, which would be lost.
        KeyError: a name without a tensor.
    """
    before = {place: state[name] for place, name in at.items()}
    after = dict(before)
    out = functional_call(model, after, args, kwargs, tie_weights=False)
    replaced = [place for place, t in before.items() if after[place] is not t]
    if replaced:
        raise Entangled(f"the model replaces {replaced[0]!r}")
    return out


@contextmanager
def filled(model: nn.Module, state: Mapping[str, Tensor]) -> Generator[None]:
    """The model itself with these numbers in its parameters and buffers; afterwards all is as before.

    What else reaches them, views and other names, sees the numbers too.
    """
    named = dict((*model.named_parameters(), *model.named_buffers()))
    before = {n: t.detach().clone() for n, t in named.items()}
    buffers = [(m, dict(m._buffers)) for m in model.modules()]
    try:
        with torch.no_grad():
            for name, t in state.items():
                named[name].copy_(t)
        yield
    finally:
        for module, parameter in buffers:
            module._buffers.update(parameter)
        with torch.no_grad():
            for name, t in before.items():
                named[name].copy_(t)


def entangled(model: nn.Module) -> tuple[str, str] | None:
    """Two parameters or buffers that are different tensors on the same memory, if there are any."""
    seen: dict[int, list[tuple[str, Tensor]]] = {}
    for name, t in registered(model).items():
        if t.layout is not torch.strided or torch._debug_has_internal_overlap(t) == 1:
            return name, name
        beside = seen.setdefault(0 if t.is_meta else _memory(t), [])
        for other, u in beside:
            if _overlap(t, u):
                return other, name
        if not t.is_meta:
            beside.append((name, t))
    return None


def _memory(t: Tensor) -> int:
    """Where the numbers lie; a tensor that is spread over processes has no place of its own here."""
    try:
        return t.untyped_storage().data_ptr()
    except RuntimeError:
        return -id(t)


def rest(model: nn.Module) -> bytes:
    """A digest of all that is no parameter or buffer: attributes, caches, lists, closures.

    Within one process, and for models of one builder: what classes and functions do is the same for all.

    Raises:
        Entangled: a parameter or buffer is used past its name, or something shows no plain state.
    """
    known = dict((*model.named_parameters(), *model.named_buffers()))

    def see(t: Tensor) -> None:
        for name, parameter in known.items():
            if t.layout is torch.strided and _overlap(t, parameter):
                raise Entangled(f"{name!r} is also held as a plain tensor")

    try:
        return Walk({id(t) for t in known.values()}, see).of(model)
    except (Unidentified, RecursionError) as e:
        raise Entangled(str(e)) from None


def alike(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Are tensors the same to rounding, each in its norm?"""
    norms = _norms(expected)
    finite = [n for n in norms if math.isfinite(n)]
    whole = math.sqrt(sum(n * n for n in finite))
    # Where one overflows both do: what they differ by says nothing.
    differences = _norms(
        [a - b if math.isfinite(n) else a for a, b, n in zip(actual, expected, norms, strict=True)]
    )
    for b, norm, difference in zip(expected, norms, differences, strict=True):
        if not math.isfinite(norm):
            if math.isfinite(difference):
                return False
            continue
        rounding = torch.finfo(b.dtype).eps if b.is_floating_point() else 0.0
        relative = min(_ROUNDING * rounding, 0.1)
        if not difference <= relative * norm + _SMALL * whole:
            return False
    return True


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """The norm of each; read from a device at once."""
    norms = [torch.linalg.vector_norm(t.detach().double()) for t in tensors]
    if len({n.device for n in norms}) > 1:
        return [float(n) for n in norms]
    return torch.stack(norms).tolist() if norms else []


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Do they reach into the same memory (or between one another's entries)?"""
    if a.is_meta or b.is_meta or a.device != b.device or not (a.numel() and b.numel()):
        return False
    x, y = a.untyped_storage(), b.untyped_storage()
    if x.data_ptr() != y.data_ptr():
        return False
    (first, last), (begin, end) = _range(a), _range(b)
    return first < end and begin < last


def _range(t: Tensor) -> tuple[int, int]:
    """Bytes of the storage, from and to."""
    last = sum((int(n) - 1) * int(s) for n, s in zip(t.shape, t.stride(), strict=True))
    start = int(t.storage_offset()) * t.itemsize
    return start, start + (last + 1) * t.itemsize
