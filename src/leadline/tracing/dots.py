"""Products of rows that are written as sums: (u * v).sum(-1) is the diagonal of u @ v.T."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from leadline.tracing.builder import Size
from leadline.tracing.cosines import cosines
from leadline.tracing.graph import Graph, template


def with_dots(graphs: Mapping[Size, Graph], base: Size, wide: Size) -> dict[Size, Graph]:
    """The same passes; sums over what grows with width of products of two tensors of data, entry by entry,
    are matrix products in them.

    Args:
        base, wide: sizes of the same operations; the same sums of a deeper network are in modules of the
            same name, over as many terms.
    """
    graph = graphs[base]
    dots = {
        i: terms for i, terms in _dots(graph).items() if terms != _dots(graphs[wide]).get(i, terms)
    }
    places = {(template(graph.nodes[i].module), terms) for i, terms in dots.items()}
    out = dict(graphs)
    for s, g in graphs.items() if dots else ():
        chosen = dots if s in (base, wide) else {
            i: terms for i, terms in _dots(g).items() if (template(g.nodes[i].module), terms) in places
        }  # fmt: skip
        nodes = [replace(n) for n in g.nodes]
        for i in chosen:
            product = nodes[nodes[i].inputs[0]]
            nodes[i] = replace(nodes[i], op="bmm", inputs=product.inputs, numbers=(), kwargs={})
            # Nothing reads it any more.
            product.op, product.inputs = "empty", []
        out[s] = Graph(nodes, g.parameters, g.inputs, g.outputs)
    return out


def _dots(graph: Graph) -> dict[int, int]:
    """Sums over the last dimension of products of two tensors of data, with the number of terms."""
    out = {}
    cosine = cosines(graph)[0]
    for node in graph.nodes:
        if node.op != "sum" or node.index in cosine or len(node.inputs) != 1:
            continue
        product = graph.nodes[node.inputs[0]]
        last = len(product.shape) - 1
        one = product.op == "mul" and len(product.inputs) == 2 and not product.discrete
        if not one or node.numbers not in ((-1.0,), (float(last),)):
            continue
        u, v = product.inputs
        alone = (
            graph.consumers[product.index] == [node.index] and product.index not in graph.outputs
        )
        data = u != v and all(graph.touched >> i & 1 for i in (u, v))
        sizes = {graph.nodes[i].shape[-1:] for i in (u, v)}
        if alone and data and sizes == {product.shape[-1:]}:
            out[node.index] = product.shape[-1]
    return out
