"""One forward pass, recorded as a graph of tensor operations.

The pass runs under a dispatch mode, below autograd and below every Python abstraction, so any model
that runs can be read: control flow, in-place additions and views included. (A traced program, as
torch.export makes it, holds the same operations for the models that export accepts, and nothing for
the others; one way that always works is simpler than two.)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# Operations by what a plan needs to know of them. The views are linear in their first argument, entry by
# entry or as a rearrangement.
VIEWS = frozenset(
    "view _unsafe_view reshape _reshape_alias t transpose permute expand slice select split "
    "split_with_sizes chunk unbind clone contiguous detach alias _to_copy to unsqueeze squeeze "
    "lift_fresh index index_select gather mean sum roll flatten constant_pad_nd neg "
    "native_dropout dropout avg_pool1d avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool1d "
    "upsample_nearest2d upsample_bilinear2d diagonal narrow repeat flip unfold as_strided swapaxes "
    "movedim masked_fill tril triu".split()
)
# f(a x) = a f(x) for a > 0.
HOMOGENEOUS = frozenset(
    "relu relu_ leaky_relu leaky_relu_ abs max_pool2d_with_indices max_pool1d amax max threshold "
    "_prelu_kernel".split()
)
NORMS = frozenset(
    "native_layer_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "native_group_norm _fused_rms_norm cudnn_batch_norm _batch_norm_with_update".split()
)
GROUPED = frozenset({"_grouped_mm"})
"""Products with one matrix a group of rows; where the groups end comes third."""
MATRIX = GROUPED | frozenset("mm addmm bmm baddbmm linear matmul mv addmv mkldnn_linear".split())
CONVOLUTIONS = frozenset("convolution _convolution mkldnn_convolution conv2d conv1d conv3d".split())
TABLES = frozenset("embedding index index_select gather".split())
"""Rows of their first argument."""
SCALINGS = frozenset("mul div mul_ div_".split())
EMPTY = frozenset("empty empty_like new_empty empty_strided".split())
"""Memory that nothing was written to."""
SUMS = frozenset("add sub add_ sub_ rsub".split())
ADDS_ROWS = frozenset("index_add index_add_ scatter_add scatter_add_".split())
"""Sums of their first and their last argument, row by row."""
WEIGHT_NORM = "_weight_norm_interface"
ATTENTION = frozenset(
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math "
    "_scaled_dot_product_cudnn_attention scaled_dot_product_attention".split()
)
# Operations whose result is drawn, or whatever was in memory.
RANDOM = frozenset(
    "rand randn randint randperm rand_like randn_like bernoulli bernoulli_ uniform_ normal_ normal "
    "exponential_ native_dropout dropout multinomial empty empty_like new_empty empty_strided".split()
)
_SHAPE_ONLY = RANDOM - {"native_dropout", "dropout", "multinomial"} | frozenset(
    "zeros_like ones_like full_like new_zeros new_ones new_full zero_ fill_".split()
)
# Sums and products with a factor for their second tensor (alpha) and their first (beta).
_WEIGHTED = frozenset("add add_ sub sub_ addmm baddbmm addmv addbmm".split())
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
    """The entry of a constant all of whose entries are equal."""
    module: str = ""
    """Innermost module that was running."""
    parameter: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    discrete: frozenset[int] = frozenset()
    """Those of its inputs that are whole numbers or truth values: choices, which have no size."""


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
        self.selects = 0
        """Bit set of the nodes that choose some of several weight matrices, whatever they choose by."""
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
            if self._selects(node):
                self.selects |= 1 << node.index
            elif node.index in self.inputs or seen & self.acts:
                self.acts |= 1 << node.index
            if node.parameter is not None or seen & held:
                held |= 1 << node.index
        self.touched = held & self.acts
        self.random &= ~self.acts

    def _selects(self, node: Node) -> bool:
        """Does it choose some of several weight matrices, such as those of experts?"""
        if node.op not in TABLES or self.is_act(node.inputs[0]) or not self.leaves(node.inputs[0]):
            return False
        table = self.nodes[node.inputs[0]].shape
        return len(table) == 3 and node.shape[-2:] == table[-2:]

    def is_act(self, i: int) -> bool:
        """Does it depend on the model's inputs?"""
        return bool(self.acts >> i & 1)

    def factor(self, i: int) -> float:
        """The number that a product or quotient multiplies by; 1 if there is none."""
        node = self.nodes[i]
        x = node.numbers[0] if node.numbers else 1.0
        return 1 / x if node.op.startswith("div") and x else x

    def operands(self, i: int) -> list[int]:
        """The two factors of a matrix product."""
        node = self.nodes[i]
        return node.inputs[:2] if node.op in GROUPED else node.inputs[-2:]

    def weights(self, i: int) -> set[str]:
        """Parameters that an operation on data combines with it, whatever they are made into first."""
        return {n for j in self.nodes[i].inputs if not self.is_act(j) for n in self.leaves(j)}

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
            # Which of several matrices are chosen is no part of them.
            whole = self.selects >> j & 1
            queue.extend(self.nodes[j].inputs[:1] if whole else self.nodes[j].inputs)
        return names


class _Recorder(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.module = [""]
        self.kept: list[Tensor] = []
        self.values: dict[int, Tensor] = {}
        self.of: dict[int, int] = {}
        # In-place operations change every view of their storage.
        self.written: dict[int, int] = {}
        self.parameters: dict[str, int] = {}
        for name, p in model.named_parameters():
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
        if not results:
            return out
        name = str(func.overloadpacket).split(".")[-1]
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
        if name in ("addcmul", "addcmul_"):
            product = self._product(inputs[1:], float(kwargs.get("value", 1)))
            name, inputs = "add", [inputs[0], product]
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
    """The same, and the first result of every operation."""
    args, kwargs = as_call(inputs)
    training = {m: m.training for m in model.modules()}
    model.train()
    recorder = _Recorder(model)
    marked = [
        recorder._leaf(t, "input") for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)
    ]
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.no_grad(),
            _watched(model, recorder),
            recorder,
        ):
            model(*args, **kwargs)
    finally:
        for m, mode in training.items():
            m.training = mode
    return Graph(recorder.nodes, recorder.parameters, marked), recorder.values


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call."""
    if isinstance(inputs, dict):
        return (), dict(inputs)
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    return (inputs,), {}
