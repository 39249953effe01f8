"""Streams that every layer multiplies: what goes in fades, or grows, exponentially in depth."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from leadline.tracing.branches import ResidualBranch, joined
from leadline.tracing.graph import SCALINGS, VIEWS, Graph

# Logarithms of factors that are taken for one, and the part that a factor of a deeper network must have
# lost to count as one that depth makes up for: 1 - 1/depth loses half of it.
_ONE, _LOST = 0.05, 0.75


def faded(
    here: tuple[Graph, list[ResidualBranch]], there: tuple[Graph, list[ResidualBranch]]
) -> bool:
    """Are there products between sums of a stream, whose numbers ``fading`` has to look at?"""
    return any(_between(*here)) and any(_between(*there))


def fading(
    here: tuple[Graph, list[ResidualBranch]],
    values: Mapping[int, Tensor],
    there: tuple[Graph, list[ResidualBranch]],
    deeper: Mapping[int, Tensor],
) -> list[tuple[str, str]]:
    """Obstacles to a multiplier of branches: a stream that is multiplied by another number than 1.

    Args:
        here, there: a network and one of twice the depth, each with its branches.
        values, deeper: what every operation of each made.
    """
    factors = [_factors(*of, v) for of, v in ((here, values), (there, deeper))]
    logs = [max((abs(x) for x in f.values()), default=0.0) for f in factors]
    if logs[0] < _ONE or logs[1] < _LOST * logs[0]:
        return []
    module, log = max(factors[0].items(), key=lambda item: abs(item[1]))
    return [
        (
            "branch",
            f"module {module!r} multiplies the stream by {math.exp(log):.3g}, in every layer, so what goes "
            "in changes by that to the power of the depth, which no multiplier of branches makes up for: "
            "add branches to the stream itself, or give scheme='mup', which scales with width alone",
        )
    ]


def _between(graph: Graph, branches: list[ResidualBranch]) -> dict[int, tuple[int, int]]:
    """By sum: the sum before it and the end of the stream, where nothing but products with numbers or
    parameters lies between."""
    joins = {b.join for b in branches}
    out = {}
    for b in branches:
        end = i = next(i for i in joined(graph, b.join) or () if i != b.end)
        product = False
        while i not in joins:
            node = graph.nodes[i]
            acts = [j for j in node.inputs if graph.is_act(j)]
            if len(acts) != 1 or not (node.op in SCALINGS or node.op in VIEWS):
                break
            product |= node.op in SCALINGS
            i = acts[0]
        if product and i in joins:
            out[b.join] = (i, end)
    return out


def _factors(
    graph: Graph, branches: list[ResidualBranch], values: Mapping[int, Tensor]
) -> dict[str, float]:
    """Logarithms of what the stream is multiplied by, by the module of the sum."""
    out = {}
    for join, (before, end) in _between(graph, branches).items():
        a, b = (float(values[i].double().square().mean()) for i in (before, end))
        if a > 0 and b > 0:
            out[graph.nodes[join].module] = math.log(b / a) / 2
    return out
