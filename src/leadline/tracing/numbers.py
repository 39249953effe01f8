"""Numbers that the forward pass multiplies by, and the parameters that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from leadline.parametrization.rules import ONE, Power
from leadline.tracing.branches import is_weight_layer, layer_weights
from leadline.tracing.fold import Fold, closed, exclusive_fold, fold
from leadline.tracing.graph import (
    NORMS,
    SCALINGS,
    VIEWS,
    Graph,
    template,
)
from leadline.tracing.kinds import Naming
from leadline.tracing.patterns import counts, drops, exponent, snapped
from leadline.tracing.products import Logits, attention_logits, products_alike, products_of_data
from leadline.tracing.sums import averages

_NEAR = "move the multiplier next to a weight, or make it constant and let the plan scale"


def size_multipliers(
    graph: Graph, wide: Graph, deep: Graph, tied: frozenset[str], naming: Naming
) -> tuple[dict[str, Power], list[str]]:
    """What the forward pass multiplies parameters by, as it varies with size; and lines for what varies
    with depth otherwise, which matters to schemes that scale over depth.

    Args:
        tied: embeddings that are readouts too.

    Raises:
        ValueError: a number is no power law in width, or no weight can account for it.
    """
    out: dict[str, Power] = {}
    graphs = (graph, wide, deep)
    here, there, below = (
        _applied(g, tied, known) for g, known in zip(graphs, _products(*graphs), strict=True)
    )
    _looked_up(here, there, below)
    for name in sorted(set(here.products) | set(there.products)):
        e = exponent(here.products.get(name, 1.0), there.products.get(name, 1.0))
        if e:
            out[name] = Power(width=snapped(e, f"of parameter {name!r}"))
    templates: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
    for k, products in enumerate((here.products, below.products)):
        for name in graphs[2 * k].parameters:
            pair = templates.setdefault(naming.template(name), ({}, {}))
            pair[k][name] = products.get(name, 1.0)
    varied = _unassigned(graphs, (here, there, below))
    for name, (a, b) in templates.items():
        try:
            e = _over_depth(f"parameter {name!r} is multiplied", a, b)
        except ValueError as problem:
            varied.append(str(problem))
            continue
        for each in a if e else ():
            out[each] = out.get(each, ONE) + Power(depth=e)
    return out, [f"{line}, or give scheme='mup', which scales with width alone" for line in varied]


def _looked_up(here: _Applied, there: _Applied, below: _Applied) -> None:
    """Count the number of the places where a table is looked up in, once for all of them."""
    for name, numbers in here.looked_up.items():
        for other in (there, below):
            # A stream more of a deeper network has more places.
            powers = {
                exponent(a, b) for a, b in zip(numbers, other.looked_up.get(name, ()), strict=False)
            }
            if len(powers) > 1:
                raise ValueError(
                    f"parameter {name!r} is looked up in several places, and the numbers that multiply "
                    f"what comes out vary with size in one and not in another ("
                    f"{', '.join(f'{x:.4g}' for x in numbers)} at one size, "
                    f"{', '.join(f'{x:.4g}' for x in other.looked_up[name])} at another): {_NEAR}"
                )
    for applied in (here, there, below):
        for name, numbers in applied.looked_up.items():
            applied.products[name] = applied.products.get(name, 1.0) * numbers[0]


def _unassigned(graphs: tuple[Graph, Graph, Graph], applied: tuple[_Applied, ...]) -> list[str]:
    """Numbers that belong to no weight must not vary with width; those that do with depth."""
    graph, wide, deep = graphs
    here, _, below = applied
    for i in here.unassigned:
        if exponent(graph.factor(i), wide.factor(i)):
            raise ValueError(
                f"module {graph.nodes[i].module!r} multiplies by {graph.factor(i):.4g} at one width "
                f"and by {wide.factor(i):.4g} at twice that, and no weight beside it can account for "
                f"that: {_NEAR}"
            )
    by_place: dict[str, tuple[set[float], set[float]]] = {}
    for k, (g, a) in enumerate(((graph, here), (deep, below))):
        for i in (*a.unassigned, *a.logits):
            pair = by_place.setdefault(template(g.nodes[i].module), (set(), set()))
            pair[k].add(g.factor(i))
    # Numbers of a layer's own index come on top, the others stay.
    varied = [module for module, (a, b) in by_place.items() if a and b and not a <= b]
    what = "multiplies by a number that varies with depth, and no weight beside it can account for that"
    return [f"module {module!r} {what}: {_NEAR}" for module in varied]


@dataclass
class _Applied:
    products: dict[str, float] = field(default_factory=dict)
    """By parameter: what the forward pass multiplies it by, wherever it is used."""
    looked_up: dict[str, list[float]] = field(default_factory=dict)
    """The same for every place where a table that is used more than once is looked up."""
    unassigned: list[int] = field(default_factory=list)
    """Scalings that belong to no parameter."""
    logits: list[int] = field(default_factory=list)
    """Scalings of attention logits, whose width is dealt with elsewhere."""


def _products(graph: Graph, wide: Graph, deep: Graph) -> Iterator[list[Logits]]:
    """What wants 1/n of each: attention's logits, and other products of data."""
    here, there = products_of_data(graph, wide)[0], products_of_data(wide, graph)[0]
    for g, more in ((graph, here), (wide, there)):
        yield [*attention_logits(g), *more]
    logits = attention_logits(deep)
    yield [*logits, *products_alike(deep, here, graph, {x.node for x in logits})]


def _applied(graph: Graph, tied: frozenset[str], products: list[Logits]) -> _Applied:
    """Every product with a number."""
    out = _Applied()
    skipped = set().union(*(x.scalings for x in products))
    means = averages(graph)
    shared = tied | _tables_used_again(graph)
    for node in graph.nodes:
        i = node.index
        if node.op not in SCALINGS or len(node.numbers) != 1 or node.value is not None:
            continue
        if i in skipped or i in means or not node.numbers[0] or drops(graph, i) or counts(graph, i):
            continue
        if not graph.read >> i & 1:  # What only a choice is made of.
            continue
        if not (graph.is_act(i) or graph.leaves(i)):
            continue
        part = _scaled(graph, i, tied, shared)
        if part is None:
            out.unassigned.append(i)
            continue
        for name in part.parameters:
            places = _lookups(graph, name) if name in shared else []
            uses = [k for k, place in enumerate(places) if place in part.visited]
            each = out.looked_up.setdefault(name, [1.0] * len(places)) if uses else []
            for k in uses:
                each[k] *= graph.factor(i)
            if not uses:
                out.products[name] = out.products.get(name, 1.0) * graph.factor(i)
    out.logits = sorted(skipped)
    return out


def _lookups(graph: Graph, name: str) -> list[int]:
    """Where a table's rows are looked up."""
    return [c for c in graph.consumers[graph.parameters[name]] if graph.nodes[c].op == "embedding"]


def _tables_used_again(graph: Graph) -> frozenset[str]:
    """Tables that are looked up in several places, and used in no other way."""
    known = (
        (name, _lookups(graph, name), graph.consumers[i]) for name, i in graph.parameters.items()
    )
    return frozenset(name for name, looked_up, used in known if len(looked_up) == len(used) > 1)


def _scaled(graph: Graph, i: int, tied: frozenset[str], shared: frozenset[str]) -> Fold | None:
    """The parameters that a scaling belongs to: what it scales next, or what it scales last.

    Args:
        tied: embeddings that are readouts too. shared: these, and tables that are looked up twice.
    """
    names = _next_weights(graph, i)
    if names is not None:
        return Fold(names, set())
    for several, start in _fold_starts(graph, i, tied, shared):
        part = fold(graph, start)
        if part is None or not closed(graph, part, start, several):
            continue
        if not several or any(graph.nodes[j].op == "embedding" for j in part.visited):
            return part
    return None


def _fold_starts(
    graph: Graph, i: int, tied: frozenset[str], shared: frozenset[str]
) -> Iterator[tuple[frozenset[str], int]]:
    yield frozenset(), i
    if shared:
        yield shared, i
    if not tied:
        return
    # Logits of a tied readout: what comes before the product.
    while i >= 0 and graph.nodes[i].op in SCALINGS | VIEWS:
        i = next((j for j in graph.nodes[i].inputs if graph.is_act(j)), -1)
    if i >= 0 and is_weight_layer(graph, i) and layer_weights(graph, i) <= tied:
        yield frozenset(), next(j for j in graph.nodes[i].inputs if graph.is_act(j))


def _scaled_alike(graph: Graph, weight: int, data: int) -> list[int]:
    """The products with a parameter, if the number that multiplies ``data`` multiplies each; else none."""

    def factor(i: int) -> float | None:
        while graph.nodes[i].op in VIEWS:
            i = graph.nodes[i].inputs[0]
        node = graph.nodes[i]
        return graph.factor(i) if node.op in SCALINGS and len(node.numbers) == 1 else None

    while graph.nodes[weight].op in VIEWS:
        weight = graph.nodes[weight].inputs[0]
    products, queue = [], [weight] if graph.nodes[weight].parameter is not None else []
    while queue:
        for c in graph.consumers[queue.pop()]:
            if graph.nodes[c].op in VIEWS:
                queue.append(c)
            elif is_weight_layer(graph, c):
                products.append(c)
            else:
                return []
    factors = {factor(i) for c in products for i in graph.nodes[c].inputs if graph.is_act(i)}
    return products if factors == {factor(data)} - {None} else []


def _next_weights(graph: Graph, i: int) -> set[str] | None:
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
                alike = _scaled_alike(graph, weight, j)
                if c not in alike:
                    parts = exclusive_fold(graph, weight, c)
                    if parts is None:
                        return None
                    names |= parts
                elif c == min(alike):  # A weight that is used more often has the number once.
                    names |= graph.leaves(weight)
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
            f"{what} by a number that varies from layer to layer: no exponent describes that; make it "
            "constant and let the plan scale"
        )
    return snapped(exponent(values[0].pop(), values[1].pop()), what)
