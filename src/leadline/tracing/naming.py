"""Which numbers in parameter names count layers: list indices, and those of names like layer_3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from leadline.tracing.graph import template


def _indices(name: str) -> list[str]:
    return re.findall(r"\d+", name)


@dataclass(frozen=True)
class Naming:
    """Turns the indices that grow with depth into ``*``; others (stage 0, fc1) stay.

    Attributes:
        free: for every name with all its numbers replaced, which of them grow with depth.
    """

    free: Mapping[str, tuple[bool, ...]]

    @classmethod
    def of(cls, base: Iterable[str], deep: Iterable[str]) -> Naming:
        """Compare the names at two depths."""
        seen: tuple[dict[str, list[set[str]]], ...] = ({}, {})
        for names, out in zip((base, deep), seen, strict=True):
            for name in names:
                at = _indices(name)
                sets = out.setdefault(template(name), [set() for _ in at])
                for s, index in zip(sets, at, strict=True):
                    s.add(index)
        free = {}
        for pattern, sets in seen[1].items():
            before = seen[0].get(pattern, [set() for _ in sets])
            free[pattern] = tuple(bool(s - b) for s, b in zip(sets, before, strict=True))
        return cls(free)

    def template(self, name: str) -> str:
        """The name that all repetitions over depth share."""
        free = iter(self.free.get(template(name), ()))
        return re.sub(r"\d+", lambda number: "*" if next(free, False) else number.group(), name)

    def module(self, module: str, parameter: str) -> str:
        """The same for the module that begins a parameter's name."""
        return ".".join(self.template(parameter).split(".")[: len(module.split("."))])
