"""Where programs run. Every executor passes one conformance suite (tests/test_executors.py)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadline.errors import check_choice, check_int
from leadline.executors.base import Executor, Inline, Outcome, Report, Watch

NAMES = ("processes", "inline", "ray", "slurm")

__all__ = ["NAMES", "Executor", "Outcome", "Report", "Watch", "executor"]


def executor(
    name: str | Executor,
    workers: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Executor:
    """The executor called ``name``.

    Args:
        workers: processes (default: one a core), or jobs (default: 16).
        folder: of the results; jobs leave their logs in it. For "slurm".
        slurm: sbatch's options. For "slurm".

    Raises:
        ImportError: ray or submitit is not installed.
        ValueError: a bad argument, or no SLURM on this machine.
    """
    if slurm and name != "slurm":
        raise ValueError(
            f"slurm={dict(slurm)!r} says nothing to executor={name!r}: give executor='slurm'"
        )
    if not isinstance(name, str):
        return name
    check_choice("executor", name, NAMES)
    if workers is not None:
        check_int("workers", workers, 1)
    how: dict[str, Any] = {} if workers is None else {"workers": workers}
    if name == "inline":
        return Inline()
    if name == "processes":
        from leadline.executors.processes import Processes

        return Processes(**how)
    if name == "slurm":
        from leadline.executors.slurm import Slurm

        return Slurm(None if folder is None else Path(folder) / "slurm", slurm, **how)
    from leadline.executors.cluster import Ray

    return Ray(**how)
