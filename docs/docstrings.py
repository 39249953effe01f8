"""Prepares docstrings for the site (an extension of griffe, for mkdocs.yml)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n\S.*)*", re.M)
_SECTION = r"^{}:\n(?: {{4}}.*(?:\n|\Z)|\n(?= {{4}}))+"
_ARGUMENTS = re.compile(_SECTION.format("Args"), re.M)
_ATTRIBUTES = re.compile(_SECTION.format("Attributes"), re.M)
# "x: one thing. y: another" is two entries on one line.
_NEXT = re.compile(r"(?<=[.;])(?: |\n {8})(\w+(?:, \w+)*): ")
# A description that begins with ">" would be a quotation.
_ABOVE = re.compile(r"^( {4}[\w,\N{NO-BREAK SPACE} ]+(?: \(.*\))?: )>", re.M)
_TOGETHER = re.compile(r"^ {4}(\w+(?:, \w+)+)(:.*(?:\n {8}.*)*)", re.M)


class Docstrings(griffe.Extension):
    """Examples become blocks of code, which in Markdown would be quotations.

    Of "x, y: ..." griffe takes x for a name and y for its type. A space that does not break avoids it.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of every docstring."""
        if obj.docstring:
            text = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
            for section in (_ARGUMENTS, _ATTRIBUTES):
                text = section.sub(lambda m: _entries(obj, m[0]), text)
            text = _ARGUMENTS.sub(lambda m: _TOGETHER.sub(_apart, m[0]), text)
            text = _ATTRIBUTES.sub(
                lambda m: _TOGETHER.sub(
                    lambda line: f"    {_joined(line)} ({_type(obj, line[1])}){line[2]}", m[0]
                ),
                text,
            )
            text = _TOGETHER.sub(lambda m: f"    {_joined(m)}{m[2]}", text)
            obj.docstring.value = _ABOVE.sub(r"\1\\>", text)


def _entries(obj: griffe.Object, section: str) -> str:
    """A line for each argument or attribute."""
    names = {p.name for p in getattr(obj, "parameters", ())} | set(getattr(obj, "all_members", ()))

    def line(m: re.Match[str]) -> str:
        return f"\n    {m[1]}: " if names.issuperset(m[1].split(", ")) else m[0]

    return _NEXT.sub(line, section)


def _apart(together: re.Match[str]) -> str:
    """Arguments that share a description, each with it: their types and defaults differ."""
    return "\n".join(f"    {name}{together[2]}" for name in together[1].split(", "))


def _joined(together: re.Match[str]) -> str:
    return together[1].replace(", ", ",\N{NO-BREAK SPACE}")


def _type(obj: griffe.Object, names: str) -> str:
    """The type of attributes that are described together; empty where they differ."""
    members = obj.all_members
    types = {str(getattr(members.get(name), "annotation", "")) for name in names.split(", ")}
    return types.pop() if len(types) == 1 else ""
