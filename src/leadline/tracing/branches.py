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

from leadline.tracing.graph import Graph
from leadline.tracing.naming import Naming
from leadline.tracing.operations import CONVOLUTIONS, MATRIX

SUMS = frozenset({"add", "add_", "sub", "sub_"})


@dataclass
class Branch:
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


def branches(graph: Graph, outside: frozenset[str], naming: Naming) -> list[Branch]:
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
    found: list[Branch] = []
    undecided = []
    for node in graph.nodes:
        join = node.index
        if node.op not in SUMS or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        if not all(graph.is_act(i) for i in node.inputs):
            continue
        up = [(graph.ancestors[i] | 1 << i) & graph.acts for i in node.inputs]
        # Data alone in common (token ids) is no stream: something must have been made of it.
        stream = up[0] & up[1] & graph.touched
        alone = [u & ~(up[0] & up[1]) for u in up]
        if not stream or not (alone[0] | alone[1]) & weighted:
            continue
        paths = [_path(graph, a, stream, weighted) for a in alone]
        # What earlier branches have added on one side is the stream's already (h + attention + mlp).
        earlier = sum({1 << i for b in found for i in b.region if _in_any(b.join, alone)})
        for regions in (paths, [p & ~earlier for p in paths]):
            has = [bool(p & weighted) for p in regions]
            if any(has) and not all(has):
                side = has.index(True)
                end = node.inputs[side]
                found.append(_describe(graph, join, end, paths[side], weighted))
                break
        else:
            if any(p & weighted for p in paths):
                undecided.append((join, node.inputs, paths))
    for join, ends, paths in undecided:
        if any(join in b.region for b in found):
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
        found.append(max(sides, key=lambda b: b.layers))
    return found


def of_streams(
    graph: Graph, found: list[Branch], deep: Graph, there: list[Branch], naming: Naming
) -> list[Branch]:
    """The branches whose sums are more in the deeper network, between the same ends.

    Args:
        deep, there: the network at twice the depth, and its branches.
    """
    counts = (_sums(graph, found, naming), _sums(deep, there, naming))
    most = [Counter[frozenset[str]]() for _ in counts]
    for k, by_owner in enumerate(counts):
        for (_, key), joins in by_owner.items():
            most[k][key] = max(most[k][key], len(joins))
    grow = {key for key in most[0] if most[1][key] > most[0][key]}
    return [b for b in found if _owner(graph, b, found, naming)[1] in grow]


def _sums(
    graph: Graph, found: list[Branch], naming: Naming
) -> dict[tuple[int, frozenset[str]], set[int]]:
    """The sums that lie directly in each branch (and in the network outside all)."""
    out: dict[tuple[int, frozenset[str]], set[int]] = {}
    for b in found:
        out.setdefault(_owner(graph, b, found, naming), set()).add(b.join)
    return out


def _owner(
    graph: Graph, b: Branch, found: list[Branch], naming: Naming
) -> tuple[int, frozenset[str]]:
    """The branch that a branch's sum lies in: its sum, and what it is called at any depth."""
    around = [c for c in found if c is not b and b.join in c.region]
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
    """What of one side comes from the stream; beside it the layers of the same module that read
    something else (keys and values of another sequence)."""
    inside = {i for i in bits(alone) if graph.ancestors[i] & stream or stream >> i & 1}
    name = _module(graph, [i for i in inside if weighted >> i & 1])
    own = 0
    for i in sorted(bits(alone) - inside):
        near = name and (graph.nodes[i].module + ".").startswith(name + ".")
        if near and (weighted >> i & 1 or graph.ancestors[i] & own):
            own |= 1 << i
    return sum(1 << i for i in inside) | own


def _module(graph: Graph, layers: list[int]) -> str:
    """The innermost module that holds all of these."""
    shared = []
    for parts in zip(*(graph.nodes[i].module.split(".") for i in layers), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _describe(graph: Graph, join: int, end: int, region: int, weighted: int) -> Branch:
    b = Branch(join, end, bits(region), weighted=bits(region & weighted))
    for i in sorted(b.region):
        below = [b.levels[j] for j in graph.nodes[i].inputs if j in b.levels]
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
