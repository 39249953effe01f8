"""Where a multiplier can go: parameters whose scaling scales a given tensor, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leadline.tracing.graph import Graph
from leadline.tracing.norms import weight_norm
from leadline.tracing.operations import (
    ATTENTION,
    CONVOLUTIONS,
    HOMOGENEOUS,
    MATRIX,
    NORMS,
    SCALINGS,
    SUMS,
    VIEWS,
)


@dataclass
class Fold:
    """Parameters that scale a tensor together, and the operations between."""

    parameters: set[str]
    visited: set[int]

    def union(self, *others: Fold) -> Fold:
        out = Fold(set(self.parameters), set(self.visited))
        for other in others:
            out.parameters |= other.parameters
            out.visited |= other.visited
        return out


def fold(graph: Graph, index: int) -> Fold | None:
    """The last affine map before a tensor: scaling these parameters by a > 0 scales it by a.

    None where there is no such set.
    """
    node = graph.nodes[index]
    here = Fold(set(), {index})
    if node.parameter is not None:
        return Fold({node.parameter}, {index})

    def through(i: int) -> Fold | None:
        below = fold(graph, i)
        return None if below is None else here.union(below)

    def weights(operands: list[int]) -> Fold | None:
        """All of these."""
        parts = [through(i) for i in operands]
        return None if any(p is None for p in parts) else here.union(*[p for p in parts if p])

    def one_of(operands: list[int]) -> Fold | None:
        """The first of these whose weights act on nothing else, or else the first that has any."""
        parts = [(i, p) for i in operands if (p := fold(graph, i)) is not None]
        parts.sort(key=lambda part: not exclusive(graph, part[1], part[0], {index}))
        return here.union(parts[0][1]) if parts else None

    held = [i for i in node.inputs if not graph.is_act(i) and graph.leaves(i)]
    acts = [i for i in node.inputs if graph.is_act(i)]
    op = node.op
    if op in ("cat", "stack", "copy_", "index_put_", "index_put", "select_scatter"):
        return weights([*acts, *held])
    if op in VIEWS or op in HOMOGENEOUS:
        fills = [node.kwargs.get("value", 0.0), *(graph.nodes[i].value for i in node.inputs[2:])]
        if op in ("masked_fill", "constant_pad_nd") and any(
            not (x == 0 or x == -math.inf) for x in fills
        ):
            return None
        return through(node.inputs[0])
    if op in NORMS:
        # Gain and bias; what it is a norm of has no scale left.
        held = [i for i in held if i in node.inputs[1:]]
        return weights(held) if held else None
    normed = weight_norm(graph, index)
    if normed is not None:
        below = fold(graph, normed.gain)
        return None if below is None else here.union(below, Fold(set(), set(normed.inner)))
    if op in MATRIX or op in CONVOLUTIONS or op == "embedding":
        return weights(held) if held else one_of(acts[-2:][::-1])
    if op in SCALINGS:
        if op.startswith("div") and len(node.inputs) > 1 and node.inputs[1] in (*acts, *held):
            return through(node.inputs[0])
        return weights(held[:1]) if held else one_of(acts)
    if op in SUMS:
        if len(node.inputs) == 1 and any(node.numbers):
            return None
        if any(graph.nodes[i].value != 0 for i in node.inputs if i not in (*acts, *held)):
            return None
        return weights([*acts, *held])
    if op in ATTENTION:
        return through(node.inputs[2])
    return None


def exclusive(
    graph: Graph, found: Fold, target: int, users: set[int], shared: frozenset[str] = frozenset()
) -> bool:
    """Does everything on the way from the parameters to ``target`` feed only it?

    Args:
        users: what may consume the target itself.
        shared: parameters that may be used elsewhere too.
    """
    for i in found.visited:
        allowed = found.visited | (users if i == target else set())
        if graph.nodes[i].parameter not in shared and not set(graph.consumers[i]) <= allowed:
            return False
    return True


def closed(
    graph: Graph, found: Fold | None, target: int, shared: frozenset[str] = frozenset()
) -> bool:
    """The same, whatever consumes the target."""
    users = set(graph.consumers[target])
    return found is not None and exclusive(graph, found, target, users, shared)
