"""Sweeps that are killed, and two at once, lose nothing."""

import multiprocessing
import random
import shutil
import time
from multiprocessing import forkserver

import torch

import leadline as ll
from leadline.store.store import Store
from leadline.sweeps.driver import sweep
from leadline.tracing.builder import Size
from sweep_models import Model

BASE = Size(16, 2)


WHOLE = dict(widths=[16, 24, 32], depths=[2, 3, 4], lrs=[1e-3, 2e-3], seeds=2, steps=20)


def run_whole(store, executor, done):
    """36 runs in 9 programs, or what of them is missing; in a process of its own."""
    torch.set_num_threads(1)
    # Not the digits: importing what reads them takes longer than the sweep.
    data = ll.teacher(samples=32, dimension=64, test_samples=10)
    workers = 2 if executor == "processes" else None
    found = sweep(data, Model, store=store, executor=executor, workers=workers, base=BASE, **WHOLE)
    done.put(found.fresh)


def server():
    """A context whose processes fork from a new server that has loaded all that a sweep needs."""
    forkserver._forkserver._stop()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leadline.sweeps.driver", "torch._dynamo"])
    first = context.Process(target=int)
    first.start()
    first.join()
    return context


def stored(store):
    """Everything that is not a time, by id."""
    with Store(store) as s:
        assert s.check() == ()
        assert all(len(s.history(i)) == 1 for i in s.ids())
        return {r["id"]: {k: v for k, v in r.items() if k != "seconds"} for r in s.table()}


def test_kill_nine_at_twenty_moments_loses_nothing_finished(tmp_path):
    """Every finished run is kept, none is trained twice, and the table is that of no kill at all.

    The processes that are killed fork from a server that has loaded torch: their moments are spread
    over the work, not over imports. Every seventh trains in workers of its own, which lose their
    owner.
    """
    context = server()
    done = context.SimpleQueue()

    def start(store, executor="inline"):
        process = context.Process(target=run_whole, args=(str(tmp_path / store), executor, done))
        process.start()
        return process

    started = time.monotonic()
    start("whole").join()
    length = time.monotonic() - started
    assert done.get() == 36
    whole = stored(tmp_path / "whole")
    chance = random.Random(0)
    kept: dict = {}
    cut = 0
    for attempt in range(60):
        if cut == 20:
            break
        outside = attempt % 7 == 6
        worker = start("killed", "processes" if outside else "inline")
        # Workers take a moment to start.
        worker.join(chance.uniform(0, length / 2) + chance.uniform(0, 3.0) * outside)
        cut += worker.is_alive()
        worker.kill()
        worker.join()
        worker.close()
        now = stored(tmp_path / "killed")
        assert kept.items() <= now.items()
        kept = now
        if len(kept) > 24:
            shutil.rmtree(tmp_path / "killed")
            kept = {}
    # Moments after the end prove nothing and do not count.
    assert cut == 20
    while not done.empty():
        done.get()
    start("killed").join()
    assert done.get() == 36 - len(kept)
    assert stored(tmp_path / "killed") == whole


def test_two_sweeps_at_once_on_one_store(tmp_path):
    """Each waits while the other writes, no run is lost, and the table is that of one."""
    context = server()
    done = context.SimpleQueue()
    store = str(tmp_path / "s")
    both = [context.Process(target=run_whole, args=(store, "inline", done)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    with Store(store) as s:
        assert s.check() == ()
        assert len(s.table()) == 36
