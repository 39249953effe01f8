"""Streams that every layer multiplies, or adds to beside its branches: what goes in fades, or grows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from leadline.tracing.branches import ResidualBranch, joined
from leadline.tracing.graph import SCALINGS, VIEWS, Graph

# Logarithms of factors that are taken for one, and the part that a factor of a deeper network must have
# lost to count as one that depth makes up for: 1 - 1/depth loses half of it.
_ONE, _LOST = 0.05, 0.75


@dataclass(frozen=True)
class _Gap:
    """What lies between two sums of a stream that end branches."""

    before: int
    """The first of the sums."""
    parts: tuple[int, ...]
    """What the stream is behind it: before each thing that is added, and in the end."""


_Gaps = dict[int, _Gap]
"""By the second of the sums."""


def faded(
    here: tuple[Graph, list[ResidualBranch]], there: tuple[Graph, list[ResidualBranch]]
) -> bool:
    """Is there anything between sums of a stream that ``fading`` has to look at?"""
    return all(_gaps(here, there))


def fading(
    here: tuple[Graph, list[ResidualBranch]],
    values: Mapping[int, Tensor],
    there: tuple[Graph, list[ResidualBranch]],
    deeper: Mapping[int, Tensor],
) -> list[tuple[str, str]]:
    """Obstacles to a multiplier of branches: a stream that is multiplied by another number than 1, or that
    grows by what no branch adds.

    Args:
        here, there: a network and one of twice the depth, each with its branches.
        values, deeper: what every operation of each made.
    """
    gaps = _gaps(here, there)
    factors = [_factors(g, v) for g, v in zip(gaps, (values, deeper), strict=True)]
    logs = [max((abs(x) for x in f.values()), default=0.0) for f in factors]
    if logs[0] < _ONE or logs[1] < _LOST * logs[0]:
        return []
    (join, end), log = max(factors[0].items(), key=lambda item: abs(item[1]))
    module, size = here[0].nodes[join].module, f"{math.exp(log):.3g}"
    if end and len(gaps[0][join].parts) > 1:
        what = (
            f"the stream that module {module!r} reads has more in it in every layer than branches add (an "
            f"earlier part of it, or its beginning, again): {size} times its size, which no multiplier of "
            "branches makes up for: weigh it by a parameter that begins with zero, or as 1/depth"
        )
    else:
        what = (
            f"module {module!r} multiplies the stream by {size}, in every layer, so what goes in changes "
            "by that to the power of the depth, which no multiplier of branches makes up for: add branches "
            "to the stream itself"
        )
    return [("branch", f"{what}, or give scheme='mup', which scales with width alone")]


def _gaps(
    here: tuple[Graph, list[ResidualBranch]], there: tuple[Graph, list[ResidualBranch]]
) -> tuple[_Gaps, _Gaps]:
    """The gaps of both networks; sums beside branches count where a deeper network has more of them."""
    few, more = between(*here), between(*there)
    counts = [sum(len(gap.parts) - 1 for gap in gaps.values()) for gaps in (few, more)]
    if counts[1] > counts[0]:
        return few, more
    one, two = ({k: gap for k, gap in g.items() if len(gap.parts) == 1} for g in (few, more))
    return one, two


def between(graph: Graph, branches: list[ResidualBranch]) -> _Gaps:
    """Where nothing lies between two sums of the stream but products with numbers or parameters, and sums
    with what fewer branches have been added to."""
    joins = {b.join for b in branches}
    mask = sum(1 << i for i in joins)
    out = {}
    for b in branches:
        i = next(i for i in joined(graph, b.join) or () if i != b.end)
        parts, product = [i], False
        while i not in joins:
            node = graph.nodes[i]
            acts = [j for j in node.inputs if graph.is_act(j)]
            pair = joined(graph, i)
            if pair is not None:
                first, second = ((graph.ancestors[j] | 1 << j) & mask for j in pair)
                if first.bit_count() == second.bit_count():
                    # What is added is made of the stream itself (a mixture of its rows).
                    made_of = [graph.ancestors[a] >> b & 1 for a, b in (pair, pair[::-1])]
                    if not any(made_of):
                        break
                    acts = [pair[made_of[0]]]
                else:
                    acts = [pair[first.bit_count() < second.bit_count()]]
                parts.append(acts[0])
            elif len(acts) != 1 or not (node.op in SCALINGS or node.op in VIEWS):
                break
            product |= node.op in SCALINGS
            i = acts[0]
        if (product or len(parts) > 1) and i in joins:
            out[b.join] = _Gap(i, tuple(parts[::-1]))
    return out


def _factors(gaps: _Gaps, values: Mapping[int, Tensor]) -> dict[tuple[int, bool], float]:
    """Logarithms of what the stream is multiplied by, by the sum of the branch, and whether in the end."""
    out = {}
    for join, gap in gaps.items():
        before, *parts = (
            float(values[i].double().square().mean()) for i in (gap.before, *gap.parts)
        )
        for k, size in enumerate(parts):
            if before > 0 and size > 0:
                at = join, k == len(parts) - 1
                log = math.log(size / before) / 2
                out[at] = max(out.get(at, 0.0), log, key=abs)
    return out
