"""One suite that every executor passes."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from leadline.executors import NAMES, executor
from sweep_models import (
    count_and_die_once,
    count_and_fail,
    count_until_seen,
    count_up,
    die,
    die_once,
    fail_on_three,
    square,
    stay,
)


@pytest.fixture(params=NAMES, scope="module")
def worker(request, tmp_path_factory):
    if request.param == "ray":
        pytest.importorskip("ray", reason="the extra ray is not installed")
    if request.param == "slurm":
        pytest.importorskip("submitit", reason="the extra slurm is not installed")
        from leadline.executors.slurm import Slurm

        return Slurm(tmp_path_factory.mktemp("jobs"), workers=2, cluster="local")
    return executor(request.param, None if request.param == "inline" else 2)


def test_every_task_has_one_outcome(worker):
    outcomes = list(worker.run(square, list(range(7))))
    assert sorted((o.index, o.value) for o in outcomes) == [(i, i * i) for i in range(7)]
    assert all(o.error is None for o in outcomes)


def test_an_error_is_an_outcome_and_the_others_go_on(worker):
    outcomes = {o.index: o for o in worker.run(fail_on_three, [1, 3, 5])}
    assert outcomes[1].error == "ValueError: three is not wanted"
    assert [outcomes[i].value for i in (0, 2)] == [1, 5]


def test_no_tasks(worker):
    assert list(worker.run(square, [])) == []


def test_leaving_early_stops(worker):
    for outcome in worker.run(square, list(range(50))):
        assert outcome.error is None
        break


def test_a_task_whose_worker_dies_runs_again(worker, tmp_path):
    if not worker.pickles:
        pytest.skip("in this process nothing survives")
    tasks = [(str(tmp_path / str(i)), i) for i in range(3)]
    (tmp_path / "0").touch()
    (tmp_path / "2").touch()
    outcomes = sorted(worker.run(die_once, tasks), key=lambda o: o.index)
    assert [o.value for o in outcomes] == [0, 1, 2], outcomes


def test_a_task_that_always_dies_is_an_error(worker):
    if not worker.pickles:
        pytest.skip("in this process nothing survives")
    (outcome,) = worker.run(die, [1])
    assert "died" in outcome.error


def test_what_tasks_have_done_is_seen_before_they_are_over(worker, tmp_path):
    """Every task waits until its number was seen."""
    tasks = [str(tmp_path / str(i)) for i in range(3)]

    def watch(counts):
        assert len(counts) == 3
        for path, count in zip(tasks, counts, strict=True):
            if count:
                assert count == 7
                open(path, "w").close()

    outcomes = sorted(worker.run(count_until_seen, tasks, watch), key=lambda o: o.index)
    assert [(o.value, o.error) for o in outcomes] == [(7, None)] * 3


def test_watching_is_no_more_often_than_once_a_second(worker):
    calls = []
    started = time.monotonic()
    outcomes = list(worker.run(count_up, [2000] * 8, lambda counts: calls.append(counts)))
    assert [o.value for o in outcomes] == [2000] * 8
    assert len(calls) <= 1 + (time.monotonic() - started)


def test_nothing_is_watched_unasked(worker):
    """The function gets its task alone; a run that was watched leaves nothing behind."""
    assert len(list(worker.run(count_up, [5, 5], lambda counts: None))) == 2
    assert [o.error for o in worker.run(square, [1, 2, 3])] == [None] * 3
    assert list(worker.run(count_up, [], lambda counts: None)) == []


def test_an_error_of_a_watched_task_is_an_outcome(worker):
    outcomes = {o.index: o for o in worker.run(count_and_fail, [1, 3], lambda counts: None)}
    assert outcomes[1].error == "ValueError: three is not wanted"
    assert outcomes[0].value == 1


def test_what_watching_raises_ends_the_run(worker):
    def watch(counts):
        raise ValueError("seen enough")

    with pytest.raises(ValueError, match="seen enough"):
        list(worker.run(count_up, [2000] * 3, watch))
    assert [o.value for o in worker.run(square, [2])] == [4]


def test_a_worker_that_dies_while_it_reports_blocks_nobody(worker, tmp_path):
    if not worker.pickles:
        pytest.skip("in this process nothing survives")
    tasks = [str(tmp_path / str(i)) for i in range(4)]
    for path in tasks[1:]:
        open(path, "w").close()
    done = worker.run(count_and_die_once, tasks, lambda counts: None)
    outcomes = sorted(done, key=lambda o: o.index)
    assert [o.value for o in outcomes] == [7] * 4, outcomes


def left_over():
    """Threads of process pools; the pool's own and its queue's."""
    return [t for t in threading.enumerate() if re.search("ExecutorManager|QueueFeeder", repr(t))]


def test_when_a_run_is_over_nothing_of_it_is_left(tmp_path):
    """A pool that cleans up later closes pipes that others write to: "Bad file descriptor"."""
    worker = executor("processes", 2)
    (tmp_path / "1").touch()
    assert len(list(worker.run(die_once, [(str(tmp_path / str(i)), i) for i in range(2)]))) == 2
    assert not left_over()
    folder = tmp_path / "marks"
    folder.mkdir()

    def watch(counts):
        if len(list(folder.iterdir())) == 2:
            raise ValueError("both are at work")

    with pytest.raises(ValueError, match="both are at work"):
        list(worker.run(stay, [str(folder)] * 2, watch))
    assert not left_over()
    for mark in folder.iterdir():
        # Dead, or dead and not yet collected by the server.
        status = Path("/proc", mark.name, "status")
        assert not status.exists() or "State:\tZ" in status.read_text()


SLOW = """
import concurrent.futures.process as pools, os, sys, time
from leadline.executors import executor
from sweep_models import die_once

begun = []

def close(self):
    # What closes a pool's pipe, with time between its lines.
    if not self._closed:
        os.close(self._writer.fileno())
        begun.append(self)
        time.sleep(0.5)
        self._writer._handle, self._closed = None, True
        self._reader.close()

if __name__ == "__main__":
    pools._ThreadWakeup.close = close
    tasks = [(f"{sys.argv[1]}/{i}", i) for i in range(3)]
    print(sorted(o.value for o in executor("processes", 2).run(die_once, tasks)))
    while not begun:
        time.sleep(0.01)
"""


def test_a_worker_that_dies_leaves_no_word_behind(tmp_path):
    """The interpreter ends while a pool could still be cleaning up."""
    script = tmp_path / "script.py"
    script.write_text(SLOW)
    for i in (0, 2):
        (tmp_path / str(i)).touch()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 2]\n", "")


def test_unknown_executors_and_bad_workers():
    with pytest.raises(ValueError, match="executor='thread' is unknown"):
        executor("thread")
    with pytest.raises(ValueError, match="workers=0 is too small"):
        executor("processes", 0)
