"""Streams with their branches switched off: what every layer does to the stream itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from leadline.tracing.branches import ResidualBranch, joined, layer_weights
from leadline.tracing.graph import (
    ATTENTION,
    CONVOLUTIONS,
    MATRIX,
    RANDOM,
    SCALINGS,
    TABLES,
    VIEWS,
    Graph,
)
from leadline.tracing.kinds import Kind

# What branches are multiplied by to switch them off, and the part of itself that a stream may change by.
_OFF, _KEPT = 1e-4, 0.01


@dataclass(frozen=True)
class _Step:
    """From one sum of a stream to the next."""

    before: int
    end: int
    """The stream where the next sum adds to it."""
    plain: bool
    """Nothing but views and products with numbers lies between."""


def changed(graph: Graph, branches: list[ResidualBranch]) -> bool:
    """Does anything but views and products with numbers lie between sums of a stream?"""
    return any(not s.plain for s in _steps(graph, branches).values())


def skips(
    model: nn.Module,
    kinds: Mapping[str, Kind],
    run: Callable[[nn.Module], tuple[Graph, Mapping[int, Tensor]]],
    branches: Callable[[Graph], list[ResidualBranch]],
) -> list[tuple[str, str]]:
    """Obstacles to a multiplier of branches: a stream that every layer changes again by what is no branch,
    as an activation of the stream does. A norm, or a ReLU, changes it the first time alone.

    Args:
        model: one that nobody uses any more; its branches are switched off.
        kinds: of all its parameters.
        run, branches: the recorded forward pass of a model, and its residual branches.
    """
    for m in model.modules():
        if isinstance(m, _DropoutNd):
            m.p = 0.0
    with torch.no_grad():
        for name, p in model.named_parameters():
            k = kinds[name]
            if any(what == "branch" for what, _ in k.takes):
                p.copy_((p + k.offset) * _OFF - k.offset)
    graph, values = run(model)
    here = branches(graph)
    steps = _steps(graph, here)
    names = {
        b.join: {kinds[n].branch for i in b.weighted for n in layer_weights(graph, i)} for b in here
    }
    changes: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for join, s in steps.items():
        # What it does the first time, a network of any depth does once.
        if not s.plain and s.before in steps:
            key = str(names[s.before]), str(names[join])
            change = _change(values[s.before], values[s.end])
            changes.setdefault(key, []).append((s.end, change))
    for seen in changes.values():
        end, least = min(seen, key=lambda item: item[1])
        if len(seen) > 1 and least > _KEPT:
            module = graph.nodes[end].module
            return [
                (
                    "branch",
                    f"module {module!r} changes the stream in every layer again, by {least:.0%} with all "
                    "branches switched off, so what goes in is lost with depth, which no multiplier of "
                    "branches makes up for: move the activation into the branch (the stream itself may "
                    "go through a norm or a ReLU, which do nothing a second time, but not through both), "
                    "or give scheme='mup', which scales with width alone",
                )
            ]
    return []


def _steps(graph: Graph, branches: list[ResidualBranch]) -> dict[int, _Step]:
    """By the sum that ends a branch, the step to it from the one before, where no weight layer and nothing
    else that the model is given lies between."""
    joins = {b.join for b in branches}
    out = {}
    for b in branches:
        end = next((i for i in joined(graph, b.join) or () if i != b.end), None)
        step = None if end is None else _step(graph, end, joins)
        if step is not None:
            out[b.join] = step
    return out


def _step(graph: Graph, end: int, joins: set[int]) -> _Step | None:
    before: set[int] = set()
    seen, queue, plain = {end}, [end], True
    while queue:
        i = queue.pop()
        if i in joins:
            before.add(i)
            continue
        node = graph.nodes[i]
        acts = [j for j in node.inputs if graph.is_act(j)]
        # What is drawn anew tells nothing of a second time.
        if not acts or node.op in MATRIX | CONVOLUTIONS | ATTENTION | RANDOM | TABLES - VIEWS:
            return None
        plain &= node.op in VIEWS or (node.op in SCALINGS and len(acts) == 1)
        queue += [j for j in acts if j not in seen]
        seen.update(acts)
    return _Step(before.pop(), end, plain) if len(before) == 1 else None


def _change(before: Tensor, after: Tensor) -> float:
    """How far the values are from each other in any order (views may have moved them), over their spread:
    what only tends to one number has lost what went in."""
    if before.numel() != after.numel():
        return 0.0
    a, b = (x.detach().double().flatten().sort().values for x in (before, after))
    size = float((a - a.mean()).norm())
    return float((a - b).norm()) / size if size else 0.0
