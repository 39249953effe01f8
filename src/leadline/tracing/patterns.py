"""Operations whose scale is not that of one weight: weight norms, numbers of dropout and of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leadline.tracing.graph import (
    SCALINGS,
    TABLES,
    VIEWS,
    WEIGHT_NORM,
    Graph,
    bits,
)

# Numbers rounded to bfloat16 are off by up to 2^-9: two of them by .006 in the binary logarithm.
_ROUNDING = 0.006
_NORM = frozenset("norm linalg_vector_norm".split())
_BETWEEN = VIEWS | frozenset("clamp_min clamp_min_ clamp add".split())


def exponent(a: float, b: float) -> float:
    """log2(b/a), the exponent of a number that goes from a to b over an octave."""
    if a == b:
        return 0.0
    return math.log2(b / a) if a * b > 0 else math.inf


def snapped(e: float, what: str = "of attention logits") -> float:
    """To the nearest quarter.

    Raises:
        ValueError: it is no power law with such an exponent.
    """
    nearest = round(4 * e) / 4
    if not math.isfinite(e) or abs(nearest - e) > _ROUNDING:
        raise ValueError(
            f"a multiplier {what} changes by a factor {2**e:.4g} when the size doubles, which is no "
            "power law with a known exponent: make it constant and let the plan scale"
        )
    return nearest


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


def enters(graph: Graph, i: int, name: str) -> str:
    """How a parameter enters the matrix that it is part of."""
    node = graph.nodes[i]
    while node.parameter is None:
        normed = weight_norm(graph, node.index)
        if normed is not None:
            if name in graph.leaves(normed.gain):
                return "gain"
            node = graph.nodes[normed.direction]
            continue
        held = [j for j in node.inputs if name in graph.leaves(j)]
        first = held == node.inputs[:1] and not any(map(graph.leaves, node.inputs[1:]))
        plain = node.op in VIEWS | TABLES or (node.op in SCALINGS and first)
        if len(held) != 1 or not (plain or node.op in ("cat", "stack")):
            return "derived"
        node = graph.nodes[held[0]]
    return "matrix"


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
        norm = weight_norm(graph, node.index)
        other = weight_norm(wide, node.index) if norm else None
        if norm is None or other is None:
            continue
        directions = graph.leaves(norm.direction)
        if len(directions) == 1:
            growth = math.log2(other.terms / norm.terms)
            for g in graph.leaves(norm.gain):
                out[g] = (next(iter(directions)), growth)
    return out


def drops(graph: Graph, i: int) -> bool:
    """Does a random mask follow that keeps such a part, as in stochastic depth? The number restores the
    mean, then."""
    followers = [graph.nodes[c] for c in graph.consumers[i]]
    kept = graph.factor(i)
    return bool(followers) and all(
        n.op in SCALINGS
        and any(graph.random >> j & 1 and _keeps(graph, j, kept) for j in n.inputs if j != i)
        for n in followers
    )


def _keeps(graph: Graph, mask: int, factor: float) -> bool:
    """Is a mask made with the probability 1/factor, or with the rest?"""
    drawn = bits(graph.ancestors[mask] | 1 << mask) & bits(graph.random)
    numbers = {x for j in drawn for x in graph.nodes[j].numbers}
    return any(math.isclose(factor * p, 1, rel_tol=1e-6) for x in numbers for p in (x, 1 - x))


def counts(graph: Graph, i: int) -> bool:
    """Are these whole numbers, which have no size (how many entries of a mask are set)?"""
    whole = set(graph.nodes[i].inputs) <= graph.nodes[i].discrete
    return whole and all(i in graph.nodes[c].discrete for c in graph.consumers[i])
