"""Weights that are no parameters: what several parameters are made into, or a function of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leadline.tracing.builder import seeded
from leadline.tracing.graph import CONVOLUTIONS, MATRIX, SCALINGS, TABLES, VIEWS, Graph
from leadline.tracing.recording import recorded
from leadline.tracing.roles import SIDES, uses


@dataclass(frozen=True)
class DerivedWeight:
    """The weight (or table) of one layer, which is no parameter (nor a multiple or a view of one)."""

    parameters: frozenset[str]
    """What it is made of."""
    role: str
    """What it does, by what grows: hidden, input, readout or finite."""


def derived_weights(
    graph: Graph, wide: Graph, grows: dict[str, tuple[bool, ...]]
) -> tuple[DerivedWeight, ...]:
    """Every such weight; ``wide`` is the same graph at twice the width."""
    by_name = uses(graph, wide, grows)
    out = {}
    for node, operand in _operands(graph):
        names = graph.leaves(operand)
        kinds = [u for n in names for u in by_name[n] if u.node == node and u.how != "elementwise"]
        if kinds:
            sides = SIDES[kinds[0].fan_in, kinds[0].fan_out]
            out[frozenset(names)] = DerivedWeight(frozenset(names), sides[0])
    return tuple(out.values())


# Spectral norms are found by iteration, one a pass.
_PASSES = 15


def derived_values(model: nn.Module, inputs: Any) -> dict[frozenset[str], Tensor]:
    """The values of such weights after a few forward passes, by what they are made of."""
    out: dict[frozenset[str], Tensor] = {}
    for _ in range(_PASSES):
        with seeded(0):  # A size that is drawn is the same in every pass.
            graph, values = recorded(model, inputs)
        before, out = out, {frozenset(graph.leaves(j)): values[j] for _, j in _operands(graph)}
        if before and all(torch.allclose(w, before[n], rtol=1e-3) for n, w in out.items()):
            break
    return out


def _operands(graph: Graph) -> list[tuple[int, int]]:
    """Products with such a weight, and the weight."""
    return [
        (node.index, j)
        for node in graph.nodes
        if graph.is_act(node.index)
        for j in (node.inputs[:1] if node.op in TABLES else node.inputs)
        if (node.op in MATRIX or node.op in CONVOLUTIONS or node.op in TABLES)
        and not graph.is_act(j)
        and graph.leaves(j)
        and len(graph.nodes[j].shape) > 1
        and not _plain(graph, j)
    ]


def _plain(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    while node.parameter is None:
        held = [j for j in node.inputs if graph.leaves(j)]
        if len(held) != 1 or not (node.op in VIEWS | TABLES or node.op in SCALINGS):
            return False
        node = graph.nodes[held[0]]
    return True
