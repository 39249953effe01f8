"""One forward pass at each of the small sizes, with the same operations at two widths."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from torch import nn

from leadline.tracing.builder import Builder, Size, construct, example, seeded
from leadline.tracing.graph import Graph
from leadline.tracing.recording import Unreadable, record

# Draws that are tried until one runs the same operations at two widths; their seeds are nobody else's.
_ROUTINGS, _OTHER = 12, 10**6


def passes(
    build: Builder, models: dict[Size, nn.Module], inputs: Any, base: Size, wide: Size
) -> dict[Size, Graph]:
    """The forward pass at every size.

    Raises:
        ValueError: it is not the same at two widths, even where it has run before (what is computed once
            and kept is there, then).
    """
    first = None
    for seed in (None, *range(_ROUTINGS)):
        # Experts to which one draw's router sends nothing, another's does.
        drawn = models if seed in (None, 0) else {
            s: construct(build, s, _OTHER + int(seed or 0)) for s in models
        }  # fmt: skip
        graphs = {}
        for s, m in drawn.items():
            x = example(m, inputs, s)
            if seed == 0:
                # What a cache keeps of the last call, of whichever model, is this one's then.
                _run(m, x, s)
            graphs[s] = _run(m, x, s)
        first = _difference(graphs[base], graphs[wide])
        if first is None:
            return graphs
    raise ValueError(
        f"the model at {base} and at {wide} runs different operations: the first that differs is {first}; "
        "what changes with width beside sizes cannot be parametrized (experts that no row is sent to: give "
        "inputs= more rows; what depends on numbers: make it depend on shapes)"
    )


def _difference(a: Graph, b: Graph) -> str | None:
    """The first operation in which two passes differ."""
    for x, y in zip_longest(a.nodes, b.nodes):
        if x is None or y is None or x.op != y.op:
            ops = " and ".join(repr(n.op) if n is not None else "nothing" for n in (x, y))
            return f"{ops} in module {(x or y).module!r}"
    return None


def _run(model: nn.Module, inputs: Any, at: Size) -> Graph:
    try:
        with seeded(0):
            return record(model, inputs)
    except Unreadable:
        raise
    except Exception as e:
        raise ValueError(
            f"the forward pass at {at} failed with {type(e).__name__}: {e}; give inputs= (a tensor, a "
            "tuple of arguments, a dict of keywords, or a callable of width and depth)"
        ) from e
