"""Worker processes of one thread each, started from a clean server with torch loaded."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any

from leadline.executors.base import EVERY, Outcome, Pulse, Watch, attempt

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


_PRELOAD = ["leadline.sweeps.groups", "torch.fx.experimental.proxy_tensor"]


@contextlib.contextmanager
def _one_thread() -> Generator[None]:
    """Processes that are started within this have one thread each."""
    before = {k: os.environ.get(k) for k in _ONE_THREAD}
    os.environ |= _ONE_THREAD
    try:
        yield
    finally:
        for k, v in before.items():
            if v is None:
                os.environ.pop(k, None)
            else:
                os.environ[k] = v


class Processes:
    """A process pool (forkserver): busy threads of two processes would slow each other many times.

    What tasks have done is kept in memory that the workers share, a word for each task that its worker
    alone writes: there is no lock or queue that a killed worker could leave blocked.

    Args:
        workers: processes; by default one a core.
    """

    pickles = True

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))

    def prepare(self) -> None:
        """Start the server from which workers fork: it loads torch meanwhile."""
        with _one_thread():
            self._context()
            forkserver.ensure_running()

    def _context(self) -> multiprocessing.context.ForkServerContext:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        return context

    def run(
        self, function: Any, tasks: Sequence[Any], watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Outcomes as they come."""
        self._counts: Any = None
        if watch is not None:
            self._counts = self._context().RawArray("q", len(tasks))
        self._pulse = Pulse(watch, lambda: self._counts)
        pending = dict(enumerate(tasks))
        crashed: set[int] = set()
        while pending:
            for outcome in self._pool(function, dict(pending)):
                if outcome is None:
                    break
                del pending[outcome.index]
                yield outcome
            else:
                return
            # A worker died, and nobody can say on which task: those in flight run alone, once.
            for i in self._suspects(pending, crashed):
                outcome = self._alone(function, i, pending.pop(i))
                yield outcome

    def _suspects(self, pending: dict[int, Any], crashed: set[int]) -> list[int]:
        suspects = [i for i in self._flying if i in pending]
        crashed.update(suspects)
        return suspects or list(pending)[:1]

    def _alone(self, function: Any, index: int, task: Any) -> Outcome:
        for outcome in self._pool(function, {index: task}):
            if outcome is not None:
                return outcome
        return Outcome(
            index, error="its worker process died twice (killed, or out of memory): run it inline"
        )

    def _pool(self, function: Any, tasks: dict[int, Any]) -> Iterator[Outcome | None]:
        """Outcomes; None if a worker died."""
        with _one_thread():
            context = self._context()
            pool = ProcessPoolExecutor(
                min(self.workers, len(tasks)),
                mp_context=context,
                initializer=_begin,
                initargs=(os.getpid(), self._counts),
            )
            timeout = None if self._counts is None else EVERY
            waiting = iter(tasks.items())
            flying: dict[Future[Outcome], int] = {}
            self._flying: list[int] = []
            try:
                while True:
                    # No more than one task ahead of the workers: what is lost stays small.
                    while len(flying) < self.workers + 1:
                        item = next(waiting, None)
                        if item is None:
                            break
                        flying[pool.submit(_attempt, function, *item)] = item[0]
                    if not flying:
                        return
                    done = wait(flying, timeout, FIRST_COMPLETED).done
                    self._pulse()
                    for future in done:
                        self._flying = list(flying.values())
                        outcome = future.result()
                        del flying[future]
                        yield outcome
            except BrokenProcessPool:
                yield None
            finally:
                # Workers first, of which a pool that is shut down knows none; then wait for the thread
                # that cleans up after them. Left alone it closes pipes while the interpreter, which may
                # end now, or the next pool writes to them: "Bad file descriptor".
                for process in list((pool._processes or {}).values()):
                    process.terminate()
                pool.shutdown(wait=True, cancel_futures=True)


def _keep_memory() -> None:
    """Freed memory stays with the process (glibc): a step needs the same again, page by page."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 25)


_counts: Any = None
"""In a worker: the shared numbers of all tasks, if the owner watches them."""


def _attempt(function: Any, index: int, task: Any) -> Outcome:
    report = None if _counts is None else functools.partial(_counts.__setitem__, index)
    return attempt(function, index, task, report)


def _begin(owner: int, counts: Any) -> None:
    """Use one thread, and end when the owner is gone: killed, it cannot end its workers."""
    import signal

    import torch

    global _counts
    _counts = counts
    torch.set_num_threads(1)
    _keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while True:
            time.sleep(1.0)
            try:
                os.kill(owner, 0)
            except OSError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
