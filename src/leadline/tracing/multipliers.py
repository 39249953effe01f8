"""Multipliers in the forward pass that depend on size, and where the due ones can be folded."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from leadline.parametrization.rules import ONE, Power
from leadline.tracing.branches import Branch
from leadline.tracing.fold import (
    ATTENTION,
    MATRIX,
    SCALINGS,
    SUMS,
    VIEWS,
    Fold,
    exclusive,
    fold,
)
from leadline.tracing.graph import Graph, template


@dataclass
class Folds:
    """What parameters take over from the forward pass, by parameter name."""

    takes: dict[str, dict[str, Power]] = field(default_factory=lambda: defaultdict(dict))
    """branch, attention, readout: each with the multiplier that is present already."""
    present: dict[str, Power] = field(default_factory=dict)
    """Other multipliers that depend on size and are present already."""
    obstacles: list[tuple[str, str]] = field(default_factory=list)
    """What has no place, with the remedy: only an error for schemes that need it."""


def fold_branch(graph: Graph, b: Branch, into: Folds) -> None:
    """Find where the branch's multiplier goes."""
    found = fold(graph, b.end)
    if found is None or not exclusive(graph, found, b.end, {b.join}):
        node = graph.nodes[b.end]
        into.obstacles.append(
            (
                "branch",
                f"the residual branch {b.name!r} ends in {node.op!r} (module {node.module!r}), and no "
                "weight before it can take the branch's multiplier: end the branch with a Linear, a "
                "Conv, a norm with affine=True, or a LayerScale gain",
            )
        )
        return
    for name in found.parameters:
        into.takes[name]["branch"] = ONE


def fold_readout(graph: Graph, name: str, node: int, into: Folds) -> None:
    """Find where a tied readout's multiplier goes: before the product with its weight."""
    data = next(i for i in graph.nodes[node].inputs if graph.is_act(i))
    found = fold(graph, data)
    if found is None or not exclusive(graph, found, data, {node}):
        into.obstacles.append(
            (
                "readout",
                f"parameter {name!r} is both embedding and readout, and nothing before the readout can "
                "take its multiplier: end the model with an affine norm, or untie the two",
            )
        )
        return
    for other in found.parameters:
        into.takes[other]["readout"] = ONE


def fold_attention(graph: Graph, wide: Graph, into: Folds) -> set[int]:
    """Logits of attention whose head size grows: W_q takes what 1/d needs beside what is there.

    Returns:
        The scalings that belong to logits, which are accounted for here.
    """
    mine: set[int] = set()
    for node in graph.nodes:
        i = node.index
        if node.op in ATTENTION:
            q, k = node.inputs[0], node.inputs[1]
            path: set[int] = set()
        elif node.op in MATRIX and len(node.inputs) >= 2 and _both_data(graph, node.inputs[-2:]):
            q, k = node.inputs[-2:]
            after = _to_softmax(graph, i)
            if after is None:
                continue
            path = after
        else:
            continue
        if graph.nodes[q].shape[-1] == wide.nodes[q].shape[-1]:
            continue
        before = _scalings_before(graph, q) | _scalings_before(graph, k)
        present = sum(_exponent(graph, wide, j) for j in before | path)
        if node.op in ATTENTION:
            a, b = node.kwargs.get("scale"), wide.nodes[i].kwargs.get("scale")
            present += math.log2(b / a) if a and b else -0.5
        mine |= before | path
        found = fold(graph, q)
        if found is None or not _closed(graph, found, q):
            into.obstacles.append(
                (
                    "attention",
                    f"the head size in {node.module!r} grows with width, and the query projection is "
                    "no weight of its own that could take the 1/d scaling: keep the head size constant "
                    "(more heads), split the fused projection, or scale the logits by 1/d in the "
                    "forward pass",
                )
            )
            continue
        for name in found.parameters:
            into.takes[name]["attention"] = Power(width=snapped(present))
    return mine


def _both_data(graph: Graph, pair: list[int]) -> bool:
    return all(graph.is_act(i) for i in pair)


def _closed(graph: Graph, found: Fold, target: int) -> bool:
    return exclusive(graph, found, target, set(graph.consumers[target]))


def _to_softmax(graph: Graph, start: int) -> set[int] | None:
    """Scalings between a product and the softmax it feeds; None if it feeds none."""
    queue, seen = [start], set()
    hit = False
    while queue:
        i = queue.pop()
        for c in graph.consumers[i]:
            op = graph.nodes[c].op
            if "softmax" in op:
                hit = True
            elif c not in seen and (
                op in VIEWS or op in SCALINGS or op in SUMS or op in ("where", "tanh")
            ):
                seen.add(c)
                queue.append(c)
    return {i for i in seen if graph.nodes[i].op in SCALINGS} if hit else None


def _scalings_before(graph: Graph, i: int) -> set[int]:
    out = set()
    while graph.is_act(i):
        node = graph.nodes[i]
        if node.op in SCALINGS and node.numbers:
            out.add(i)
        elif node.op not in VIEWS:
            break
        i = next((j for j in node.inputs if graph.is_act(j)), node.inputs[0])
    return out


def _exponent(graph: Graph, other: Graph, i: int, j: int | None = None) -> float:
    """log2 of the ratio of a scaling's number between two sizes."""
    a, b = graph.nodes[i].numbers, other.nodes[i if j is None else j].numbers
    if len(a) != 1 or len(b) != 1 or a == b or a[0] * b[0] <= 0:
        return 0.0
    e = math.log2(b[0] / a[0])
    return -e if graph.nodes[i].op.startswith("div") else e


def snapped(e: float) -> float:
    """To the nearest quarter.

    Raises:
        ValueError: it is no power law with such an exponent.
    """
    nearest = round(4 * e) / 4
    if abs(nearest - e) > 0.02:
        raise ValueError(
            f"a multiplier of the forward pass changes by a factor {2**e:.4g} when the size doubles, "
            "which is no power law with a known exponent: pass the multiplier as a parameter or fold it"
        )
    return nearest


def size_multipliers(
    graph: Graph, wide: Graph, deep: Graph, accounted: set[int], into: Folds
) -> None:
    """Scalings by numbers that vary with width or depth: whose weights they belong to."""
    changes: dict[int, Power] = {}
    for node in graph.nodes:
        i = node.index
        if node.op in SCALINGS and i not in accounted:
            e = _exponent(graph, wide, i)
            if e:
                changes[i] = Power(width=snapped(e))
    for i, e in _over_depth(graph, deep).items():
        changes[i] = changes.get(i, ONE) + Power(depth=e)
    for i, power in changes.items():
        node = graph.nodes[i]
        found = fold(graph, i)
        if found is None or not _closed(graph, found, i):
            raise ValueError(
                f"module {node.module!r} multiplies by a number that varies with size as {power} "
                "(m width, r depth), and no weight before it can account for that: move the multiplier "
                "next to a weight, or make it constant and let the plan scale"
            )
        for name in found.parameters:
            into.present[name] = into.present.get(name, ONE) + power


def _over_depth(graph: Graph, deep: Graph) -> dict[int, float]:
    def by_place(g: Graph) -> dict[tuple[str, int], list[int]]:
        counts: dict[str, int] = defaultdict(int)
        out: dict[tuple[str, int], list[int]] = defaultdict(list)
        for node in g.nodes:
            if node.op in SCALINGS and node.numbers:
                out[template(node.module), counts[node.module]].append(node.index)
                counts[node.module] += 1
        return out

    here, there = by_place(graph), by_place(deep)
    out = {}
    for key, indices in here.items():
        others = there.get(key, [])
        a = {graph.nodes[i].numbers for i in indices}
        b = {deep.nodes[i].numbers for i in others}
        if a == b or not b or (len(a) > 1 and a <= b):
            continue
        if len(a) > 1 or len(b) > 1:
            # The same module called from several places: compare call by call.
            if len(indices) == len(others):
                for i, j in zip(indices, others, strict=True):
                    e = _exponent(graph, deep, i, j)
                    if e:
                        out[i] = snapped(e)
                continue
            raise ValueError(
                f"module {key[0]!r} multiplies by a number that varies from layer to layer and with "
                "depth: no exponent describes that; make it constant and let the plan scale"
            )
        for i in indices:
            e = _exponent(graph, deep, i, others[0])
            if e:
                out[i] = snapped(e)
    return out
