"""Operations over a dimension that grows: which of them keep their size, and which nothing is known of.

What works entry by entry, rearranges, normalises or multiplies by weights keeps its size or is judged where
weights are; sums are in ``sums``. Fourier transforms are sums over all entries. Of everything else nothing
says how the size of its result goes with width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import torch

from leadline.tracing.graph import (
    ADDS_ROWS,
    ATTENTION,
    CONVOLUTIONS,
    EMPTY,
    HOMOGENEOUS,
    MATRIX,
    NORMS,
    RANDOM,
    SCALINGS,
    SUMS,
    TABLES,
    VIEWS,
    WEIGHT_NORM,
    Graph,
)

_JUDGED = (
    frozenset(
        "sum nansum linalg_vector_norm norm cumsum logsumexp _cdist_forward prod addbmm".split()
    )
    | ADDS_ROWS
)
"""What ``sums`` and ``products`` look at."""
_KNOWN = (
    _JUDGED | VIEWS | HOMOGENEOUS | NORMS | MATRIX | CONVOLUTIONS | TABLES | SCALINGS | SUMS | ATTENTION
    | RANDOM | EMPTY | {WEIGHT_NORM}
)  # fmt: skip
_SAME_SIZE = frozenset(
    "cat stack im2col col2im view_as_complex view_as_real complex polar real imag _conj resolve_conj "
    "_neg_view resolve_neg glu sort topk median nanmedian mode kthvalue std var var_mean std_mean cummax "
    "cummin argmax argmin argsort slice_scatter select_scatter diagonal_scatter as_strided_scatter "
    "index_put index_copy index_fill masked_scatter scatter scatter_value scatter_reduce put take "
    "take_along_dim one_hot repeat_interleave pixel_shuffle pixel_unshuffle native_channel_shuffle "
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d max_pool3d_with_indices avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d fractional_max_pool2d max_unpool2d _adaptive_avg_pool3d upsample_trilinear3d "
    "upsample_nearest3d bucketize searchsorted isin any all nonzero copy zero fill zeros_like ones_like "
    "full_like new_zeros _softmax _safe_softmax _log_softmax rot90 diag diag_embed tile hardswish mish "
    "prelu "
    "relu6 log_sigmoid_forward rrelu_with_noise fake_quantize_per_tensor_affine_cachemask "
    "fake_quantize_per_channel_affine_cachemask alpha_dropout feature_dropout".split()
)
"""What moves, chooses or averages entries, or works on each of them (PyTorch does not say so of all)."""
_LINEAR = (
    VIEWS
    | SCALINGS
    | SUMS
    | frozenset(
        "cat stack view_as_complex view_as_real complex real imag _conj resolve_conj _neg_view resolve_neg "
        "constant_pad_nd where zeros_like slice_scatter copy_".split()
    )
)
"""What may lie between a transform and its inverse."""
_LOSSES = ("loss", "binary_cross_entropy")
_RANKS = frozenset(
    "argmax argmin argsort sort max min median mode kthvalue cummax cummin topk cumsum bincount "
    "searchsorted bucketize nonzero".split()
)
"""What makes whole numbers that grow with the dimension that they are made over."""
_FOURIER = "_fft_"
_SUM = 2
"""The reduction of a loss that adds its terms up."""
_NONE, _ORTHO, _BY_N = range(3)
"""Normalizations of a transform."""


@lru_cache
def _entrywise(op: str) -> bool:
    """Does an operation work entry by entry, as PyTorch says?"""
    packet = getattr(torch.ops.aten, op, None)
    if packet is None:
        return False
    tags = {tag for name in packet.overloads() for tag in getattr(packet, name).tags}
    return torch.Tag.pointwise in tags


def _keeps(op: str) -> bool:
    """Does an operation, in place or not, keep the size of entries, or is that judged elsewhere?"""
    names = {op, op.removesuffix("_"), op.removesuffix("_copy")}
    return not names.isdisjoint(_KNOWN | _SAME_SIZE) or any(map(_entrywise, names))


def check_operations(graph: Graph, wide: Graph) -> None:
    """Refuse operations over dimensions that grow of which nothing says what that does to their size.

    Raises:
        ValueError: names the module and the operation.
    """
    for node in graph.nodes:
        i = node.index
        if not (graph.touched & graph.read) >> i & 1:
            continue
        if node.op in SCALINGS | SUMS | {"_to_copy"} and _counts(graph, wide, i):
            raise ValueError(
                f"module {node.module!r} calculates with numbers that are counted or ranked over a "
                "dimension that grows with width, and grow with it: divide them by its size, or use them "
                "to choose alone"
            )
        if node.op.startswith(_FOURIER):
            if _over_growing(graph, wide, i) and not _neutral(graph, wide, i):
                raise ValueError(
                    f"module {node.module!r} takes a Fourier transform over a dimension that grows with "
                    "width, which adds up all of its entries: give it norm='ortho' (and multiply what it "
                    "makes by entries of a parameter, not by another transform), or transform a dimension "
                    "that stays"
                )
        elif any(word in node.op for word in _LOSSES):
            if node.kwargs.get("reduction", 1) == _SUM and _terms(graph, i) != _terms(wide, i):
                raise ValueError(
                    f"module {node.module!r} sums a loss over a dimension that grows with width, which no "
                    "parameter's scale can follow: take the mean (reduction='mean')"
                )
        elif _adds(graph, wide, i):
            raise ValueError(
                f"module {node.module!r} sums over a dimension that grows with width ({node.op}), which no "
                "parameter's scale can follow: take the mean, or write the sum as a Linear layer"
            )
        elif not (_keeps(node.op) or graph.weights(i)):
            # What parameters do in it is judged by their roles. Of batches of matrices each is by itself.
            last = 2 if "linalg" in node.op else None
            if any(_grows(graph, wide, j, last) for j in set(node.inputs) if graph.is_act(j)):
                raise ValueError(
                    f"module {node.module!r} uses {node.op!r} over a dimension that grows with width, and "
                    "nothing says how the size of what it makes goes with that: keep that dimension "
                    "constant (project to a fixed size first), or use other operations"
                )


def _counts(graph: Graph, wide: Graph, i: int) -> bool:
    """Is a whole number that an operation calculates with a count or a rank over what grows?"""
    queue = [j for j in graph.nodes[i].discrete if graph.touched >> j & 1]
    seen = set(queue)
    while queue:
        j = queue.pop()
        node = graph.nodes[j]
        base = node.op.removesuffix("_")
        if base in _RANKS:
            before, more = (g.nodes[node.inputs[0]].shape for g in (graph, wide))
            along = int(node.kwargs.get("dim", node.numbers[0] if node.numbers else -1))
            over = [along] if before and -len(before) <= along < len(before) else range(len(before))
            # Twice as many: how many rows are chosen may differ by chance.
            if any(more[d] == 2 * before[d] > 0 for d in over):
                return True
        elif base in ("sum", "count_nonzero"):
            here, there = (
                _terms(g, j) / max(math.prod(g.nodes[j].shape), 1) for g in (graph, wide)
            )
            if there == 2 * here:
                return True
        elif node.op in VIEWS | SCALINGS | SUMS:
            new = set(node.inputs) & node.discrete - seen
            seen |= new
            queue += new
    return False


def _adds(graph: Graph, wide: Graph, i: int) -> bool:
    """Does it add up entries over what grows, in places that it is given or with a kernel as long?"""
    node = graph.nodes[i]
    if node.op in CONVOLUTIONS:
        kernel = node.inputs[1]
        sizes = (g.nodes[kernel].shape[2:] for g in (graph, wide))
        return not graph.is_act(kernel) and not graph.leaves(kernel) and len({*sizes}) > 1
    scattered = node.op.startswith("scatter_reduce") and node.kwargs.get("reduce") in (
        "sum",
        "prod",
    )
    if scattered or (node.op.startswith("index_put") and node.kwargs.get("accumulate")):
        ratios = (
            math.prod(g.nodes[node.inputs[-1]].shape) / max(math.prod(g.nodes[i].shape), 1)
            for g in (graph, wide)
        )
        return len({*ratios}) > 1
    return False


def _terms(graph: Graph, i: int) -> int:
    return math.prod(graph.nodes[graph.nodes[i].inputs[0]].shape)


def _grows(graph: Graph, wide: Graph, i: int, last: int | None = None) -> bool:
    """Does a dimension grow with width (of the last ones alone)?"""
    here, there = (g.nodes[i].shape[-last if last else 0 :] for g in (graph, wide))
    return here != there


def _over_growing(graph: Graph, wide: Graph, i: int) -> bool:
    """Is a transform over a dimension that grows?"""
    node = graph.nodes[i]
    dims = node.numbers[: -2 if node.op.startswith("_fft_c2r") else -1]
    shapes = [g.nodes[node.inputs[0]].shape for g in (graph, wide)]
    return any(shapes[0][int(d)] != shapes[1][int(d)] for d in dims)


def _neutral(graph: Graph, wide: Graph, i: int) -> bool:
    """Does a transform keep the size of what it transforms: by itself, or with the one that it belongs to?

    The transforms of two things that are multiplied make sums of their products.
    """
    by = graph.nodes[i].kwargs.get("normalization", _NONE)
    before = [j for j in _near(graph, wide, i, back=True) if j >= 0]
    after = _near(graph, wide, i, back=False)
    if by == _ORTHO:
        return len(before) <= 1 and not _parts(graph, wide, i)
    if by == _BY_N:
        return [_by(graph, j) for j in before] == [_NONE]
    return bool(after) and all(j >= 0 and _by(graph, j) == _BY_N for j in after)


def _parts(graph: Graph, wide: Graph, i: int) -> bool:
    """Is a part of a transform used by itself, as large at any width? It is what a readout makes."""
    seen, queue = {i}, [i]
    while queue:
        for k in set(graph.consumers[queue.pop()]) - seen:
            seen.add(k)
            if graph.nodes[k].op in VIEWS and graph.nodes[k].shape == wide.nodes[k].shape:
                return True
            if graph.nodes[k].op in _LINEAR:
                queue.append(k)
    return False


def _by(graph: Graph, i: int) -> int:
    return int(graph.nodes[i].kwargs.get("normalization", _NONE))


def _near(graph: Graph, wide: Graph, i: int, back: bool) -> set[int]:
    """The next transforms over what grows, with nothing but what is linear between; -1 for anything else
    that a result enters."""
    out, seen, queue = set[int](), {i}, [i]
    while queue:
        j = queue.pop()
        following: Iterable[int] = graph.nodes[j].inputs if back else graph.consumers[j]
        if not back and j in graph.outputs:
            out.add(-1)
        for k in set(following) - seen:
            seen.add(k)
            node = graph.nodes[k]
            if node.op.startswith(_FOURIER) and _over_growing(graph, wide, k):
                out.add(k)
            elif (
                not back and node.shape == wide.nodes[k].shape
            ):  # A part of it, as many at any width.
                out.add(-1)
            elif node.op in _LINEAR and not (node.op in SUMS and graph.weights(k)):
                queue.append(k)
            elif not back:
                out.add(-1)
    return out
