"""The tensors of a checkpoint: in one file, or one file for each process's neurons.

Files are safetensors, written tensor by tensor and read range by range, so that no second copy of the
state has to fit into memory. A state written by some number of processes is read by any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leadline.dynamics.noise import BLOCK

# Tensors that are cut by neurons, or by blocks of neurons, and along which axis. All others are the
# same on every process.
_NEURONS = dict.fromkeys(("u", "v", "u_initial", "u_buffer", "v_buffer"), 0)
_NEURONS |= dict.fromkeys(("Q", "M", "R", "Y"), 1)
_BLOCKS = {"noise": 0, "scratch": 0}
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.bool: "BOOL",
}


def cut(key: str) -> tuple[int, int] | None:
    """The axis along which a tensor is cut, and neurons an entry; None if it is not."""
    name = re.sub(r"^work/(\d+\.\d+\.)?", "", key)
    if name in _NEURONS:
        return _NEURONS[name], 1
    return (_BLOCKS[name], BLOCK) if name in _BLOCKS else None


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, one tensor after the other."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # Widest entries first: every tensor is then aligned to its own.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    for key, t in ordered:
        start, end = end, end + t.numel() * t.element_size()
        name = _NAMES[t.dtype]
        header[key] = {"dtype": name, "shape": list(t.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little"))
        f.write(text)
        for _, t in ordered:
            if t.numel():
                f.write(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


class State(Mapping[str, Tensor]):
    """What was saved of neurons [a, b), read when asked for.

    Args:
        files: (path, a, b): the first holds what every process has; one more for each process's
            neurons if there are any, with the neurons it has.
    """

    def __init__(
        self, files: list[tuple[Path, int, int]], neurons: tuple[int, int], prefix: str = ""
    ) -> None:
        from safetensors import safe_open

        self._neurons, self._prefix = neurons, prefix
        self._files = [(safe_open(path, framework="pt"), a, b) for path, a, b in files]
        self._where: dict[str, list[tuple[Any, int, int]]] = {}
        for piece in self._files:
            for key in piece[0].keys():  # noqa: SIM118
                self._where.setdefault(key, []).append(piece)

    def __iter__(self) -> Iterator[str]:
        n = len(self._prefix)
        return (key[n:] for key in self._where if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return f"{self._prefix}{key}" in self._where

    def __getitem__(self, key: str) -> Tensor:
        whole = self._prefix + key
        pieces, how = self._where[whole], cut(whole)
        if how is None:
            return pieces[0][0].get_tensor(whole)
        axis, each = how
        first, last = self._neurons[0] // each, -(-self._neurons[1] // each)
        out = []
        for f, a, b in pieces:
            a, b = a // each, -(-b // each)
            start, stop = max(first, a), min(last, b)
            if start < stop or (start == stop == a == b and not out):
                part = f.get_slice(whole)
                out.append(
                    part[start - a : stop - a] if axis == 0 else part[:, start - a : stop - a]
                )
        if not out:  # this process has no neurons
            part = pieces[0][0].get_slice(whole)
            out.append(part[:0] if axis == 0 else part[:, :0])
        return out[0] if len(out) == 1 else torch.cat(out, dim=axis)

    def under(self, prefix: str) -> State:
        """Only keys that begin with ``prefix``, without it."""
        view = object.__new__(State)
        view.__dict__ = self.__dict__ | {"_prefix": self._prefix + prefix}
        return view
