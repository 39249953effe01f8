"""Sums, norms and softmaxes over dimensions that grow: which of them a weight's scale can follow."""

from __future__ import annotations

import math

from leadline.tracing.branches import ResidualBranch, joined
from leadline.tracing.cosines import cosines
from leadline.tracing.graph import ADDS_ROWS, SCALINGS, VIEWS, Graph, template

# What the result of N equal terms is proportional to: N to this power.
_GROWTH = {
    "sum": 1.0,
    "nansum": 1.0,
    "linalg_vector_norm": 0.5,
    "norm": 0.5,
    "cumsum": 1.0,
    "logsumexp": 0.0,
}
# Other operations that put many entries into one.
_BESIDE = {"_cdist_forward": "measures distances", "prod": "multiplies"} | dict.fromkeys(
    ADDS_ROWS, "sums"
)
_SHARES = frozenset({"_softmax", "_safe_softmax"})
_REMEDY = (
    "take the mean (or the root mean square, as RMSNorm does), or write the sum as a Linear layer"
)


def averages(graph: Graph) -> frozenset[int]:
    """Products with numbers that make a mean of a sum: x.pow(2).sum(-1) / n, x.norm() / √n."""
    out = set()
    for node in graph.nodes:
        power = _GROWTH.get(node.op, 0.0)
        terms = _terms(graph, node.index) if power else 1.0
        for i in _followers(graph, node.index) if terms > 1 else ():
            if math.isclose(graph.factor(i), terms**-power, rel_tol=1e-6):
                out.add(i)
    return frozenset(out)


def weighed_sums(graph: Graph, wide: Graph) -> dict[int, int]:
    """Sums of products with a parameter that has an entry for each of their terms, where these grow with
    width: (h * a).sum(-1) is a product with the vector a. By product.
    """
    out, means = {}, averages(graph)
    for node in graph.nodes:
        i, users = node.index, graph.consumers[node.index]
        weights = [j for j in node.inputs if not graph.is_act(j) and graph.leaves(j)]
        if node.op not in ("mul", "mul_") or len(node.inputs) != 2 or len(weights) != 1:
            continue
        if len(users) != 1 or graph.nodes[users[0]].op != "sum" or not graph.is_act(i):
            continue
        dims = _summed(graph, users[0])
        grows = [k for k in dims if node.shape[k] != wide.nodes[i].shape[k]]
        sizes = [*([1] * len(node.shape)), *graph.nodes[weights[0]].shape][-len(node.shape) :]
        mean = means & set(_followers(graph, users[0]))
        if grows and not mean and all(sizes[k] == node.shape[k] for k in grows):
            out[i] = users[0]
    return out


def _summed(graph: Graph, i: int) -> list[int]:
    """The dimensions that a sum is over."""
    node, before = graph.nodes[i], graph.nodes[graph.nodes[i].inputs[0]].shape
    if len(node.shape) == len(before):
        return [k for k, (a, b) in enumerate(zip(before, node.shape, strict=True)) if a != b]
    every = not node.shape
    return [*range(len(before))] if every else [int(k) % len(before) for k in node.numbers]


def check_reductions(graph: Graph, wide: Graph, deep: Graph) -> None:
    """Refuse sums, norms and softmaxes over dimensions that grow with width, and sums over depth.

    Raises:
        ValueError: names the module.
    """
    means, weighed = averages(graph), set(weighed_sums(graph, wide).values())
    # Terms of a norm may happen to be as many as those of a product at one width.
    known = frozenset.union(*cosines(graph)) & frozenset.union(*cosines(wide))
    for node in graph.nodes:
        i = node.index
        if i in known or not (graph.touched & graph.read) >> i & 1:
            continue
        if node.op in _SHARES:
            dim = node.kwargs.get("dim", -1)
            if len(node.shape) and node.shape[dim] != wide.nodes[i].shape[dim]:
                raise ValueError(
                    f"module {node.module!r} takes a softmax over a dimension that grows with width: its "
                    "shares shrink as that grows, which no weight's scale can follow; use another "
                    "activation, or keep that dimension constant"
                )
            continue
        if node.op in _BESIDE and _ratio(graph, i) != _ratio(wide, i):
            raise ValueError(
                f"module {node.module!r} {_BESIDE[node.op]} over a dimension that grows with width, which "
                f"no parameter's scale can follow: {_REMEDY}, or project to a fixed size first"
            )
        growing = node.op in _GROWTH and _terms(graph, i) != _terms(wide, i)
        if i in weighed:
            continue
        if growing and not means & set(_followers(graph, i)):
            what = "takes a norm" if _GROWTH[node.op] == 0.5 else "sums"
            raise ValueError(
                f"module {node.module!r} {what} over a dimension that grows with width, which no "
                f"parameter's scale can follow: {_REMEDY}"
            )
    here, there = (_by_place(g) for g in (graph, deep))
    for (module, op), terms in there.items():
        before = here.get((module, op), terms)
        if max(terms) > max(before):
            raise ValueError(
                f"module {module!r} sums over all layers, {max(before):g} terms at one depth and "
                f"{max(terms):g} at twice that, which no parameter's scale can follow: take the mean, or "
                "give scheme='mup', which scales with width alone"
            )


def sums_of_layers(
    here: tuple[Graph, list[ResidualBranch]], there: tuple[Graph, list[ResidualBranch]]
) -> ValueError | None:
    """Why what layers make cannot be added up one by one, if a model does so; none if it does not.

    Args:
        here, there: a network and one of twice the depth, each with its branches.
    """
    few, more = (
        [
            i
            for i in range(len(graph.nodes))
            if joined(graph, i) and not any(i == b.join or i in b.region for b in branches)
        ]
        for graph, branches in (here, there)
    )
    if len(more) <= len(few):
        return None
    module = there[0].nodes[more[-1]].module
    return ValueError(
        f"module {module!r} adds up what the layers make, in {len(few)} sums at one depth and "
        f"{len(more)} at twice that, which no parameter's scale can follow: take the mean "
        "(torch.stack(...).mean(0)), or give scheme='mup', which scales with width alone"
    )


def _terms(graph: Graph, i: int) -> float:
    """How many entries of its input make one of its own."""
    node = graph.nodes[i]
    if node.op == "cumsum":
        return float(node.shape[node.kwargs.get("dim", -1)]) if node.shape else 1.0
    return math.prod(graph.nodes[node.inputs[0]].shape) / max(math.prod(node.shape), 1)


def _ratio(graph: Graph, i: int) -> float:
    """How many entries go into one: a distance's coordinates, the channels that are summed into one."""
    node = graph.nodes[i]
    before = graph.nodes[node.inputs[-1] if node.op in ADDS_ROWS else node.inputs[0]].shape
    if node.op == "_cdist_forward":
        return float(before[-1])
    if node.op in ADDS_ROWS:
        # Rows are summed, too: those that experts make, as many as there are.
        along = int(node.numbers[0]) if node.numbers else 0
        last = along in (-1, len(before) - 1) and len(before) > 1
        return before[-1] / max(node.shape[-1], 1) if last else 1.0
    return math.prod(before) / max(math.prod(node.shape), 1)


def _followers(graph: Graph, i: int) -> list[int]:
    """Products with one number that its result enters, whatever views come between."""
    out, queue = [], [i]
    while queue:
        for c in graph.consumers[queue.pop()]:
            node = graph.nodes[c]
            if node.op in VIEWS and node.op not in _GROWTH and node.op != "mean":
                queue.append(c)
                continue
            by_number = node.op in SCALINGS and len(node.numbers) == 1 and node.numbers[0]
            if by_number and all(graph.nodes[j].value is not None for j in node.inputs[1:]):
                out.append(c)
    return out


def _by_place(graph: Graph) -> dict[tuple[str, str], set[float]]:
    out: dict[tuple[str, str], set[float]] = {}
    for node in graph.nodes:
        if node.op in _GROWTH and (graph.touched & graph.read) >> node.index & 1:
            out.setdefault((template(node.module), node.op), set()).add(_terms(graph, node.index))
    return out
