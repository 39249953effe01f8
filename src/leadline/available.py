"""What this machine has left."""

from __future__ import annotations

import os


def memory() -> int:
    """Bytes that new work could take."""
    try:
        import psutil
    except ImportError:  # a GPU's machine may have torch and numpy alone
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return psutil.virtual_memory().available
