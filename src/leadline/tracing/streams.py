"""Which residual branches repeat with depth: those of a stream that has more sums in a deeper network.

A skip inside a block is a sum like those of the stream. What tells the two apart is how many sums follow
each other: a stream has more of them in a deeper network, a skip inside a block (or around a fixed number
of blocks) has as many as before, and what it skips is a part of the branch around it. A skip to a place
that other layers have been added before (the two halves of a U, values of the first layer, the input
again) goes around more of them in a deeper network: it ends no branch, and what it adds is the stream's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from leadline.tracing.branches import (
    ResidualBranch,
    find_branches,
    is_weight_layer,
    joined,
    layer_weights,
    stays,
)
from leadline.tracing.graph import Graph, bits, template
from leadline.tracing.kinds import Naming
from leadline.tracing.shared import used_more_often


def repeated_branches(
    graph: Graph, deep: Graph, outside: Callable[[Iterable[str]], frozenset[str]], naming: Naming
) -> tuple[list[ResidualBranch], list[ResidualBranch]]:
    """The residual branches that repeat with depth, and those of the deeper network, in a row.

    Args:
        deep: the network at twice the depth.
        outside: of these parameters, those that the user counts as the stream's.

    Raises:
        ValueError: a sum that repeats with depth has two sides that may be the branch.
    """
    sides = [find_branches(g, outside(g.parameters), naming) for g in (graph, deep)]
    few, more = (Counter(equal) for _, equal in sides)
    for each in more:
        if more[each] > few[each]:
            raise ValueError(next((e.message for e in few if e == each), each.message))
    here, there = (branches for branches, _ in sides)
    here, there = chained(graph, here, deep, there, naming)
    often = used_more_often(graph, deep)
    kept = stream_branches(graph, here, deep, there, naming, often)
    return [b for b in kept if repeats(graph, deep, b, kept, naming, often)], there


def alike(
    deep: Graph,
    there: list[ResidualBranch],
    graph: Graph,
    branches: list[ResidualBranch],
    naming: Naming,
) -> list[ResidualBranch]:
    """The branches of a deeper network that repeat with depth where these do: in the same streams.

    Args:
        there: its branches in a row. branches: those that repeat, of the network ``graph``.
    """
    called, often = _called(graph, deep, naming), used_more_often(graph, deep)
    owners = {_owner(graph, b, branches, called)[1] for b in branches}
    there = [b for b in there if repeats(deep, graph, b, there, naming, often)]
    return [b for b in there if _owner(deep, b, there, called)[1] in owners]


def chained(
    graph: Graph,
    branches: list[ResidualBranch],
    deep: Graph,
    there: list[ResidualBranch],
    naming: Naming,
) -> tuple[list[ResidualBranch], list[ResidualBranch]]:
    """Those branches, and those of the deeper network, whose sums are more in a row in the deeper one,
    and that go around as many layers in both.

    Args:
        deep, there: the network at twice the depth, and its branches.
    """
    called = _called(graph, deep, naming)
    here, there = _in_longer_rows((graph, branches), (deep, there), called)
    spans = []
    for g, of in ((graph, here), (deep, there)):
        most: dict[_Place, int] = {}
        for b in of:
            key = _key(g, b, called)
            layers = {naming.layer(min(layer_weights(g, i))) for i in b.weighted}
            most[key] = max(most.get(key, 0), len(layers))
        spans.append(most)
    # Whatever the first layer adds to, layers called alike may go around as much.
    longest: dict[frozenset[str], int] = {}
    for (_, names), n in spans[0].items():
        longest[names] = max(longest.get(names, 0), n)
    wider = {key for key, n in spans[1].items() if key in spans[0] and n > longest[key[1]]}
    one, two = (
        [b for b in of if _key(g, b, called) not in wider]
        for g, of in ((graph, here), (deep, there))
    )
    return one, two


_Place = tuple[str, frozenset[str]]
_Called = Callable[[str], str]


def _called(graph: Graph, deep: Graph, naming: Naming) -> _Called:
    """What a weight is called at any depth, and whichever of several experts rows are sent to: numbers
    that tell apart what one of the passes leaves out are no part of it."""
    idle = {
        template(n)
        for g in (graph, deep)
        for n in g.parameters.keys() - set().union(*map(g.weights, bits(g.acts)))
    }
    return lambda name: template(name) if template(name) in idle else naming.template(name)


def _key(graph: Graph, b: ResidualBranch, called: _Called) -> _Place:
    """What a branch is called at any depth: what its sum adds, and where, and its last layers."""
    last = (layer_weights(graph, i) for i in b.final & b.weighted)
    join = graph.nodes[b.join]
    ends = "+".join(sorted(graph.nodes[i].op for i in joined(graph, b.join) or ()))
    names = frozenset(called(n) for n in set().union(*last))
    return f"{ends} in {template(join.module)}", names


def _in_longer_rows(
    here: tuple[Graph, list[ResidualBranch]],
    there: tuple[Graph, list[ResidualBranch]],
    called: _Called,
) -> tuple[list[ResidualBranch], list[ResidualBranch]]:
    """The branches in rows of sums that are longer in the deeper network."""
    rows = [_rows(*here), _rows(*there)]
    keys = [
        [frozenset(_key(g, b, called) for b in row) for row in of]
        for (g, _), of in zip((here, there), rows, strict=True)
    ]
    longest: list[dict[frozenset[_Place], int]] = [{}, {}]
    for most, names, of in zip(longest, keys, rows, strict=True):
        for name, row in zip(names, of, strict=True):
            most[name] = max(most.get(name, 0), len(row))
    # A pattern of layers that the base is too shallow for: the row that holds it.
    for name in set(longest[0]) - set(longest[1]):
        longest[1][name] = max((n for k, n in longest[1].items() if k > name), default=0)
    grow = {name for name, n in longest[1].items() if n > longest[0].get(name, 0)}
    one, two = (
        [b for name, row in zip(names, of, strict=True) if name in grow for b in row]
        for names, of in zip(keys, rows, strict=True)
    )
    return one, two


def _rows(graph: Graph, branches: list[ResidualBranch]) -> list[list[ResidualBranch]]:
    """Branches whose sums follow each other along the stream.

    A layer between them (a projection of the stream) is passed if one sum alone follows behind it: what
    many read, such as an embedding of the time or an encoder's output, is no stream of theirs.
    """
    place = {b.join: k for k, b in enumerate(branches)}
    free, first = [0] * len(graph.nodes), [0] * len(graph.nodes)
    for node in graph.nodes:
        i = node.index
        for j in node.inputs if graph.is_act(i) else ():
            free[i] |= 0 if is_weight_layer(graph, i) else free[j]
            first[i] |= first[j]
        if i in place:
            free[i] |= 1 << place[i]
            first[i] = 1 << place[i]
    streams = [next(i for i in joined(graph, b.join) or () if i != b.end) for b in branches]
    behind = Counter(j for i in streams if not free[i] for j in bits(first[i]))
    row = list(range(len(branches)))
    for k, i in enumerate(streams):
        before = bits(free[i]) or {j for j in bits(first[i]) if behind[j] == 1}
        same = {row[j] for j in before} | {row[k]}
        row = [min(same) if r in same else r for r in row]
    return [[b for r, b in zip(row, branches, strict=True) if r == k] for k in sorted(set(row))]


def stream_branches(
    graph: Graph,
    branches: list[ResidualBranch],
    deep: Graph,
    there: list[ResidualBranch],
    naming: Naming,
    often: set[str],
) -> list[ResidualBranch]:
    """The branches whose sums are more in the deeper network, between the same ends.

    Args:
        deep, there: the network at twice the depth, and its branches.
        often: parameters that it uses more often.
    """
    called = _called(graph, deep, naming)
    # A sum around some layers and a head (features of two layers that are joined) owns none of their sums.
    branches = [b for b in branches if repeats(graph, deep, b, branches, naming, often)]
    there = [b for b in there if repeats(deep, graph, b, there, naming, often)]
    counts = (_sums(graph, branches, called), _sums(deep, there, called))
    most = [Counter[frozenset[str]]() for _ in counts]
    for k, by_owner in enumerate(counts):
        for (_, key), joins in by_owner.items():
            most[k][key] = max(most[k][key], len(joins))
    grow = {key for key in most[0] if most[1][key] > most[0][key]}
    return [b for b in branches if _owner(graph, b, branches, called)[1] in grow]


def _sums(
    graph: Graph, branches: list[ResidualBranch], called: _Called
) -> dict[tuple[int, frozenset[str]], set[int]]:
    """The sums that lie directly in each branch (and in the network outside all)."""
    out: dict[tuple[int, frozenset[str]], set[int]] = {}
    for b in branches:
        out.setdefault(_owner(graph, b, branches, called), set()).add(b.join)
    return out


def _owner(
    graph: Graph, b: ResidualBranch, branches: list[ResidualBranch], called: _Called
) -> tuple[int, frozenset[str]]:
    """The branch that a branch's sum lies in: its sum, and what it is called at any depth."""
    around = [
        c
        for c in branches
        if c is not b and b.join in c.region and stays(graph, b.join, c.end, c.region)
    ]
    if not around:
        return -1, frozenset()
    owner = min(around, key=lambda c: len(c.region))
    names = (layer_weights(graph, i) for i in owner.weighted)
    return owner.join, frozenset(called(n) for n in set().union(*names))


def repeats(
    graph: Graph,
    deep: Graph,
    b: ResidualBranch,
    others: list[ResidualBranch],
    naming: Naming,
    often: set[str],
) -> bool:
    """Does the branch repeat with depth? The names of the weights directly in it say so, or the layer that
    its sum is in (the one dense layer of a mixture, the one attention of a state-space model), or that they
    are used more ``often`` in the deeper of the two. What adds up outputs of several layers, whose sums it
    goes around, is none of those.

    A path that holds nothing but other branches has none: there its sum has to repeat.
    """
    direct = b.region.difference(*(x.region for x in others if x is not b and x.region < b.region))
    names = set().union(*(layer_weights(graph, i) for i in direct & b.weighted))
    if names:
        layer = graph.nodes[b.join].module
        held = [n for n in graph.parameters if layer and n.startswith(layer + ".")]
        several = any(map(naming.repeats, names)) or any(
            "*" in naming.module(layer, n) for n in held
        )
        return several or (
            not names.isdisjoint(often) and not _goes_around(graph, b, others, naming)
        )
    module = template(graph.nodes[b.join].module)
    counts = [
        sum(n.op == graph.nodes[b.join].op and template(n.module) == module for n in g.nodes)
        for g in (graph, deep)
    ]
    return counts[0] != counts[1]


def _goes_around(
    graph: Graph, b: ResidualBranch, others: list[ResidualBranch], naming: Naming
) -> bool:
    """Does the branch hold sums of layers that have parameters of their own?"""
    return any(
        naming.repeats(n)
        for x in others
        if x is not b and x.join in b.region
        for i in x.weighted
        for n in layer_weights(graph, i)
    )
