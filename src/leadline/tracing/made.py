"""Weights and tables that a model makes of its parameters: normalised, orthogonal, or products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leadline.tracing.graph import Graph
from leadline.tracing.operations import CONVOLUTIONS, MATRIX, SCALINGS, TABLES, VIEWS
from leadline.tracing.recorder import recorded
from leadline.tracing.roles import uses


@dataclass(frozen=True)
class Made:
    """The weight (or table) of one layer, which is no parameter (nor a multiple or a view of one)."""

    parameters: frozenset[str]
    """What it is made of."""
    role: str
    """What it does, by what grows: hidden, input, readout or finite."""


def made(graph: Graph, wide: Graph, grows: dict[str, tuple[bool, ...]]) -> tuple[Made, ...]:
    """Every such weight; ``wide`` is the same graph at twice the width."""
    found = uses(graph, wide, grows)
    out = {}
    for node, operand in _operands(graph):
        names = graph.leaves(operand)
        kinds = [u for n in names for u in found[n] if u.node == node and u.how != "elementwise"]
        if kinds:
            role = {
                (True, True): "hidden",
                (False, True): "input",
                (True, False): "readout",
            }.get((kinds[0].fan_in, kinds[0].fan_out), "finite")
            out[frozenset(names)] = Made(frozenset(names), role)
    return tuple(out.values())


# Spectral norms are found by iteration, one a pass.
_PASSES = 15


def weights(model: nn.Module, inputs: Any) -> dict[frozenset[str], Tensor]:
    """The values of such weights after a few forward passes, by what they are made of."""
    out: dict[frozenset[str], Tensor] = {}
    for _ in range(_PASSES):
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
        if len(held) != 1 or not (node.op in VIEWS or node.op in SCALINGS):
            return False
        node = graph.nodes[held[0]]
    return True
