"""A Ray cluster: plain remote tasks of one core each. Needs the extra ``ray``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from leadline.sweeps.executors.base import Outcome, attempt


class Ray:
    """Connects to the cluster that RAY_ADDRESS names, or starts one on this machine.

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

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[Outcome]:
        """Outcomes as they come."""
        ray = self._ray
        # A lost worker's or node's task runs once more.
        remote = ray.remote(num_cpus=1, max_retries=1)(_attempt)
        waiting = iter(enumerate(tasks))
        flying: dict[Any, int] = {}
        try:
            while True:
                while len(flying) < 2 * self.workers:
                    item = next(waiting, None)
                    if item is None:
                        break
                    flying[remote.remote(function, *item)] = item[0]
                if not flying:
                    return
                done, _ = ray.wait(list(flying), num_returns=1)
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


def _attempt(function: Any, index: int, task: Any) -> Outcome:
    import torch

    torch.set_num_threads(1)
    return attempt(function, index, task)
