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
    rows: dict[str, Kind], names: dict[str, int], deep: dict[str, int], used: set[str]
) -> list[tuple[str, str]]:
    """Parameters that repeat with depth beside the residual branches: their effects add up."""
    here, there = Counter(names.values()), Counter(deep.values())
    out: dict[int, tuple[str, str]] = {}
    for name in sorted(used & set(rows)):
        k, kind = rows[name], names[name]
        if k.position is None and k.role != "frozen" and there[kind] > here[kind]:
            remedy = "give its layer a skip connection"
            if len(k.shape) < 2:
                remedy = "put it inside the branch (norm before the branch's weights, not behind the sum)"
            message = (
                f"parameter {name!r} repeats with depth and is in no residual branch, so nothing says "
                f"how it scales with depth: {remedy}, or count it as the stream's, unscaled over depth, "
                f"with roles={{{k.template!r}: dict(role={k.role!r}, branch=False)}}"
            )
            out.setdefault(kind, ("branch", message))
    return list(out.values())


def shared_over_depth(
    graph: Graph, deep: Graph, naming: Naming, names: set[str]
) -> list[tuple[str, str]]:
    """Single parameters that a deeper model uses more often."""
    here, there = _times(graph), _times(deep)
    return [
        (
            "branch",
            f"parameter {name!r} is used {here[name]} times at one depth and {there[name]} times at twice "
            "that, so its effects add up and nothing says how it scales with depth: give every layer its "
            f"own, or count it as unscaled with roles={{{name!r}: dict(role=..., branch=False)}}",
        )
        for name in sorted(names)
        if "*" not in naming.template(name) and there[name] > here[name]
    ]


def _times(graph: Graph) -> Counter[str]:
    """In how many operations on data every parameter takes part."""
    out: Counter[str] = Counter()
    for node in graph.nodes:
        if graph.is_act(node.index):
            held = [j for j in node.inputs if not graph.is_act(j)]
            out.update(set().union(*(graph.leaves(j) for j in held)))
    return out
