"""The store in trouble: kills, full and read-only disks, damage, several writers."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.sweeps.store import Store, StoreError, run_id
from leadline.sweeps.store_lines import Entry, write_line
from leadline.sweeps.store_scan import DAMAGED
from leadline.sweeps.store_values import dumps


def lines_of(folder):
    (path,) = folder.glob("runs-*.jsonl")
    return path


def fill(folder, count=3, **spec):
    with Store(folder) as store:
        return [store.put({"k": k} | spec, {"loss": 1 / (k + 1)}) for k in range(count)]


def whole(store):
    """Every record is what its specification says, each once; returns the ids."""
    records = store.records()
    ids = [r.id for r in records]
    assert len(set(ids)) == len(ids)
    assert ids == store.ids() == [row["id"] for row in store.table()]
    assert all(run_id(r.spec) == r.id for r in records)
    return set(ids)


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# Killed writers

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
    reported, torn = set(), 0
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
            torn += any(ends_torn(path) for path in tmp_path.glob("runs-*.jsonl"))
            with Store(tmp_path) as store:
                assert reported <= whole(store)
        child.kill()
    assert len(reported) > 10
    assert len(list(tmp_path.glob("runs-*.jsonl"))) == 1
    with Store(tmp_path) as store:
        check_curves(store)
        assert not store.problems
        store.put({"last": 1}, {})
        assert len(store.damaged()) == torn
        ids = store.ids()
        assert not list((tmp_path / "curves").glob("*.part"))
    (tmp_path / "index.sqlite").unlink()
    with Store(tmp_path) as store:
        assert store.ids() == ids
        assert not store.problems
    print(f"20 kills: {len(reported)} reported, {len(ids) - 1} there, {torn} torn lines")


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


# Damaged files


@pytest.mark.parametrize("indexed", [True, False])
def test_a_line_cut_at_every_byte(tmp_path, indexed):
    first, last = fill(tmp_path, 1)[0], run_id({"k": "last"})
    path, index = lines_of(tmp_path), (tmp_path / "index.sqlite").read_bytes()
    before = path.read_bytes()
    with Store(tmp_path) as store:
        store.put({"k": "last"}, {"text": "{\n"})
    line = path.read_bytes()[len(before) :]
    (tmp_path / "index.sqlite").unlink()
    for cut in range(0, len(line) + 1, 1 if indexed else 5):
        path.write_bytes(before + line[:cut])
        if indexed:
            (tmp_path / "index.sqlite").write_bytes(index)
        (tmp_path / DAMAGED).unlink(missing_ok=True)
        there = {first, last} if cut >= len(line) - 1 else {first}
        bad = 0 < cut < len(line) - 1
        with Store(tmp_path) as store:
            assert whole(store) == there
            assert len(store.problems) == bad
            if bad:
                assert f"{path}, line 2: " in store.problems[0]
                assert "no end" in store.problems[0]
            new = store.put({"k": "new"}, {})
            assert whole(store) == there | {new}
            assert len(store.problems) == bad
        if not indexed:
            (tmp_path / "index.sqlite").unlink()
        with Store(tmp_path) as store:
            assert whole(store) == there | {new}
            assert not store.problems
            assert [row["text"] for row in store.damaged()] == [line[:cut].decode()] * bad
            assert store.put({"k": "last"}, {"text": "{\n"}) == last
            assert whole(store) == {first, last, new}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_garbage_anywhere(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    ids = fill(folder, 6)
    path = lines_of(folder)
    texts = [(dumps({"k": k}), dumps({"loss": 1 / (k + 1)})) for k in range(6)]
    lines = [Entry(i, 0, k, *texts[k], None) for k, i in enumerate(ids)]
    raw = b"".join(write_line(line) for line in lines)
    at = data.draw(st.integers(0, len(raw) - 1))
    gone = data.draw(st.integers(0, min(300, len(raw) - at)))
    garbage = data.draw(st.one_of(st.binary(max_size=20), st.just(bytes(99))))
    path.write_bytes(raw[:at] + garbage + raw[at + gone :])
    ends = [i + 1 for i, byte in enumerate(raw) if byte == 10]
    starts = [0, *ends[:-1]]
    spared = {
        id for id, a, b in zip(ids, starts, ends, strict=True) if b - 1 <= at or a >= at + gone
    }
    for k in range(2):
        if data.draw(st.booleans()):
            (folder / "index.sqlite").unlink(missing_ok=True)
        with Store(folder) as store:
            problems = store.rebuild()
            assert spared <= whole(store) <= set(ids)
            assert (k == 0) >= bool(problems)
            if k == 0 and whole(store) < set(ids) and garbage.strip(b"\n\0"):
                assert problems
            for r in store.records():
                assert "new" in r.spec or r.result == {"loss": 1 / (r.spec["k"] + 1)}
            new = store.put({"new": k}, {})
            assert new in whole(store)
            ids.append(new)


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "cut", "flipped", "garbage", "folder", "old"]
)
def test_an_index_that_is_lost_is_made_again(tmp_path, damage):
    fill(tmp_path, 20)
    path = tmp_path / "index.sqlite"
    good = path.read_bytes()
    old = {"empty": b"", "cut": good[:5000], "garbage": os.urandom(9000)}
    flipped = bytearray(good)
    flipped[good.index(run_id({"k": 7}).encode())] ^= 1
    old["flipped"] = bytes(flipped)
    if damage == "old":
        more = fill(tmp_path, 5, more=1)
        path.write_bytes(good)
    else:
        path.unlink()
        more = []
    if damage == "folder":
        path.mkdir()
    elif damage in old:
        path.write_bytes(old[damage])
    with Store(tmp_path) as store:
        assert whole(store) == {run_id({"k": k}) for k in range(20)} | set(more)
        assert not store.problems
        path.unlink() if path.is_file() else None
        new = store.put({"new": 1}, {})
        assert store.has(new)
    with Store(tmp_path) as store:
        assert store.has(new)
        assert damage == "folder" or path.is_file()


def test_lines_that_changed_otherwise_than_by_growing_are_read_again(tmp_path):
    ids = fill(tmp_path, 4)
    path = lines_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    with Store(tmp_path) as store:
        path.write_bytes(b"".join(lines[:2]))  # an older copy put back
        assert whole(store) == set(ids[:2])
        path.write_bytes(b"".join(lines[:1] + lines[2:]))
        assert whole(store) == {ids[0], *ids[2:]}
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    path.rename(tmp_path / "runs-elsewhere.jsonl")
    with Store(tmp_path) as store:
        assert whole(store) == set(ids)
        assert not store.problems


@pytest.mark.parametrize("marker", [None, b"", b"[]", b'{"leadline_store": "x'])
def test_a_lost_marker_is_written_anew(tmp_path, marker):
    ids = fill(tmp_path)
    path = tmp_path / "store.json"
    path.unlink() if marker is None else path.write_bytes(marker)
    with Store(tmp_path) as store:
        assert store.ids() == ids
        assert "store.json: missing or damaged" in store.problems[0]
    assert json.loads(path.read_bytes()) == {"leadline_store": 1}
    with Store(tmp_path) as store:
        assert not store.problems


def test_a_later_version_is_refused(tmp_path):
    fill(tmp_path, 1)
    marker, path = tmp_path / "store.json", lines_of(tmp_path)
    marker.write_text('{"leadline_store": 7}')
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=r"store format 7.*up to 1: upgrade leadline"):
        Store(tmp_path)
    assert before == {p: p.read_bytes() for p in tmp_path.iterdir()}
    marker.write_text('{"leadline_store": 1}')
    body = b'{"leadline_run":2,"anything":[]}'
    digest = hashlib.sha256(body).hexdigest()[:16].encode()
    with Store(tmp_path) as store:
        with open(path, "ab") as file:
            file.write(body[:-1] + b',"sum":"' + digest + b'"}\n')
        for refused in (lambda: store.put({"k": 2}, {}), lambda: Store(tmp_path), store.ids):
            with pytest.raises(StoreError, match=r"runs-.*store format 2.*upgrade leadline"):
                refused()


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "folder"])
def test_curves_that_are_lost_leave_the_record(tmp_path, damage):
    spec, result, curves = {"k": 1}, {"loss": 1.0}, {"loss": np.arange(9.0)}
    with Store(tmp_path) as store:
        id = store.put(spec, result, curves)
    (path,) = (tmp_path / "curves").iterdir()
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.parent.rmdir()
    elif damage != "missing":
        flipped = data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
        path.write_bytes(data[:-1] if damage == "cut" else flipped)
    with Store(tmp_path) as store:
        record = store.get(id)
        assert record.result == result
        assert list(record.curves) == ["loss"]
        with pytest.raises(StoreError, match=f"{path}: the curves are .*put the run again"):
            record.curves["loss"]
        assert len(store.problems) == len(store.rebuild()) == 1
        assert str(path) in store.problems[0]
        assert store.put(spec, result, curves) == id
        assert store.get(id).curves["loss"][8] == 8
        assert not store.problems
        assert len(store.history(id)) == 1


# Disks


@contextlib.contextmanager
def disk(folder, size):
    """A small disk of its own; skips where there may be none."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "leadline-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        why = done.stderr.strip()
    except OSError as e:
        done, why = None, str(e)
    if done is None or done.returncode:
        pytest.skip(f"no disk can be mounted here: {why}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("size", [0, 60_000])
def test_a_full_disk(tmp_path, size):
    with disk(tmp_path / "disk", "1m") as mounted:
        folder, ballast = mounted / "store", mounted / "ballast"
        ballast.write_bytes(bytes(300_000))
        ids = []
        curves = {"x": np.zeros(size // 8)} if size else None

        def put(k):
            text = "" if size else "x" * (5000 + 37 * k)
            ids.append(store.put({"k": k}, {"k": k, "text": text}, curves))

        with Store(folder) as store:
            with pytest.raises(StoreError, match="disk is full: free space") as error:
                any(put(k) for k in range(1000))
            assert str(folder) in str(error.value)
            assert f"the {len(ids)} records before it are safe" in str(error.value)
            assert len(ids) > 5
            for again in range(3):
                with pytest.raises(StoreError, match="is not in the store"):
                    store.put({"k": len(ids), "again": again}, {"text": "x" * 20_000}, curves)
                assert whole(store) == set(ids)
        assert lines_of(folder).read_bytes().endswith(b"\n")
        with Store(folder) as store:
            assert whole(store) == set(ids)
            assert not store.problems
            ballast.unlink()
            put(len(ids))
        with Store(folder) as store:
            assert whole(store) == set(ids)
            assert not store.problems
            assert all(r.result["k"] == r.spec["k"] for r in store.records())
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(2**20))
        with pytest.raises(StoreError, match="cannot be made a store: No space"):
            Store(mounted / "another")
        assert not list(mounted.glob("another/.*"))
        ballast.unlink()
        Store(mounted / "another").close()


def test_a_read_only_disk(tmp_path):
    with disk(tmp_path / "disk", "1m") as mounted:
        folder = mounted / "store"
        with Store(folder) as store:
            id = store.put({"k": 1}, {"loss": 1.0}, {"x": [1.0]})
            store.put({"k": 2}, {"loss": 2.0})
        with open(lines_of(folder), "ab") as file:
            file.write(b'{"leadline_run":1,"id":"half')
        (folder / "index.sqlite").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        for _ in range(2):  # what cannot be set aside is reported again
            with Store(folder) as store:
                assert len(store.table()) == 2
                assert store.get(id).curves["x"].tolist() == [1.0]
                assert len(store.problems) == 1
                with pytest.raises(StoreError, match="the disk is read-only"):
                    store.put({"k": 3}, {})
                assert store.put({"k": 1}, {"loss": 1.0}, {"x": [1.0]}) == id  # is there already
                assert len(store) == 2
        with pytest.raises(StoreError, match="cannot be made a store: Read-only"):
            Store(mounted / "another")
        subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
        with Store(folder) as store:
            store.put({"k": 3}, {})
            assert len(whole(store)) == 3


def test_a_limit_on_the_size_of_files_at_every_byte(tmp_path):
    code = """
import os, resource, sys
from pathlib import Path
from leadline.sweeps.store import Store, StoreError

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with Store(sys.argv[1]) as store:
    ids = {store.put({"k": 0}, {"k": 0})}
    (path,) = Path(sys.argv[1]).glob("runs-*")
    size = path.stat().st_size
    refused = 0
    for room in range(0, size, 3):
        here = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (here + room, hard))
        try:
            store.put({"k": room}, {"room": room, "text": "x" * 50})
        except StoreError as e:
            refused += 1
            assert "ulimit -f" in str(e) and sys.argv[1] in str(e), e
        else:
            raise SystemExit(f"put returned with room for {room} of more than {size} bytes")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert path.stat().st_size == here
        assert set(store.ids()) == ids
        if room % 30 == 0:
            ids.add(store.put({"room": room}, {}))
    assert not store.problems
with Store(sys.argv[1]) as store:
    assert set(store.ids()) == ids and not store.problems
print(refused)
"""
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert int(done.stdout) > 60


def test_what_put_returned_is_on_disk(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(fd):
        real(fd)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        synced.append((path, path.stat().st_size if path.is_file() else 0))

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "a" / "store"
    with Store(folder) as store:
        assert {tmp_path, tmp_path / "a", folder} <= {path for path, _ in synced}
        for k in range(2):
            synced.clear()
            store.put({"k": k}, {}, {"x": [k]})
            line = lines_of(folder)
            # The names of the lines' file and of the curves' folder, once; then the curves before
            # their name, and both before the line that tells of them.
            paths = [path for path, _ in synced]
            assert paths[:-3] == [folder] * (0 if k else 2)
            assert paths[-3].parent == paths[-2] == folder / "curves"
            assert synced[-1] == (line, line.stat().st_size)
        synced.clear()
        store.put({"k": 0}, {}, {"x": [0]})  # there already, by another process for all we know
        assert lines_of(folder) in {path for path, _ in synced}


@pytest.mark.parametrize("failing", ["write", "fsync"])
@pytest.mark.parametrize("curable", [True, False])
def test_a_disk_that_fails(tmp_path, monkeypatch, failing, curable):
    ids = fill(tmp_path)
    real = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate")}

    def fail(fd, *data):
        if data and not isinstance(data[0], int):
            real["write"](fd, bytes(data[0])[: len(data[0]) // 2])
        raise OSError(errno.EIO, "Input/output error")

    with Store(tmp_path) as store:
        ids.append(store.put({"k": 3}, {}))
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, fail)
            if not curable:
                patch.setattr(os, "ftruncate", fail)
            with pytest.raises(StoreError, match="Input/output error: see to the disk"):
                store.put({"k": 4}, {"x": 1})
        there = set(ids)
        if failing == "fsync" and not curable:
            there.add(run_id({"k": 4}))  # written, though it may not last
        assert whole(store) == there
        ids.append(store.put({"k": 5}, {}))
        ids.append(store.put({"k": 4}, {"x": 1}))
        assert whole(store) == set(ids)
        torn = failing == "write" and not curable
        assert len(store.problems) == torn
    (tmp_path / "index.sqlite").unlink()
    with Store(tmp_path) as store:
        assert whole(store) == set(ids)
        assert len(store.damaged()) == torn
        assert not store.problems


def test_a_folder_without_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    fill(tmp_path)
    Path(tmp_path).chmod(0o555)
    with Store(tmp_path) as store, pytest.raises(StoreError, match="not permitted"):
        store.put({"new": 1}, {})
    Path(tmp_path).chmod(0o755)
