"""Where programs run. Every executor passes one conformance suite (tests/test_executors.py)."""

from __future__ import annotations

from typing import Any

from leadline.errors import check_choice, check_int
from leadline.sweeps.executors.base import Executor, Outcome, Report, Watch

NAMES = ("processes", "inline", "ray")

__all__ = ["NAMES", "Executor", "Outcome", "Report", "Watch", "executor"]


def executor(name: str | Executor, workers: int | None = None) -> Executor:
    """The executor called ``name``.

    Args:
        workers: processes (default: one a core).

    Raises:
        ImportError: ray is not installed.
    """
    if not isinstance(name, str):
        return name
    check_choice("executor", name, NAMES)
    if workers is not None:
        check_int("workers", workers, 1)
    how: dict[str, Any] = {} if workers is None else {"workers": workers}
    if name == "inline":
        from leadline.sweeps.executors.inline import Inline

        return Inline()
    if name == "processes":
        from leadline.sweeps.executors.processes import Processes

        return Processes(**how)
    from leadline.sweeps.executors.cluster import Ray

    return Ray(**how)
