"""``where``: conditions on the table's columns, as SQL that no record which meets them gets past.

A record is JSON text, in which a number can be written in a few ways only. So SQLite looks for the text
of key and value, which is quick and may find a few records too many; those are read and tested.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.errors import check_choice
from leadline.sweeps.store_table import Flat, Names
from leadline.sweeps.store_values import canonical, dumps, encode, has_surrogates


@dataclass(frozen=True)
class AnyOf:
    """Values of which a column has one, for ``where``."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Condition:
    """One column's: where it is in a record, and the test of its value.

    Attributes:
        part: "id", "spec" or "result".
        key: its name there, nested as ``a.b``.
        test: of the value; None where a record has none.
        texts: how such values are written in JSON; None: in ways that are not listed.
    """

    part: str
    key: str
    test: Callable[[Any], bool]
    texts: tuple[str, ...] | None

    def holds(self, flat: Flat) -> bool:
        """Whether a record meets it."""
        return self.test(flat.id if self.part == "id" else getattr(flat, self.part).get(self.key))

    def sql(self) -> tuple[str, list[str]]:
        """A condition that every such record meets, with its parameters."""
        if self.texts is None:
            return "1", []
        last = json.dumps(self.key.rpartition(".")[2])[1:-1]
        parts, parameters = [], []
        # Most records have no text that begins like this: they are looked through once, not for each.
        for head in self.texts:
            if not any(head != text and head.startswith(text) for text in self.texts):
                whole = [t + end for t in self.texts if t.startswith(head) for end in ",}"]
                some = " OR ".join(["instr(record, ?)"] * len(whole))
                parts.append(f"(instr(record, ?) AND ({some}))")
                parameters += [f'{last}":{text}' for text in (head, *whole)]
        return f"({' OR '.join(parts)})", parameters


def conditions(where: Mapping[str, Any] | None, names: Names | None) -> list[Condition]:
    """What ``where`` asks for.

    Raises:
        ValueError: no record has such a column.
    """
    if names is None or not where:
        return []
    columns = {"id": ("id", "id")}
    tags = any("$" in key or has_surrogates(key) for key in (*names.spec, *names.result))
    for part, keys in (("spec", names.spec), ("result", names.result)):
        columns |= {column: (part, key) for key, column in keys.items()}
    out = []
    for column, wanted in where.items():
        check_choice("where", column, columns)
        if callable(wanted):
            out.append(Condition(*columns[column], wanted, None))
            continue
        values = wanted.values if isinstance(wanted, AnyOf) else (wanted,)
        label = f"where[{column!r}]"
        wanted_texts = frozenset(canonical(v, label) for v in values)
        ways = [_texts(encode(v, label)) for v in values]
        odd = tags or any(way is None for way in ways) or columns[column][1].endswith("'")
        texts = None if odd else tuple(dict.fromkeys(t for way in ways for t in way or ()))
        out.append(Condition(*columns[column], _is_one_of(wanted_texts), texts))
    return out


def _is_one_of(wanted: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: canonical(value) in wanted


def _texts(value: Any) -> list[str] | None:
    """The ways to write an encoded value in a record, or None where they are not to be listed.

    >>> _texts(64), _texts(0.1), _texts(0.0), _texts("mup")
    (['64', '64.0'], ['0.1'], ['0', '0.0', '-0.0'], ['"mup"'])
    """
    if value is None or isinstance(value, list) or (isinstance(value, str) and value[:1] == "{"):
        return None  # None is what is not there, too; an empty dict is a text in the table
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [dumps(value)]
    if isinstance(value, float) and not value.is_integer():
        return [dumps(value)]
    number = int(value)
    texts = [str(number)]
    with contextlib.suppress(OverflowError):
        texts += [dumps(float(number))] if float(number) == number else []
    return texts + ["-0.0"] * (number == 0)


def sql(wanted: Sequence[Condition]) -> tuple[str, list[str]]:
    """All of them."""
    parts = [c.sql() for c in wanted]
    return " AND ".join(text for text, _ in parts) or "1", [p for _, ps in parts for p in ps]
