"""Where a multiplier can go: parameters whose scaling scales a given tensor, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from leadline.tracing.graph import Graph

# Linear in their first argument, entry by entry or as a rearrangement.
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
MATRIX = frozenset("mm addmm bmm baddbmm linear matmul mv addmv mkldnn_linear".split())
CONVOLUTIONS = frozenset("convolution _convolution mkldnn_convolution conv2d conv1d conv3d".split())
SCALINGS = frozenset("mul div mul_ div_".split())
SUMS = frozenset("add sub add_ sub_ rsub".split())
WEIGHT_NORM = "_weight_norm_interface"
ATTENTION = frozenset(
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math "
    "_scaled_dot_product_cudnn_attention scaled_dot_product_attention".split()
)


@dataclass
class Fold:
    """Parameters that scale a tensor together, and the operations between."""

    parameters: set[str] = field(default_factory=set)
    visited: set[int] = field(default_factory=set)

    def union(self, *others: Fold) -> Fold:
        out = Fold(set(self.parameters), set(self.visited))
        for other in others:
            out.parameters |= other.parameters
            out.visited |= other.visited
        return out


def fold(graph: Graph, index: int) -> Fold | None:
    """The last affine map before a tensor: scaling these parameters by a > 0 scales it by a.

    None where there is no such set.
    """
    node = graph.nodes[index]
    here = Fold(set(), {index})
    if node.parameter is not None:
        return Fold({node.parameter}, {index})
    if not node.inputs:
        return None

    def through(i: int) -> Fold | None:
        below = fold(graph, i)
        return None if below is None else here.union(below)

    def weights(operands: list[int]) -> Fold | None:
        """All of these."""
        parts = [through(i) for i in operands]
        return None if any(p is None for p in parts) else here.union(*[p for p in parts if p])

    def one_of(operands: list[int]) -> Fold | None:
        """The first of these whose weights act on nothing else, or else the first that has any."""
        parts = [(i, p) for i in operands if (p := through(i)) is not None]
        alone = [p for i, p in parts if exclusive(graph, p, i, {index})]
        return (alone or [p for _, p in parts] or [None])[0]

    held = [i for i in node.inputs if not graph.is_act(i) and graph.leaves(i)]
    acts = [i for i in node.inputs if graph.is_act(i)]
    op = node.op
    if op in ("cat", "stack", "copy_", "index_put_", "index_put", "select_scatter"):
        return weights([*acts, *held])
    if op in VIEWS or op in HOMOGENEOUS:
        fills = [node.kwargs.get("value", 0.0), *(graph.nodes[i].value for i in node.inputs[2:])]
        if op in ("masked_fill", "constant_pad_nd") and any(
            not (x == 0 or x == -math.inf) for x in fills
        ):
            return None
        return through(node.inputs[0])
    if op in NORMS:
        return weights(held) if held else None
    if op == WEIGHT_NORM:
        return through(node.inputs[1])
    if op in MATRIX or op in CONVOLUTIONS or op == "embedding":
        return weights(held) if held else one_of(acts[-2:][::-1])
    if op in SCALINGS:
        if op.startswith("div") and len(node.inputs) > 1 and node.inputs[1] in (*acts, *held):
            return through(node.inputs[0])
        return weights(held[:1]) if held else one_of(acts)
    if op in SUMS:
        if len(node.inputs) == 1 and any(node.numbers):
            return None
        if any(graph.nodes[i].value != 0 for i in node.inputs if i not in (*acts, *held)):
            return None
        return weights([*acts, *held])
    if op in ATTENTION:
        return through(node.inputs[2])
    return None


def exclusive(
    graph: Graph, found: Fold, target: int, users: set[int], shared: frozenset[str] = frozenset()
) -> bool:
    """Does everything on the way from the parameters to ``target`` feed only it?

    Args:
        users: what may consume the target itself.
        shared: parameters that may be used elsewhere too.
    """
    for i in found.visited:
        allowed = found.visited | (users if i == target else set())
        if graph.nodes[i].parameter not in shared and not set(graph.consumers[i]) <= allowed:
            return False
    return True


def closed(
    graph: Graph, found: Fold | None, target: int, shared: frozenset[str] = frozenset()
) -> bool:
    """The same, whatever consumes the target."""
    users = set(graph.consumers[target])
    return found is not None and exclusive(graph, found, target, users, shared)
