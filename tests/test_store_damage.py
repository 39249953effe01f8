"""The store with a damaged file: an answer is the undamaged one's, or there is none."""

import contextlib
import os
import random
import shutil
import sqlite3

import numpy as np
import pytest

from disks import disk, read_only
from leadline.store.rescue import rescue
from leadline.store.store import Store, StoreError
from store_samples import execute, file_of, fill, whole


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A store with curves, a rerun and two layouts; all that it answers."""
    folder = tmp_path_factory.mktemp("sample") / "s"
    with Store(folder) as store:
        for k in range(24):
            curves = {"loss": np.linspace(1, 1 / (k + 1), 40), "half": np.ones(3, np.float32)}
            store.put(
                {"width": 2**k, "lr": 0.1 * k}, {"loss": 1 / (k + 1), "text": "é" * k}, curves
            )
        store.put({"width": 1, "lr": 0.0}, {"loss": 7.0})
        store.put({"other": [1, {"a": None}]}, {"loss": float("nan")})
    return folder, answers(folder)


def answers(folder):
    """What a store says, of its numbers by the bit; for how long it was there does not count."""
    with Store(folder, create=False) as store:
        out = [repr(store.table()), repr(store.ids()), repr(store.table({"width": 8}))]
        for id in store.ids():
            for r in store.history(id):
                out += [repr((r.id, r.spec, r.result, r.time))]
                out += [f"{name} {x.dtype} {x.tobytes()}" for name, x in sorted(r.curves.items())]
    return out


def outcome(folder, data, right):
    file_of(folder).write_bytes(data)
    try:
        return "same" if answers(folder) == right else "silent"
    except StoreError as e:
        return "refused" if str(file_of(folder)) in str(e) else f"nameless: {e}"
    finally:
        for path in set(folder.iterdir()) - {file_of(folder)}:
            path.unlink()


def test_a_flipped_bit_changes_no_answer(sample, tmp_path):
    folder, right = sample
    good, draw, counts = file_of(folder).read_bytes(), random.Random(0), {"same": 0, "refused": 0}
    copy = tmp_path / "s"
    copy.mkdir()
    used = [i for i in range(len(good)) if good[i]]  # a page has zeros where nothing is
    for n in range(240):
        data = bytearray(good)
        at = [draw.randrange(100), draw.choice(used), draw.randrange(len(good))][n % 3]
        data[at] ^= 1 << draw.randrange(8)
        counts[outcome(copy, data, right)] += 1
    assert counts["refused"] > 100


def test_a_file_that_is_cut_off_or_has_more_is_refused(sample, tmp_path):
    folder, right = sample
    good, draw, copy = file_of(folder).read_bytes(), random.Random(1), tmp_path / "s"
    copy.mkdir()
    lengths = [0, 1, 99, 100, 512, 4095, 4096, len(good) - 4096, len(good) - 1]
    lengths += [draw.randrange(len(good)) for _ in range(30)]
    for data in [good[:n] for n in lengths] + [good + b"\0", good + bytes(4096), good + good]:
        assert outcome(copy, data, right) == "refused"
    assert outcome(copy, good, right) == "same"


def test_pages_of_another_place_are_refused(sample, tmp_path):
    folder, right = sample
    good, draw, copy = file_of(folder).read_bytes(), random.Random(2), tmp_path / "s"
    copy.mkdir()
    pages = [good[i : i + 4096] for i in range(0, len(good), 4096)]
    seen = set()
    for _ in range(60):
        here, there = draw.sample(range(len(pages)), 2)
        changed = list(pages)
        changed[here] = draw.choice([pages[there], bytes(4096), os.urandom(4096)])
        seen.add(outcome(copy, b"".join(changed), right))
    assert seen == {"refused"}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM runs WHERE seq = 2",
        "DELETE FROM runs WHERE seq = 3",
        "DELETE FROM runs",
        "UPDATE runs SET record = replace(record, '0.5', '0.6') WHERE seq = 2",
        "UPDATE runs SET record = (SELECT record FROM runs WHERE seq = 1) WHERE seq = 2",
        "UPDATE runs SET sha256 = x'00' WHERE seq = 2",
        "UPDATE runs SET record = NULL WHERE seq = 2",
        "UPDATE runs SET record = 5 WHERE seq = 2",
        "UPDATE runs SET seq = 9 WHERE seq = 3",
        "INSERT INTO runs SELECT 4, record, sha256 FROM runs WHERE seq = 1",
        "UPDATE counts SET runs = 2",
        "UPDATE counts SET layouts = 7",
        "DELETE FROM counts",
        "UPDATE layouts SET names = '[]'",
        "DELETE FROM layouts",
        "DROP TABLE curves",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 5",
    ],
)
def test_what_no_store_would_write_is_refused(tmp_path, change):
    fill(tmp_path)
    with Store(tmp_path) as store:
        before = store.table()
    lax = "UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'"
    execute(tmp_path, "PRAGMA writable_schema = ON", lax)
    execute(tmp_path, change)
    message = rf"{file_of(tmp_path)} is damaged.*leadline runs {tmp_path} --rescue NEW"
    if "curves" not in change:
        with pytest.raises(StoreError, match=message):
            Store(tmp_path)
        return
    with Store(tmp_path) as store:  # no run here has any
        assert store.table() == before
        with pytest.raises(StoreError, match=message):
            store.put({"k": "new"}, {}, {"x": [1]})
        assert store.table() == before


def test_a_record_in_anothers_place_is_refused(tmp_path):
    fill(tmp_path)
    other = "(SELECT record, sha256 FROM runs AS other WHERE other.seq = 2)"
    execute(tmp_path, f"UPDATE runs SET (record, sha256) = {other} WHERE seq = 1")
    with pytest.raises(StoreError, match="run 1 is another's"):
        Store(tmp_path)


def test_damage_while_a_store_is_open_is_refused(tmp_path):
    ids = fill(tmp_path)
    with Store(tmp_path) as store:
        execute(tmp_path, "UPDATE runs SET record = replace(record, '0.5', '0.6') WHERE seq = 2")
        for ask in (store.table, lambda: store.get(ids[1]), lambda: store.put({"k": 1}, {})):
            with pytest.raises(StoreError, match="run 2 does not have its checksum"):
                ask()
        execute(tmp_path, "DELETE FROM runs", "UPDATE counts SET runs = 0")
        with pytest.raises(StoreError, match="3 runs where 0 should be"):
            store.ids()


def test_a_later_version_is_refused(tmp_path):
    fill(tmp_path, 1)
    execute(
        tmp_path, "PRAGMA user_version = 7", *[f"DROP TABLE {t}" for t in ("counts", "layouts")]
    )
    before = file_of(tmp_path).read_bytes()
    with pytest.raises(StoreError, match=r"store format 7.*up to 2: upgrade leadline") as e:
        Store(tmp_path)
    assert str(tmp_path) in str(e.value)
    assert file_of(tmp_path).read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_curves_that_are_lost_leave_the_record(tmp_path, damage):
    spec, result, curves = {"k": 1}, {"loss": 1.0}, {"loss": np.arange(9.0)}
    with Store(tmp_path) as store:
        id = store.put(spec, result, curves)
        store.put({"k": 2}, {})
    change = {
        "missing": "DELETE FROM curves",
        "cut": "UPDATE curves SET data = substr(data, 1, length(data) - 1)",
        "flipped": "UPDATE curves SET data = substr(data, 1, 99) || x'7f' || substr(data, 101)",
    }
    execute(tmp_path, change[damage])
    with Store(tmp_path) as store:
        record = store.get(id)
        assert record.result == result
        word = "missing" if damage == "missing" else "damaged"
        message = rf"{file_of(tmp_path)}: the curves of run {id[:12]} are {word}.*put the run again"
        for _ in range(2):
            with pytest.raises(StoreError, match=message):
                record.curves["loss"]
        (said,) = store.check()
        assert str(file_of(tmp_path)) in said
        assert store.put(spec, result, curves) == id
        assert record.curves["loss"].tolist() == curves["loss"].tolist()
        assert store.check() == ()
        assert len(store.history(id)) == 1


# A write that was cut short


def cut_short(folder, copy):
    """A copy of the files in the middle of a write, as a kill leaves them."""
    db = sqlite3.connect(file_of(folder), isolation_level=None)
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE runs SET record = replace(record, '\"loss\":', '\"loss\":4')")
    db.execute("UPDATE counts SET runs = runs - 1")
    db.execute("DELETE FROM runs WHERE seq = 1")
    for k in range(20):
        db.execute("INSERT INTO curves VALUES (?, zeroblob(9000))", (1000 + k,))
    shutil.copytree(folder, copy)
    db.execute("ROLLBACK")
    db.close()
    assert file_of(copy).read_bytes() != file_of(folder).read_bytes()
    assert (copy / "runs.sqlite-journal").stat().st_size > 4096


def test_a_write_that_was_cut_short_is_undone(sample, tmp_path):
    folder, right = sample
    copy = tmp_path / "s"
    cut_short(folder, copy)
    assert answers(copy) == right
    assert [p.name for p in copy.iterdir()] == ["runs.sqlite"]


def test_its_damaged_journal_changes_no_answer(sample, tmp_path):
    folder, right = sample
    cut_short(folder, tmp_path / "cut")
    journal = "runs.sqlite-journal"
    good, draw = (tmp_path / "cut" / journal).read_bytes(), random.Random(3)
    counts = {"same": 0, "refused": 0}
    copy = tmp_path / "s"
    copy.mkdir()
    for n in range(60):
        data = bytearray(good)
        data[draw.randrange(512 if n % 2 else len(good))] ^= 1 << draw.randrange(8)
        (copy / journal).write_bytes(data if n % 3 else good[: draw.randrange(len(good))])
        counts[outcome(copy, file_of(tmp_path / "cut").read_bytes(), right)] += 1
    assert min(counts.values()) > 5


def test_on_a_read_only_disk_it_is_refused_and_a_copy_answers(sample, tmp_path):
    folder, right = sample
    with disk(tmp_path / "disk", "4m") as mounted:
        cut_short(folder, mounted / "s")
        read_only(mounted)
        with pytest.raises(StoreError, match="copy the folder to one"):
            Store(mounted / "s")
        shutil.copytree(mounted / "s", tmp_path / "copy")
    assert answers(tmp_path / "copy") == right


# What is whole in it


def test_rescue_copies_every_whole_run(sample, tmp_path):
    folder, _ = sample
    copy = tmp_path / "s"
    shutil.copytree(folder, copy)
    execute(
        copy,
        "UPDATE runs SET record = replace(record, 'width', 'wodth') WHERE seq IN (3, 5)",
        "DELETE FROM runs WHERE seq = 7",
        "DELETE FROM curves WHERE seq = 9",
        "DELETE FROM counts",
    )
    lost = rescue(copy, tmp_path / "new")
    assert len(lost) == 4
    assert all(f"run {k} is lost" in said for k, said in zip((3, 5, 7), lost, strict=False))
    assert "curves" in lost[3]
    with Store(folder) as before, Store(tmp_path / "new") as after:
        assert after.check() == ()
        gone = {before.ids()[k - 1] for k in (3, 5, 7)}
        assert set(after.ids()) == set(before.ids()) - gone
        assert [r.result["loss"] for r in after.history(before.ids()[0])] == [1, 7]
        for id in after.ids():
            old, new = before.get(id), after.get(id)
            assert repr((old.spec, old.result)) == repr((new.spec, new.result))
            if id != before.ids()[8]:
                assert {k: x.tobytes() for k, x in old.curves.items()} == {
                    k: x.tobytes() for k, x in new.curves.items()
                }
    with pytest.raises(StoreError, match="has runs already"):
        rescue(copy, tmp_path / "new")


def test_rescue_of_lost_pages(sample, tmp_path):
    """Whatever page is overwritten, what comes back is what was put."""
    folder, _ = sample
    good = file_of(folder).read_bytes()
    with Store(folder) as store:
        right = {r.id: [repr(h.result) for h in store.history(r.id)] for r in store.records()}
    kept = []
    for page in range(len(good) // 4096):
        copy = tmp_path / str(page)
        copy.mkdir()
        file_of(copy).write_bytes(
            good[: 4096 * page] + os.urandom(4096) + good[4096 * (page + 1) :]
        )
        with contextlib.suppress(StoreError):
            rescue(copy, copy / "new")
        if not (copy / "new").exists():
            continue
        with Store(copy / "new") as store:
            assert all(repr(r.result) in right[r.id] for r in store.records())
            kept.append(len(whole(store)))
    assert max(kept) == 25
    assert len(kept) > len(good) // 4096 / 2


def test_what_cannot_be_read_at_all_cannot_be_rescued(tmp_path):
    (tmp_path / "s").mkdir()
    file_of(tmp_path / "s").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="no run can be rescued"):
        rescue(tmp_path / "s", tmp_path / "new")
    with pytest.raises(StoreError, match=r"nowhere.* is no store"):
        rescue(tmp_path / "nowhere", tmp_path / "other")
