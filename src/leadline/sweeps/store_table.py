"""Records as flat rows, and what is written from them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leadline.errors import check_choice
from leadline.sweeps.store_record import Record
from leadline.sweeps.store_values import canonical, dumps, encode


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as ``outer.inner``; lists as tuples.

    >>> flatten({"a": 1, "b": {"c": [2, 3]}})
    {'a': 1, 'b.c': (2, 3)}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        inner = {name: _frozen(item)}
        if isinstance(item, dict) and item:
            inner = flatten(item, f"{name}.")
        for column, x in inner.items():
            flat[_unlike(column, flat, "'")] = x
    return flat


def _frozen(item: Any) -> Any:
    if isinstance(item, dict):
        return dumps(encode(item, "value"))
    return tuple(_frozen(x) for x in item) if isinstance(item, list) else item


def _unlike(name: str, taken: Any, tail: str = "", head: str = "") -> str:
    while name in taken:
        name = f"{head}{name}{tail}"
    return name


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row a record: ``id``, the specification, the result's scalars; the same columns in all.

    What is missing is None. A name that means two things is the specification's; the id's
    namesake is ``spec.id``, the specification's namesakes in results are ``result.name``.
    """
    specs = [flatten(r.spec) for r in records]
    results = [flatten(r.result) for r in records]
    scalars = [{k: v for k, v in row.items() if not isinstance(v, tuple)} for row in results]
    taken = {"id"}
    names = []
    for flats, head in ((specs, "spec."), (scalars, "result.")):
        name: dict[str, str] = {}
        for key in dict.fromkeys(k for flat in flats for k in flat):
            name[key] = _unlike(key, taken, head=head)
            taken.add(name[key])
        names.append(name)
    columns = ["id", *names[0].values(), *names[1].values()]
    table = []
    for record, spec, scalar in zip(records, specs, scalars, strict=True):
        row: dict[str, Any] = dict.fromkeys(columns)
        row["id"] = record.id
        row |= {names[0][k]: v for k, v in spec.items()}
        row |= {names[1][k]: v for k, v in scalar.items()}
        table.append(row)
    return table


def chosen(records: Sequence[Record], where: Mapping[str, Any] | None) -> list[Record]:
    """The records whose row has all these values; a function of the value may stand for it.

    Raises:
        ValueError: no record has such a column.
    """
    if not where or not records:
        return list(records)
    table = rows(records)
    for column in where:
        check_choice("where", column, table[0])
    tests = {k: v if callable(v) else _equals(v, k) for k, v in where.items()}
    return [
        record
        for record, row in zip(records, table, strict=True)
        if all(test(row[k]) for k, test in tests.items())
    ]


def _equals(wanted: Any, column: str) -> Any:
    text = canonical(wanted, f"where[{column!r}]")
    return lambda value: canonical(value) == text


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
    for record, row in zip(records, rows(records), strict=True):
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
