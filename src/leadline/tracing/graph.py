"""One forward pass as a graph of tensor operations; ``recording`` makes it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

# Operations by what a plan needs to know of them. The views are linear in their first argument, entry by
# entry or as a rearrangement.
VIEWS = frozenset(
    "view _unsafe_view reshape _reshape_alias t transpose permute expand slice select split unsafe_split "
    "split_with_sizes chunk unbind clone contiguous detach alias _to_copy to unsqueeze squeeze "
    "lift_fresh index index_select gather mean sum roll flatten constant_pad_nd neg "
    "native_dropout dropout avg_pool1d avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool1d "
    "upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa diagonal narrow repeat flip unfold as_strided swapaxes "
    "movedim masked_fill masked_fill_ tril triu grid_sampler_2d grid_sampler_3d".split()
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
MATRIX = GROUPED | frozenset(
    "mm addmm bmm baddbmm linear matmul mv addmv dot vdot mkldnn_linear".split()
)
_LINEAR = frozenset({"linear", "mkldnn_linear"})
BY_VECTORS = frozenset("mv addmv dot vdot".split())
"""Products with a vector, which sum over all of its entries."""
CONVOLUTIONS = frozenset("convolution _convolution mkldnn_convolution conv2d conv1d conv3d".split())
TABLES = frozenset("embedding index index_select gather".split())
"""Rows of their first argument."""
SCALINGS = frozenset("mul div mul_ div_".split())
EMPTY = frozenset("empty empty_like new_empty empty_strided".split())
"""Memory that nothing was written to."""
SUMS = frozenset("add sub add_ sub_ rsub".split())
BEFORE_SOFTMAX = SCALINGS | SUMS | {"where", "cat", "tanh"}
"""What comes between a product and the softmax that makes it attention, views beside."""
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
_INDEX = re.compile(r"\d+")


def template(name: str) -> str:
    """A name with its numbers replaced: equal for all repetitions of a module.

    >>> template("blocks.3.mlp.0.weight"), template("encoder_layer_12.fc1.weight")
    ('blocks.*.mlp.*.weight', 'encoder_layer_*.fc*.weight')
    """
    return _INDEX.sub("*", name)


def bits(mask: int) -> set[int]:
    """Positions of the ones."""
    out = set()
    while mask:
        low = mask & -mask
        out.add(low.bit_length() - 1)
        mask ^= low
    return out


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
    """The inputs that are whole numbers or truth values: choices, which have no size."""


@dataclass
class Graph:
    """Nodes in order of execution."""

    nodes: list[Node]
    parameters: dict[str, int]
    inputs: list[int]
    outputs: list[int] = field(default_factory=list)
    """The numbers that the model returns; empty where that is not known."""

    def __post_init__(self) -> None:
        n = len(self.nodes)
        self.consumers: list[list[int]] = [[] for _ in range(n)]
        self.ancestors = [0] * n
        """Bit sets of the nodes each one depends on, itself excluded."""
        self.made_of = [0] * n
        """The same without what it depends on by a choice alone (a mask, an index)."""
        self.acts = 0
        """Bit set of the nodes that depend on the model's inputs."""
        self.touched = 0
        """Bit set of the nodes that depend on inputs and on parameters."""
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
                if i not in node.discrete:
                    self.made_of[node.index] |= self.made_of[i] | (1 << i)
            self.ancestors[node.index] = seen
            if node.op in RANDOM or seen & self.random:
                self.random |= 1 << node.index
            if self._selects(node):
                self.selects |= 1 << node.index
            elif node.index in self.inputs or seen & self.acts:
                self.acts |= 1 << node.index
            if node.parameter is not None or seen & held:
                held |= 1 << node.index
        self.read = sum(1 << i for i in self.outputs or range(n))
        """Bit set of the nodes that enter what the model returns by their size, not by a choice alone (the
        nearest entry of a codebook); all where that is not known."""
        for node in reversed(self.nodes):
            if self.read >> node.index & 1:
                for i in set(node.inputs) - node.discrete:
                    self.read |= 1 << i
        self._follow(self._tokens())
        self.touched = held & self.acts
        self.random &= ~self.acts

    def _tokens(self) -> set[int]:
        """Operations on parameters that stand for data: what makes queries, keys or values of them alone
        (learned queries, latents, classes), and in a product of two of them the left one."""
        out, queue = set(), []
        layers = sum(
            1 << node.index
            for node in self.nodes
            if node.op in MATRIX and not self.is_act(node.index) and self.leaves(node.index)
        )
        for node in self.nodes:
            if not self.read >> node.index & 1:
                continue
            made = {i for i in node.inputs if not self.is_act(i) and self.leaves(i)}
            by_layers = {i for i in made if (self.ancestors[i] | 1 << i) & layers}
            if node.op in MATRIX:
                softmaxes = self.softmaxes(node.index)
                values = self._values(softmaxes)
                attends = bool(values) or any(self.nodes[i].op in ATTENTION for i in softmaxes)
                factors = {*self.operands(node.index)}
                # Otherwise it is a layer whose outputs a softmax follows (a router).
                queue += [i for i in made & factors if attends and self._is_product(i)]
                queue += [i for i in values if not self.is_act(i) and self._is_product(i)]
                by_layers -= factors
            if node.op in ATTENTION:
                queue += made
            elif self.is_act(node.index) and node.op not in CONVOLUTIONS | TABLES:
                # Added to data, say: what a network makes of a time that is the same in every pass.
                queue += by_layers
        seen = set(queue)
        while queue:
            i = queue.pop()
            node = self.nodes[i]
            layered = (self.ancestors[i] | 1 << i) & layers
            # What else functions make of the first rows is as good as the rows.
            plain = node.op in VIEWS | TABLES | NORMS | SUMS | SCALINGS and bool(self.leaves(i))
            if not layered and not plain:
                continue
            out.add(i)
            if node.op in MATRIX:  # What a layer reads.
                new = {self.operands(i)[0]}
            elif layered:  # Numbers that it is multiplied by are no data.
                new = {j for j in node.inputs if (self.ancestors[j] | 1 << j) & layers}
            else:
                new = set(node.inputs)
            new = set(node.inputs[:1]) if node.op in NORMS else new
            queue += new - seen
            seen |= new
        return out

    def _is_product(self, i: int) -> bool:
        """Has a tensor that is made of parameters been multiplied by a matrix? Vectors (a bias, a scale for
        every entry) may have been added since, or have multiplied it; matrices make another matrix."""
        while self.nodes[i].op not in MATRIX:
            node = self.nodes[i]
            if node.op in SUMS | SCALINGS and len(node.inputs) == 2:
                large, small = sorted(node.inputs, key=lambda j: -math.prod(self.nodes[j].shape))
                if math.prod(self.nodes[small].shape) > node.shape[-1]:
                    return False
                i = large
            elif node.op in VIEWS or node.op in SCALINGS:
                i = node.inputs[0]
            else:
                return False
        return bool(self.leaves(i))

    def enters_softmax(self, i: int, c: int) -> bool:
        """Does an operation take the softmax of a tensor, or add it to logits that it does?"""
        node = self.nodes[c]
        return "softmax" in node.op or (node.op in ATTENTION and i in node.inputs[3:])

    def softmaxes(self, start: int) -> list[int]:
        """What takes the softmax of a product, whatever views, masks and numbers are between."""
        out, queue, seen = [], [start], {start}
        while queue:
            i = queue.pop()
            for c in self.consumers[i]:
                op = self.nodes[c].op
                if self.enters_softmax(i, c):
                    out.append(c)
                elif c not in seen and (op in BEFORE_SOFTMAX or op in VIEWS):
                    seen.add(c)
                    queue.append(c)
        return out

    def _values(self, softmaxes: list[int]) -> list[int]:
        """What shares are multiplied with: the right factors of products of these softmaxes."""
        out, queue, seen = [], [i for i in softmaxes if self.nodes[i].op not in ATTENTION], set()
        while queue:
            i = queue.pop()
            for c in self.consumers[i]:
                node = self.nodes[c]
                if node.op in MATRIX and self.operands(c)[0] == i:
                    out.append(self.operands(c)[1])
                elif c not in seen and (node.op in VIEWS or self._is_dropout(i, c)):
                    seen.add(c)
                    queue.append(c)
        return out

    def _is_dropout(self, i: int, c: int) -> bool:
        """Is a tensor multiplied by numbers or by what no data enter?"""
        others = (j for j in self.nodes[c].inputs if j != i)
        return self.nodes[c].op in SCALINGS and not any(map(self.is_act, others))

    def _follow(self, tokens: set[int]) -> None:
        """Count these, and all that is made of them, as data."""
        for i in sorted(tokens):
            self.acts |= 1 << i
        for node in self.nodes if tokens else ():
            if self.ancestors[node.index] & self.acts and not self.selects >> node.index & 1:
                self.acts |= 1 << node.index

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
        return node.inputs[:2] if node.op in GROUPED | _LINEAR else node.inputs[-2:]

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
            node = self.nodes[j]
            # Which of several matrices are chosen is no part of them, nor what multiplies zeros.
            if self.selects >> j & 1:
                queue.extend(node.inputs[:1])
            elif node.op in MATRIX and any(self.nodes[k].value == 0 for k in self.operands(j)):
                queue.extend(k for k in node.inputs if k not in self.operands(j))
            else:
                queue.extend(node.inputs)
        return names
