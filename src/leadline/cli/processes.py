"""Commands started by torchrun: several processes that share one solve's neurons."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator
from typing import Any

from leadline.errors import LostProcessError

SHARED = ("solve", "limit")
# A process that is silent for so long is lost; writing a checkpoint takes less.
_TIMEOUT = 600.0


def count() -> int:
    """Processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def leads() -> bool:
    """Is this the process that prints and writes?"""
    return count() == 1 or os.environ.get("RANK", "0") == "0"


def check(command: str) -> None:
    """Refuse commands that do not share their work."""
    if count() > 1 and command not in SHARED:
        raise ValueError(
            f"{command} works in one process, and torchrun started {count()}: start it without "
            f"torchrun ({' and '.join(SHARED)} share their neurons out)"
        )


@contextlib.contextmanager
def group(options: dict[str, Any]) -> Generator[None]:
    """Join the other processes and put the group into the options; on GPUs also this process's device."""
    if count() == 1:
        yield
        return
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    device = torch.device(options["device"])
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        options["device"] = str(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=_TIMEOUT))
    before = signal.signal(signal.SIGTERM, _told_to_stop)
    try:
        options["group"] = dist.group.WORLD
        yield
    except LostProcessError:
        # torchrun is about to end this process, and the others will not answer: its line comes first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    except BaseException:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()
        raise
    signal.signal(signal.SIGTERM, before)
    dist.destroy_process_group()


def _told_to_stop(_number: int, _frame: Any) -> None:
    """When one process ends, torchrun may end the others before they notice."""
    raise LostProcessError(
        f"process {os.environ.get('RANK', '0')} of {count()} was told to stop, perhaps because another one "
        f"ended; {LostProcessError.REMEDY}"
    )
