"""Values as JSON and back, exactly, the identity of a run's specification, and records as flat rows.

JSON has no NaN or infinity, and not every reader takes halves of a surrogate pair. So

    {"$float": "nan" | "inf" | "-inf"}      a float that is not finite
    {"$utf8": "<hex>"}                      a text with surrogates, in UTF-8 that lets them pass
    {"$items": [[key, value], ...]}         a dict with a key that has surrogates or begins with $

and no other dict has a key that begins with $. Everything else is plain JSON in ASCII.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_DEPTH = 60
_BITS = 13_000  # Python prints no integer of more than 4300 digits
_SURROGATES = re.compile("[\ud800-\udfff]")
_HINT = "give None, bool, int, float, str, and lists and dicts of these"


def encode(value: Any, name: str, depth: int = 0) -> Any:
    """``value`` as plain JSON; scalars of numpy and torch as Python's, tuples as lists.

    Raises:
        TypeError, ValueError: naming the place in ``value`` that cannot be stored.
    """
    if depth > _DEPTH:
        raise ValueError(f"{name} is nested more than {_DEPTH} deep: flatten it")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else {"$float": repr(number)}
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise ValueError(f"{name} is an integer of {value.bit_length()} bits: give it as text")
        return int(value)
    if isinstance(value, list | tuple):
        items = enumerate(value)
        return [v if _plain(v) else encode(v, f"{name}[{i}]", depth + 1) for i, v in items]
    if isinstance(value, Mapping):
        return _dict(value, name, depth)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        inner = value.item()
        if isinstance(inner, bool | int | float | str):
            return encode(inner, name, depth)
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    where = "arrays belong in curves; " if hasattr(value, "__array__") else ""
    raise TypeError(f"{name}={shown} of type {type(value).__name__} is not stored: {where}{_HINT}")


def _plain(value: Any) -> bool:
    """Whether the value is its own encoding, as nearly all are."""
    kind = type(value)
    if kind is str:
        return value.isascii()
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is bool or (kind is int and abs(value) < 2**63)


def _dict(value: Mapping[Any, Any], name: str, depth: int) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{name} has the key {key!r}: keys are text, give {str(key)!r}")
    pairs = {
        str.__str__(k): v if _plain(v) else encode(v, f"{name}[{str.__str__(k)!r}]", depth + 1)
        for k, v in value.items()
    }
    if any(k.startswith("$") or has_surrogates(k) for k in pairs):
        return {"$items": [[_text(k), v] for k, v in pairs.items()]}
    return pairs


def has_surrogates(text: str) -> bool:
    """Whether the text has no UTF-8."""
    return not text.isascii() and _SURROGATES.search(text) is not None


def _text(value: str) -> Any:
    if has_surrogates(value):
        return {"$utf8": value.encode("utf-8", "surrogatepass").hex()}
    return value


def decode(value: Any) -> Any:
    """The value of which ``encode`` made this.

    Raises:
        ValueError: it is not what ``encode`` gives.
    """
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    tag = next((k for k in value if k.startswith("$")), None)
    if tag is None:
        return {k: decode(v) if type(v) in (dict, list) else v for k, v in value.items()}
    inner = value[tag]
    if len(value) == 1 and tag == "$float" and inner in ("nan", "inf", "-inf"):
        return float(inner)
    if len(value) == 1 and tag == "$utf8" and isinstance(inner, str):
        return bytes.fromhex(inner).decode("utf-8", "surrogatepass")
    if len(value) == 1 and tag == "$items" and isinstance(inner, list):
        return {decode(k): decode(v) for k, v in inner}
    raise ValueError(f"{tag!r} is no tag with its value")


def dumps(encoded: Any) -> str:
    """Compact JSON in ASCII, on one line."""
    return json.dumps(encoded, separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Strict JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else str(text, "utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def canonical(value: Any, name: str = "value") -> str:
    """One text for equal values: keys sorted, 1.0 as 1, -0.0 as 0, float32 as the float it is."""
    return canonical_text(encode(value, name))


def canonical_text(encoded: Any) -> str:
    """``canonical`` of an encoded value."""
    return dumps(_canonical(encoded))


def _canonical(encoded: Any) -> Any:
    if isinstance(encoded, float) and encoded.is_integer():
        return int(encoded)
    if isinstance(encoded, list):
        return [_canonical(v) for v in encoded]
    if isinstance(encoded, dict):
        if "$items" in encoded:
            pairs = [[k, _canonical(v)] for k, v in encoded["$items"]]
            return {"$items": sorted(pairs, key=lambda pair: dumps(pair[0]))}
        return {k: _canonical(encoded[k]) for k in sorted(encoded)}
    return encoded


def encode_spec(spec: Mapping[str, Any]) -> Any:
    """A specification, encoded.

    Raises:
        TypeError, ValueError: it is none, or holds what cannot be stored.
    """
    if not isinstance(spec, Mapping):
        raise TypeError(f"spec={spec!r} is not a dict: give the run's arguments by name")
    return encode(spec, "spec")


def run_id(spec: Mapping[str, Any]) -> str:
    """The identity of a run: SHA-256 of its specification's canonical JSON, in hex.

    Neither the order of keys nor how a number is held matters (``1``, ``1.0``, ``numpy.int64(1)``);
    ``True`` is not ``1``, and a float32 is the float64 it is exactly.

    >>> run_id({"width": 64, "lr": 0.1}) == run_id({"lr": 0.1, "width": 64.0})
    True
    """
    return encoded_id(encode_spec(spec))


def encoded_id(encoded: Any) -> str:
    """``run_id`` of an encoded specification."""
    return hashlib.sha256(canonical_text(encoded).encode()).hexdigest()


_SCALARS = frozenset((int, float, bool, type(None)))


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as ``outer.inner``; lists as tuples.

    >>> flatten({"a": 1, "b": {"c": [2, 3]}})
    {'a': 1, 'b.c': (2, 3)}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = sys.intern(f"{prefix}{key}")  # thousands of rows have the same names
        if type(item) in _SCALARS and name not in flat:  # as nearly all are
            flat[name] = item
            continue
        nested = isinstance(item, dict) and item
        inner = flatten(item, f"{name}.") if nested else {name: _frozen(item)}
        for column, x in inner.items():
            flat[_unlike(column, flat, "'") if column in flat else column] = x
    return flat


def _frozen(item: Any) -> Any:
    if type(item) is str:
        return sys.intern(item)
    if isinstance(item, dict):
        return dumps(encode(item, "value")) if item else "{}"
    return tuple(_frozen(x) for x in item) if isinstance(item, list) else item


def _unlike(name: str, taken: Any, tail: str = "", head: str = "") -> str:
    while name in taken:
        name = f"{head}{name}{tail}"
    return name


@dataclass(frozen=True)
class Names:
    """The table's columns by key: of specifications, and of results' scalars."""

    spec: Mapping[str, str]
    result: Mapping[str, str]

    @classmethod
    def of(cls, specs: Iterable[Iterable[str]], results: Iterable[Iterable[str]]) -> Names:
        """A name that means two things is the specification's.

        The id's namesake is ``spec.id``, the specification's namesakes in results are ``result.name``.
        """
        taken = {"id"}
        parts = []
        for keys, head in ((specs, "spec."), (results, "result.")):
            parts.append(name := {})
            for key in dict.fromkeys(k for some in keys for k in some):
                name[key] = _unlike(key, taken, head=head)
                taken.add(name[key])
        return cls(*parts)


class Flat(NamedTuple):
    """A record's values by key, nested as ``a.b``: its specification, and its result's scalars."""

    id: str
    spec: dict[str, Any]
    result: dict[str, Any]

    @classmethod
    def of(cls, id: str, spec: Mapping[str, Any], result: Mapping[str, Any]) -> Flat:
        """Lists of results are no scalars."""
        scalars = {k: v for k, v in flatten(result).items() if not isinstance(v, tuple)}
        return cls(id, flatten(spec), scalars)


def rows(records: Sequence[Flat]) -> list[dict[str, Any]]:
    """One row a record: ``id``, the specification, the result's scalars; the same columns in all.

    What is missing is None.
    """
    names = Names.of((r.spec for r in records), (r.result for r in records))
    columns = dict.fromkeys(["id", *names.spec.values(), *names.result.values()])
    return [
        columns | {"id": r.id} | _renamed(r.spec, names.spec) | _renamed(r.result, names.result)
        for r in records
    ]


def _renamed(values: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[k]: v for k, v in values.items()}


def csv_text(table: Sequence[Mapping[str, Any]]) -> str:
    """RFC 4180 with a header; floats with all their digits, lists as JSON, None as nothing."""
    out = io.StringIO()
    writer = csv.writer(out)
    if table:
        writer.writerow(table[0])
        writer.writerows([_cell(x) for x in row.values()] for row in table)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return dumps(encode(value, "value"))
    return repr(value) if isinstance(value, float) else value
