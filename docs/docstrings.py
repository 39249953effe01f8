"""Prepares docstrings for the site (an extension of griffe, for mkdocs.yml)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n\S.*)*", re.M)
_TOGETHER = re.compile(r"^ {4}\w+(?:, \w+)+(?=:)", re.M)


class Docstrings(griffe.Extension):
    """Examples become blocks of code, which in Markdown would be quotations."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of every docstring."""
        if obj.docstring:
            text = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
            # Of "x, y: ..." griffe takes x for a name and y for its type.
            obj.docstring.value = _TOGETHER.sub(
                lambda m: m[0].replace(", ", ",\N{NO-BREAK SPACE}"), text
            )
