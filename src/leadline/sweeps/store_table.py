"""Records as flat rows, and what is written from them."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from leadline.sweeps.store_values import canonical, dumps, encode

if TYPE_CHECKING:
    from leadline.sweeps.store_record import Record


_PLAIN = frozenset((int, float, bool, type(None)))


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as ``outer.inner``; lists as tuples.

    >>> flatten({"a": 1, "b": {"c": [2, 3]}})
    {'a': 1, 'b.c': (2, 3)}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = sys.intern(f"{prefix}{key}")  # thousands of rows have the same names
        if type(item) in _PLAIN and name not in flat:  # as nearly all are
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


def export_tensorboard(records: Sequence[Record], folder: Path) -> None:
    """One TensorBoard run a record: curves by step, scalars of the result, the specification."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError(
            "export_tensorboard needs tensorboard: pip install 'leadline[tensorboard]'"
        ) from None
    table = rows([Flat.of(r.id, r.spec, r.result) for r in records])
    for record, row in zip(records, table, strict=True):
        with SummaryWriter(str(folder / record.id[:16])) as writer:
            writer.add_text("spec", f"```\n{canonical(record.spec)}\n```")
            for name, x in row.items():
                number = isinstance(x, int | float) and not isinstance(x, bool)
                if number and name not in record.spec and math.isfinite(x):
                    writer.add_scalar(f"result/{name}", x)
            for name in record.curves:
                curve = record.curves[name]
                if curve.ndim == 1 and curve.dtype.kind in "biuf":
                    for step, x in enumerate(curve.tolist()):
                        writer.add_scalar(f"curves/{name}", x, step)
