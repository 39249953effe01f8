"""Losses and gradients of a stack of runs, recorded once as plain tensor operations.

vmap and autograd take every operation of every step through Python and several dispatchers; of a small
model that is most of the time. So the first step is recorded (``make_fx``) with its backward pass as one
list of operations on the stacks, and later steps replay the list: the same kernels in the same order. A
recording holds for functions of parameters, buffers and inputs alone, so it is compared with the real step
twice, and models that draw random numbers or change their buffers are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Losses = Callable[[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor], Tensor]
Found = tuple[list[Tensor], Tensor]

# Recording takes as long as some tens of steps.
_WORTH = 60
# How many replays are compared with the real step.
_COMPARED = 2
_SAME = ("view", "_unsafe_view", "expand")


class Gradients:
    """Of every run's own loss: the runs share nothing, so the sum's gradient holds them all.

    Args:
        losses: (parameters, buffers, x, y) to (K,) losses.
        names: of the parameters that train, in the order of their stacks.
        record: False replays nothing.
    """

    def __init__(self, losses: Losses, names: Sequence[str], record: bool) -> None:
        self.losses, self.names, self.record = losses, tuple(names), record
        self._replay: Any = None
        self._compared = 0

    def __call__(
        self,
        parameters: Sequence[Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        y: Tensor,
        left: int,
    ) -> Found:
        """Gradients and (K,) losses; ``left`` is the number of steps to come."""
        if not self.record:
            return self._real(parameters, buffers, x, y)
        if self._replay is None:
            if left < _WORTH:
                return self._real(parameters, buffers, x, y)
            before = {n: b.clone() for n, b in buffers.items()}
            found = self._real(parameters, buffers, x, y)
            changed = any(not torch.equal(before[n], b) for n, b in buffers.items())
            self._replay = None if changed else self._recorded(parameters, buffers, x, y)
            self.record = self._replay is not None
            return found
        if self._compared < _COMPARED:
            self._compared += 1
            found = self._real(parameters, buffers, x, y)
            again = self._replay(list(parameters), buffers, x, y)
            pairs = zip([*found[0], found[1]], [*again[0], again[1]], strict=True)
            self.record = all(_alike(a, b) for a, b in pairs)
            return found
        return self._replay(list(parameters), buffers, x, y)

    def forget(self) -> None:
        """The stacks have another size now."""
        self._replay = None

    def _real(
        self, parameters: Sequence[Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> Found:
        p = [t.detach().requires_grad_() for t in parameters]
        with torch.enable_grad():
            losses = self.losses(dict(zip(self.names, p, strict=True)), buffers, x, y)
            gradients = torch.autograd.grad(losses.sum(), p, materialize_grads=True)
        return list(gradients), losses.detach()

    def _recorded(self, *arguments: Any) -> Any:
        """The step as a list of operations; None where that cannot be had."""
        from torch.fx.experimental.proxy_tensor import make_fx

        try:
            graph = make_fx(lambda p, b, x, y: self._real(p, b, x, y))(*arguments)
        except Exception:
            return None
        _shorten(graph)
        return graph.forward


def _shorten(module: torch.fx.GraphModule) -> None:
    """Leave out what computes nothing."""
    aten = torch.ops.aten
    nothing = (aten.detach.default, aten.alias.default)
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        idle = node.target in nothing
        if getattr(node.target, "_opname", "") in _SAME:
            inner, outer = (_shape(n) for n in (node.args[0], node))
            idle = outer is not None and inner == outer
        if idle:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    for node in list(module.graph.nodes):
        _turn(module.graph, node)
    module.graph.eliminate_dead_code()
    module.recompile()


def _turn(graph: torch.fx.Graph, node: Any) -> None:
    """(AB)ᵀ as BᵀAᵀ: gradients of Linear's weights then lie in memory as the weights do."""
    aten = torch.ops.aten
    if node.target != aten.transpose.int or set(node.args[1:]) not in ({1, 2}, {-1, -2}):
        return
    product = node.args[0]
    if product.target != aten.bmm.default or len(product.users) != 1:
        return

    def turned(a: Any) -> Any:
        if a.target == aten.transpose.int and set(a.args[1:]) in ({1, 2}, {-1, -2}):
            return a.args[0]
        return graph.call_function(aten.transpose.int, (a, 1, 2))

    with graph.inserting_before(product):
        left, right = product.args
        new = graph.call_function(aten.bmm.default, (turned(right), turned(left)))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _shape(node: Any) -> Any:
    meta = getattr(node, "meta", {})
    found = meta.get("tensor_meta", meta.get("val"))
    return None if found is None else tuple(found.shape)


def _alike(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    scale = float(a.abs().nan_to_num(0.0, 0.0, 0.0).amax()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
