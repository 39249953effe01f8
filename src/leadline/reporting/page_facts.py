"""How a page was made."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping

import psutil

from leadline.trajectory import versions


def facts(
    command: str = "", more: Mapping[str, object] | None = None
) -> tuple[tuple[str, str], ...]:
    """Date, versions, machine class and command, as a page's ``facts``.

    Args:
        command: the command line; "" leaves it out. more: names and values shown before it.
    """
    shown = {
        "Date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "Versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "Machine": machine(),
        **(more or {}),
    }
    pairs = [(k, str(v)) for k, v in shown.items()]
    return (*pairs, ("Command", command)) if command else tuple(pairs)


def machine() -> str:
    """The class of machine: cores, memory, accelerators."""
    import torch

    cores = os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cores} cores ({platform.machine()}), {memory:.0f} GiB, {gpu}"


def command_line() -> str:
    """The command that this process was started by."""
    return shlex.join(["leadline", *sys.argv[1:]])
