"""Recording one forward pass as a ``Graph``.

The pass runs under a dispatch mode, below autograd and below every Python abstraction, so any model
that runs can be read: control flow, in-place additions and views included. (A traced program, as
torch.export makes it, holds the same operations for the models that export accepts, and nothing for
the others; one way that always works is simpler than two.)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._pytree import tree_flatten

from leadline.tracing.graph import RANDOM, Graph, Node
from leadline.tracing.modes import OperationMode

_SHAPE_ONLY = RANDOM - {"native_dropout", "dropout", "multinomial"} | frozenset(
    "zeros_like ones_like full_like new_zeros new_ones new_full zero_ fill_".split()
)
# Sums and products with a factor for their second tensor (alpha) and their first (beta).
_WEIGHTED = frozenset("add add_ sub sub_ addmm baddbmm addmv addbmm".split())


# Draws of numbers in [0, 1), by which a forward pass may choose what to run.
_CHANCES = frozenset("rand rand_like uniform_ bernoulli bernoulli_".split())
_HIGH = 1 - 2**-24


class Unreadable(ValueError):
    """A forward pass that cannot be recorded."""


class _Recorder(OperationMode):
    """Writes down every operation.

    Args:
        chance: what every draw of a single number becomes; None leaves it to chance.
    """

    def __init__(self, model: nn.Module, chance: float | None = None) -> None:
        super().__init__()
        self.chance = chance
        self.chooses = False
        """Has the pass gone one way or another by a number that was drawn?"""
        self.nodes: list[Node] = []
        self.module = [""]
        self.kept: list[Tensor] = []
        self.values: dict[int, Tensor] = {}
        self.of: dict[int, int] = {}
        # In-place operations change every view of their storage.
        self.written: dict[int, int] = {}
        self.parameters: dict[str, int] = {}
        for name, p in model.named_parameters():
            if not p.requires_grad and _value(p) is not None:
                # As good as a buffer: a number, such as the scale of attention.
                self.parameters[name] = self._leaf(p, "constant")
            else:
                self.parameters[name] = self._leaf(p, "parameter", name)

    def _leaf(self, t: Tensor, op: str, parameter: str | None = None) -> int:
        value = _value(t) if op == "constant" else None
        return self._add(
            Node(0, op, [], tuple(t.shape), (), value, self.module[-1], parameter), [t]
        )

    def _add(self, node: Node, outputs: list[Tensor]) -> int:
        node.index = len(self.nodes)
        self.nodes.append(node)
        for t in outputs:
            self.kept.append(t)
            self.of[id(t)] = node.index
            self.values.setdefault(node.index, t)
        return node.index

    def _node(self, t: Tensor) -> int:
        i = self.of.get(id(t))
        written = self.written.get(t.untyped_storage()._cdata)
        if i is None:
            return self._leaf(t, "constant") if written is None else written
        return i if written is None or written < i else written

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if forward_ad._current_level >= 0:
            # PyTorch (2.13) ends the process where a tensor of that is looked at here.
            raise Unreadable(
                "the forward pass uses forward-mode derivatives (torch.func.jvp), which cannot be read: "
                "leave them to the loss, or give inputs= for which it does not"
            )
        flat, _ = tree_flatten((args, kwargs))
        tensors = [t for t in flat if isinstance(t, Tensor)]
        inputs = [self._node(t) for t in tensors]
        sized = {
            i
            for i, t in zip(inputs, tensors, strict=True)
            if t.is_floating_point() or t.is_complex()
        }
        out = func(*args, **kwargs)
        results = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        name = str(func.overloadpacket).split(".")[-1]
        if not results:
            self.chooses |= name == "_local_scalar_dense" and self._drawn(inputs[0])
            return out
        if self.chance is not None and name in _CHANCES and results[0].numel() == 1:
            results[0].fill_(self.chance)
        if name == "clone" and inputs:
            # Whether a reshape copies depends on the sizes; what it holds does not.
            self.kept.append(results[0])
            self.of[id(results[0])] = inputs[0]
            return out
        name = "view" if name == "_unsafe_view" else name
        if name in _WEIGHTED:
            for place, key in enumerate(("beta", "alpha")):
                if kwargs.get(key, 1) != 1 and place < len(inputs):
                    inputs[place] = self._product([inputs[place]], float(kwargs[key]))
                    sized.add(inputs[place])
        if name in ("addcmul", "addcmul_"):
            product = self._product(inputs[1:], float(kwargs.get("value", 1)))
            name, inputs = "add", [inputs[0], product]
            sized.add(product)
        values = [self.nodes[i].value for i in inputs]
        numbers = [float(v) for v in flat if type(v) in (int, float)]
        numbers += [v for v in values if v is not None]
        known = {k: v for k, v in kwargs.items() if not isinstance(v, Tensor)}
        for a, value in zip(func._schema.arguments, args, strict=False):
            if isinstance(value, int | float | bool | str):
                known.setdefault(a.name, value)
        constant = name not in RANDOM and (None not in values or name in _SHAPE_ONLY)
        node = Node(
            0,
            name,
            [] if name in _SHAPE_ONLY else inputs,
            tuple(results[0].shape),
            tuple(numbers),
            _value(results[0]) if constant else None,
            self.module[-1],
            kwargs=known,
            discrete=frozenset(inputs) - sized,
        )
        index = self._add(node, results)
        mutated = [
            value
            for a, value in zip(func._schema.arguments, args, strict=False)
            if a.alias_info is not None and a.alias_info.is_write and isinstance(value, Tensor)
        ]
        for t in mutated:
            self.kept.append(t)
            self.of[id(t)] = index
            self.written[t.untyped_storage()._cdata] = index
        return out

    def returned(self, out: Any) -> list[int]:
        """The numbers that a pass returns; none where it may hold tensors that are not seen."""
        leaves = tree_flatten(out)[0]
        if not all(x is None or isinstance(x, Tensor | bool | int | float | str) for x in leaves):
            return []
        numbers = [x for x in leaves if isinstance(x, Tensor)]
        return sorted({self._node(x) for x in numbers if x.is_floating_point() or x.is_complex()})

    def _drawn(self, i: int) -> bool:
        """Is it one number, made of nothing but draws of single numbers and constants?"""
        node = self.nodes[i]
        if node.op in _CHANCES:
            return math.prod(node.shape) == 1
        few = math.prod(node.shape) == 1 and len(node.inputs) <= 2
        known = (j for j in node.inputs if self.nodes[j].op != "constant")
        return few and bool(node.inputs) and all([self._drawn(j) for j in known] or [False])

    def _product(self, inputs: list[int], number: float) -> int:
        """A multiplication that an operation does on the side."""
        shape = self.nodes[inputs[0]].shape
        return self._add(Node(0, "mul", inputs, shape, (number,), None, self.module[-1]), [])


def _value(t: Tensor) -> float | None:
    if t.is_meta or t.is_complex() or t.dtype == torch.bool or not t.numel():
        return None
    t = t.detach()
    first = t.flatten()[0]
    return float(first) if bool((t == first).all()) else None


@contextmanager
def _watched(model: nn.Module, recorder: _Recorder) -> Generator[None]:
    handles = []
    for name, module in model.named_modules():

        def enter(_m: Any, _a: Any, _k: Any = None, name: str = name) -> None:
            recorder.module.append(name)

        def leave(_m: Any, _a: Any, _o: Any) -> None:
            recorder.module.pop()

        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        ]
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def record(model: nn.Module, inputs: Any) -> Graph:
    """Run the model once, in training mode and without gradients, and write down what it did."""
    return recorded(model, inputs)[0]


def recorded(model: nn.Module, inputs: Any) -> tuple[Graph, dict[int, Tensor]]:
    """The same, and the first result of every operation.

    Where a drawn number decides what runs (layers that are left out at random), the pass that uses the
    most parameters is taken, of one with all such numbers high and one with all low.
    """
    graph, values, chooses = _recorded(model, inputs)
    if not chooses:
        return graph, values
    ways = [_recorded(model, inputs, chance)[:2] for chance in (_HIGH, 0.0)]
    return max(ways, key=lambda way: _used(way[0]))


def _used(graph: Graph) -> int:
    return sum(bool(graph.consumers[i]) for i in graph.parameters.values())


def _recorded(
    model: nn.Module, inputs: Any, chance: float | None = None
) -> tuple[Graph, dict[int, Tensor], bool]:
    args, kwargs = as_call(inputs)
    training = {m: m.training for m in model.modules()}
    model.train()
    recorder = _Recorder(model, chance)
    marked = [
        recorder._leaf(t, "input") for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)
    ]
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.no_grad(),
            # Recurrent layers in one operation would hide what they compute.
            torch.backends.mkldnn.flags(enabled=False),
            _watched(model, recorder),
            recorder,
        ):
            out = model(*args, **kwargs)
    finally:
        for m, mode in training.items():
            m.training = mode
    graph = Graph(recorder.nodes, recorder.parameters, marked, recorder.returned(out))
    return graph, recorder.values, recorder.chooses


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call."""
    if isinstance(inputs, dict):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    return (inputs,), {}
