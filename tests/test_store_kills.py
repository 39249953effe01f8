"""The store when writers are killed, and with several at once."""

import contextlib
import functools
import random
import subprocess
import sys
import threading
import time

import numpy as np

from leadline.sweeps.store import Store, run_id
from store_samples import start, whole

WRITER = """
import os, sys, time
import numpy as np
import safetensors.numpy
from leadline.sweeps import store_files
from leadline.sweeps.store import Store

folder, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if "slowly" in sys.argv:  # the disk takes a little at a time, so that kills fall within lines
    write_all = store_files.write_all

    def slowly(fd, data):
        for i in range(0, len(data), 4000):
            write_all(fd, data[i : i + 4000])
            time.sleep(0.0001)

    store_files.write_all = slowly
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


def ends_torn(path):
    return path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")


def test_what_put_returned_survives_kills(tmp_path):
    draw = random.Random(0)
    reported, torn = set(), set()
    kill = functools.partial(start, WRITER, tmp_path)
    with contextlib.ExitStack() as stack:
        child = stack.enter_context(kill("kill-0", 10**6, 400_000))
        for round in range(20):
            assert child.stdout.readline() == b"ready\n"
            # The next one starts while this one runs: imports take longer than writing.
            how = "slowly" * (round % 2)
            following = stack.enter_context(kill(f"kill-{round + 1}", 10**6, 400_000, how))
            child.stdin.write(b"\n")
            child.stdin.flush()
            time.sleep(draw.uniform(0.001, 0.1))
            child.kill()
            reported |= set(child.communicate()[0].decode().split())
            child = following
            # One that was killed before it wrote leaves the torn end of the one before it.
            torn |= {p.stat().st_size for p in tmp_path.glob("runs-*.jsonl") if ends_torn(p)}
            with Store(tmp_path) as store:
                assert reported <= whole(store)
        child.kill()
    assert len(reported) > 10
    assert len(list(tmp_path.glob("runs-*.jsonl"))) == 1
    with Store(tmp_path) as store:
        check_curves(store)
        assert not store.problems
        store.put({"last": 1}, {})
        assert len(store.damaged()) == len(torn)
        ids = store.ids()
        assert not list((tmp_path / "curves").glob("*.part"))
    (tmp_path / "index.sqlite").unlink()
    with Store(tmp_path) as store:
        assert store.ids() == ids
        assert not store.problems
    print(f"20 kills: {len(reported)} reported, {len(ids) - 1} there, {len(torn)} torn lines")


def test_processes_write_at_once_and_nobody_waits(tmp_path):
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
        while any(writer.poll() is None for writer in writers):
            seen = reader.records()
            assert len({r.id for r in seen}) == len(seen)
            assert all(run_id(r.spec) == r.id for r in seen)
            assert not reader.problems
            time.sleep(0.02)
        outs = [writer.communicate()[0].decode().split() for writer in writers]
        assert [len(out) for out in outs] == [40, 40]
        assert whole(reader) == {
            *outs[0],
            *outs[1],
            *(run_id({"shared": k}) for k in range(4, 40, 5)),
        }
        check_curves(reader)
        assert all(len(reader.history(run_id({"shared": k}))) >= 1 for k in range(4, 40, 5))
        assert not reader.problems
    assert len(list(tmp_path.glob("runs-*.jsonl"))) == 2
    with Store(tmp_path) as store:
        store.put({}, {})
    assert len(list(tmp_path.glob("runs-*.jsonl"))) == 2


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
        assert not store.problems
        store.close()


def test_a_forked_child_writes_its_own_file(tmp_path):
    code = """
import os, sys
from leadline.sweeps.store import Store

store = Store(sys.argv[1])
store.put({"who": "parent"}, {})
child = os.fork()
for k in range(20):
    store.put({"who": "parent" if child else "child", "k": k}, {})
if not child:
    os._exit(0)
os.waitpid(child, 0)
assert len(store) == 41, len(store)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert len(list(tmp_path.glob("runs-*.jsonl"))) == 2
    with Store(tmp_path) as store:
        assert len(whole(store)) == 41
