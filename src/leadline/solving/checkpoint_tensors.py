"""The tensors of a checkpoint: in one file, or one file for each process's neurons.

Files are sealed, written tensor by tensor and read range by range, so that no second copy of the state
has to fit into memory. A state written by some number of processes is read by any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from leadline.disk.sealed import Array, Sealed, write
from leadline.solving.noise import BLOCK

# Tensors that are cut by neurons, or by blocks of neurons, and along which axis. All others are the
# same on every process.
_NEURONS = dict.fromkeys(("u", "v", "u_initial", "u_buffer", "v_buffer"), 0)
_NEURONS |= dict.fromkeys(("Q", "M", "R", "Y"), 1)
_BLOCKS = {"noise": 0, "scratch": 0}
_KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPES = {kind: dtype for dtype, kind in _KINDS.items()}


def cut(key: str) -> tuple[int, int] | None:
    """The axis along which a tensor is cut, and neurons an entry; None if it is not."""
    name = re.sub(r"^work/(\d+\.\d+\.)?", "", key)
    if name in _NEURONS:
        return _NEURONS[name], 1
    return (_BLOCKS[name], BLOCK) if name in _BLOCKS else None


def seal(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any],
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write a sealed file, one tensor after the other, each after a call of ``before``."""

    def array(key: str, t: Tensor) -> Array:
        def data() -> Any:
            before()
            return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data

        return Array(key, _KINDS[t.dtype], tuple(t.shape), data)

    write(file, [array(key, t) for key, t in tensors.items()], header)


class State(Mapping[str, Tensor]):
    """What was saved of neurons [a, b), each tensor read on access.

    Args:
        files: (file, a, b): the first holds what every process has; one more for each process's
            neurons if there are any, with the neurons it has.
    """

    def __init__(
        self, files: list[tuple[Sealed, int, int]], neurons: tuple[int, int], prefix: str = ""
    ) -> None:
        self._neurons, self._prefix = neurons, prefix
        self._where: dict[str, list[tuple[Sealed, int, int]]] = {}
        for file in files:
            for key in file[0].shapes:
                self._where.setdefault(key, []).append(file)

    def __iter__(self) -> Iterator[str]:
        n = len(self._prefix)
        return (key[n:] for key in self._where if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return f"{self._prefix}{key}" in self._where

    def __getitem__(self, key: str) -> Tensor:
        whole = self._prefix + key
        files, place = self._where[whole], cut(whole)
        if place is None:
            return _tensor(files[0][0], whole)
        axis, each = place
        first, last = self._neurons[0] // each, -(-self._neurons[1] // each)
        out = []
        for f, a, b in files:
            a, b = a // each, -(-b // each)
            start, stop = max(first, a), min(last, b)
            if start < stop or (start == stop == a == b and not out):
                out.append(_tensor(f, whole, axis, slice(start - a, stop - a)))
        if not out:  # this process has no neurons
            out.append(_tensor(files[0][0], whole, axis, slice(0)))
        return out[0] if len(out) == 1 else torch.cat(out, dim=axis)

    def under(self, prefix: str) -> State:
        """Only keys that begin with ``prefix``, without it."""
        view = object.__new__(State)
        view.__dict__ = self.__dict__ | {"_prefix": self._prefix + prefix}
        return view


def _tensor(file: Sealed, key: str, axis: int = 0, part: slice | None = None) -> Tensor:
    """A tensor, or a range of it along one axis."""
    shape = list(file.shapes[key])
    if part is None:
        raw = file.read(key)
    else:
        raw = file.read(key, axis, part)
        shape[axis] = len(range(*part.indices(shape[axis])))
    return torch.from_numpy(raw).view(_TYPES[file.kinds[key]]).reshape(shape)
