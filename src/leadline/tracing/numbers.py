"""Numbers that the forward pass multiplies by: whose weights they belong to, how they vary with size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from leadline.parametrization.rules import ONE, Power
from leadline.tracing.attention import Logits, attention, exponent
from leadline.tracing.branches import is_weight_layer, layer_weights
from leadline.tracing.fold import closed, exclusive, fold
from leadline.tracing.graph import Graph, template
from leadline.tracing.naming import Naming
from leadline.tracing.operations import NORMS, SCALINGS, VIEWS
from leadline.tracing.reductions import averages

_NEAR = "move the multiplier next to a weight, or make it constant and let the plan scale"


def size_multipliers(
    graph: Graph, wide: Graph, deep: Graph, tied: frozenset[str], naming: Naming
) -> dict[str, Power]:
    """What the forward pass multiplies parameters by, as it varies with width and depth.

    Args:
        tied: embeddings that are readouts too.

    Raises:
        ValueError: such a number is no power law, or no weight can account for it.
    """
    out: dict[str, Power] = {}
    graphs = (graph, wide, deep)
    logits = {id(g): attention(g) for g in graphs}
    here, there, below = (_applied(g, logits[id(g)], tied) for g in graphs)
    for name in sorted(set(here.products) | set(there.products)):
        e = exponent(here.products.get(name, 1.0), there.products.get(name, 1.0))
        if e:
            out[name] = Power(width=snapped(e, f"of parameter {name!r}"))
    templates: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
    for k, products in enumerate((here.products, below.products)):
        for name in graphs[2 * k].parameters:
            pair = templates.setdefault(naming.template(name), ({}, {}))
            pair[k][name] = products.get(name, 1.0)
    for name, (a, b) in templates.items():
        e = _over_depth(f"parameter {name!r} is multiplied", a, b)
        for each in a if e else ():
            out[each] = out.get(each, ONE) + Power(depth=e)
    _homeless(graphs, (here, there, below))
    return out


def _homeless(graphs: tuple[Graph, Graph, Graph], applied: tuple[_Applied, ...]) -> None:
    """Numbers that belong to no weight must not vary."""
    graph, wide, deep = graphs
    here, _, below = applied
    for i in here.homeless:
        if exponent(_number(graph, i), _number(wide, i)):
            raise ValueError(
                f"module {graph.nodes[i].module!r} multiplies by {_number(graph, i):.4g} at one width "
                f"and by {_number(wide, i):.4g} at twice that, and no weight beside it can account for "
                f"that: {_NEAR}"
            )
    by_place: dict[str, tuple[set[float], set[float]]] = {}
    for k, (g, a) in enumerate(((graph, here), (deep, below))):
        for i in (*a.homeless, *a.logits):
            pair = by_place.setdefault(template(g.nodes[i].module), (set(), set()))
            pair[k].add(_number(g, i))
    for module, (a, b) in by_place.items():
        # Numbers of a layer's own index come on top, the others stay.
        if a and b and not a <= b:
            raise ValueError(
                f"module {module!r} multiplies by a number that varies with depth, and no weight beside "
                f"it can account for that: {_NEAR}"
            )


@dataclass
class _Applied:
    products: dict[str, float] = field(default_factory=dict)
    """By parameter: what the forward pass multiplies it by."""
    homeless: list[int] = field(default_factory=list)
    """Scalings that belong to no parameter."""
    logits: list[int] = field(default_factory=list)
    """Those of attention logits, whose width is dealt with elsewhere."""


def _applied(graph: Graph, logits: list[Logits], tied: frozenset[str]) -> _Applied:
    """Every product with a number."""
    out = _Applied()
    skipped = set().union(*(x.scalings for x in logits))
    means = averages(graph)
    for node in graph.nodes:
        i = node.index
        if node.op not in SCALINGS or len(node.numbers) != 1 or node.value is not None:
            continue
        if i in skipped or i in means or not node.numbers[0] or _drops(graph, i):
            continue
        if not (graph.is_act(i) or graph.leaves(i)):
            continue
        names = _home(graph, i, tied)
        if names is None:
            out.homeless.append(i)
        for name in names or ():
            out.products[name] = out.products.get(name, 1.0) * _number(graph, i)
    out.logits = sorted(skipped)
    return out


def _drops(graph: Graph, i: int) -> bool:
    """Does a random mask follow, as in stochastic depth? The number restores the mean, then."""
    followers = [graph.nodes[c] for c in graph.consumers[i]]
    return bool(followers) and all(
        n.op in SCALINGS and any(graph.random >> j & 1 and j != i for j in n.inputs)
        for n in followers
    )


def _number(graph: Graph, i: int) -> float:
    node = graph.nodes[i]
    x = node.numbers[0] if node.numbers else 1.0
    return 1 / x if node.op.startswith("div") and x else x


def _home(graph: Graph, i: int, tied: frozenset[str]) -> set[str] | None:
    """The parameters that a scaling belongs to: what it scales next, or what it scales last."""
    names = _next(graph, i)
    if names is not None:
        return names
    for shared, start in _starts(graph, i, tied):
        found = fold(graph, start)
        if found is None or not closed(graph, found, start, shared):
            continue
        if not shared or any(graph.nodes[j].op == "embedding" for j in found.visited):
            return found.parameters
    return None


def _starts(graph: Graph, i: int, tied: frozenset[str]) -> Iterator[tuple[frozenset[str], int]]:
    yield frozenset(), i
    if not tied:
        return
    yield tied, i
    # Logits of a tied readout: what comes before the product.
    while graph.nodes[i].op in SCALINGS or graph.nodes[i].op in VIEWS:
        i = next((j for j in graph.nodes[i].inputs if graph.is_act(j)), -1)
    if i >= 0 and is_weight_layer(graph, i) and layer_weights(graph, i) <= tied:
        yield frozenset(), next(j for j in graph.nodes[i].inputs if graph.is_act(j))


def _next(graph: Graph, i: int) -> set[str] | None:
    """The weights that a scaled tensor is multiplied by next, if it goes nowhere else."""
    names: set[str] = set()
    queue = [i]
    while queue:
        j = queue.pop()
        if not graph.consumers[j]:
            return None
        for c in graph.consumers[j]:
            node = graph.nodes[c]
            if is_weight_layer(graph, c):
                held = [k for k in node.inputs if not graph.is_act(k) and graph.leaves(k)]
                weight = next(k for k in held if len(graph.nodes[k].shape) > 1)
                found = fold(graph, weight)
                if found is None or not exclusive(graph, found, weight, {c}):
                    return None
                names |= found.parameters
            elif node.op in VIEWS and node.inputs[0] == j:
                queue.append(c)
            elif not (node.op in NORMS and node.inputs[0] == j):  # A norm undoes it.
                return None
    return names


def _over_depth(what: str, a: dict[str, float], b: dict[str, float]) -> float:
    """Exponent of depth that explains the numbers at two depths."""
    values = ({*a.values()}, {*b.values()})
    if values[0] == values[1]:
        return 0.0
    if not all(len(v) == 1 for v in values):
        raise ValueError(
            f"{what} by a number that varies from layer to layer and with depth: no exponent describes "
            "that; make it constant and let the plan scale"
        )
    return snapped(exponent(values[0].pop(), values[1].pop()), what)


def snapped(e: float, what: str = "of attention logits") -> float:
    """To the nearest quarter.

    Raises:
        ValueError: it is no power law with such an exponent.
    """
    nearest = round(4 * e) / 4
    if not math.isfinite(e) or abs(nearest - e) > 1e-4:
        raise ValueError(
            f"a multiplier {what} changes by a factor {2**e:.4g} when the size doubles, which is no "
            "power law with a known exponent: make it constant and let the plan scale"
        )
    return nearest
