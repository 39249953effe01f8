"""Names of tensor operations, by what a plan needs to know of them."""

from __future__ import annotations

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
TABLES = frozenset("embedding index index_select gather".split())
"""Rows of their first argument."""
SCALINGS = frozenset("mul div mul_ div_".split())
EMPTY = frozenset("empty empty_like new_empty empty_strided".split())
"""Memory that nothing was written to."""
SUMS = frozenset("add sub add_ sub_ rsub".split())
WEIGHT_NORM = "_weight_norm_interface"
ATTENTION = frozenset(
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math "
    "_scaled_dot_product_cudnn_attention scaled_dot_product_attention".split()
)
