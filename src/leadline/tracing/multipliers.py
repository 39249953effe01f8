"""Where the multipliers that a scheme asks for can go."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from leadline.parametrization.rules import ONE, Power
from leadline.tracing.attention import attention, present
from leadline.tracing.branches import Branch
from leadline.tracing.fold import closed, exclusive, fold
from leadline.tracing.graph import Graph
from leadline.tracing.naming import Naming
from leadline.tracing.numbers import snapped


@dataclass
class Folds:
    """What parameters take over from the forward pass, by parameter name."""

    takes: dict[str, dict[str, Power]] = field(default_factory=lambda: defaultdict(dict))
    """branch, attention, readout: each with the multiplier that is present already."""
    present: dict[str, Power] = field(default_factory=dict)
    """Other multipliers that depend on size and are present already."""
    obstacles: list[tuple[str, str]] = field(default_factory=list)
    """What has no place, with the remedy: only an error for schemes that need it."""

    def add(self, name: str, power: Power) -> None:
        """One more multiplier that is present."""
        self.present[name] = self.present.get(name, ONE) + power


def fold_branch(graph: Graph, b: Branch, into: Folds) -> None:
    """Find where the branch's multiplier goes."""
    found = fold(graph, b.end)
    if found is None or not exclusive(graph, found, b.end, {b.join}):
        node = graph.nodes[b.end]
        into.obstacles.append(
            (
                "branch",
                f"the residual branch {repr(b.name) if b.name else 'of the model'} ends in {node.op!r} "
                f"(module {node.module!r}), and no weight that acts on it alone can take the branch's "
                "multiplier: end the branch with a Linear, a Conv, a norm with affine=True, or a "
                "LayerScale gain",
            )
        )
        return
    for name in found.parameters:
        into.takes[name]["branch"] = ONE


def fold_readout(graph: Graph, name: str, node: int, naming: Naming, into: Folds) -> None:
    """Find where a tied readout's multiplier goes: before the product with its weight.

    What the embedding gives up because its output is multiplied already, the readout lacks.
    """
    data = next(i for i in graph.nodes[node].inputs if graph.is_act(i))
    found = fold(graph, data)
    free = found is not None and not any("*" in naming.template(p) for p in found.parameters)
    if found is None or not free or not exclusive(graph, found, data, {node}):
        into.obstacles.append(
            (
                "readout",
                f"parameter {name!r} is both embedding and readout, and nothing before the readout can "
                "take its multiplier: end the model with an affine norm that belongs to no layer, or "
                "untie the two",
            )
        )
        return
    for other in found.parameters:
        into.takes[other]["readout"] = into.present.get(name, ONE) * -1.0


def fold_attention(graph: Graph, wide: Graph, into: Folds) -> None:
    """Logits of attention whose head size grows: W_q takes what 1/d needs beside what is there."""
    for logits in attention(graph):
        there = present(graph, wide, logits)
        q = logits.query
        grows = graph.nodes[q].shape[-1] != wide.nodes[q].shape[-1]
        if not grows and not there:
            continue
        found = fold(graph, q)
        if found is None or not closed(graph, found, q):
            into.obstacles.append(("attention", _fused(graph.nodes[logits.node].module)))
            continue
        for name in found.parameters:
            if grows:
                into.takes[name]["attention"] = Power(width=snapped(there))
            else:
                into.add(name, Power(width=snapped(there)))


def _fused(module: str) -> str:
    return (
        f"the head size in {module!r} grows with width (or its logits' multiplier alone does), and the "
        "query projection is no weight of its own that could take the 1/d scaling: keep the head size "
        "constant (more heads), split the fused projection, or scale the logits by 1/d in the forward "
        "pass"
    )
