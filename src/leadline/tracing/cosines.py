"""Cosines: products of two tensors that are each divided by their norm, as in CLIP's logits.

A norm over a dimension that grows with width is no obstacle in them. x/|x| is x of size 1 an entry,
divided by √n, so a product of two is divided by n, as the scheme wants of a readout: at any width.
"""

from __future__ import annotations

from leadline.tracing.graph import MATRIX, SCALINGS, SUMS, VIEWS, Graph

_NORMS = frozenset("norm linalg_vector_norm".split())
_SQUARES = frozenset("pow square mul".split())
# Between a sum of squares and what is divided by its root.
_ROOTS = frozenset("sqrt rsqrt pow clamp clamp_min clamp_min_ maximum reciprocal".split())
_PASSED = VIEWS - {"mean", "sum"}


def cosines(graph: Graph) -> tuple[frozenset[int], frozenset[int]]:
    """The products, and the norms (or sums of squares) that take part in nothing else."""
    products = {}
    for node in graph.nodes:
        pair = graph.operands(node.index) if node.op in MATRIX else []
        norms = [_norm(graph, i) for i in pair]
        if len(pair) == 2 and None not in norms:
            products[node.index] = norms
    norms = {n for pair in products.values() for n in pair if n is not None}
    alone = frozenset(
        n for n, q in norms if _ends(graph, q) <= products.keys() and _ends(graph, n) == {q}
    )
    return frozenset(
        i for i, pair in products.items() if all(n and n[0] in alone for n in pair)
    ), alone


def _norm(graph: Graph, i: int) -> tuple[int, int] | None:
    """The norm that a tensor is divided by, and the quotient."""
    i = _back(graph, i, _PASSED)
    node = graph.nodes[i]
    if node.op not in SCALINGS or len(node.inputs) != 2:
        return None
    pairs = [node.inputs] if node.op.startswith("div") else [node.inputs, node.inputs[::-1]]
    for x, d in pairs:
        root = _back(graph, d, _PASSED | _ROOTS | SUMS)
        of = graph.nodes[root].inputs
        if graph.nodes[root].op == "sum" and graph.nodes[of[0]].op in _SQUARES:
            squared = graph.nodes[of[0]]
            same = set(squared.inputs) if squared.op != "pow" or 2 in squared.numbers else set()
        elif graph.nodes[root].op in _NORMS:
            known = graph.nodes[root].kwargs
            same = set(of) if known.get("p", known.get("ord", 2)) == 2 else set()
        else:
            continue
        inverse = node.op.startswith("div") or _inverts(graph, d, root)
        if inverse and {_back(graph, j, _PASSED) for j in same} == {_back(graph, x, _PASSED)}:
            return root, i
    return None


def _back(graph: Graph, i: int, ops: frozenset[str]) -> int:
    """Where a tensor comes from, through operations like these on one tensor."""
    while graph.nodes[i].op in ops and len(graph.nodes[i].inputs) >= 1:
        if len(graph.nodes[i].inputs) > 1 and graph.nodes[i].op not in VIEWS:
            break
        i = graph.nodes[i].inputs[0]
    return i


def _inverts(graph: Graph, i: int, root: int) -> bool:
    """Does rsqrt lie between?"""
    while i != root:
        if graph.nodes[i].op in ("rsqrt", "reciprocal"):
            return True
        i = graph.nodes[i].inputs[0]
    return False


def _ends(graph: Graph, i: int) -> set[int]:
    """The operations that a tensor enters, whatever roots, sums with numbers and views come between."""
    out, queue = set(), [i]
    while queue:
        for c in graph.consumers[queue.pop()]:
            node = graph.nodes[c]
            if node.op in _PASSED or (node.op in _ROOTS | SUMS and len(node.inputs) == 1):
                queue.append(c)
            else:
                out.add(c)
    return out
