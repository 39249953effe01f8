"""Residual branches, read from the graph: where streams are added, and what lies between.

At a sum x + y let C be what both depend on. If nothing that belongs to x alone holds a weight matrix, x
is the stream and y the end of a branch; if both hold some, the shorter side is a projection shortcut
(part of the stream), unless the sum lies inside another branch, whose parallel parts they then are.
A sum of things with nothing in common (word and position embeddings) is no branch.

A skip inside a block looks like that too. What tells the two apart is how many sums follow each other:
a stream has more of them in a deeper network, a skip inside a block (or around a fixed number of blocks)
has as many as before, and what it skips is a part of the branch around it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from leadline.tracing.graph import ADDS_ROWS, CONVOLUTIONS, MATRIX, Graph, template
from leadline.tracing.kinds import Kind, Naming

_JOINS = frozenset({"add", "add_", "sub", "sub_"}) | ADDS_ROWS


@dataclass
class ResidualBranch:
    """One residual branch."""

    join: int
    """The sum that ends it."""
    end: int
    """What it adds to the stream."""
    region: set[int]
    """Its operations on data, its end included."""
    layers: int = 0
    """Weight layers on its longest path."""
    levels: dict[int, int] = field(default_factory=dict)
    """For each operation the number of weight layers on the longest path up to it."""
    final: set[int] = field(default_factory=set)
    """Operations that no weight layer of the branch comes after."""
    weighted: set[int] = field(default_factory=set)
    """Its weight layers."""
    name: str = ""


def bits(mask: int) -> set[int]:
    """Positions of the ones."""
    out = set()
    while mask:
        low = mask & -mask
        out.add(low.bit_length() - 1)
        mask ^= low
    return out


def is_weight_layer(graph: Graph, i: int) -> bool:
    """A product of data with parameters."""
    node = graph.nodes[i]
    if node.op not in MATRIX and node.op not in CONVOLUTIONS:
        return False
    return graph.is_act(i) and any(
        not graph.is_act(j) and graph.leaves(j) and len(graph.nodes[j].shape) > 1
        for j in node.inputs
    )


def find_branches(graph: Graph, outside: frozenset[str], naming: Naming) -> list[ResidualBranch]:
    """Every residual branch.

    Args:
        outside: parameters that the user counts as the stream's.
        naming: how names repeat, for messages.

    Raises:
        ValueError: a sum whose two sides hold equally many weight layers outside any branch.
    """
    weighted = 0
    for node in graph.nodes:
        if is_weight_layer(graph, node.index) and not layer_weights(graph, node.index) <= outside:
            weighted |= 1 << node.index
    branches: list[ResidualBranch] = []
    undecided = []
    for node in graph.nodes:
        join = node.index
        ends = joined(graph, join)
        if ends is None:
            continue
        up = [(graph.ancestors[i] | 1 << i) & graph.acts for i in ends]
        # Data alone in common (token ids) is no stream: something must have been made of it.
        stream = up[0] & up[1] & graph.touched
        alone = [u & ~(up[0] & up[1]) for u in up]
        if not stream or not (alone[0] | alone[1]) & weighted:
            continue
        paths = [_path(graph, a, stream, weighted) for a in alone]
        # What earlier branches have added on one side is the stream's already (h + attention + mlp).
        earlier = sum({1 << i for b in branches for i in b.region if _in_any(b.join, alone)})
        for regions in (paths, [p & ~earlier for p in paths]):
            has = [bool(p & weighted) for p in regions]
            if any(has) and not all(has):
                side = has.index(True)
                end = ends[side]
                branches.append(_describe(graph, join, end, paths[side], weighted))
                break
        else:
            if any(p & weighted for p in paths):
                undecided.append((join, ends, paths))
    for join, ends, paths in undecided:
        if any(join in b.region for b in branches):
            continue
        sides = [_describe(graph, join, e, p, weighted) for e, p in zip(ends, paths, strict=True)]
        if sides[0].layers == sides[1].layers:
            name = min(layer_weights(graph, min(i for i in sides[1].region if weighted >> i & 1)))
            raise ValueError(
                f"the sum in {graph.nodes[join].module or 'the model'} adds two paths of "
                f"{sides[0].layers} weight layers each: which is the residual branch cannot be decided; "
                "say which parameters are the stream's, as in "
                f"roles={{{naming.template(name)!r}: dict(role='hidden', branch=False)}}"
            )
        branches.append(max(sides, key=lambda b: b.layers))
    return branches


def joined(graph: Graph, i: int) -> tuple[int, int] | None:
    """The two tensors of data that a sum adds."""
    node = graph.nodes[i]
    if node.op not in _JOINS or len(node.inputs) != (3 if node.op in ADDS_ROWS else 2):
        return None
    a, b = node.inputs[0], node.inputs[-1]
    return (a, b) if a != b and graph.is_act(a) and graph.is_act(b) else None


def stream_branches(
    graph: Graph,
    branches: list[ResidualBranch],
    deep: Graph,
    there: list[ResidualBranch],
    naming: Naming,
) -> list[ResidualBranch]:
    """The branches whose sums are more in the deeper network, between the same ends.

    Args:
        deep, there: the network at twice the depth, and its branches.
    """
    counts = (_sums(graph, branches, naming), _sums(deep, there, naming))
    most = [Counter[frozenset[str]]() for _ in counts]
    for k, by_owner in enumerate(counts):
        for (_, key), joins in by_owner.items():
            most[k][key] = max(most[k][key], len(joins))
    grow = {key for key in most[0] if most[1][key] > most[0][key]}
    return [b for b in branches if _owner(graph, b, branches, naming)[1] in grow]


def _sums(
    graph: Graph, branches: list[ResidualBranch], naming: Naming
) -> dict[tuple[int, frozenset[str]], set[int]]:
    """The sums that lie directly in each branch (and in the network outside all)."""
    out: dict[tuple[int, frozenset[str]], set[int]] = {}
    for b in branches:
        out.setdefault(_owner(graph, b, branches, naming), set()).add(b.join)
    return out


def _owner(
    graph: Graph, b: ResidualBranch, branches: list[ResidualBranch], naming: Naming
) -> tuple[int, frozenset[str]]:
    """The branch that a branch's sum lies in: its sum, and what it is called at any depth."""
    around = [c for c in branches if c is not b and b.join in c.region]
    if not around:
        return -1, frozenset()
    owner = min(around, key=lambda c: len(c.region))
    names = (layer_weights(graph, i) for i in owner.weighted)
    return owner.join, frozenset(naming.template(n) for n in set().union(*names))


def layer_weights(graph: Graph, i: int) -> set[str]:
    """The parameters that a weight layer multiplies data with."""
    held = [j for j in graph.nodes[i].inputs if not graph.is_act(j)]
    return {n for j in held if len(graph.nodes[j].shape) > 1 for n in graph.leaves(j)}


def _in_any(i: int, masks: list[int]) -> bool:
    return any(m >> i & 1 for m in masks)


def _path(graph: Graph, alone: int, stream: int, weighted: int) -> int:
    """The part of one side that comes from the stream, and the layers of the same module that read
    something else (keys and values of another sequence)."""
    inside = {i for i in bits(alone) if graph.ancestors[i] & stream or stream >> i & 1}
    name = _module(graph, [i for i in inside if weighted >> i & 1])
    beside = 0
    for i in sorted(bits(alone) - inside):
        near = name and (graph.nodes[i].module + ".").startswith(name + ".")
        if near and (weighted >> i & 1 or graph.ancestors[i] & beside):
            beside |= 1 << i
    return sum(1 << i for i in inside) | beside


def _module(graph: Graph, layers: list[int]) -> str:
    """The innermost module that holds all of these."""
    shared = []
    for parts in zip(*(graph.nodes[i].module.split(".") for i in layers), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _describe(graph: Graph, join: int, end: int, region: int, weighted: int) -> ResidualBranch:
    b = ResidualBranch(join, end, bits(region), weighted=bits(region & weighted))
    for i in sorted(b.region):
        read = set(graph.nodes[i].inputs) - graph.nodes[i].discrete
        below = [b.levels[j] for j in read if j in b.levels]
        b.levels[i] = max(below, default=0) + (weighted >> i & 1)
    b.layers = max(b.levels.values(), default=0)
    later = 0
    for i in sorted(b.region, reverse=True):
        if not any(
            later >> c & 1 or weighted >> c & 1 for c in graph.consumers[i] if c in b.region
        ):
            b.final.add(i)
        else:
            later |= 1 << i
    b.name = _module(graph, sorted(b.weighted))
    return b


def repeats(
    graph: Graph, deep: Graph, b: ResidualBranch, others: list[ResidualBranch], naming: Naming
) -> bool:
    """Does the branch repeat with depth? The names of the weights directly in it say so.

    A path that holds nothing but other branches has none: there its sum has to repeat.
    """
    direct = b.region.difference(*(x.region for x in others if x is not b and x.region < b.region))
    names = set().union(*(layer_weights(graph, i) for i in direct & b.weighted))
    if names:
        return any("*" in naming.template(n) for n in names)
    module = template(graph.nodes[b.join].module)
    counts = [
        sum(n.op == graph.nodes[b.join].op and template(n.module) == module for n in g.nodes)
        for g in (graph, deep)
    ]
    return counts[0] != counts[1]


def find_places(
    graph: Graph, branches: list[ResidualBranch], naming: Naming
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Branch and position of every parameter inside one, innermost branch first; and conflicts."""
    places: dict[str, dict[str, Any]] = {}
    owner: dict[str, ResidualBranch] = {}
    conflicts: dict[str, str] = {}
    for b in sorted(branches, key=lambda b: len(b.region)):
        held = {i: graph.weights(i) for i in sorted(b.region)}
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
        inside = k.position is not None or k.beside
        if not inside and k.role != "frozen" and there[kind] > here[kind]:
            remedy = "give its layer a skip connection"
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
            out.update(graph.weights(node.index))
    return out
