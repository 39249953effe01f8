"""Streams with their branches switched off: what every layer does to the stream itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    drawn: bool
    """Random numbers decide what of it stays."""


def changed(graph: Graph, branches: list[ResidualBranch]) -> bool:
    """Does anything but views and products with numbers lie between sums of a stream?"""
    return any(s.drawn or not s.plain for s in _steps(graph, branches).values())


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
    with torch.no_grad():
        for name, p in model.named_parameters():
            k = kinds[name]
            if any(what == "branch" for what, _ in k.takes):
                p.copy_((p + k.offset) * _OFF - k.offset)
    graph, values = run(model)
    steps = _repeated(graph, branches(graph), kinds)
    random = next((s for of in steps for s in of if s.drawn), None)
    if random is not None:
        what = "draws random numbers for the stream itself in every layer (dropout, noise)"
        return [_obstacle(graph, random, what, _DRAW)]
    for of in steps:
        changes = [_change(values[s.before], values[s.end]) for s in of if not s.plain]
        if len(changes) > 1 and min(changes) > _KEPT:
            what = (
                f"changes the stream in every layer again, by {min(changes):.0%} with all branches "
                "switched off"
            )
            return [_obstacle(graph, of[-1], what, _MOVE)]
    return []


_DRAW = "draw them for what the branch adds, before the sum"
_MOVE = (
    "move what does that (an activation, a mixture of rows) into a branch that ends in a weight (the "
    "stream itself may go through a norm or a ReLU, which do nothing a second time, but not through both)"
)


def _obstacle(graph: Graph, step: _Step, what: str, remedy: str) -> tuple[str, str]:
    return (
        "branch",
        f"module {graph.nodes[step.end].module!r} {what}, so a deeper network makes something "
        f"else of what goes in, which no multiplier of branches makes up for: {remedy}, or give "
        "scheme='mup', which scales with width alone",
    )


def _repeated(
    graph: Graph, branches: list[ResidualBranch], kinds: Mapping[str, Kind]
) -> list[list[_Step]]:
    """Steps between the same two branches of layer after layer, but for the first of a stream: what it
    does the first time, a network of any depth does once."""
    steps = _steps(graph, branches)
    names = {
        b.join: str({kinds[n].branch for i in b.weighted for n in layer_weights(graph, i)})
        for b in branches
    }
    out: dict[tuple[str, str], list[_Step]] = {}
    for join, s in steps.items():
        if s.before in steps:
            out.setdefault((names[s.before], names[join]), []).append(s)
    return [of for of in out.values() if len(of) > 1]


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
    seen, queue, plain, drawn = {end}, [end], True, False
    while queue:
        i = queue.pop()
        if i in joins:
            before.add(i)
            continue
        node = graph.nodes[i]
        acts = [j for j in node.inputs if graph.is_act(j)]
        mixes = node.op in MATRIX | CONVOLUTIONS | ATTENTION | TABLES - VIEWS or "fft" in node.op
        if not acts or mixes:
            return None
        drawn |= node.op in RANDOM or any(graph.random >> j & 1 for j in node.inputs)
        plain &= node.op in VIEWS or (node.op in SCALINGS and len(acts) == 1)
        queue += [j for j in acts if j not in seen]
        seen.update(acts)
    return _Step(before.pop(), end, plain, drawn) if len(before) == 1 else None


def _change(before: Tensor, after: Tensor) -> float:
    """How far the values are from each other in any order (views may have moved them), over their spread:
    what tends to one number loses what went in."""
    if before.numel() != after.numel():
        return 0.0
    a, b = (x.detach().double().flatten().sort().values for x in (before, after))
    size = float((a - a.mean()).norm())
    return float((a - b).norm()) / size if size else 0.0
