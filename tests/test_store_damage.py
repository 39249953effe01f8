"""The store with damaged files."""

import hashlib
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.sweeps.store import Store, StoreError, run_id
from leadline.sweeps.store_lines import Entry, write_line
from leadline.sweeps.store_scan import DAMAGED
from leadline.sweeps.store_values import dumps
from store_samples import fill, lines_of, whole


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
