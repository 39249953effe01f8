"""A Ray cluster: plain remote tasks of one core each. Needs the extra ``ray``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from leadline.executors.base import EVERY, Outcome, Pulse, Watch, attempt, sparing


class Ray:
    """Connects to the cluster that RAY_ADDRESS names, or starts one on this machine.

    Workers send what they have done to an actor, at most once a second and without waiting for it.

    Args:
        workers: tasks at once; by default all cores of the cluster.
    """

    pickles = True

    def __init__(self, workers: int | None = None) -> None:
        try:
            import ray
            import ray.exceptions
        except ImportError:
            raise ImportError(
                "executor='ray' needs Ray: install leadline[ray], or executor='processes'"
            ) from None
        self._ray = ray
        if not ray.is_initialized():
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                # Builders are found where this process finds them.
                runtime_env={
                    "env_vars": {
                        "OMP_NUM_THREADS": "1",
                        "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                    }
                },
            )
        self.workers = workers or int(ray.cluster_resources().get("CPU", 1))

    def prepare(self) -> None:
        """The cluster is there."""

    def run(
        self, function: Any, tasks: Sequence[Any], watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Outcomes as they come."""
        ray = self._ray
        # A lost worker's or node's task runs once more.
        remote = ray.remote(num_cpus=1, max_retries=1)(_attempt)
        counts = None if watch is None else _CountReader(ray, len(tasks))
        actor, timeout = (None, None) if counts is None else (counts.actor, EVERY)
        pulse = Pulse(watch, counts or list)
        waiting = iter(enumerate(tasks))
        flying: dict[Any, int] = {}
        try:
            while True:
                while len(flying) < 2 * self.workers:
                    item = next(waiting, None)
                    if item is None:
                        break
                    flying[remote.remote(function, *item, actor)] = item[0]
                if not flying:
                    return
                done, _ = ray.wait(list(flying), num_returns=1, timeout=timeout)
                pulse()
                for reference in done:
                    index = flying.pop(reference)
                    try:
                        yield ray.get(reference)
                    except ray.exceptions.RayError as e:
                        last = str(e).strip().splitlines()[-1]
                        yield Outcome(index, error=f"its worker died: {type(e).__name__}: {last}")
        finally:
            for reference in flying:
                ray.cancel(reference, force=True)
            if actor is not None:
                ray.kill(actor)


class _CountActor:
    """An actor that remembers how much of every task is done."""

    def __init__(self, tasks: int) -> None:
        self._counts = [0] * tasks

    def put(self, index: int, count: int) -> None:
        """A task's present number."""
        self._counts[index] = count

    def get(self) -> list[int]:
        """The present numbers of all tasks."""
        return self._counts


class _CountReader:
    """The last numbers of the actor; nothing waits for an actor that starts or is lost."""

    def __init__(self, ray: Any, tasks: int) -> None:
        self._ray = ray
        self.actor = ray.remote(num_cpus=0)(_CountActor).remote(tasks)
        self._request, self._last = self.actor.get.remote(), [0] * tasks

    def __call__(self) -> list[int]:
        """The last numbers that arrived."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            if self._ray.wait([self._request], timeout=0)[0]:
                self._last = self._ray.get(self._request)
                self._request = self.actor.get.remote()
        return self._last


def _attempt(function: Any, index: int, task: Any, actor: Any) -> Outcome:
    import torch

    torch.set_num_threads(1)
    report = None if actor is None else sparing(lambda done: actor.put.remote(index, done))
    return attempt(function, index, task, report)
