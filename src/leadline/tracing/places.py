"""Where parameters stand: in which branch, before or behind which of its layers, or beside all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.tracing.branches import ResidualBranch, is_weight_layer, joined
from leadline.tracing.graph import SCALINGS, SUMS, VIEWS, Graph, template
from leadline.tracing.kinds import Kind, Naming
from leadline.tracing.products import is_product_of_data
from leadline.tracing.shared import used_more_often


@dataclass
class Positions:
    """Places of parameters in branches, by name."""

    by_name: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Branch, position, layers, last; for a parameter that all layers share: shared."""
    conflicts: set[str] = field(default_factory=set)
    """Parameters whose place cannot be said."""


def find_places(
    graph: Graph, deep: Graph, branches: list[ResidualBranch], naming: Naming
) -> Positions:
    """Branch and position of every parameter inside one, innermost branch first.

    A parameter may be used more than once if the number of uses does not grow with depth (a recurrent
    layer's, a norm that two branches of a layer read), or if it has an entry for each layer. What a deeper
    network uses more often, and has no more of, is ``shared``.

    Args:
        deep: the network at twice the depth.
    """
    out = Positions()
    uses: dict[str, list[tuple[ResidualBranch, dict[str, Any]]]] = {}
    for b in sorted(branches, key=lambda b: len(b.region)):
        held = {i: graph.weights(i) for i in sorted(b.region)}
        label = _label(b, set().union(*held.values()), naming)
        products = [p for p in b.region if is_product_of_data(graph, p)]
        for i, names in held.items():
            place = _place(b, i, label) | {"factors": _factors(graph, products, i)}
            for name in names:
                first = uses.setdefault(name, [])
                if not first or first[0][0] is b or not b.region > first[0][0].region:
                    first.append((b, place))
    often = used_more_often(graph, deep)
    for name, several in uses.items():
        out.by_name[name] = place = dict(several[0][1])
        place["position"] = min(p["position"] for _, p in several)
        alike = {(p["last"], p["layers"] > 1) for _, p in several}
        once = len({id(b) for b, _ in several}) == 1 or name not in often
        if name in often and not naming.repeats(name):
            place["shared"] = True
        elif len({id(b) for b, _ in several}) == 1:
            place["last"] = any(p["last"] for _, p in several)
        elif len(alike) > 1 or not (once or name in naming.stacked):
            out.conflicts.add(name)
    return out


def conflict(name: str, role: str) -> str:
    """A message that a parameter's place cannot be said, and the remedy."""
    return (
        f"parameter {name!r} is used at several places of residual branches: give each place its own, or "
        f"count it as the stream's, unscaled over depth, with roles={{{name!r}: dict(role={role!r}, "
        "branch=False)}"
    )


def _label(b: ResidualBranch, names: set[str], naming: Naming) -> str:
    inside = [n for n in names if n.startswith(b.name)]
    label = naming.module(b.name, min(inside)) if inside else b.name
    each = min((n for n in names if naming.repeats(n) and n not in naming.stacked), default="")
    if each and "*" not in label and not all(map(naming.repeats, names)):
        # With a matrix that all layers share, it is called after what each has of its own.
        return naming.template(each).split("*")[0] + "*"
    return label


def _place(b: ResidualBranch, i: int, label: str) -> dict[str, Any]:
    return {
        "branch": label,
        "position": max(b.levels[i] - 1, 0),
        "layers": b.layers,
        "last": i in b.final or b.layers == 1,
    }


def _factors(graph: Graph, products: list[int], i: int) -> int:
    """The number of inputs of one of these products that an operation is a part of."""
    return max((sum(graph.ancestors[j] >> i & 1 or j == i for j in set(graph.nodes[p].inputs))
                for p in products), default=0) or 1  # fmt: skip


def attached(
    graph: Graph, branches: list[ResidualBranch], names: set[str], naming: Naming
) -> dict[str, dict[str, Any]]:
    """Places of parameters that act through branches alone, on something else than the stream: what a
    layer makes of an embedding of the time, of labels, of the first layer's values.

    Args:
        names: parameters in no branch.
    """
    regions: dict[int, ResidualBranch] = {}
    for b in sorted(branches, key=lambda b: -len(b.region)):
        regions |= dict.fromkeys(b.region, b)
    joins = {b.join for b in branches}
    out = {}
    for name in sorted(names):
        queue = [
            n.index for n in graph.nodes if graph.is_act(n.index) and name in graph.weights(n.index)
        ]
        seen, into = set(queue), list[ResidualBranch]()
        while queue:
            i = queue.pop()
            if i in joins:
                into = []
                break
            if i in regions:
                into.append(regions[i])
                continue
            new = set(graph.consumers[i]) - seen
            seen |= new
            queue.extend(new)
        if into and len({b.layers > 1 for b in into}) == 1:
            b = min(into, key=lambda b: b.join)
            held = set().union(*(graph.weights(i) for i in b.region))
            out[name] = {
                "branch": _label(b, held, naming),
                "position": 0,
                "layers": b.layers,
                "last": False,
            }
    # What the last layer of an encoder does to its output alone is no such parameter.
    others = {naming.template(name) for name in names - set(out)}
    return {name: place for name, place in out.items() if naming.template(name) not in others}


def from_zero(
    graph: Graph, branches: list[ResidualBranch], placed: Iterable[str], naming: Naming
) -> dict[str, str]:
    """Parameters of a branch that is added to zeros, as the first of a decoder of learned queries is, and
    the parameters of another layer that stand where they do.

    Args:
        placed: parameters in branches.
    """
    modules = {template(graph.nodes[b.join].module) for b in branches}
    known = {naming.template(n): n for n in placed}
    out = {}
    for node in graph.nodes:
        ends = [i for i in node.inputs if graph.is_act(i)]
        zeros = any(graph.nodes[i].value == 0 for i in node.inputs)
        if (
            node.op not in SUMS
            or len(ends) != 1
            or not zeros
            or template(node.module) not in modules
        ):
            continue
        made_of = graph.ancestors[ends[0]]
        for name, i in graph.parameters.items():
            like = known.get(naming.template(name), name)
            if name.startswith(node.module + ".") and made_of >> i & 1 and like != name:
                out[name] = like
    return {name: like for name, like in out.items() if name not in known.values()}


def chain_starts(
    graph: Graph, branches: list[ResidualBranch], placed: Iterable[str], naming: Naming
) -> dict[str, str]:
    """Parameters that make the first term of a sum over layers (skips of WaveNet, outputs of each layer),
    and the parameters of another layer that make the terms added to it, which are branches.

    Args:
        placed: parameters in branches.
    """
    known = set(placed)
    out = {}
    for b in branches:
        i = next(j for j in joined(graph, b.join) or () if j != b.end)
        if graph.ancestors[b.end] >> i & 1:  # A stream: what is added is made of it.
            continue
        while True:
            node, made = graph.nodes[i], [j for j in graph.nodes[i].inputs if graph.is_act(j)]
            plain = node.op in VIEWS or node.op in SCALINGS
            nothing = node.op in SUMS and not graph.weights(i) and _adds_zero(graph, i)
            if is_weight_layer(graph, i) or len(made) != 1 or not (plain or nothing):
                break
            i = made[0]
        if not is_weight_layer(graph, i):
            continue
        last = {naming.template(n): n for j in b.final for n in graph.weights(j)}
        for name in graph.weights(i):
            like = last.get(naming.template(name), name)
            if name not in known and like in known and like != name:
                out[name] = like
    return out


def _adds_zero(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    return not any(node.numbers) and all(
        graph.is_act(j) or graph.nodes[j].value == 0 for j in node.inputs
    )


def beside_more_often(
    kinds: list[Kind], names: Mapping[str, int], deep: Mapping[str, int], heads: set[int]
) -> list[Kind]:
    """The same kinds; of those beside branches, only what a deeper model has or uses more of stays so, and
    no heads. Ends that are in one list with the layers have indices that grow, and no repetitions.

    Args:
        names, deep: the kinds of all parameters, at one depth and at twice that.
        heads: kinds that make outputs of their layers alone.
    """
    here, there = Counter(names.values()), Counter(deep.values())
    out = []
    for i, k in enumerate(kinds):
        beside = k.beside and i not in heads and (there[i] > here[i] or bool(k.layered) or k.shared)
        reason = k.reason + ("; behind sums over depth" if beside else "")
        out.append(replace(k, beside=beside, reason=reason))
    return out


def outside_branches(
    rows: dict[str, Kind],
    names: dict[str, int],
    deep: dict[str, int],
    used: set[str],
    heads: set[int],
) -> list[tuple[str, str]]:
    """Parameters that repeat with depth beside the residual branches, heads apart: their effects add up."""
    here, there = Counter(names.values()), Counter(deep.values())
    out: dict[int, tuple[str, str]] = {}
    for name in sorted(used & set(rows)):
        k, kind = rows[name], names[name]
        inside = k.position is not None or k.beside or kind in heads
        if not inside and k.role != "frozen" and (there[kind] > here[kind] or k.layered):
            remedy = "give its layer a skip connection"
            message = (
                f"parameter {name!r} repeats with depth and is in no residual branch, so nothing says "
                f"how it scales with depth: {remedy}, or count it as the stream's, unscaled over depth, "
                f"with roles={{{k.template!r}: dict(role={k.role!r}, branch=False)}}"
            )
            out.setdefault(kind, ("branch", message))
    return list(out.values())
