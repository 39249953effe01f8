"""Where parameters stand: in which branch that repeats with depth, and at which of its layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from leadline.tracing.branches import Branch, layer_weights
from leadline.tracing.graph import Graph, template
from leadline.tracing.kinds import Kind
from leadline.tracing.naming import Naming


def repeats(graph: Graph, deep: Graph, b: Branch, all_: list[Branch], naming: Naming) -> bool:
    """Does the branch repeat with depth? The names of its own weights say so.

    A path that holds nothing but other branches has none: there its sum has to repeat.
    """
    own = b.region.difference(*(x.region for x in all_ if x is not b and x.region < b.region))
    names = set().union(*(layer_weights(graph, i) for i in own & b.weighted))
    if names:
        return any("*" in naming.template(n) for n in names)
    module = template(graph.nodes[b.join].module)
    counts = [
        sum(n.op == graph.nodes[b.join].op and template(n.module) == module for n in g.nodes)
        for g in (graph, deep)
    ]
    return counts[0] != counts[1]


def find_places(
    graph: Graph, found: list[Branch], naming: Naming
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Branch and position of every parameter inside one, innermost branch first; and conflicts."""
    places: dict[str, dict[str, Any]] = {}
    owner: dict[str, Branch] = {}
    conflicts: dict[str, str] = {}
    for b in sorted(found, key=lambda b: len(b.region)):
        held = {
            i: {n for j in graph.nodes[i].inputs if not graph.is_act(j) for n in graph.leaves(j)}
            for i in sorted(b.region)
        }
        inside = [n for names in held.values() for n in names if n.startswith(b.name)]
        label = naming.module(b.name, min(inside)) if inside else b.name
        for i, names in held.items():
            for name in names:
                place = {
                    "branch": label,
                    "position": max(b.levels[i] - 1, 0),
                    "layers": b.layers,
                    "last": i in b.final or b.layers == 1,
                }
                first = owner.setdefault(name, b)
                if first is not b and b.region > first.region:
                    continue
                if places.setdefault(name, place) != place or first is not b:
                    conflicts[name] = (
                        f"parameter {name!r} is used at several places of residual branches: give "
                        f"each place its own, or roles={{{name!r}: dict(role=..., branch=False)}}"
                    )
    return places, conflicts


def outside_branches(
    rows: dict[str, Kind], names: dict[str, int], deep: dict[str, int], layers: set[str]
) -> list[tuple[str, str]]:
    """Weight layers that repeat with depth beside the residual branches."""
    here, there = Counter(names.values()), Counter(deep.values())
    out = []
    for name in sorted(layers & set(rows)):
        k, kind = rows[name], names[name]
        if k.position is None and k.role != "frozen" and there[kind] > here[kind]:
            out.append(
                (
                    "branch",
                    f"parameter {name!r} belongs to a weight layer that repeats with depth and is in no "
                    "residual branch, so nothing says how it scales with depth: give it a skip "
                    "connection, or count it as the stream's with "
                    f"roles={{{k.template!r}: dict(role={k.role!r}, branch=False)}}",
                )
            )
    return out
