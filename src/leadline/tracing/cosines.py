"""Cosines: products of two tensors that are each divided by their norm, as in CLIP's logits.

A norm over a dimension that grows with width is no obstacle in them. x/|x| is x of size 1 an entry,
divided by √n, so a product of two is divided by n, as the scheme wants of a readout: at any width.
"""

from __future__ import annotations

import math

from leadline.tracing.graph import MATRIX, SCALINGS, SUMS, VIEWS, Graph

_NORMS = frozenset("norm linalg_vector_norm".split())
_SQUARES = frozenset("pow square mul".split())
# Between a sum of squares and what is divided by its root.
_ROOTS = frozenset("sqrt rsqrt pow clamp clamp_min clamp_min_ maximum reciprocal".split())
_PASSED = VIEWS - {"mean", "sum"}
_JOINS = frozenset("cat stack".split())

_Quotient = tuple[int, int]
"""A norm (or a sum of squares), and what is divided by it."""


def cosines(graph: Graph) -> tuple[frozenset[int], frozenset[int]]:
    """The products, and the norms (or sums of squares) that take part in nothing else."""
    products: dict[int, list[_Quotient]] = {}
    for node in graph.nodes:
        pair, terms = _factors(graph, node.index)
        parts = [_quotients(graph, i, terms) for i in pair]
        if all(parts) and parts:
            products[node.index] = [q for part in parts for q in part]
    while True:
        quotients = {q for parts in products.values() for q in parts}
        entered = _entered(graph, products)
        alone = {
            (n, q) for n, q in quotients if _ends(graph, q) <= entered and _ends(graph, n) == {q}
        }
        kept = {i: parts for i, parts in products.items() if alone.issuperset(parts)}
        if len(kept) == len(products):
            return frozenset(products), frozenset(n for n, _ in alone)
        products = kept


def _factors(graph: Graph, i: int) -> tuple[list[int], int]:
    """The two factors of a product that sums over a dimension, and the number of its terms."""
    node = graph.nodes[i]
    if node.op in MATRIX:
        pair = graph.operands(i)
        return (pair, graph.nodes[pair[0]].shape[-1]) if len(pair) == 2 else ([], 0)
    if node.op == "sum":
        product = graph.nodes[_back(graph, node.inputs[0], _PASSED)]
        alone = _ends(graph, product.index) == {i}
        if product.op == "mul" and len(product.inputs) == 2 and alone:
            return product.inputs, _terms(graph, i)
    return [], 0


def _terms(graph: Graph, i: int) -> int:
    """How many entries of its input make one of its own."""
    node = graph.nodes[i]
    return math.prod(graph.nodes[node.inputs[0]].shape) // max(math.prod(node.shape), 1)


def _entered(graph: Graph, products: dict[int, list[_Quotient]]) -> set[int]:
    """The operations of these products that quotients enter, norms of quotients included."""
    sums = [i for i in products if graph.nodes[i].op == "sum"]
    again = {j for parts in products.values() for n, q in parts for j in (n, q)}
    again |= {
        j
        for parts in products.values()
        for n, _ in parts
        for j in graph.nodes[n].inputs
        if graph.nodes[j].op in _SQUARES
    }
    factors = {_back(graph, graph.nodes[i].inputs[0], _PASSED) for i in sums}
    return {*products, *factors, *again}


def _quotients(graph: Graph, i: int, terms: int) -> list[_Quotient]:
    """The norms of so many terms that a tensor is divided by, part by part, and the quotients; none
    where a part is divided by none."""
    i = _back(graph, i, _PASSED, scaled=True)
    if graph.nodes[i].op in _JOINS:
        parts = [_quotients(graph, j, terms) for j in graph.nodes[i].inputs]
        return [q for part in parts for q in part] if all(parts) else []
    one = _norm(graph, i)
    if one is None or _terms(graph, one[0]) != terms:
        return []
    # What has been divided by its norm before has the norm 1.
    before = next((j for j in graph.nodes[i].inputs if _norm(graph, _back(graph, j, _PASSED))), -1)
    return [one, *(_quotients(graph, before, terms) if before >= 0 else ())]


def _norm(graph: Graph, i: int) -> _Quotient | None:
    """The norm that a tensor is divided by, and the quotient."""
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


def _back(graph: Graph, i: int, ops: frozenset[str], scaled: bool = False) -> int:
    """Where a tensor comes from, through operations like these on one tensor.

    Args:
        scaled: products with one number, or with a parameter of one entry, are passed, too.
    """
    while True:
        node = graph.nodes[i]
        factor = _scaled(graph, i) if scaled else None
        if factor is not None:
            i = factor
        elif node.op in ops and node.inputs and (node.op in VIEWS or _on_one(graph, i)):
            i = node.inputs[0]
        else:
            return i


def _on_one(graph: Graph, i: int) -> bool:
    """Is the first of its inputs the only one that is no constant number?"""
    return all(graph.nodes[j].value is not None for j in graph.nodes[i].inputs[1:])


def _scaled(graph: Graph, i: int) -> int | None:
    """What is multiplied by one number (CLIP's ``logit_scale.exp()``), whichever that is."""
    node = graph.nodes[i]
    if node.op not in SCALINGS or not graph.is_act(i):
        return None
    data = [j for j in node.inputs if graph.is_act(j)]
    rest = [j for j in node.inputs if not graph.is_act(j)]
    one = all(
        math.prod(graph.nodes[j].shape) == 1 or graph.nodes[j].value is not None for j in rest
    )
    if len(data) != 1 or not one or (node.op.startswith("div") and node.inputs[0] != data[0]):
        return None
    return data[0]


def _inverts(graph: Graph, i: int, root: int) -> bool:
    """Does rsqrt lie between?"""
    while i != root:
        if graph.nodes[i].op in ("rsqrt", "reciprocal"):
            return True
        i = graph.nodes[i].inputs[0]
    return False


def _ends(graph: Graph, i: int) -> set[int]:
    """The operations that a tensor enters, whatever roots, sums or products with numbers, joins and views
    come between."""
    out, queue = set(), [i]
    while queue:
        j = queue.pop()
        for c in graph.consumers[j]:
            node = graph.nodes[c]
            passed = node.op in _PASSED | _JOINS or _scaled(graph, c) == j
            if passed or (node.op in _ROOTS | SUMS and _on_one(graph, c)):
                queue.append(c)
            else:
                out.add(c)
    return out
