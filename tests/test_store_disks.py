"""The store on full, read-only and failing disks."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from disks import disk, read_only
from leadline.store.store import Store, StoreError
from store_samples import fill, whole


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
            assert f"the {len(ids)} records before are safe" in str(error.value)
            assert len(ids) > 5
            for again in range(3):
                with pytest.raises(StoreError, match="is not in the store"):
                    store.put({"k": len(ids), "again": again}, {"text": "x" * 20_000}, curves)
                assert whole(store) == set(ids)
        with Store(folder) as store:
            assert whole(store) == set(ids)
            assert store.check() == ()
            ballast.unlink()
            put(len(ids))
        with Store(folder) as store:
            assert whole(store) == set(ids)
            assert store.check() == ()
            assert all(r.result["k"] == r.spec["k"] for r in store.records())
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(2**20))
        with pytest.raises(StoreError, match="cannot be made a store: No space"):
            Store(mounted / "another")
        assert not list(mounted.glob("another/.*"))
        ballast.unlink()
        Store(mounted / "another").close()


def test_several_that_do_not_fit_are_not_there(tmp_path):
    with disk(tmp_path / "disk", "1m") as mounted, Store(mounted / "store") as store:
        id = store.put({"k": 0}, {})
        many = [({"k": k}, {"text": "x" * 30_000}, None) for k in range(1, 50)]
        with pytest.raises(StoreError, match="49 runs are not in the store, the 1 records before"):
            store.put_many(many)
        assert whole(store) == {id}
        assert len(store.put_many(many[:9])) == 9
        assert len(whole(store)) == 10
        assert store.check() == ()


def test_a_read_only_disk(tmp_path):
    with disk(tmp_path / "disk", "1m") as mounted:
        folder = mounted / "store"
        with Store(folder) as store:
            id = store.put({"k": 1}, {"loss": 1.0}, {"x": [1.0]})
            store.put({"k": 2}, {"loss": 2.0})
        read_only(mounted)
        for _ in range(2):
            with Store(folder) as store:
                assert len(store.table()) == 2
                assert store.get(id).curves["x"].tolist() == [1.0]
                assert store.check() == ()
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


def test_a_limit_on_the_size_of_files(tmp_path):
    """Wherever within a write the disk refuses, nothing of that put is left."""
    code = """
import os, resource, sys
from pathlib import Path
from leadline.store.store import Store, StoreError

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
path = Path(sys.argv[1]) / "runs.sqlite"
with Store(sys.argv[1]) as store:
    ids = {store.put({"k": 0}, {"k": 0})}
    refused = 0
    for room in [*range(0, 4200, 60), *range(4200, 60_000, 4500)]:
        here = os.stat(path).st_size
        for limit in (here + room, room):  # of the file, and of its journal
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                store.put({"k": room, "limit": limit}, {"text": "x" * 60_000})
            except StoreError as e:
                refused += 1
                assert "ulimit -f" in str(e) and sys.argv[1] in str(e), e
            else:
                raise SystemExit(f"put returned with room for {room} bytes")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert os.stat(path).st_size == here
            assert set(store.ids()) == ids
        if room % 300 == 0:
            ids.add(store.put({"room": room}, {}))
    assert store.check() == ()
with Store(sys.argv[1]) as store:
    assert set(store.ids()) == ids and store.check() == ()
print(refused)
"""
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert int(done.stdout) > 100


def test_what_put_returned_is_on_disk(tmp_path, monkeypatch):
    """The folders' names by our fsyncs, the rest by SQLite's strictest setting."""
    synced, real = set(), os.fsync

    def fsync(fd):
        real(fd)
        synced.add(Path(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "a" / "store"
    with Store(folder) as store:
        assert {tmp_path, tmp_path / "a", folder} <= synced
        for _ in range(2):
            with store._file.writing() as db:
                assert db.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
                assert db.execute("PRAGMA journal_mode").fetchone() == (b"delete",)
            store._file.close()  # as a forked child does


def test_a_folder_without_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    fill(tmp_path)
    Path(tmp_path).chmod(0o555)
    with Store(tmp_path) as store, pytest.raises(StoreError, match="not permitted"):
        store.put({"new": 1}, {})
    Path(tmp_path).chmod(0o755)
