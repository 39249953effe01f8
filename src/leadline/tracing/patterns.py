"""Operations whose scale is not that of one weight: attention logits, weight norms."""

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
    TABLES,
    VIEWS,
    WEIGHT_NORM,
    Graph,
    template,
)

# Numbers rounded to bfloat16 are off by up to 2^-9: two of them by .006 in the binary logarithm.
_ROUNDING = 0.006
_NORM = frozenset("norm linalg_vector_norm".split())
_BETWEEN = VIEWS | frozenset("clamp_min clamp_min_ clamp add".split())


@dataclass(frozen=True)
class Logits:
    """One product of queries and keys."""

    node: int
    query: int
    key: int
    scalings: tuple[int, ...]
    """Products with numbers between the projections and the softmax; one that queries and keys share is
    there twice."""


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


def scaled_beside(graph: Graph, logits: Logits, products: set[int]) -> int | None:
    """The number before a product that multiplies something beside it, too (values, say), if there is one.

    Args:
        products: all products that such numbers are counted for.
    """
    for i in logits.scalings:
        if graph.ancestors[logits.node] >> i & 1 == 0:  # Behind it.
            continue
        queue = [i]
        while queue:
            j = queue.pop()
            for c in graph.consumers[j]:
                node = graph.nodes[c]
                value = node.op in ATTENTION and j == node.inputs[2]
                if node.op in VIEWS or c in logits.scalings:
                    queue.append(c)
                elif value or (c not in products and graph.read >> c & 1):
                    return i
    return None


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
    """Does a random mask follow, as in stochastic depth? The number restores the mean, then."""
    followers = [graph.nodes[c] for c in graph.consumers[i]]
    return bool(followers) and all(
        n.op in SCALINGS and any(graph.random >> j & 1 and j != i for j in n.inputs)
        for n in followers
    )


def counts(graph: Graph, i: int) -> bool:
    """Are these whole numbers, which have no size (how many entries of a mask are set)?"""
    whole = set(graph.nodes[i].inputs) <= graph.nodes[i].discrete
    return whole and all(i in graph.nodes[c].discrete for c in graph.consumers[i])
