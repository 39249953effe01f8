"""Residual branches, read from the graph: where streams are added, and what lies between.

At a sum x + y let C be what both depend on. If nothing that belongs to x alone holds a weight matrix, x
is the stream and y the end of a branch; if both hold some, the shorter side is a projection shortcut
(part of the stream), unless the sum lies inside another branch, whose parallel parts they then are.
A sum of things with nothing in common (word and position embeddings) is no branch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from leadline.tracing.fold import CONVOLUTIONS, MATRIX
from leadline.tracing.graph import Graph

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


def branches(graph: Graph) -> list[Branch]:
    """Every residual branch.

    Raises:
        ValueError: a sum whose two sides hold equally many weight layers outside any branch.
    """
    weighted = 0
    for node in graph.nodes:
        if is_weight_layer(graph, node.index):
            weighted |= 1 << node.index
    sums = []
    for node in graph.nodes:
        if node.op not in SUMS or len(node.inputs) != 2:
            continue
        x, y = node.inputs
        if x == y or not (graph.is_act(x) and graph.is_act(y)):
            continue
        up = [(graph.ancestors[i] | 1 << i) & graph.acts for i in (x, y)]
        common = up[0] & up[1]
        # Data alone in common (token ids) is no stream: something must have been made of it.
        if not common & graph.touched:
            continue
        alone = [u & ~common for u in up]
        if not (alone[0] | alone[1]) & weighted:
            continue
        sums.append((node.index, (x, y), alone))
    found = []
    undecided = []
    for join, ends, alone in sums:
        has = [bool(a & weighted) for a in alone]
        if all(has):
            undecided.append((join, ends, alone))
        else:
            side = has.index(True)
            found.append(_describe(graph, join, ends[side], alone[side], weighted))
    for join, ends, alone in undecided:
        if any(join in b.region for b in found):
            continue
        sides = [_describe(graph, join, e, a, weighted) for e, a in zip(ends, alone, strict=True)]
        if sides[0].layers == sides[1].layers:
            module = graph.nodes[join].module or "the model"
            raise ValueError(
                f"the sum in {module} adds two paths of {sides[0].layers} weight layers each: which "
                "is the residual branch cannot be decided; name the parameters' roles with roles="
            )
        found.append(max(sides, key=lambda b: b.layers))
    return found


def _describe(graph: Graph, join: int, end: int, region: int, weighted: int) -> Branch:
    b = Branch(join, end, bits(region))
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
    modules = [graph.nodes[i].module.split(".") for i in b.region if weighted >> i & 1]
    shared = []
    for parts in zip(*modules, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    b.name = ".".join(shared)
    return b
