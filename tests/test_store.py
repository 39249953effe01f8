"""The store in order: what goes in comes out, once, however it is asked for."""

import csv
import enum
import hashlib
import json
import math
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.sweeps.store import Store, StoreError, run_id
from leadline.sweeps.store_lines import Entry, read_line, write_line
from leadline.sweeps.store_values import decode, dumps, encode, loads

TEXT = st.text(st.characters(), max_size=8)  # every code point, surrogates too
KEYS = st.one_of(TEXT, st.sampled_from(["$float", "$items", "$utf8", "a.b", "\ud800\udc00", "a\n"]))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from(["\ud800\udc00"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
DICTS = st.dictionaries(KEYS, VALUES, max_size=4)


def exact(value):
    """A value with its types, comparable: NaN is itself, -0.0 is not 0.0, 1 is not 1.0."""
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [exact(v) for v in value]
    return (type(value).__name__, repr(value))


def equal(value):
    """What decides whether two specifications are one: 1 is 1.0, True is not 1."""
    if isinstance(value, dict):
        return {k: equal(v) for k, v in value.items()}
    if isinstance(value, list):
        return [equal(v) for v in value]
    if isinstance(value, float) and math.isnan(value):
        return "NaN!"
    return (isinstance(value, bool), value)


def shuffled(value):
    if isinstance(value, dict):
        return {k: shuffled(value[k]) for k in reversed(list(value))}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


# Values


@given(DICTS)
def test_values_come_back_exactly(value):
    text = dumps(encode(value, "value"))
    assert text.isascii()
    assert "\n" not in text
    text.encode("ascii").decode("utf-8")
    assert exact(decode(loads(text))) == exact(value)


@given(DICTS, DICTS)
def test_an_id_is_the_specification(one, other):
    assert run_id(one) == run_id(shuffled(one))
    assert (run_id(one) == run_id(other)) == (equal(one) == equal(other))
    assert run_id(decode(loads(dumps(encode(one, "spec"))))) == run_id(one)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_an_id_does_not_see_how_a_number_is_held(x):
    assert run_id({"x": x}) == run_id({"x": np.float64(x)}) == run_id({"x": np.array(x)})
    if x.is_integer():
        assert run_id({"x": x}) == run_id({"x": int(x)})


def test_ids_stay_what_they_are():
    spec = {"width": 64, "lr": 0.1, "name": "é", "on": True, "inner": {"b": None, "a": [1, 2.5]}}
    text = '{"inner":{"a":[1,2.5],"b":null},"lr":0.1,"name":"\\u00e9","on":true,"width":64}'
    assert run_id(spec) == hashlib.sha256(text.encode()).hexdigest()
    assert run_id({"on": True}) != run_id({"on": 1})
    assert run_id({"x": np.float32(0.1)}) == run_id({"x": float(np.float32(0.1))})


@given(DICTS, DICTS, st.integers(0, 2**40), st.floats(0, 1e12), st.integers(0))
def test_lines_come_back_exactly_and_a_changed_byte_is_seen(spec, result, rerun, time, at):
    texts = dumps(encode(spec, "spec")), dumps(encode(result, "result"))
    entry = Entry(run_id(spec), rerun, time, *texts, None)
    line = write_line(entry)
    assert line.endswith(b"\n")
    assert read_line(line[:-1]) == entry
    json.loads(line)
    at %= len(line) - 1
    with pytest.raises(ValueError, match=r"record|checksum|cut off"):
        read_line(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 : -1])


class Scheme(enum.StrEnum):
    MUP = "mup"


def test_scalars_of_numpy_and_torch(tmp_path):
    import torch

    result = {
        "a": np.float32(0.1),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": torch.tensor(0.25),
        "e": np.array(2),
        "f": Scheme.MUP,
        "g": (1, 2),
        "h": np.str_("text"),
        "i": [math.nan, -math.inf, -0.0, 5e-324, 10**400],
    }
    with Store(tmp_path) as store:
        got = store.get(store.put({"x": 1}, result)).result
    want = {"a": float(np.float32(0.1)), "b": 3, "c": True, "d": 0.25, "e": 2, "f": "mup"}
    want |= {"g": [1, 2], "h": "text", "i": [math.nan, -math.inf, -0.0, 5e-324, 10**400]}
    assert exact(got) == exact(want)


@pytest.mark.parametrize(
    ("spec", "result", "curves", "match"),
    [
        ({"x": object()}, {}, None, r"spec\['x'\]=<object.* of type object"),
        ({"x": {"y": [1, {2}]}}, {}, None, r"spec\['x'\]\['y'\]\[1\]=\{2\}"),
        ({1: 2}, {}, None, "key 1: keys are text, give '1'"),
        ([1], {}, None, "spec=.* not a dict"),
        ({}, [1], None, "result=.* not a dict"),
        ({}, {"x": np.arange(3)}, None, r"result\['x'\].*arrays belong in curves"),
        ({}, {"x": 1j}, None, "complex"),
        ({}, {"x": 1 << 20000}, None, "bits"),
        ({}, {}, {"x": np.array(["a"])}, r"curves\['x'\] has dtype"),
        ({}, {}, {"x": np.zeros(2, complex)}, "complex128"),
        ({}, {}, {"__metadata__": np.zeros(2)}, "__metadata__"),
        ({}, {}, {3: np.zeros(2)}, "key 3"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, spec, result, curves, match):
    with Store(tmp_path) as store:
        with pytest.raises((TypeError, ValueError), match=match):
            store.put(spec, result, curves)
        assert store.ids() == []
    nested = []
    nested.append(nested)
    with pytest.raises(ValueError, match="deep"):
        run_id({"x": nested})


# The store


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(DICTS, DICTS), max_size=6))
def test_a_store_is_a_dict_on_disk(tmp_path_factory, puts):
    folder, want = tmp_path_factory.mktemp("store"), {}
    for spec, result in puts:
        with Store(folder) as store:
            want[store.put(spec, result)] = (spec, result)
            assert store.ids() == list(want)
    for damage in (None, b"", b"garbage"):
        if damage is not None:
            (folder / "index.sqlite").write_bytes(damage)
        with Store(folder) as store:
            assert store.ids() == list(want)
            assert [r.id for r in store.records()] == list(want)
            for id, (spec, result) in want.items():
                record = store.get(id)
                assert equal(record.spec) == equal(spec)
                assert exact(record.result) == exact(result)
            assert len({row["id"] for row in store.table()}) == len(want)
            assert not store.problems


def test_curves_come_back_exactly_and_lazily(tmp_path):
    curves = {
        "loss": np.array([1.0, np.nan, -0.0, np.inf]),
        "weird\n \u2028€ name": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "": np.zeros((0, 2), np.float32),
        "scalar": np.array(3.0),
        "big": np.arange(3, dtype=">i4"),
        "flags": np.array([True, False]),
    }
    with Store(tmp_path) as store:
        id = store.put({"a": 1}, {}, curves)
        record = store.get(id)
    assert set(record.curves) == set(curves)
    for name, x in curves.items():
        assert record.curves[name].shape == x.shape
        assert record.curves[name].dtype == x.dtype.newbyteorder("=")
        np.testing.assert_array_equal(record.curves[name], x)
    assert math.copysign(1, record.curves["loss"][2]) == -1
    with pytest.raises(KeyError, match="no curve"):
        record.curves["nothing"]
    assert len(list((tmp_path / "curves").iterdir())) == 1


def test_the_same_again_adds_nothing_and_another_result_counts(tmp_path):
    spec, curves = {"lr": 1.0}, {"loss": [2.0, 1.0]}
    with Store(tmp_path) as store:
        id = store.put(spec, {"loss": 1.0}, curves)
        size = (tmp_path / store._writer.name).stat().st_size
        assert store.put({"lr": 1}, {"loss": 1}, curves) == id
        assert (tmp_path / store._writer.name).stat().st_size == size
        store.put(spec, {"loss": 0.5}, {"loss": [2.0, 0.5]})
        store.put(spec, {"loss": math.nan}, {"loss": [2.0, 0.5]})
        assert store.ids() == [id]
        assert len(store.table()) == 1
        assert math.isnan(store.get(id).result["loss"])
        history = store.history(id)
    assert [h.result["loss"] for h in history[:2]] == [1.0, 0.5]
    assert [h.curves["loss"].tolist() for h in history] == [[2, 1], [2, 0.5], [2, 0.5]]


def test_reruns_are_ordered_without_clocks(tmp_path, monkeypatch):
    with Store(tmp_path) as one, Store(tmp_path) as other:
        for k, (store, clock) in enumerate([(one, 300.0), (other, 200.0), (one, 100.0)]):
            monkeypatch.setattr("time.time", lambda clock=clock: clock)
            store.put({"a": 1}, {"k": k})
        assert one.records()[0].result == other.records()[0].result == {"k": 2}
    (tmp_path / "index.sqlite").unlink()
    with Store(tmp_path) as store:
        assert store.records()[0].result == {"k": 2}


def test_has_get_missing(tmp_path):
    specs = [{"k": k} for k in (3, 1, 2, 3.0)]
    with Store(tmp_path) as store:
        assert store.missing(specs) == specs[:3]
        id = store.put(specs[1], {})
        assert store.missing(iter(specs)) == [specs[0], specs[2]]
        assert store.has(id)
        assert not store.has("0" * 64)
        assert store.get(id[:10]) == store.get(id)
        for wrong in ("0" * 64, id[:4], "", "no such id"):
            with pytest.raises(KeyError, match="not in the store"):
                store.get(wrong)
    with pytest.raises(StoreError, match="closed"):
        store.ids()
    with pytest.raises(StoreError, match="closed"):
        store.put({}, {})


@pytest.fixture
def filled(tmp_path):
    with Store(tmp_path / "store") as store:
        for k in range(3):
            store.put(
                {"width": 64 * 2**k, "opt": {"name": "adam", "lr": 0.1}, "id": k, "seed": 0},
                {"loss": 1 / 3**k, "seed": 7, "shape": [1, 2], "time": {"s": k}, "text": 'a,"\n='},
                {"loss": np.linspace(1, 0.5, 4)},
            )
        store.put({"width": 8, "grid": [1, [2]]}, {"loss": math.inf})
        yield store


def test_table_and_where(filled):
    table = filled.table()
    columns = "id width opt.name opt.lr spec.id seed grid loss result.seed time.s text".split()
    assert all(list(row) == columns for row in table)
    assert table[3]["grid"] == (1, (2,))
    assert table[3]["seed"] is None
    assert [r.spec["width"] for r in filled.records({"width": 64.0})] == [64]
    assert [r.spec["width"] for r in filled.records({"loss": lambda x: x < 0.2})] == [256]
    assert len(filled.records({"opt.lr": 0.1, "result.seed": 7})) == 3
    assert len(filled.records({"loss": math.inf})) == 1
    assert filled.records({"width": 5}) == []
    with pytest.raises(ValueError, match="where='widht' is unknown: did you mean 'width'"):
        filled.records({"widht": 5})


def test_csv_and_pandas(filled, tmp_path):
    path = filled.to_csv(tmp_path / "runs.csv")
    with open(path, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in read] == [1.0, 1 / 3, 1 / 9, math.inf]
    assert read[0]["text"] == 'a,"\n='
    assert read[3]["grid"] == "[1,[2]]"
    frame = filled.to_pandas()
    assert list(frame.columns) == list(filled.table()[0])
    assert frame.loc[frame.width == 128, "loss"].item() == 1 / 3


def test_pandas_is_optional(filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"leadline\[pandas\]"):
        filled.to_pandas()


def test_tensorboard_is_optional(filled, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"leadline\[tensorboard\]"):
        filled.export_tensorboard(tmp_path / "board")


def test_tensorboard(filled, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    out = filled.export_tensorboard(tmp_path / "board")
    assert len(list(out.glob("*/events*"))) == 4


def test_others_can_read_the_files(filled):
    pandas = pytest.importorskip("pandas")
    filled.close()
    lines = next(filled.path.glob("runs-*.jsonl"))
    frame = pandas.read_json(lines, lines=True)
    assert frame.spec[1]["width"] == 128
    query = "SELECT json_extract(spec, '$.width') FROM runs WHERE nth = 1 ORDER BY first"
    db = sqlite3.connect(filled.path / "index.sqlite")
    assert [row[0] for row in db.execute(query)] == [64, 128, 256, 8]
    db.close()


def test_merging_two_stores_is_copying_their_files(tmp_path):
    for name in ("one", "two"):
        with Store(tmp_path / name) as store:
            store.put({"from": name}, {}, {"x": np.zeros(2)})
    lines = next((tmp_path / "two").glob("runs-*.jsonl"))
    (tmp_path / "one" / "runs-other-0.jsonl").write_bytes(lines.read_bytes())
    for curves in (tmp_path / "two" / "curves").iterdir():
        (tmp_path / "one" / "curves" / curves.name).write_bytes(curves.read_bytes())
    with Store(tmp_path / "one") as store:
        assert [r.spec["from"] for r in store.records()] == ["one", "two"]
        assert not store.problems


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"not a store \(it holds 'notes.txt'\)"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="is a file"):
        Store(tmp_path / "notes.txt")
    with pytest.raises(StoreError, match="no store"):
        Store(tmp_path / "missing", create=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"]
    (tmp_path / "runs-mine.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path)


def test_a_store_that_many_open_is_cheap_to_open(tmp_path):
    with Store(tmp_path) as store:
        store.put({"k": 0}, {})
    stamp = (tmp_path / "index.sqlite").stat().st_mtime_ns
    with Store(tmp_path) as store:
        assert len(store) == 1
    assert (tmp_path / "index.sqlite").stat().st_mtime_ns == stamp


# The command


def cli(*arguments):
    from click.testing import CliRunner

    from leadline.cli.program import main

    return CliRunner().invoke(main, ["runs", *map(str, arguments)])


def test_command(filled, tmp_path):
    done = cli(filled.path)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("4 runs\n")
    assert 'a,"\\n=' in done.stdout
    done = cli(filled.path, "--where", "opt.name=adam", "--where", "width=128")
    assert done.stdout.startswith("1 of 4 runs\n")
    done = cli(filled.path, "--where", "opt.name=adam", "--columns", "width,loss", "--json")
    want = [{"width": 64 * 2**k, "loss": 1 / 3**k} for k in range(3)]
    assert json.loads(done.stdout) == want
    assert json.loads(cli(filled.path, "--json").stdout)[3]["loss"] == "inf"
    assert "same" not in cli(filled.path, "--where", "width=9").stdout
    done = cli(filled.path, "--csv", tmp_path / "out.csv", "--columns", "loss")
    assert (tmp_path / "out.csv").read_text().split() == [
        "loss",
        "1.0",
        *map(str, (1 / 3, 1 / 9, "inf")),
    ]
    for wrong, match in [
        (["--where", "width"], "KEY=VALUE"),
        (["--where", "widht=1"], "did you mean 'width'"),
        (["--columns", "lss"], "did you mean 'loss'"),
    ]:
        done = cli(filled.path, *wrong)
        assert done.exit_code == 2
        assert match in done.stderr
    done = cli(tmp_path / "nothing")
    assert done.exit_code == 2
    assert "no store" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_command_reports_problems_and_rebuilds(filled):
    curves = sorted((filled.path / "curves").iterdir())
    curves[0].unlink()
    curves[1].write_bytes(curves[1].read_bytes()[:-1] + b"\x7f")
    done = cli(filled.path)
    assert done.exit_code == 0
    assert done.stderr.count("Warning") == 1
    assert "missing" in done.stderr
    assert cli(filled.path, "--rebuild").stderr.count("Warning") == 2


def test_command_in_a_process(filled):
    done = subprocess.run(
        [sys.executable, "-m", "leadline", "runs", filled.path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
