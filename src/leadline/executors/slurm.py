"""SLURM jobs by submitit, one for each task. Needs the extra ``slurm``."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from leadline.errors import check_choice
from leadline.executors.base import Outcome, Pulse, Watch, attempt, sparing

_COMMANDS = ("sbatch", "srun", "sacct", "scancel")
# What one task in one job, whose death is noticed here, does not leave open.
_FIXED = ("array", "error", "ntasks", "output", "requeue")


class Slurm:
    """Submits jobs, and collects their results until the last one is done.

    Args:
        folder: for tasks, results and logs; made by ``run``. All nodes have to see it.
        options: sbatch's long options, such as {"partition": "long", "time": "2:00:00"}; True for
            one without a value.
        workers: jobs that are queued or run at once; by default 16.
        cluster: "slurm", or "local": jobs are processes of this machine, to try things out; of the
            options only time counts, as minutes.

    Raises:
        ImportError: submitit is not installed.
        ValueError: no folder, an option that is not open, or no sbatch on this machine.
    """

    pickles = True

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        options: Mapping[str, Any] | None = None,
        workers: int | None = None,
        cluster: str = "slurm",
    ) -> None:
        check_choice("cluster", cluster, ("slurm", "local"))
        if folder is None:
            raise ValueError("executor='slurm' needs a folder that all nodes see: give a store")
        self.options = {k.replace("-", "_"): v for k, v in (options or {}).items()}
        for key in _FIXED:
            if key in self.options:
                raise ValueError(f"slurm={key}={self.options[key]} is not open: leave {key} out")
        self._local = cluster == "local"
        self._submitit = _submitit(() if self._local else _COMMANDS)
        self.folder, self.workers = Path(folder), workers or 16
        self._pause = 0.05 if self._local else 1.0
        # Seconds until a network disk shows a result that was written elsewhere.
        self._late = 0.0 if self._local else 15.0

    def prepare(self) -> None:
        """Jobs start when SLURM lets them."""

    def run(
        self, function: Any, tasks: Sequence[Any], watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Outcomes as they come."""
        submitter = self._submitter()
        waiting = deque(range(len(tasks)))
        counts = None if watch is None else _CountFiles(self.folder, len(tasks))
        pulse = Pulse(watch, counts or list)
        flying: dict[int, Any] = {}
        died: set[int] = set()
        try:
            while waiting or flying:
                while waiting and len(flying) < self.workers:
                    index = waiting.popleft()
                    path = None if counts is None else counts.paths[index]
                    flying[index] = self._submit(submitter, function, index, tasks[index], path)
                pulse()
                for index, job in [(i, j) for i, j in flying.items() if self._ended(j)]:
                    lost = not job.paths.result_pickle.exists()
                    outcome = None if lost and index not in died else _outcome(index, job, lost)
                    self._drop([flying.pop(index)], lost)
                    if outcome is None:
                        died.add(index)
                        waiting.appendleft(index)
                    else:
                        yield outcome
                time.sleep(self._pause if flying else 0.0)
        finally:
            self._drop(flying.values(), True)
            if counts is not None:
                counts.remove()

    def _submitter(self) -> Any:
        self._missing_since: dict[str, float] = {}
        if self._local:
            local = self._submitit.LocalExecutor(self.folder)
            local.update_parameters(timeout_min=float(self.options.get("time", 24 * 60)))
            return local
        slurm = self._submitit.SlurmExecutor(self.folder)
        # No time limit or key but the user's. SLURM's own requeues would not be counted.
        options = {"no_requeue": True, **self.options}
        slurm.update_parameters(
            job_name="leadline", time=None, wckey=None, additional_parameters=options
        )
        return slurm

    def _submit(
        self, submitter: Any, function: Any, index: int, task: Any, count: Path | None
    ) -> Any:
        # Builders are found where this process finds them.
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        try:
            with self._submitit.helpers.environment_variables(PYTHONPATH=path, OMP_NUM_THREADS=1):
                return submitter.submit(_attempt, function, index, task, count)
        except RuntimeError as e:
            raise ValueError(
                f"slurm={self.options} was refused ({e}): give other options, or fewer than "
                f"workers={self.workers}"
            ) from e

    def _ended(self, job: Any) -> bool:
        """Is there a result, or will there never be one?"""
        # submitit waits for others to requeue what was preempted.
        if not job.done() and not job.state.startswith("PREEMPTED"):
            return False
        since = self._missing_since.setdefault(job.job_id, time.monotonic())
        return job.paths.result_pickle.exists() or time.monotonic() - since >= self._late

    def _drop(self, jobs: Collection[Any], cancel: bool) -> None:
        """Cancel jobs, and remove all files but the logs."""
        for job in jobs if cancel else ():
            job.cancel(check=False)
        for job in jobs:
            while self._local and not job.done():
                time.sleep(self._pause)
            job.paths.submitted_pickle.unlink(missing_ok=True)
            job.paths.result_pickle.unlink(missing_ok=True)


def _submitit(commands: Sequence[str]) -> Any:
    """The module submitit, if it and these commands are installed."""
    try:
        import submitit
    except ImportError:
        raise ImportError(
            "executor='slurm' needs submitit: install leadline[slurm], or executor='processes'"
        ) from None
    for command in commands:
        if shutil.which(command) is None:
            raise ValueError(
                f"executor='slurm' needs {command}, which is not on this machine's PATH: run on a "
                "login node of the cluster, or give executor='processes'"
            )
    return submitit


def _outcome(index: int, job: Any, lost: bool) -> Outcome:
    name, log = f"its job {job.job_id}", job.paths.stderr
    if lost:
        why = f"{name} died, as one before it (state {job.state}); see {log}"
        return Outcome(index, error=f"{why}; give slurm more time or mem, or another partition")
    failed = job.exception()
    if failed is None:
        return job.result()
    trace = str(failed).rpartition("\n----")[0] or str(failed)
    return Outcome(index, error=f"{name} failed: {trace.strip().splitlines()[-1]}; see {log}")


class _CountFiles:
    """How much of every task is done: files that jobs write, at most once a second."""

    def __init__(self, folder: Path, tasks: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mine = f"{os.getpid()}-{time.time_ns():x}"
        self.paths = [folder / f"{mine}-{i}.count" for i in range(tasks)]
        self._last = [0] * tasks

    def __call__(self) -> list[int]:
        """The last numbers; a file that is not there, or not whole, changes none."""
        for i, path in enumerate(self.paths):
            with contextlib.suppress(OSError, ValueError):
                self._last[i] = int(path.read_text())
        return self._last

    def remove(self) -> None:
        """Remove the files."""
        for path in self.paths:
            path.unlink(missing_ok=True)


def _write(path: Path, count: int) -> None:
    """Write a task's number; a full or missing disk is no failure of the task."""
    with contextlib.suppress(OSError):
        path.write_text(str(count))


def _attempt(function: Any, index: int, task: Any, count: Path | None) -> Outcome:
    import submitit
    import torch

    # submitit's handlers would raise before the time limit, as if the task had, and outlive scancel:
    # SLURM's end is a death like any other.
    signal.signal(getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}"), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    report = None if count is None else sparing(functools.partial(_write, count))
    return attempt(function, index, task, report)
