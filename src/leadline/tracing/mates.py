"""Kinds that neither names nor shapes tell apart: by what their layers hold, or as the first of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from leadline.tracing.branches import ResidualBranch
from leadline.tracing.graph import Graph
from leadline.tracing.kinds import Kind, Naming, essence, first_of, layer_of, layers_of


def with_mates(rows: Mapping[str, Kind], naming: Naming) -> dict[str, Kind]:
    """The kinds by name; those that names and shapes do not tell apart are told apart by what their
    layers hold beside them."""
    layers = layers_of(rows, naming)
    alike: dict[tuple[str, tuple[int, ...]], dict[Kind, list[str]]] = {}
    for name, k in rows.items():
        alike.setdefault((k.template, k.shape), {}).setdefault(k, []).append(name)
    out = dict(rows)
    for kinds in alike.values():
        if len({essence(k) for k in kinds}) < 2:
            continue
        held = {k: [layers[layer_of(n, naming)] for n in names] for k, names in kinds.items()}
        for k, names in kinds.items():
            others = set().union(*(h for c, of in held.items() if c is not k for h in of))
            mates = set.intersection(*held[k]) - others
            for name in names if mates else ():
                out[name] = replace(k, mate=min(mates))
    return out


def with_first(
    rows: Mapping[str, Kind], naming: Naming, graph: Graph, branches: list[ResidualBranch]
) -> dict[str, Kind]:
    """The kinds by name; those that nothing else tells apart, and of which the first layer's is in no
    branch and all others are in one, at both depths, are told apart by that.

    Args:
        graph, branches: the network at twice the depth.
    """
    inside = {n for b in branches for i in b.region for n in graph.weights(i)}
    deep = {n: graph.nodes[i].shape for n, i in graph.parameters.items()}
    here, there = (first_of(s, naming) for s in ({n: k.shape for n, k in rows.items()}, deep))
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, k in rows.items():
        alike.setdefault((k.template, k.shape), []).append(name)
    out = dict(rows)
    for key, names in alike.items():
        first = here[key]
        called = [n for n, shape in deep.items() if (naming.template(n), shape) == key]
        alone = [n for n in names if rows[n].branch is None]
        outside = [n for n in called if n not in inside]
        told = any(rows[n].mate or rows[n].ends for n in names)
        if len(names) > 1 and not told and alone == [first] and outside == [there.get(key)]:
            out[first] = replace(rows[first], begins=True, beside=False)
    return out
