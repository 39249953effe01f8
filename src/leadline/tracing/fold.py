"""Where a multiplier can go: parameters whose scaling scales a given tensor, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from leadline.tracing.graph import Graph

# Linear in their first argument, entry by entry or as a rearrangement.
VIEWS = frozenset(
    "view _unsafe_view reshape _reshape_alias t transpose permute expand slice select split "
    "split_with_sizes chunk unbind clone contiguous detach alias _to_copy to unsqueeze squeeze "
    "lift_fresh index index_select gather mean sum roll flatten constant_pad_nd copy_ neg "
    "native_dropout dropout avg_pool1d avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool1d "
    "upsample_nearest2d upsample_bilinear2d diagonal narrow repeat flip unfold as_strided swapaxes "
    "movedim masked_fill tril triu empty_strided".split()
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
        """All of these, which hold parameters alone."""
        parts = [through(i) for i in operands]
        return None if any(p is None for p in parts) else here.union(*[p for p in parts if p])

    held = [i for i in node.inputs if not graph.is_act(i) and graph.leaves(i)]
    acts = [i for i in node.inputs if graph.is_act(i)]
    op = node.op
    if op in ("cat", "stack"):
        kept = [i for i in node.inputs if graph.is_act(i) or graph.leaves(i)]
        return weights(kept)
    if op in VIEWS or op in HOMOGENEOUS:
        return through(node.inputs[0])
    if op in NORMS:
        return weights(held) if held else None
    if op in MATRIX or op in CONVOLUTIONS or op == "embedding":
        if held:
            return weights(held)
        for i in reversed(acts[-2:]):
            found = through(i)
            if found is not None:
                return found
        return None
    if op in SCALINGS:
        if op.startswith("div") and len(node.inputs) > 1 and node.inputs[1] in (*acts, *held):
            return through(node.inputs[0])
        if held:
            return weights(held[:1])
        for i in acts:
            found = through(i)
            if found is not None:
                return found
        return None
    if op in SUMS:
        free = [i for i in node.inputs if i not in acts and i not in held]
        if any(not set(graph.nodes[i].numbers) <= {0.0} for i in free):
            return None
        return weights([*acts, *held])
    if op in ATTENTION:
        return through(node.inputs[2])
    return None


def exclusive(graph: Graph, found: Fold, target: int, users: set[int]) -> bool:
    """Does everything on the way from the parameters to ``target`` feed only it?

    Args:
        users: what may consume the target itself.
    """
    for i in found.visited:
        allowed = found.visited | (users if i == target else set())
        if graph.nodes[i].parameter is None and not set(graph.consumers[i]) <= allowed:
            return False
    return True
