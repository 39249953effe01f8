"""Residual branches, read from the graph: where streams are added, and what lies between.

At a sum x + y let C be what both depend on. If nothing that belongs to x alone holds a weight matrix, x
is the stream and y the end of a branch; if both hold some, the shorter side is a projection shortcut
(part of the stream), unless the sum lies inside another branch, whose parallel parts they then are.
The branch is what lies between the place where x leaves C and y. Where there is no weight layer, as
between the two halves of a modulation y·(1 + s) + b, there is no branch; a sum of things with nothing in
common (word and position embeddings) is none either. ``streams`` says which of them repeat with depth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from leadline.tracing.graph import ADDS_ROWS, CONVOLUTIONS, MATRIX, Graph, bits, template
from leadline.tracing.kinds import Naming

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


def is_weight_layer(graph: Graph, i: int) -> bool:
    """A product of data with parameters."""
    node = graph.nodes[i]
    if node.op not in MATRIX and node.op not in CONVOLUTIONS:
        return False
    return graph.is_act(i) and any(
        not graph.is_act(j) and graph.leaves(j) and len(graph.nodes[j].shape) > 1
        for j in node.inputs
    )


@dataclass(frozen=True)
class EqualSum:
    """A sum outside any branch, whose two sides hold equally many weight layers."""

    module: str
    """Template of the module that it is in."""
    weights: frozenset[str]
    """Templates of the weights on both sides."""
    message: str = field(compare=False)
    """That nothing says which side is the branch, and the remedy."""


def find_branches(
    graph: Graph, outside: frozenset[str], naming: Naming
) -> tuple[list[ResidualBranch], list[EqualSum]]:
    """Every residual branch, and every sum of which nothing says which side is one.

    Args:
        outside: parameters that the user counts as the stream's.
        naming: how names repeat, for messages.
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
        up = [(graph.made_of[i] | 1 << i) & graph.acts for i in ends]
        # Data alone in common (token ids) is no stream: something must have been made of it.
        stream = up[0] & up[1] & graph.touched
        alone = [u & ~(up[0] & up[1]) for u in up]
        if not stream or not (alone[0] | alone[1]) & weighted:
            continue
        # What a side is made of where it leaves what both depend on: the stream, if it holds no layers.
        from_ = [_sources(graph, i, a) & stream for i, a in zip(ends, alone, strict=True)]
        paths = [_path(graph, a, s, weighted) for a, s in zip(alone, from_[::-1], strict=True)]
        coupled = [_coupled(graph, branches, i, bits(p)) for i, p in zip(ends, paths, strict=True)]
        paths = [p & ~c for p, c in zip(paths, coupled, strict=True)]
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
                undecided.append((join, ends, paths, coupled))
    equal = []
    for join, ends, paths, coupled in undecided:
        if any(join in b.region for b in branches):
            continue
        sides = [_describe(graph, join, e, p, weighted) for e, p in zip(ends, paths, strict=True)]
        if any(coupled) and not all(coupled):
            # A sum of what layer after layer makes of another stream: the later one.
            branches.append(sides[coupled.index(0) - 1])
            continue
        if sides[0].layers == sides[1].layers:
            held = [layer_weights(graph, i) for i in sorted(sides[0].weighted | sides[1].weighted)]
            first = min(layer_weights(graph, min(sides[1].weighted)))
            message = (
                f"the sum in {graph.nodes[join].module or 'the model'} adds two paths of "
                f"{sides[0].layers} weight layers each: which is the residual branch cannot be decided; "
                "say which parameters are the stream's, as in "
                f"roles={{{naming.template(first)!r}: dict(branch=False)}}, or give scheme='mup', which "
                "scales with width alone"
            )
            names = frozenset(naming.template(n) for n in set().union(*held))
            equal.append(EqualSum(template(graph.nodes[join].module), names, message))
            continue
        branches.append(max(sides, key=lambda b: b.layers))
    return branches, equal


def joined(graph: Graph, i: int) -> tuple[int, int] | None:
    """The two tensors of data that a sum adds."""
    node = graph.nodes[i]
    if node.op not in _JOINS or len(node.inputs) != (3 if node.op in ADDS_ROWS else 2):
        return None
    a, b = node.inputs[0], node.inputs[-1]
    return (a, b) if a != b and graph.is_act(a) and graph.is_act(b) else None


def layer_weights(graph: Graph, i: int) -> set[str]:
    """The parameters that a weight layer multiplies data with."""
    held = [j for j in graph.nodes[i].inputs if not graph.is_act(j)]
    return {n for j in held if len(graph.nodes[j].shape) > 1 for n in graph.leaves(j)}


def _sources(graph: Graph, end: int, alone: int) -> int:
    """What a tensor is made of where its way back leaves these nodes: itself if it is none of them."""
    if not alone >> end & 1:
        return 1 << end
    out = 0
    for i in bits(alone):
        for j in set(graph.nodes[i].inputs) - graph.nodes[i].discrete:
            out |= 1 << j
    return out & ~alone


def _coupled(graph: Graph, branches: list[ResidualBranch], end: int, region: set[int]) -> int:
    """The part of a stream beside this one that goes on past the region (coupled streams, as in RevNet),
    with what earlier branches add to it: theirs and no part of a branch that reads it.

    Steps of a recurrent layer are no such branches: all of them belong to one module's weights.
    """
    out = 0
    for b in branches:
        leaves = b.join in region and not stays(graph, b.join, end, region)
        if leaves and not _owners(graph, b.region) & _owners(graph, region - b.region):
            out |= graph.ancestors[b.join] | 1 << b.join
    return out


def _owners(graph: Graph, region: Iterable[int]) -> set[str]:
    """The modules with whose parameters data are multiplied in a region."""
    layers = (i for i in region if is_weight_layer(graph, i))
    return {n.rpartition(".")[0] for i in layers for n in layer_weights(graph, i)}


def stays(graph: Graph, i: int, end: int, region: set[int]) -> bool:
    """Does all that is made of a tensor leave the region by its end (unlike coupled streams)?"""
    queue, seen = [i], {i}
    while queue:
        j = queue.pop()
        if j == end:
            continue
        if not region.issuperset(graph.consumers[j]):
            return False
        new = set(graph.consumers[j]) - seen
        seen |= new
        queue.extend(new)
    return True


def _in_any(i: int, masks: list[int]) -> bool:
    return any(m >> i & 1 for m in masks)


def _path(graph: Graph, alone: int, stream: int, weighted: int) -> int:
    """The part of one side that comes from the stream, and the layers of the same module that read
    something else (keys and values of another sequence)."""
    inside = {i for i in bits(alone) if graph.made_of[i] & stream or stream >> i & 1}
    name = _module(graph, [i for i in inside if weighted >> i & 1])
    beside = 0
    for i in sorted(bits(alone) - inside):
        near = name and (graph.nodes[i].module + ".").startswith(name + ".")
        if (near and weighted >> i & 1) or graph.made_of[i] & beside:
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
