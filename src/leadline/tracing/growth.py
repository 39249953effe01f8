"""Which dimensions of parameters grow with width or depth, and which numbers in names count layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from leadline.tracing.branches import is_weight_layer, layer_weights
from leadline.tracing.builder import Size
from leadline.tracing.graph import (
    MATRIX,
    NORMS,
    SCALINGS,
    SUMS,
    TABLES,
    VIEWS,
    Graph,
    template,
)
from leadline.tracing.kinds import Naming


def growing(
    here: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[bool, ...]]:
    """Which dimensions of every parameter change from one width to another."""
    return {n: tuple(x != y for x, y in zip(a, there[n], strict=True)) for n, a in here.items()}


def constant_parts(
    here: Mapping[str, tuple[int, ...]],
    there: Mapping[str, tuple[int, ...]],
    at: Size,
    wide: Size,
    wider: Callable[[Size], Mapping[str, tuple[int, ...]]],
) -> dict[str, tuple[int, ...]]:
    """The constant c of every dimension a·width + c, by parameter; only those that have one.

    Args:
        here, there: shapes at a width and at twice that.
        wider: shapes at another size; called where a dimension is not proportional to width.

    Raises:
        ValueError: names differ, a dimension is no such sum, or none grows.
    """
    if set(here) != set(there):
        names = sorted(set(here) ^ set(there))[:3]
        raise ValueError(
            f"{', '.join(names)} exist at one width only ({at}; {wide}): a wider model needs the same "
            "parameters in larger shapes; hold what a list of modules that grows with width holds (heads) "
            "in one parameter, as a Linear whose output is split, or keep their number and let their size "
            "grow"
        )
    if not any(True in g for g in growing(here, there).values()):
        raise ValueError(f"no parameter grows from {at} to {wide}: build ignores width")
    rest = {
        n: tuple(0 if y in (x, 2 * x) else 2 * x - y for x, y in zip(a, there[n], strict=True))
        for n, a in here.items()
    }
    rest = {n: c for n, c in rest.items() if any(c)}
    if rest:
        third = Size(4 * at.width, at.depth)
        shapes = wider(third)
        for name, c in rest.items():
            line = tuple(3 * y - 2 * x for x, y in zip(here[name], there[name], strict=True))
            if shapes.get(name) != line or min(c) < 0:
                raise ValueError(
                    f"parameter {name!r} has shape {here[name]} at {at}, {there[name]} at {wide} and "
                    f"{shapes.get(name)} at {third}: every dimension must be constant, proportional to "
                    "width, or such a part and a constant one; of a product of two sizes, keep one "
                    "constant"
                )
    return rest


def over_depth(
    here: Mapping[str, tuple[int, ...]],
    there: Mapping[str, tuple[int, ...]],
    at: Size,
    deep: Size,
    deeper: Callable[[Size], Mapping[str, tuple[int, ...]]],
) -> tuple[Naming, dict[str, tuple[int, ...]]]:
    """Which indices count layers, and what the dimensions of parameters that hold all layers grow by.

    Args:
        here, there: shapes at a depth and at twice that.
        deeper: shapes at another size; called where a dimension grows with depth.

    Raises:
        ValueError: something grows with depth that is no repetition of layers.
    """
    naming = Naming.of(here, there)
    layered = {
        name: tuple(y - x for x, y in zip(shape, there[name], strict=True))
        for name, shape in here.items()
        if there.get(name, shape) != shape and not any(naming.free[template(name)])
    }
    if layered:
        third = Size(at.width, 3 * at.depth)
        shapes = deeper(third)
        for name, more in layered.items():
            line = tuple(d + 2 * g for d, g in zip(here[name], more, strict=True))
            if shapes.get(name) != line or min(more) < 0:
                raise ValueError(
                    f"parameter {name!r} has shape {here[name]} at {at}, {there[name]} at {deep} and "
                    f"{shapes.get(name)} at {third}: a dimension that holds an entry for each layer must "
                    "grow in proportion to depth"
                )
        naming = Naming(naming.free, frozenset(layered))
    a, b = {naming.template(n) for n in here}, {naming.template(n) for n in there}
    if a != b:
        raise ValueError(
            f"parameters {', '.join(sorted(a ^ b)[:3])} exist at one depth only ({at}; {deep}): name "
            "layers by an index of their own (ModuleList, Sequential)"
        )
    return naming, layered


# Operations that take the entries of one layer out of what holds all layers.
_TAKES = frozenset("select unbind slice split split_with_sizes chunk narrow".split())
# What may be done to all entries before.
_EACH = SCALINGS | SUMS | frozenset(
    "sigmoid tanh exp softplus relu abs neg pow square sqrt rsqrt silu gelu".split()
)  # fmt: skip


def check_entries(graph: Graph, deep: Graph, names: Mapping[str, tuple[int, ...]]) -> None:
    """Parameters that grow with depth must be taken apart: one entry for each layer.

    A matrix, or a table, whose outputs grow may be used as a whole first, if they are taken apart.

    Args:
        deep: the network at twice the depth.
        names: such parameters, and what their dimensions grow by.

    Raises:
        ValueError: names one that is used as a whole.
    """
    for name, more in names.items():
        axis = next(k for k, grows in enumerate(more) if grows)
        if _entries(graph, name, axis) != _entries(deep, name, axis):
            raise ValueError(_whole(graph, name, "parts that grow with depth, too"))


def _entries(graph: Graph, name: str, axis: int) -> set[tuple[str, tuple[float, ...]]]:
    """What is taken out of a parameter that holds all layers, or of what it makes: the same at any depth.

    Args:
        axis: the dimension that grows with depth.
    """
    start = graph.parameters[name]
    size = graph.nodes[start].shape[axis]
    out: set[tuple[str, tuple[float, ...]]] = set()
    queue, seen = [start], {start}
    while queue:
        i = queue.pop()
        if i != start and not graph.consumers[i]:
            raise ValueError(_whole(graph, name, graph.nodes[i].op))
        for c in graph.consumers[i]:
            node, data = graph.nodes[c], graph.is_act(i)
            before, after = math.prod(graph.nodes[i].shape), math.prod(node.shape)
            if node.op in TABLES and not data and axis == 0:
                continue
            if node.op in ("select", "unbind") or (node.op in _TAKES and after < before):
                out.add(("taken", node.shape if data else ()))
                continue
            if node.op == "mean":
                out.add(("mean", (before / max(after, 1),)))
            makes = node.op in TABLES | MATRIX and not data and size in node.shape[-1:]
            each = node.op in _EACH or node.op in VIEWS - {"mean", "sum"} or node.op in _TAKES
            if graph.is_act(c) and not data and not makes:
                raise ValueError(_whole(graph, name, node.op))
            if not (each or makes or (data and (node.op == "mean" or node.op in NORMS))):
                raise ValueError(_whole(graph, name, node.op))
            if c not in seen:
                seen.add(c)
                queue.append(c)
    return out


def _whole(graph: Graph, name: str, how: str) -> str:
    shape = graph.nodes[graph.parameters[name]].shape
    return (
        f"parameter {name!r} has shape {shape}, which grows with depth, and is used as a whole "
        f"({how}): every layer needs parameters of its own, named by an index (ModuleList, Sequential), "
        "or an entry of one that the forward pass takes apart; scheme='mup' scales with width alone"
    )


def joined_with_constant(graph: Graph, wide: Graph) -> dict[str, str]:
    """Parameters that multiply entries which stay as width grows, joined with entries that grow, and why
    that is refused."""
    out = {}
    for node in graph.nodes:
        if not is_weight_layer(graph, node.index):
            continue
        for name in layer_weights(graph, node.index):
            for i in node.inputs:
                stay, grow = _joined(graph, wide, i) if graph.is_act(i) else (0, 0)
                if stay and grow:
                    out[name] = (
                        f"parameter {name!r} multiplies {stay} entries that stay as width grows, joined "
                        f"with {grow} that grow: in a hidden matrix what those {stay} bring fades as "
                        "1/√width, and what it learns of them; give them a layer of their own and add the "
                        f"results, or take it as it is with roles={{{name!r}: 'hidden'}}"
                    )
    return out


def _joined(graph: Graph, wide: Graph, i: int) -> tuple[int, int]:
    """How many entries of a tensor stay as width grows, and how many grow, where it is joined of both."""
    while graph.nodes[i].op in (VIEWS | NORMS) - {"mean", "sum"}:
        i = graph.nodes[i].inputs[0]
    node = graph.nodes[i]
    if node.op != "cat":
        return 0, 0
    parts = [(graph.nodes[j].shape, wide.nodes[j].shape) for j in node.inputs]
    # Along a dimension in which the whole is larger than a part, it is joined.
    for dim, size in enumerate(node.shape):
        along = [(a[dim], b[dim]) for a, b in parts if len(a) > dim]
        if any(a != size for a, _ in along):
            stay = sum(a for a, b in along if a == b)
            return stay, sum(a for a, b in along if a != b)
    return 0, 0
