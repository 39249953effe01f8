"""The store in order: what goes in comes out, once, however it is asked for."""

import enum
import hashlib
import math
import os

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from leadline.store.store import AnyOf, Store, StoreError, run_id
from leadline.store.values import canonical, decode, dumps, encode, loads

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
    with Store(folder) as store:
        assert store.ids() == list(want)
        assert [r.id for r in store.records()] == list(want)
        for id, (spec, result) in want.items():
            record = store.get(id)
            assert equal(record.spec) == equal(spec)
            assert exact(record.result) == exact(result)
        assert len({row["id"] for row in store.table()}) == len(want)
        assert store.check() == ()


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
    assert [p.name for p in tmp_path.iterdir()] == ["runs.sqlite"]


def test_the_same_again_adds_nothing_and_another_result_counts(tmp_path):
    spec, curves = {"lr": 1.0}, {"loss": [2.0, 1.0]}
    with Store(tmp_path) as store:
        id = store.put(spec, {"loss": 1.0}, curves)
        before = (tmp_path / "runs.sqlite").read_bytes()
        assert store.put({"lr": 1}, {"loss": 1}, curves) == id
        assert store.put_many([(spec, {"loss": 1.0}, curves)] * 2) == [id, id]
        assert (tmp_path / "runs.sqlite").read_bytes() == before
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
        assert store.known([id, "0" * 64, "é"]) == [store.get(id)]
        for wrong in ("0" * 64, id[:4], "", "no such id"):
            with pytest.raises(KeyError, match="not in the store"):
                store.get(wrong)
    with pytest.raises(StoreError, match="closed"):
        store.ids()
    with pytest.raises(StoreError, match="closed"):
        store.put({}, {})


def test_merging_two_stores(tmp_path):
    for name in ("one", "two"):
        with Store(tmp_path / name) as store:
            store.put({"from": name}, {}, {"x": np.array([len(name)])})
            store.put({"in": "both"}, {})
    with Store(tmp_path / "one") as one, Store(tmp_path / "two") as two:
        one.put_many((r.spec, r.result, r.curves) for r in two.records())
        assert [list(r.spec.values()) for r in one.records()] == [["one"], ["both"], ["two"]]
        assert len(one.history(run_id({"in": "both"}))) == 1
        assert one.records({"from": "two"})[0].curves["x"].tolist() == [3]
        assert one.check() == ()


def test_several_are_there_or_none(tmp_path):
    with Store(tmp_path) as store:
        good = [({"k": k}, {"k": k}, {"x": [k]}) for k in range(5)]
        with pytest.raises(TypeError, match=r"result\['x'\]"):
            store.put_many([*good, ({"k": 9}, {"x": object()}, None)])
        assert len(store) == 0
        assert store.put_many([]) == []
        ids = store.put_many(iter([*good, ({"k": 0}, {"k": "again"}, None)]))
        assert ids == [*store.ids(), ids[0]]
        assert [r.result["k"] for r in store.history(ids[0])] == [0, "again"]


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("store.json", '{"leadline_store": 1}\n'),
        ("runs-host-0.jsonl", '{"leadline_run":1,"id":"5e","rerun":0}\n'),
    ],
)
def test_a_store_of_lines_is_refused(tmp_path, name, text):
    """An earlier version's: it is not taken for an empty folder."""
    (tmp_path / name).write_text(text)
    with pytest.raises(
        StoreError, match=r"is a store of an earlier leadline.*give a new folder"
    ) as e:
        Store(tmp_path)
    assert repr(str(tmp_path)) in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_opening_changes_nothing(tmp_path):
    with Store(tmp_path) as store:
        store.put({"k": 0}, {})
    path = tmp_path / "runs.sqlite"
    before = path.read_bytes(), path.stat().st_mtime_ns
    with Store(tmp_path) as store:
        assert len(store) == 1
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_moved_and_names_that_urls_and_shells_dislike(tmp_path):
    odd = tmp_path / os.fsdecode(b"a b%20?mode=ro#\xff'\n")
    with Store(tmp_path / "here") as store:
        id = store.put({"k": 0}, {}, {"x": [1.0]})
    (tmp_path / "here").rename(odd)
    with Store(odd) as store:
        assert store.get(id).curves["x"].tolist() == [1]
        store.put({"k": 1}, {})
    assert sorted(os.listdir(odd)) == ["runs.sqlite"]


# Conditions

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 64, 0.0, -0.0, 1.0, 64.0, 0.1, 1e22, 10**22, 2**63, 1e300, 10**300]),
    st.sampled_from(["", "a", "é", "1", "{}", "\ud800", 'q"', math.nan, math.inf, [1, 2.0], {}]),
)
NAMES = st.sampled_from(["a", "b", "a.b", "id", "seed", "$x", "\ud800", 'q"é', "'"])
SMALL = st.dictionaries(
    NAMES, st.one_of(LEAVES, st.dictionaries(NAMES, LEAVES, max_size=2)), max_size=3
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SMALL, SMALL), max_size=5), st.data())
def test_where_is_the_tables_rows_with_equal_values(tmp_path_factory, puts, data):
    """SQL leaves out no record: what comes back is what a look at every row finds."""
    with Store(tmp_path_factory.mktemp("store")) as store:
        store.put_many((spec, result, None) for spec, result in puts)
        assume(all(len(store.history(i)) == 1 for i in store.ids()))
        table = store.table()
        columns = st.sampled_from(sorted(table[0])) if table else st.just("a")
        value = st.one_of(
            LEAVES, st.sampled_from([v for row in table for v in row.values()] or [0])
        )
        where = data.draw(st.dictionaries(columns, value, min_size=1, max_size=2))
        several = data.draw(st.booleans())
        asked = {k: AnyOf((v, "other")) if several else v for k, v in where.items()}

        def meets(row):
            return all(
                canonical(row[k]) in [canonical(v), canonical("other")][: 1 + several]
                for k, v in where.items()
            )

        assert [r.id for r in store.records(asked)] == [r["id"] for r in table if meets(r)]
        assert [r["id"] for r in store.table(asked)] == [r["id"] for r in table if meets(r)]
