"""Numbers that the forward pass multiplies by: those that vary with size, and where a scheme's can go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from leadline.parametrization.rules import ONE, Power
from leadline.tracing.branches import ResidualBranch, is_weight_layer, layer_weights
from leadline.tracing.fold import Fold, closed, exclusive_fold, fold
from leadline.tracing.graph import (
    NORMS,
    SCALINGS,
    VIEWS,
    Graph,
    template,
)
from leadline.tracing.kinds import Naming
from leadline.tracing.patterns import (
    attention_logits,
    contractions,
    counts,
    drops,
    exponent,
    logits_exponent,
    snapped,
)
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
    here, there, below = (_applied(g, tied) for g in graphs)
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
    """By parameter: what the forward pass multiplies it by."""
    unassigned: list[int] = field(default_factory=list)
    """Scalings that belong to no parameter."""
    logits: list[int] = field(default_factory=list)
    """Scalings of attention logits, whose width is dealt with elsewhere."""


def _applied(graph: Graph, tied: frozenset[str]) -> _Applied:
    """Every product with a number."""
    out = _Applied()
    skipped = set().union(*(x.scalings for x in attention_logits(graph)))
    means = averages(graph)
    for node in graph.nodes:
        i = node.index
        if node.op not in SCALINGS or len(node.numbers) != 1 or node.value is not None:
            continue
        if i in skipped or i in means or not node.numbers[0] or drops(graph, i) or counts(graph, i):
            continue
        if not (graph.is_act(i) or graph.leaves(i)):
            continue
        names = _parameters_scaled(graph, i, tied)
        if names is None:
            out.unassigned.append(i)
        for name in names or ():
            out.products[name] = out.products.get(name, 1.0) * graph.factor(i)
    out.logits = sorted(skipped)
    return out


def _parameters_scaled(graph: Graph, i: int, tied: frozenset[str]) -> set[str] | None:
    """The parameters that a scaling belongs to: what it scales next, or what it scales last."""
    names = _next_weights(graph, i)
    if names is not None:
        return names
    for shared, start in _fold_starts(graph, i, tied):
        part = fold(graph, start)
        if part is None or not closed(graph, part, start, shared):
            continue
        if not shared or any(graph.nodes[j].op == "embedding" for j in part.visited):
            return part.parameters
    return None


def _fold_starts(
    graph: Graph, i: int, tied: frozenset[str]
) -> Iterator[tuple[frozenset[str], int]]:
    yield frozenset(), i
    if not tied:
        return
    yield tied, i
    # Logits of a tied readout: what comes before the product.
    while graph.nodes[i].op in SCALINGS or graph.nodes[i].op in VIEWS:
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


def _common_folds(
    graph: Graph, branches: list[ResidualBranch], stacked: frozenset[str]
) -> dict[int, set[str]]:
    """By the sum of a branch: what takes its multiplier in several branches at once, each time once. That
    is the last layer's weights where a network is run on several inputs in one pass, and a parameter with
    entries for all layers, in the branches of all of them.
    """
    parts = {b.join: part for b in branches if (part := fold(graph, b.end)) is not None}
    ends = {(b.end, b.join) for b in branches}
    ways = ends.union(*(part.edges for part in parts.values()))
    alike: dict[frozenset[str], set[tuple[int, int]]] = {}
    for part in parts.values():
        alike.setdefault(frozenset(part.parameters), set(ends)).update(part.edges)

    def beside(i: int, part: Fold) -> set[tuple[int, int]]:
        """The ways on from what holds no data, which those branches may share."""
        if graph.is_act(i):
            return part.edges | ends
        return ways if graph.leaves(i) & stacked else alike[frozenset(part.parameters)]

    return {
        join: part.parameters
        for join, part in parts.items()
        if all((i, c) in beside(i, part) for i in part.visited for c in graph.consumers[i])
    }


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


@dataclass
class Folds:
    """What parameters take over from the forward pass, by parameter name."""

    takes: dict[str, dict[str, Power]] = field(default_factory=lambda: defaultdict(dict))
    """branch, attention, readout: each with the multiplier that is present already."""
    present: dict[str, Power] = field(default_factory=dict)
    """Other multipliers that depend on size and are present already."""
    ends: set[str] = field(default_factory=set)
    """Parameters of the last layer that take what its other repetitions do not."""
    obstacles: list[tuple[str, str]] = field(default_factory=list)
    """What has no place, with the remedy: only an error for schemes that need it."""

    def branch(self, graph: Graph, b: ResidualBranch, common: Mapping[int, set[str]]) -> None:
        """Find where the branch's multiplier goes.

        Args:
            common: what takes the multipliers of several branches, by their sums.
        """
        names = exclusive_fold(graph, b.end, b.join) or common.get(b.join)
        if names is None:
            node = graph.nodes[b.end]
            message = (
                f"the residual branch {repr(b.name) if b.name else 'of the model'} ends in {node.op!r} "
                f"(module {node.module!r}), and no weight that acts on it alone can take the branch's "
                "multiplier: end the branch with a Linear, a Conv, a norm with affine=True, or a "
                "LayerScale gain, or give scheme='mup', which scales with width alone"
            )
            self.obstacles.append(("branch", message))
            return
        for name in names:
            self.takes[name]["branch"] = ONE

    def readout(self, graph: Graph, name: str, node: int, naming: Naming) -> None:
        """Find where a tied readout's multiplier goes: before the product ``node`` with its weight.

        What the embedding gives up because its output is multiplied already, the readout lacks.
        """
        data = next(i for i in graph.nodes[node].inputs if graph.is_act(i))
        names = exclusive_fold(graph, data, node)
        last = {naming.template(p): p for p in graph.parameters}
        if names is None or any(naming.repeats(p) and last[naming.template(p)] != p for p in names):
            message = (
                f"parameter {name!r} is both embedding and readout, and nothing before the readout can "
                "take its multiplier: end the model with an affine norm that belongs to no layer, or "
                "untie the two"
            )
            self.obstacles.append(("readout", message))
            return
        for other in names:
            self.takes[other]["readout"] = self.present.get(name, ONE) * -1.0
            if naming.repeats(other):
                self.ends.add(other)

    def attention(self, graph: Graph, wide: Graph) -> None:
        """Logits of attention whose head size grows: W_q takes what 1/d needs beside what is there."""
        for logits in attention_logits(graph):
            there = logits_exponent(graph, wide, logits)
            q = logits.query
            grows = graph.nodes[q].shape[-1] != wide.nodes[q].shape[-1]
            if not grows and not there:
                continue
            projection = fold(graph, q)
            if projection is None or not closed(graph, projection, q):
                if grows and there == -1:  # Nothing is left to take.
                    continue
                module = graph.nodes[logits.node].module
                message = (
                    f"the head size in {module!r} grows with width (or its logits' "
                    "multiplier alone does), and the query projection is no weight of its own that could "
                    "take the 1/d scaling: keep the head size constant (more heads), split the fused "
                    "projection, or scale the logits by 1/d in the forward pass"
                )
                self.obstacles.append(("attention", message))
                continue
            for name in projection.parameters:
                power = Power(width=snapped(there))
                if grows:
                    self.takes[name]["attention"] = power
                else:
                    self.present[name] = self.present.get(name, ONE) + power


def folds_of(
    graph: Graph,
    wide: Graph,
    deep: Graph,
    branches: list[ResidualBranch],
    tied: Mapping[str, int],
    naming: Naming,
) -> Folds:
    """What the parameters take over, and what is multiplied by already.

    Args:
        tied: embeddings that are readouts too, with the readout's product.
    """
    present, varied = size_multipliers(graph, wide, deep, frozenset(tied), naming)
    folds = Folds(present=present, obstacles=[("branch", line) for line in varied])
    folds.obstacles += [("attention", line) for line in contractions(graph, wide)]
    folds.attention(graph, wide)
    common = _common_folds(graph, branches, naming.stacked)
    for b in branches:
        folds.branch(graph, b, common)
    for name, node in tied.items():
        folds.readout(graph, name, node, naming)
    return folds
