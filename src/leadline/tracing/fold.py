"""Where a multiplier can go: parameters whose scaling scales a given tensor, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from leadline.tracing.graph import (
    ADDS_ROWS,
    ATTENTION,
    CONVOLUTIONS,
    EMPTY,
    GROUPED,
    HOMOGENEOUS,
    MATRIX,
    NORMS,
    SCALINGS,
    SUMS,
    VIEWS,
    Graph,
)
from leadline.tracing.patterns import weight_norm


@dataclass
class Fold:
    """Parameters that scale a tensor together, and the operations between."""

    parameters: set[str]
    visited: set[int]
    edges: set[tuple[int, int]] = field(default_factory=set, compare=False)
    """The ways between them: an operation that is gone through from its first factor is not one that
    is gone through from the second."""

    def union(self, *others: Fold) -> Fold:
        out = Fold(set(self.parameters), set(self.visited), set(self.edges))
        for other in others:
            out.parameters |= other.parameters
            out.visited |= other.visited
            out.edges |= other.edges
        return out


def fold(graph: Graph, index: int) -> Fold | None:
    """The last affine map before a tensor: scaling these parameters by a > 0 scales it by a.

    None where there is no such set.
    """
    return _fold(graph, index, {})


def _fold(graph: Graph, index: int, known: dict[int, Fold | None]) -> Fold | None:
    """The same; ``known`` keeps the answers on the way, as ways through sums part and meet again."""
    node = graph.nodes[index]
    here = Fold(set(), {index})
    if node.parameter is not None:
        return Fold({node.parameter}, {index})

    def into(i: int) -> Fold | None:
        if i not in known:
            known[i] = _fold(graph, i, known)
        part = known[i]
        return None if part is None else part.union(Fold(set(), set(), {(i, index)}))

    def through(i: int) -> Fold | None:
        return all_of([into(i)])

    def all_of(parts: list[Fold | None]) -> Fold | None:
        """The union of the parts; none if one of them is none."""
        part = [p for p in parts if p is not None]
        return here.union(*part) if len(part) == len(parts) else None

    def sum_of(operands: list[int]) -> Fold | None:
        """The weights of all of these that are not zero."""
        return all_of([into(i) for i in operands if not _blank(graph, i)])

    def one_of(operands: list[int]) -> Fold | None:
        """The first of these whose weights act on nothing else, or else the first that has any."""
        parts = {i: p for i in operands if (p := into(i)) is not None}
        alone = [p for i, p in parts.items() if exclusive(graph, p, i, {index})]
        best = [*alone, *parts.values()]
        return here.union(best[0]) if best else None

    def product_of(factors: list[int]) -> Fold | None:
        """One factor: a weight, or data where there is none."""
        if len(set(factors)) < len(factors):  # A square.
            return None
        weights = [i for i in factors if i in held]
        beside = [i for i in factors if i not in held] if op in SCALINGS or not weights else []
        return one_of([*weights, *beside])

    held = [i for i in node.inputs if not graph.is_act(i) and graph.leaves(i)]
    acts = [i for i in node.inputs if graph.is_act(i)]
    op = node.op
    if op in ("cat", "stack"):
        return sum_of(node.inputs)
    if op in ("copy_", "index_put_", "index_put", "select_scatter"):
        # What is written to, and what is written; indices are no part of it unless they are data.
        ends = (node.inputs[0], node.inputs[-1])
        whole = node.discrete - set(ends)
        return sum_of([i for i in node.inputs if i in ends or (i in acts and i not in whole)])
    if op in VIEWS or op in HOMOGENEOUS:
        fills = [node.kwargs.get("value", 0.0), *(graph.nodes[i].value for i in node.inputs[2:])]
        fills.append(node.kwargs.get("threshold", 0.0))
        if op in _FILLS and any(not (x == 0 or x == -math.inf) for x in fills):
            return None
        return through(node.inputs[0])
    if op in _BOUNDED and _unbounded(graph, index):
        return through(node.inputs[0])
    if op in NORMS:
        # Gain and bias; what it is a norm of has no scale left.
        held = [i for i in held if i in node.inputs[1:]]
        return sum_of(held) if held else None
    normed = weight_norm(graph, index)
    if normed is not None:
        ways = {
            (i, c)
            for c in (*normed.inner, index)
            for i in graph.nodes[c].inputs
            if i == normed.gain or i in normed.inner
        }
        return all_of([_fold(graph, normed.gain, known), Fold(set(), set(normed.inner), ways)])
    if op in MATRIX or op in CONVOLUTIONS or op == "embedding":
        if op in GROUPED:
            factors, terms = node.inputs[:2], []
        elif op in ("addmm", "baddbmm", "addmv"):
            term, *factors = node.inputs
            terms = [term]
        else:
            factors, terms = node.inputs[:2], node.inputs[2:]
        return all_of([product_of(factors[::-1]), sum_of(terms)])
    if op in SCALINGS:
        return through(node.inputs[0]) if op.startswith("div") else product_of(node.inputs)
    if op in SUMS and len(node.inputs) == 1 and any(node.numbers):
        # A gain written as 1 + w is scaled as a whole.
        return through(node.inputs[0]) if index in _shifts(graph, node.inputs[0]) else None
    if op in SUMS:
        made = _made_of_one(graph, acts) if len(acts) == len(node.inputs) == 2 else None
        if made is not None:
            return all_of(
                [_fold(graph, made.start, known), Fold(set(), made.nodes, made.ways(index, acts))]
            )
        return sum_of(node.inputs)
    if op == "where":
        shifted = any(x not in (0, -math.inf) for x in node.numbers)
        return None if shifted else sum_of([i for i in node.inputs if i not in node.discrete])
    if op in ADDS_ROWS:
        return sum_of([node.inputs[0], node.inputs[-1]])
    if op in ATTENTION:
        return through(node.inputs[2])
    return None


@dataclass
class _Made:
    """What is made of one tensor by operations that scale with it."""

    start: int
    nodes: set[int]
    edges: set[tuple[int, int]]

    def ways(self, end: int, ends: list[int]) -> set[tuple[int, int]]:
        """All ways, those into a sum of it included."""
        return self.edges | {(i, end) for i in ends}


def _made_of_one(graph: Graph, pair: list[int]) -> _Made | None:
    """Two tensors that are added, where one is made of the other (y + conv(y)): both, from the one.

    None where neither is, or not by products with weights and rearrangements alone.
    """
    first, other = sorted(pair)
    nodes, edges, i = {other}, set[tuple[int, int]](), other
    while i > first:
        node = graph.nodes[i]
        made = [j for j in node.inputs if graph.is_act(j)]
        plain = node.op in VIEWS or node.op in SCALINGS or node.op in HOMOGENEOUS
        weighed = (node.op in MATRIX or node.op in CONVOLUTIONS) and len(node.inputs) == 2
        if len(made) != 1 or not (plain or weighed) or (plain and node.op in _FILLS):
            return None
        if node.op.startswith("div") and node.inputs[0] != made[0]:
            return None
        edges.add((made[0], i))
        i = made[0]
        nodes.add(i)
    return _Made(first, nodes, edges) if i == first else None


# Operations that may put in numbers of their own.
_BOUNDED = frozenset("clamp clamp_ clamp_min clamp_max minimum maximum hardtanh".split())


def _unbounded(graph: Graph, index: int) -> bool:
    """Are all bounds infinite (a placeholder for what quantization sets)?"""
    node = graph.nodes[index]
    values = [*node.numbers, *(graph.nodes[i].value for i in node.inputs[1:])]
    return bool(values) and all(x is not None and math.isinf(x) for x in values)


_FILLS = frozenset("masked_fill masked_fill_ constant_pad_nd threshold".split())


def offsets(graph: Graph) -> dict[str, float]:
    """The numbers c of parameters that take part in nothing but c + w, by name."""
    out = {}
    for name, i in graph.parameters.items():
        numbers = {graph.nodes[j].numbers[0] for j in _shifts(graph, i)}
        if len(numbers) == 1:
            out[name] = numbers.pop()
    return out


def _shifts(graph: Graph, i: int) -> frozenset[int]:
    """The sums with a number that are all that a parameter (or a view of one) takes part in."""
    while graph.nodes[i].op in VIEWS:
        i = graph.nodes[i].inputs[0]
    out, queue = set(), [i] if graph.nodes[i].parameter is not None else []
    while queue:
        for c in graph.consumers[queue.pop()]:
            node = graph.nodes[c]
            if node.op in VIEWS:
                queue.append(c)
            elif node.op in ("add", "add_") and len(node.inputs) == 1 and any(node.numbers):
                out.add(c)
            else:
                return frozenset()
    return frozenset(out) if len({graph.nodes[c].numbers for c in out}) == 1 else frozenset()


def _blank(graph: Graph, i: int) -> bool:
    """Zero, or memory that nothing was written to."""
    if graph.nodes[i].value == 0:
        return True
    while graph.nodes[i].op in VIEWS and graph.nodes[i].inputs:
        i = graph.nodes[i].inputs[0]
    return graph.nodes[i].op in EMPTY


def exclusive(
    graph: Graph, part: Fold, target: int, users: set[int], shared: frozenset[str] = frozenset()
) -> bool:
    """Does everything on the way from the parameters to ``target`` feed only it?

    Args:
        users: what may consume the target itself.
        shared: parameters that may be used elsewhere too.
    """
    for i in part.visited:
        if graph.nodes[i].parameter in shared:
            continue
        allowed = users if i == target else ()
        if any((i, c) not in part.edges and c not in allowed for c in graph.consumers[i]):
            return False
    return True


def closed(
    graph: Graph, part: Fold | None, target: int, shared: frozenset[str] = frozenset()
) -> bool:
    """The same, whatever consumes the target."""
    users = set(graph.consumers[target])
    return part is not None and exclusive(graph, part, target, users, shared)


def exclusive_fold(graph: Graph, i: int, *users: int) -> set[str] | None:
    """Parameters whose scaling scales a tensor and nothing else, if ``users`` alone read that."""
    last = fold(graph, i)
    return last.parameters if last is not None and exclusive(graph, last, i, {*users}) else None
