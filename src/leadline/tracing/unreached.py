"""What the inputs do not reach stands where that stands which is called almost alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

from leadline.parametrization.rules import Power
from leadline.tracing.graph import template
from leadline.tracing.kinds import Kind, Naming, layer_of


def models_of(
    name: str, rows: Mapping[str, Kind], used: Iterable[str], naming: Naming
) -> list[str]:
    """Parameters that take part, and that one which does not is like: those that differ in nothing but
    numbers of the name (an expert that rows are sent to) or, where there is none, in one part of the name
    in the same layer, the most similar (experts of pictures beside those of words, attention to an encoder
    beside that to oneself). A bias is beside its weight. Empty where there is none, or where they
    stand at different places."""
    k = rows[name]
    holder, _, what = name.rpartition(".")
    if what == "bias" and f"{holder}.weight" in used and f"{holder}.weight" in rows:
        return [f"{holder}.weight"]
    known = [n for n in used if n in rows and (rows[n].role == "frozen") == (k.role == "frozen")]
    alike = [n for n in known if template(n) == template(name) and rows[n].shape == k.shape]
    here = layer_of(name, naming)
    if not alike and here:
        layer = [n for n in known if layer_of(n, naming) == here and rows[n].grows == k.grows]
        likeness = {n: x for n in layer if (x := _likeness(n, name))}
        alike = [n for n, x in likeness.items() if x == max(likeness.values())]
    return alike if len({_stands(rows[n]) for n in alike}) == 1 else []


def _likeness(a: str, b: str) -> float:
    """How similar the one part is in which two names differ, above 0 to 1; 0 if they differ in more."""
    parts = a.split("."), b.split(".")
    if len(parts[0]) != len(parts[1]):
        return 0.0
    other = [(x, y) for x, y in zip(*parts, strict=True) if x != y]
    return SequenceMatcher(None, *other[0]).ratio() if len(other) == 1 else 0.0


def _stands(k: Kind) -> tuple[Any, ...]:
    # Branches may be called by the numbers of experts.
    return k.role, replace(k.place, position=k.position and 0), template(k.branch or ""), k.offset


def placed(k: Kind, like: Kind, name: str) -> Kind:
    """A kind at the place of another, whose name is given."""
    if k.shape == like.shape and template(k.template) == template(like.template):
        return replace(like, template=k.template, tied=())
    bias = k.template == like.template.removesuffix("weight") + "bias"
    return replace(
        k,
        role=k.role if bias else like.role,
        reason=f"unused in the forward pass; taken to be as {template(name)}",
        branch=like.branch,
        position=like.position,
        layers=like.layers,
        last=like.last,
        beside=like.beside,
        shared=like.shared,
        offset=like.offset,
    )


def obstacles(
    rows: Mapping[str, Kind],
    reached: Iterable[str],
    like: Mapping[str, list[str]],
    takes: Mapping[str, Mapping[str, Power]],
    naming: Naming,
) -> list[tuple[str, str]]:
    """A message for all parameters of a part of the model that repeat with depth, are not reached and are
    like none, or like several that take different multipliers.

    Args:
        reached: what the inputs reach, and what is outside branches by the user's word.
        like: what ``models_of`` says.
    """
    out = []
    reached = set(reached)
    for name, k in rows.items():
        several = {tuple(sorted(takes.get(n, {}).items())) for n in like.get(name, ())}
        if name in reached or len(several) == 1 or k.role == "frozen" or not naming.repeats(name):
            continue
        pattern = _part(name, rows, reached | set(like), naming)
        how = "branch=False" if pattern.endswith(".*") else f"role={k.role!r}, branch=False"
        line = (
            f"the inputs do not reach {pattern!r}, which repeats with depth, so nothing says in which "
            "branch it is: give inputs= that reach it or, if it is never used, count it as unscaled over "
            f"depth with roles={{{pattern!r}: dict({how})}}"
        )
        out.append(("branch", line))
    return list(dict.fromkeys(out))


def _part(name: str, rows: Iterable[str], known: set[str], naming: Naming) -> str:
    """The largest part of the model that holds the parameter and nothing that is known, as a pattern."""
    parts = name.split(".")
    for k in range(1, len(parts)):
        module = ".".join(parts[:k]) + "."
        if not any(n.startswith(module) for n in known):
            return naming.module(module[:-1], name) + ".*"
    return naming.template(name)
