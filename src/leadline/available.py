"""What this machine has: memory, devices, precisions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from leadline.errors import check_choice

if TYPE_CHECKING:
    import torch


DTYPES = ("float32", "float64")

_MMAP_THRESHOLD = -3


def memory() -> int:
    """Bytes that new work could take."""
    try:
        import psutil
    except ImportError:  # a GPU's machine may have torch and numpy alone
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return psutil.virtual_memory().available


def return_freed() -> None:
    """Give large arrays back to the system as soon as they are freed, for a budget to be kept.

    glibc keeps freed arrays of up to 32 MB for later ones, and after a while they lie in pieces that fit
    none: a process then holds up to twice of what it uses. New pages for every array cost a few percent.
    """
    import contextlib
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)


def device(name: Any) -> torch.device:
    """The torch device of this name.

    Raises:
        ValueError: there is none, or it cannot be used.
    """
    import torch

    try:
        place = torch.device(name)
        if place.type == "meta":
            raise TypeError("it holds no numbers")
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as e:
        why = str(e).splitlines()[0]
        raise ValueError(f"device={str(name)!r} cannot be used: {why}; give 'cpu'") from None
    return place


def dtype(name: Any) -> torch.dtype:
    """The torch dtype of a name in ``DTYPES``, or of the dtype itself.

    Raises:
        ValueError: it is another.
    """
    import torch

    return getattr(torch, check_choice("dtype", str(name).removeprefix("torch."), DTYPES))
