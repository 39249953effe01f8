"""Weights that are divided by their own norm, and the gains that give them a scale again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leadline.tracing.graph import Graph
from leadline.tracing.operations import SCALINGS, VIEWS, WEIGHT_NORM

_NORM = frozenset("norm linalg_vector_norm".split())
_BETWEEN = VIEWS | frozenset("clamp_min clamp_min_ clamp add".split())


@dataclass(frozen=True)
class WeightNorm:
    """g·v/|v|, as torch's weight_norm makes it or as products and quotients."""

    direction: int
    """v: a parameter, or a view of one."""
    gain: int
    """g."""
    terms: float
    """Entries of v in each norm."""
    inner: frozenset[int]
    """Products between g and the result."""


def weight_norm(graph: Graph, i: int) -> WeightNorm | None:
    """The weight norm that a node is the result of."""
    node = graph.nodes[i]
    if node.op == WEIGHT_NORM:
        v, g = node.inputs
        terms = math.prod(graph.nodes[v].shape) / max(math.prod(graph.nodes[g].shape), 1)
        return WeightNorm(v, g, terms, frozenset())
    if node.op not in SCALINGS or graph.is_act(i):
        return None
    above, below, inner = _factors(graph, i)
    if len(below) != 1 or len(above) != 2:
        return None
    norm = below[0]
    while graph.nodes[norm].op in _BETWEEN and graph.nodes[norm].inputs:
        norm = graph.nodes[norm].inputs[0]
    names = graph.leaves(norm)
    if graph.nodes[norm].op not in _NORM or len(names) != 1:
        return None
    if graph.nodes[norm].kwargs.get("p", graph.nodes[norm].kwargs.get("ord", 2)) != 2:
        return None
    directions = [j for j in above if graph.leaves(j) == names]
    gains = [j for j in above if graph.leaves(j) and j not in directions]
    if len(directions) != 1 or len(gains) != 1:
        return None
    v = graph.nodes[norm].inputs[0]
    terms = math.prod(graph.nodes[v].shape) / max(math.prod(graph.nodes[norm].shape), 1)
    return WeightNorm(directions[0], gains[0], terms, inner - {i})


def _factors(graph: Graph, i: int) -> tuple[list[int], list[int], frozenset[int]]:
    """What a node is the product of, what it is divided by, and the products in between."""
    node = graph.nodes[i]
    if node.op not in SCALINGS or len(node.inputs) != 2:
        return [i], [], frozenset()
    first, second = (_factors(graph, j) for j in node.inputs)
    inner = first[2] | second[2] | {i}
    if node.op.startswith("div"):
        return first[0] + second[1], first[1] + second[0], inner
    return first[0] + second[0], first[1] + second[1], inner


def gains(graph: Graph, wide: Graph) -> dict[str, tuple[str, float]]:
    """By gain: the parameter whose norm it stands for, and the exponent of width in the number of the
    norm's terms."""
    out = {}
    for node in graph.nodes:
        found = weight_norm(graph, node.index)
        other = weight_norm(wide, node.index) if found else None
        if found is None or other is None:
            continue
        directions = graph.leaves(found.direction)
        if len(directions) == 1:
            exponent = math.log2(other.terms / found.terms)
            for g in graph.leaves(found.gain):
                out[g] = (next(iter(directions)), exponent)
    return out
