"""Which list indices in parameter names count layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from leadline.tracing.graph import template


def _indices(name: str) -> list[str]:
    return [part for part in name.split(".") if part.isdigit()]


@dataclass(frozen=True)
class Naming:
    """Turns the indices that grow with depth into ``*``; others (stage 0, layer 1 of an MLP) stay.

    Attributes:
        free: for every name with all its indices replaced, which of them grow with depth.
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
        parts = ["*" if part.isdigit() and next(free, False) else part for part in name.split(".")]
        return ".".join(parts)

    def module(self, module: str, parameter: str) -> str:
        """The same for the module that begins a parameter's name."""
        return ".".join(self.template(parameter).split(".")[: len(module.split("."))])
