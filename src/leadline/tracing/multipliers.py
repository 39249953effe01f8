"""Where the multipliers of a scheme can go: what parameters take over from the forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from leadline.parametrization.rules import ONE, Power
from leadline.tracing.branches import ResidualBranch
from leadline.tracing.fold import Fold, exclusive_fold, fold
from leadline.tracing.graph import (
    Graph,
)
from leadline.tracing.kinds import Naming
from leadline.tracing.numbers import size_multipliers
from leadline.tracing.patterns import exponent, snapped
from leadline.tracing.products import (
    Logits,
    attention_logits,
    logits_exponent,
    products_of_data,
    scaled_beside,
)


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
        data = next((i for i in graph.nodes[node].inputs if graph.is_act(i)), None)
        names = None if data is None else exclusive_fold(graph, data, node)
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
        """Logits of attention whose head size grows: W_q takes what 1/d needs beside what is there, or W_k
        where that cannot; and other products of data over what grows alike."""
        products, others = products_of_data(graph, wide)
        for i in others:
            self.obstacles.append(("attention", _GROWS.format(repr(graph.nodes[i].module))))
        logits = (*attention_logits(graph), *products)
        nodes = {x.node for x in logits}
        wanted: dict[Logits, tuple[bool, float]] = {}
        for each in logits:
            there = logits_exponent(graph, wide, each)
            q = graph.nodes[each.query], wide.nodes[each.query]
            grows = q[0].shape[-1] != q[1].shape[-1]
            beside = scaled_beside(graph, each, nodes)
            varied = [i for i in beside if exponent(graph.factor(i), wide.factor(i))]
            if varied:
                message = _BESIDE.format(repr(graph.nodes[varied[0]].module))
                self.obstacles.append(("attention", message))
            elif grows or there:
                wanted[each] = grows, there
        takers = _takers(graph, wanted, {x.node for x in products})
        taken: dict[str, Power] = {}
        for each, (grows, there) in wanted.items():
            if each not in takers:
                if not grows or there != -1:  # Otherwise nothing is left to take.
                    message = _NO_SIDE if each in products else _NO_PROJECTION
                    message = message.format(repr(graph.nodes[each.node].module))
                    self.obstacles.append(("attention", message))
                continue
            power = Power(width=snapped(there))
            for name in takers[each]:
                if grows:
                    self.takes[name]["attention"] = power
                else:
                    taken[name] = power
        for name, power in taken.items():
            self.present[name] = self.present.get(name, ONE) + power


_NO_PROJECTION = (
    "the head size in {} grows with width (or its logits' multiplier alone does), and the query projection "
    "is no weight of its own that could take the 1/d scaling: keep the head size constant (more heads), "
    "split the fused projection, or scale the logits by 1/d in the forward pass"
)
_NO_SIDE = (
    "module {} multiplies two tensors that hold no parameter, over a dimension that grows with width, and "
    "neither is made by a weight of its own that could take 1/n: keep that dimension constant (more heads, "
    "a projection to a fixed size), divide by it, or make it a cosine (F.normalize both)"
)
_GROWS = (
    "module {} multiplies two tensors that hold no parameter, over a dimension that grows with width, and "
    "what it makes grows, too, or is a convolution: whether 1/n or 1/√n is right cannot be read off; keep "
    "that dimension constant (more heads, a projection to a fixed size)"
)
_BESIDE = (
    "module {} multiplies by a number that varies with width what a product reads or makes and something "
    "else, too (queries, keys and values at once, a sum of logits): multiply the product alone, or the "
    "queries"
)


def _takers(
    graph: Graph, wanted: Mapping[Logits, tuple[bool, float]], products: set[int]
) -> dict[Logits, set[str]]:
    """By product: the parameters that scale it and nothing else, of queries, or else of keys.

    What several products are made of (a network that every layer's masks go through) scales all of them, if
    all want the same. Queries of attention may be multiplied with positions, too.

    Args:
        wanted: for each, does what it sums over grow, and the exponent of the numbers that are there.
        products: those that are no logits of attention.
    """
    out: dict[Logits, set[str]] = {}
    for k in (0, 1):
        alike: dict[frozenset[str], list[tuple[Logits, Fold]]] = {}
        for each in wanted:
            i = (each.query, each.key)[k]
            part = fold(graph, i) if each not in out else None
            if part is not None and graph.nodes[each.node].inputs.count(i) == 1:
                alike.setdefault(frozenset(part.parameters), []).append((each, part))
        for names, several in alike.items():
            ways = set().union(*(part.edges for _, part in several))
            for each, _ in several:
                i = (each.query, each.key)[k]
                beside = graph.consumers[i] if each.node not in products else ()
                ways |= {(i, each.node), *((i, c) for c in beside if graph.softmaxes(c))}
            all_of = set().union(*(part.visited for _, part in several))
            # Masks of which only a choice is made beside those that are returned have the same size.
            used = ((i, c) for i in all_of for c in graph.consumers[i] if graph.read >> c & 1)
            alone = not all_of.intersection(graph.outputs) and all(way in ways for way in used)
            if alone and len({wanted[each] for each, _ in several}) == 1:
                out |= {each: set(names) for each, _ in several}
    return out


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
    folds.attention(graph, wide)
    common = _common_folds(graph, branches, naming.stacked)
    for b in branches:
        folds.branch(graph, b, common)
    for name, node in tied.items():
        folds.readout(graph, name, node, naming)
    return folds
