"""The store on full, read-only and failing disks."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from disks import disk
from leadline.sweeps.store import Store, StoreError, run_id
from store_samples import fill, lines_of, whole


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
