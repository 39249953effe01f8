"""A forward pass as a graph of tensor operations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

# Operations whose result is drawn, or whatever was in memory.
RANDOM = frozenset(
    "rand randn randint randperm rand_like randn_like bernoulli bernoulli_ uniform_ normal_ normal "
    "exponential_ native_dropout dropout multinomial empty empty_like new_empty empty_strided".split()
)
_INDEX = re.compile(r"\d+")


def template(name: str) -> str:
    """A name with its numbers replaced: equal for all repetitions of a module.

    >>> template("blocks.3.mlp.0.weight"), template("encoder_layer_12.fc1.weight")
    ('blocks.*.mlp.*.weight', 'encoder_layer_*.fc*.weight')
    """
    return _INDEX.sub("*", name)


@dataclass
class Node:
    """One operation, parameter, input or constant."""

    index: int
    op: str
    inputs: list[int]
    """Tensors it read, in the order of its arguments."""
    shape: tuple[int, ...]
    numbers: tuple[float, ...] = ()
    """Its Python numbers, and constants all of whose entries are equal."""
    value: float | None = None
    """Of a constant all of whose entries are equal."""
    module: str = ""
    """Innermost module that was running."""
    parameter: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Nodes in order of execution."""

    nodes: list[Node]
    parameters: dict[str, int]
    inputs: list[int]

    def __post_init__(self) -> None:
        n = len(self.nodes)
        self.consumers: list[list[int]] = [[] for _ in range(n)]
        self.ancestors = [0] * n
        """Bit sets of the nodes each one depends on, itself excluded."""
        self.acts = 0
        """Bit set of the nodes that depend on the model's inputs."""
        self.touched = 0
        """Those of them that depend on parameters too."""
        self.random = 0
        """Bit set of the nodes that are drawn, and depend on no input."""
        held = 0
        for node in self.nodes:
            seen = 0
            for i in node.inputs:
                seen |= self.ancestors[i] | (1 << i)
                self.consumers[i].append(node.index)
            self.ancestors[node.index] = seen
            if node.op in RANDOM or seen & self.random:
                self.random |= 1 << node.index
            if node.index in self.inputs or seen & self.acts:
                self.acts |= 1 << node.index
            if node.parameter is not None or seen & held:
                held |= 1 << node.index
        self.touched = held & self.acts
        self.random &= ~self.acts

    def is_act(self, i: int) -> bool:
        """Does it depend on the model's inputs?"""
        return bool(self.acts >> i & 1)

    def leaves(self, i: int) -> set[str]:
        """Parameters that a node that depends on no input is made of."""
        names, queue, seen = set(), [i], set()
        while queue:
            j = queue.pop()
            if j in seen:
                continue
            seen.add(j)
            name = self.nodes[j].parameter
            if name is not None:
                names.add(name)
            queue.extend(self.nodes[j].inputs)
        return names
