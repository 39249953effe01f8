"""The store when writers are killed, and with several at once."""

import contextlib
import functools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from leadline.store.store import Store, StoreError, run_id
from store_samples import file_of, start, whole

WRITER = """
import os, sys
import numpy as np
import safetensors.numpy
from leadline.store.store import Store

folder, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Store(folder) as store:
    os.write(1, b"ready\\n")
    sys.stdin.readline()
    for k in range(count):
        big = "x" * size if k % 3 == 0 else ""
        spec = {"name": name, "k": k, "odd": "\\n\\u2028\\ud800"}
        curves = {"loss": np.full(50, k), "name": np.frombuffer(name.encode(), np.uint8)}
        id = store.put(spec, {"k": k, "name": name, "big": big}, curves)
        os.write(1, id.encode() + b"\\n")
        if k % 5 == 4:
            store.put({"shared": k}, {"by": name})
"""


def check_curves(store):
    for r in store.records():
        if "name" in r.spec:
            assert r.result["k"] == r.spec["k"]
            assert r.result["name"] == r.spec["name"]
            assert set(r.result["big"]) <= {"x"}
            np.testing.assert_array_equal(r.curves["loss"], np.full(50, r.spec["k"]))
            assert bytes(r.curves["name"]).decode() == r.spec["name"]


def test_what_put_returned_survives_kills(tmp_path):
    """The moments are spread over some puts, however long the disk takes for one."""
    draw = random.Random(0)
    reported, cut_short, length = set(), 0, 0.05
    kill = functools.partial(start, WRITER, tmp_path)
    with contextlib.ExitStack() as stack:
        child = stack.enter_context(kill("kill-0", 10**6, 400_000))
        for round in range(20):
            assert child.stdout.readline() == b"ready\n"
            # The next one starts while this one runs: imports take longer than writing.
            following = stack.enter_context(kill(f"kill-{round + 1}", 10**6, 400_000))
            child.stdin.write(b"\n")
            child.stdin.flush()
            if round % 4:
                started = time.monotonic()
                reported.add(child.stdout.readline().decode().strip())
                length = time.monotonic() - started
            time.sleep(draw.uniform(0, 3 * length))
            child.kill()
            reported |= set(child.communicate()[0].decode().split())
            child = following
            cut_short += (tmp_path / "runs.sqlite-journal").exists()
            with Store(tmp_path) as store:
                assert reported <= whole(store)
        child.kill()
    assert len(reported) > 10
    with Store(tmp_path) as store:
        check_curves(store)
        assert store.check() == ()
        assert all(len(store.history(i)) == 1 for i in store.ids() if "name" in store.get(i).spec)
        # Each kill may leave one put that had not been reported.
        extra = whole(store) - reported - {run_id({"shared": k}) for k in range(len(store) * 5)}
        assert len(extra) <= 20
        store.put({"last": 1}, {})  # a journal that nothing was in yet goes with the next write
    assert [p.name for p in tmp_path.iterdir()] == ["runs.sqlite"]
    print(f"20 kills: {len(reported)} reported, 0 lost, {cut_short} in the middle of a write")


def test_processes_write_at_once_beside_a_reader(tmp_path):
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(start(WRITER, tmp_path, f"w{i}", 40, 200_000)) for i in range(2)
        ]
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        reader = stack.enter_context(Store(tmp_path))
        for writer in writers:
            writer.stdin.write(b"\n")
            writer.stdin.flush()
        before = 0
        while any(writer.poll() is None for writer in writers):
            seen = reader.records()
            assert len({r.id for r in seen}) == len(seen) >= before
            assert all(run_id(r.spec) == r.id for r in seen)
            before = len(seen)
            time.sleep(0.02)
        outs = [writer.communicate()[0].decode().split() for writer in writers]
        assert [len(out) for out in outs] == [40, 40]
        assert whole(reader) == {
            *outs[0],
            *outs[1],
            *(run_id({"shared": k}) for k in range(4, 40, 5)),
        }
        check_curves(reader)
        assert all(1 <= len(reader.history(run_id({"shared": k}))) <= 2 for k in range(4, 40, 5))
        assert reader.check() == ()


def test_two_make_a_store_at_once(tmp_path):
    """One of them makes the file, and neither replaces the other's."""
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(start(WRITER, tmp_path / "s", f"w{i}", 3, 9)) for i in range(2)]
        outs = [child.communicate(b"\n")[0].decode().split() for child in both]
    with Store(tmp_path / "s", create=False) as store:
        assert whole(store) == {i for out in outs for i in out if i != "ready"}
        assert len(store) == 6


def test_a_store_that_is_moved_or_replaced_while_it_is_open(tmp_path):
    """What is put never goes to a file that no name leads to."""
    with Store(tmp_path / "here") as store:
        id = store.put({"k": 0}, {}, {"x": [1]})
        record = store.get(id)
        (tmp_path / "here").rename(tmp_path / "there")
        for ask in (store.ids, lambda: store.put({"k": 1}, {}), lambda: record.curves["x"]):
            with pytest.raises(
                StoreError, match=r"here/runs.sqlite cannot be opened \(No such file"
            ):
                ask()
        Store(tmp_path / "here").close()
        for ask in (store.ids, lambda: store.put({"k": 1}, {})):
            with pytest.raises(StoreError, match="another file than before: open the store again"):
                ask()
    for name, count in (("here", 0), ("there", 1)):
        with Store(tmp_path / name) as store:
            assert len(store) == count


@contextlib.contextmanager
def held(folder, how="EXCLUSIVE"):
    """The file, held by another connection."""
    with contextlib.closing(sqlite3.connect(file_of(folder), isolation_level=None)) as db:
        db.execute(f"BEGIN {how}")
        yield db


def test_a_file_that_is_held_too_long_says_what_to_do(tmp_path):
    with Store(tmp_path) as store:
        store.put({"k": 0}, {})
        store._file.patience = 0.3
        with held(tmp_path, "IMMEDIATE"):
            assert len(store) == 1  # who only reads sees what was there
            with pytest.raises(
                StoreError, match=r"has held .*runs\.sqlite for 0 s: let it go on"
            ) as e:
                store.put({"k": 1}, {})
            assert "the 1 records before are safe" in str(e.value)
        with held(tmp_path), pytest.raises(StoreError, match="let it go on or end it"):
            store.ids()
        store.put({"k": 1}, {})
        assert len(whole(store)) == 2


def test_a_writer_waits_for_readers_and_writers(tmp_path):
    for how in ("EXCLUSIVE", "DEFERRED"):
        with Store(tmp_path) as store, held(tmp_path, how) as other:
            other.execute("SELECT * FROM runs").fetchall()  # DEFERRED: a reader that does not end
            thread = threading.Thread(target=store.put, args=({"how": how}, {}))
            thread.start()
            time.sleep(0.4)
            assert thread.is_alive()
            other.execute("ROLLBACK")
            thread.join()
            assert store.has(run_id({"how": how}))


def test_an_interrupt_ends_the_wait(tmp_path):
    with Store(tmp_path) as store:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        try:
            with held(tmp_path):
                timer.start()
                started = time.monotonic()
                with pytest.raises(KeyboardInterrupt):
                    store.put({"k": 0}, {})
                assert time.monotonic() - started < 30  # of the 60 that it would wait
        finally:
            signal.signal(signal.SIGINT, before)
        assert store.ids() == []
        store.put({"k": 0}, {})


def test_threads_and_several_stores_of_one_process(tmp_path):
    stores = [Store(tmp_path), Store(tmp_path)]

    def work(name):
        for k in range(10):
            stores[name % 2].put({"name": name, "k": k}, {"k": k}, {"x": [k]})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        assert len(whole(store)) == 40
        assert store.check() == ()
        store.close()


def test_a_forked_child_writes_too(tmp_path):
    code = """
import os, sys
from leadline.store.store import Store

store = Store(sys.argv[1])
store.put({"who": "parent"}, {})
child = os.fork()
for k in range(20):
    store.put({"who": "parent" if child else "child", "k": k}, {})
if not child:
    store.close()
    os._exit(0)
os.waitpid(child, 0)
assert len(store) == 41, len(store)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    with Store(tmp_path) as store:
        assert len(whole(store)) == 41
        assert store.check() == ()
