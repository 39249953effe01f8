"""Products of data with data: attention logits, their multipliers, and what else grows with width."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leadline.tracing.graph import Graph
from leadline.tracing.operations import ATTENTION, MATRIX, SCALINGS, SUMS, VIEWS


@dataclass(frozen=True)
class Logits:
    """One product of queries and keys."""

    node: int
    query: int
    scalings: frozenset[int]
    """Products with numbers between the projections and the softmax."""


def exponent(a: float, b: float) -> float:
    """log2(b/a), the exponent of a number that goes from a to b over an octave."""
    if a == b:
        return 0.0
    return math.log2(b / a) if a * b > 0 else math.inf


def attention(graph: Graph) -> list[Logits]:
    """Every product of two tensors of data that a softmax follows."""
    out = []
    for node in graph.nodes:
        if node.op in ATTENTION:
            q, k = node.inputs[:2]
            after: set[int] | None = set()
        elif _data(graph, node.index):
            q, k = node.inputs[-2:]
            after = _to_softmax(graph, node.index)
        else:
            continue
        if after is not None:
            before = _scalings_before(graph, q) | _scalings_before(graph, k)
            out.append(Logits(node.index, q, frozenset(before | after)))
    return out


def present(graph: Graph, wide: Graph, logits: Logits) -> float:
    """Exponent of width in the multiplier that the logits have."""
    total = 0.0
    for i in logits.scalings:
        a, b = graph.nodes[i].numbers, wide.nodes[i].numbers
        if len(a) == len(b) == 1:
            e = exponent(a[0], b[0])
            total += -e if graph.nodes[i].op.startswith("div") else e
    node = graph.nodes[logits.node]
    if node.op in ATTENTION:
        a, b = node.kwargs.get("scale"), wide.nodes[logits.node].kwargs.get("scale")
        q = logits.query
        default = -0.5 * math.log2(wide.nodes[q].shape[-1] / graph.nodes[q].shape[-1])
        total += exponent(a, b) if a and b else default
    return total


def contractions(graph: Graph, wide: Graph) -> list[str]:
    """Products that sum over dimensions that grow with width, and in which no parameter takes part."""
    known = {x.node for x in attention(graph)}
    out = []
    for node in graph.nodes:
        i = node.index
        if not graph.is_act(i):
            continue
        if node.op in MATRIX and i not in known and _without_parameters(graph, i):
            left = node.inputs[-2]
            if graph.nodes[left].shape[-1] != wide.nodes[left].shape[-1]:
                out.append(
                    f"module {node.module!r} multiplies two tensors that hold no parameter, over a "
                    "dimension that grows with width: the product's scale cannot be set by any weight; "
                    "keep that dimension constant (more heads), or divide by it in the forward pass "
                    "and put a norm behind it"
                )
    return out


def _without_parameters(graph: Graph, i: int) -> bool:
    pair = graph.nodes[i].inputs[-2:]
    return len(pair) == 2 and all(graph.is_act(j) or not graph.leaves(j) for j in pair)


def _data(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    pair = node.inputs[-2:]
    return node.op in MATRIX and len(pair) == 2 and all(graph.is_act(j) for j in pair)


def _to_softmax(graph: Graph, start: int) -> set[int] | None:
    """Scalings between a product and the softmax it feeds; None if it feeds none."""
    queue, seen = [start], set()
    hit = False
    while queue:
        i = queue.pop()
        for c in graph.consumers[i]:
            op = graph.nodes[c].op
            if "softmax" in op:
                hit = True
            elif c not in seen and (
                op in VIEWS or op in SCALINGS or op in SUMS or op in ("where", "tanh")
            ):
                seen.add(c)
                queue.append(c)
    return {i for i in seen if _scales(graph, i)} if hit else None


def _scalings_before(graph: Graph, i: int) -> set[int]:
    out = set()
    while graph.is_act(i):
        node = graph.nodes[i]
        if _scales(graph, i):
            out.add(i)
        elif node.op not in VIEWS:
            break
        i = next((j for j in node.inputs if graph.is_act(j)), node.inputs[0])
    return out


def _scales(graph: Graph, i: int) -> bool:
    return graph.nodes[i].op in SCALINGS and len(graph.nodes[i].numbers) == 1
