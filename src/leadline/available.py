"""What this machine has: memory, devices, precisions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from leadline.errors import check_choice, check_real

if TYPE_CHECKING:
    import torch


DTYPES = ("float32", "float64")

# What libraries take when they first compute, and the smallest things of a run.
OVERHEAD = 32 << 20

_MMAP_THRESHOLD = -3


def memory() -> int:
    """Bytes that new work could take."""
    try:
        import psutil
    except ImportError:  # a GPU's machine may have torch and numpy alone
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return psutil.virtual_memory().available


def memory_on(device: torch.device) -> int:
    """Bytes that new work could take on a device.

    What torch holds of a GPU's memory for later tensors counts: only other programs cannot have it.
    """
    import torch

    if device.type != "cuda":
        return memory()
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def return_freed() -> None:
    """Give large arrays back to the system as soon as they are freed, for a budget to be kept.

    glibc keeps freed arrays of up to 32 MB for later ones, and after a while they lie in pieces that fit
    none: a process then holds up to twice of what it uses. New pages for every array cost a few percent.
    """
    import contextlib
    import ctypes

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)


def budget_of(value: Any) -> int:
    """A budget in bytes that was given, checked; from then on memory that is freed is given back."""
    budget = int(check_real("memory", value, 1.0, 1e18))
    return_freed()
    return budget


def check_available(name: str, need: dict[str, int]) -> None:
    """Refuse what has no budget of its own and does not fit into what is available.

    Raises:
        MemoryError: naming the parts, and what would help.
    """
    budget = int(0.8 * memory())
    if sum(need.values()) > budget:
        raise MemoryError(refusal(name, need, budget, set_by_user=False))


def refusal(name: str, need: dict[str, int], budget: int, set_by_user: bool = True) -> str:
    """What does not fit, largest part first, and what would help with it."""
    total = sum(need.values())
    parts = sorted(need.items(), key=lambda item: -item[1])
    said = ", ".join(f"{part} {count:,}" for part, count in parts if 20 * count > total)
    remedies = {
        "weights": "less width or depth, fewer inputs or outputs",
        "records": "a larger record_every=, fewer steps, seeds or measures",
        "data": "fewer samples",
        "passes": "less width or depth, fewer samples or test samples, a smaller batch",
    }
    remedy = remedies.get(parts[0][0], "less width or depth, a smaller batch")
    if not set_by_user:
        return f"{name} needs {total:,} bytes ({said}), and {budget:,} are available: give {remedy}"
    return (
        f"{name} needs {total:,} bytes ({said}), more than the budget memory={budget:,}: give "
        f"{remedy}, or memory= of at least {total:,}"
    )


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
