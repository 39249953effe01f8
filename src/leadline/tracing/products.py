"""Products of two tensors of data, which want 1/n where what they sum over grows: attention's and others.

Numbers before and behind a product count as a part of that, if they multiply nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from leadline.tracing.cosines import cosines
from leadline.tracing.graph import (
    ATTENTION,
    BEFORE_SOFTMAX,
    CONVOLUTIONS,
    MATRIX,
    SCALINGS,
    VIEWS,
    Graph,
    bits,
    template,
)
from leadline.tracing.patterns import exponent


@dataclass(frozen=True)
class Logits:
    """One product of queries and keys."""

    node: int
    query: int
    key: int
    scalings: tuple[int, ...]
    """Products with numbers between the projections and the softmax; one that queries and keys share is
    there twice."""


def attention_logits(graph: Graph) -> list[Logits]:
    """Every product of two tensors of data that a softmax follows; cosines have the right size as they
    are."""
    out, known = [], cosines(graph)[0]
    for node in graph.nodes:
        if node.op in ATTENTION:
            q, k = node.inputs[:2]
            after: set[int] | None = set()
        elif node.index not in known and _data(graph, node.index):
            q, k = graph.operands(node.index)
            after = _to_softmax(graph, node.index)
        else:
            continue
        if after is not None:
            before = [*_scalings_before(graph, q), *_scalings_before(graph, k)]
            out.append(Logits(node.index, q, k, (*sorted(before), *sorted(after))))
    return out


def logits_exponent(graph: Graph, wide: Graph, logits: Logits) -> float:
    """Exponent of width in the multiplier that the logits have; a head size a·width + c counts as its
    growing part."""
    total = 0.0
    q = logits.query
    octaves = math.log2(wide.nodes[q].shape[-1] / graph.nodes[q].shape[-1])
    for i in logits.scalings:
        a, b = graph.nodes[i].numbers, wide.nodes[i].numbers
        if len(a) == len(b) == 1:
            e = exponent(a[0], b[0])
            total += -e if graph.nodes[i].op.startswith("div") else e
    node = graph.nodes[logits.node]
    if node.op in ATTENTION:
        a, b = node.kwargs.get("scale"), wide.nodes[logits.node].kwargs.get("scale")
        total += exponent(a, b) if a and b else -0.5 * octaves
    halves = round(2 * total / octaves) / 2 if octaves else 0.0
    return halves if math.isclose(halves * octaves, total, rel_tol=1e-3) else total


def products_of_data(graph: Graph, wide: Graph) -> tuple[list[Logits], list[int]]:
    """Products of two tensors without parameters over a dimension that grows with width, which no softmax
    follows: those of data that want 1/n as attention's logits do (queries and pixels), and all others.

    What they make must not grow: of matrices that a network makes, 1/√n could be right as well.
    """
    known = {x.node for x in attention_logits(graph)} | (cosines(graph)[0] & cosines(wide)[0])
    out, others = [], []
    for node in graph.nodes:
        i = node.index
        if not graph.is_act(i) or not graph.read >> i & 1 or i in known:
            continue
        if _is_made_kernel(graph, wide, i):
            others.append(i)
        if node.op not in MATRIX or not _without_parameters(graph, i):
            continue
        left = graph.operands(i)[0]
        if graph.nodes[left].shape[-1] != wide.nodes[left].shape[-1]:
            if _data(graph, i) and node.shape == wide.nodes[i].shape:
                out.append(_product(graph, i))
            else:
                others.append(i)
    return out, others


def _is_made_kernel(graph: Graph, wide: Graph, i: int) -> bool:
    """Does a convolution sum over channels that grow, with a kernel that the network makes? Or does
    ``addbmm`` over what grows?"""
    node = graph.nodes[i]
    if node.op == "addbmm":
        left = node.inputs[-2]
        return graph.nodes[left].shape[-1] != wide.nodes[left].shape[-1]
    if node.op not in CONVOLUTIONS or not graph.is_act(node.inputs[1]):
        return False
    channels = int(not node.kwargs.get("transposed"))
    return graph.nodes[node.inputs[1]].shape[channels] != wide.nodes[node.inputs[1]].shape[channels]


def products_alike(
    deep: Graph, products: list[Logits], graph: Graph, known: set[int]
) -> list[Logits]:
    """The same products in a deeper network: those in modules of that name, over as many terms.

    Args:
        products: those of the network ``graph``. known: products that are none.
    """

    def place(g: Graph, i: int) -> tuple[str, int]:
        return template(g.nodes[i].module), g.nodes[g.operands(i)[0]].shape[-1]

    places = {place(graph, x.node) for x in products}
    return [
        _product(deep, node.index)
        for node in deep.nodes if places and node.op in MATRIX
        if deep.is_act(node.index) and node.index not in known
        if _data(deep, node.index) and place(deep, node.index) in places
    ]  # fmt: skip


def _product(graph: Graph, i: int) -> Logits:
    """One of them, with the numbers before and behind it."""
    q, k = graph.operands(i)
    behind, at = set(), i
    while len(graph.consumers[at]) == 1:
        at = graph.consumers[at][0]
        if _scales(graph, at):
            behind.add(at)
        elif graph.nodes[at].op not in VIEWS:
            break
    before = [*_scalings_before(graph, q), *_scalings_before(graph, k)]
    return Logits(i, q, k, (*sorted(before), *sorted(behind)))


def _without_parameters(graph: Graph, i: int) -> bool:
    pair = graph.operands(i)
    return len(pair) == 2 and all(graph.is_act(j) or not graph.leaves(j) for j in pair)


def scaled_beside(graph: Graph, logits: Logits, products: set[int]) -> list[int]:
    """The numbers of a product that multiply something beside it, too (values, a returned side, a term that
    a parameter makes), or that not all who read the product see.

    Args:
        products: all products that such numbers are counted for.
    """
    return [
        i
        for i in dict.fromkeys(logits.scalings)
        if (_before if graph.ancestors[logits.node] >> i & 1 else _behind)(
            graph, logits, i, products
        )
    ]


def _before(graph: Graph, logits: Logits, i: int, products: set[int]) -> bool:
    """Does a number before a product multiply something else?"""
    queue = [i]
    while queue:
        j = queue.pop()
        if j in graph.outputs:
            return True
        for c in graph.consumers[j]:
            node = graph.nodes[c]
            value = node.op in ATTENTION and j == node.inputs[2]
            if node.op in VIEWS or c in logits.scalings:
                queue.append(c)
            elif value or (c not in products and graph.read >> c & 1):
                return True
    return False


def _behind(graph: Graph, logits: Logits, i: int, products: set[int]) -> bool:
    """Does a number behind a product multiply something else, or is the product read without it?"""
    start = logits.node
    way = {j for j in bits(graph.ancestors[i]) if j == start or graph.ancestors[j] >> start & 1}
    for j in way:
        others = (c for c in graph.consumers[j] if c not in way and c != i)
        if j in graph.outputs or any(graph.read >> c & 1 for c in others):
            return True
        node = graph.nodes[j]
        beside = set(node.inputs) - way - node.discrete
        if j == start:
            beside -= set(graph.operands(j))
        elif node.op in SCALINGS:
            continue
        if any(_holds_parameters(graph, k, products) for k in beside):
            return True
    return False


def _holds_parameters(graph: Graph, i: int, products: set[int]) -> bool:
    """Has a term of a sum parameters of its own, beside products that numbers are counted for?"""
    queue, seen = [i], {i}
    while queue:
        j = queue.pop()
        node = graph.nodes[j]
        if j in products or not (graph.touched >> j & 1 or graph.leaves(j)):
            continue
        if not (node.op in VIEWS or node.op in BEFORE_SOFTMAX):
            return True
        new = set(node.inputs) - node.discrete - seen
        seen |= new
        queue += new
    return False


def _data(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    pair = graph.operands(i)
    return node.op in MATRIX and len(pair) == 2 and all(graph.is_act(j) for j in pair)


def is_product_of_data(graph: Graph, i: int) -> bool:
    """Attention, or a matrix product of two tensors of data."""
    return graph.nodes[i].op in ATTENTION or _data(graph, i)


def _to_softmax(graph: Graph, start: int) -> set[int] | None:
    """Scalings between a product and the softmax it feeds; None if it feeds none."""
    queue, seen = [start], set()
    hit = False
    while queue:
        i = queue.pop()
        for c in graph.consumers[i]:
            op = graph.nodes[c].op
            if graph.enters_softmax(i, c):
                hit = True
            elif c not in seen and (op in VIEWS or op in BEFORE_SOFTMAX):
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
