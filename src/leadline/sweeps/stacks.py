"""Models of one builder as one function, mapped over a stack of their parameters and buffers.

A small model's step is mostly the price of starting operations, so models of one shape train together
(``torch.func.vmap``): the runs of a sweep, the seeds of a check. A stack replaces parameters and buffers.
It does what the models do only if they hold nothing else that differs (``unregistered``), and a step of the
models themselves shows that it does (``same_gradients``). Where it does not, ``NotStacked`` is raised, and
the caller runs one real model after the other.

vmap and autograd take every operation of every step through Python and several dispatchers; of a small
model that is most of the time. So ``Gradients`` records the first step (``make_fx``) with its backward pass
as one list of operations on the stacks, and later steps replay the list: the same kernels in the same
order. A recording holds for functions of parameters, buffers and inputs alone, so it is compared with the
real step twice, and models that change their buffers are not recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from leadline.tasks.data import plain
from leadline.tracing.held import Entangled, alike, entangled, rest

T = TypeVar("T")
State = dict[str, Tensor]
"""Parameters or buffers by name, stacked over models or of one."""
Losses = Callable[[State, State, Any], Tensor]

# Recording takes as long as one to four hundred steps, and saves a third to a half of each.
_WORTH = 200
# How many replays are compared with the real step.
_COMPARED = 2
_SAME = ("view", "_unsafe_view", "expand")


class NotStacked(Exception):
    """The models cannot be mapped over a stack of their parameters and buffers."""


@contextmanager
def stacking() -> Generator[None]:
    """Errors in here become ``NotStacked``, except those of a device without memory.

    An error that is not the mapping's comes again with one real model, in the user's own terms.
    """
    try:
        yield
    except (NotStacked, torch.OutOfMemoryError):
        raise
    except Exception as e:
        raise NotStacked(str(e)) from e


def stacked(states: Sequence[State]) -> State:
    """The models' states as one."""
    return {n: torch.stack([s[n].detach() for s in states]) for n in states[0]}


def mapped(f: Callable[..., T], *trees: Any, shared: Sequence[Any] = ()) -> T:
    """``f(*trees, *shared)`` for every model, its results stacked.

    Args:
        f: returns tensors, or a structure of them.
        trees: structures whose tensors are stacked over models; f gets one model's.
        shared: the same for all models.
    """
    leaves, spec = tree_flatten(trees)
    where = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]

    def one(*tensors: Tensor) -> T:
        whole = list(leaves)
        for i, t in zip(where, tensors, strict=True):
            whole[i] = t
        return f(*tree_unflatten(whole, spec), *shared)

    tensors = [leaves[i] for i in where]
    # The fused kernels of attention on a GPU have no backward pass for a stack: it is written out there.
    gpu = any(t.device.type != "cpu" for t in tensors)
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH) if gpu else nullcontext():
        # An operation without a rule of its own is mapped by a loop: no news for the user.
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        return vmap(one)(*tensors)


def gradients(
    losses: Callable[[State], Tensor], parameters: State, names: Sequence[str], zeros: bool = False
) -> tuple[list[Tensor | None], Tensor]:
    """Every model's gradients for these names, and (K,) losses.

    The models share nothing, so in the gradient of the sum of their losses each model's part is the
    gradient of its own loss.

    Args:
        losses: of the stacked parameters, (K,).
        zeros: a parameter that the losses do not use has a gradient of zeros, otherwise None.
    """
    p = {n: t.detach().requires_grad_() for n, t in parameters.items()}
    with torch.enable_grad():
        values = losses(p)
        result = torch.autograd.grad(
            values.sum(), [p[n] for n in names], allow_unused=True, materialize_grads=zeros
        )
    return list(result), values.detach()


def unregistered(model: nn.Module) -> bytes:
    """A digest of all that a model holds besides parameters and buffers: models of one stack agree in it.

    Raises:
        NotStacked: two parameters or buffers lie on the same memory, or one is used past its name.
    """
    pair = entangled(model)
    if pair is not None:
        raise NotStacked(f"{pair[0]!r} and {pair[1]!r} lie on the same memory")
    try:
        return rest(model)
    except Entangled as e:
        raise NotStacked(str(e)) from None


def same_gradients(stack: Sequence[Tensor | None], model: Sequence[Tensor | None]) -> bool:
    """Are gradients of one model in the stack those of the model itself, to rounding?"""
    if [g is None for g in stack] != [g is None for g in model]:
        return False
    return alike(*([g for g in some if g is not None] for some in (stack, model)))


class Gradients:
    """``gradients`` of every run's own loss at every step, recorded once.

    Args:
        losses: (parameters, buffers, batch) to (K,) losses.
        names: of the parameters that train, in the order of their stacks.
    """

    def __init__(self, losses: Losses, names: Sequence[str]) -> None:
        self.losses, self.names, self.record = losses, tuple(names), True
        self._replay: Any = None
        self._form: tuple[Any, ...] | None = None
        self._compared = 0

    def __call__(
        self, parameters: Sequence[Tensor], buffers: State, batch: Any, left: int
    ) -> tuple[list[Tensor], Tensor]:
        """Gradients and (K,) losses; ``left`` is the number of steps to come."""
        form, tensors = _form(batch)
        if not self.record or form is None:
            return self._real(parameters, buffers, batch)
        if self._replay is None:
            if left < _WORTH:
                return self._real(parameters, buffers, batch)
            before = {n: b.clone() for n, b in buffers.items()}
            result = self._real(parameters, buffers, batch)
            changed = any(not torch.equal(before[n], b) for n, b in buffers.items())
            self._replay = None if changed else self._recorded(parameters, buffers, batch)
            self.record, self._form = self._replay is not None, form
            return result
        if form != self._form:
            # A smaller last batch of an epoch: a recording holds for one form of batches.
            return self._real(parameters, buffers, batch)
        if self._compared < _COMPARED:
            self._compared += 1
            result = self._real(parameters, buffers, batch)
            self.record = self._repeats(result, parameters, buffers, tensors)
            return result
        return self._replay(list(parameters), buffers, tensors)

    def _repeats(self, result: Any, parameters: Any, buffers: State, tensors: Any) -> bool:
        """Does the recording give the real step's result?"""
        try:
            again = self._replay(list(parameters), buffers, tensors)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # An operation that the device cannot repeat: the real step goes on.
            return False
        pairs = zip([*result[0], result[1]], [*again[0], again[1]], strict=True)
        return all(_alike(a, b) for a, b in pairs)

    def forget(self) -> None:
        """Record anew: the stacks have another size."""
        self._replay = None

    def _real(self, parameters: Sequence[Tensor], buffers: State, batch: Any) -> Any:
        p = dict(zip(self.names, parameters, strict=True))
        return gradients(lambda p: self.losses(p, buffers, batch), p, self.names, zeros=True)

    def _recorded(self, parameters: Sequence[Tensor], buffers: State, batch: Any) -> Any:
        """The step as a list of operations; None where that cannot be had."""
        from torch.fx.experimental.proxy_tensor import make_fx

        leaves, spec = tree_flatten(batch)
        where = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]

        def step(p: Any, b: Any, tensors: Sequence[Tensor]) -> Any:
            whole = list(leaves)
            for i, t in zip(where, tensors, strict=True):
                whole[i] = t
            return self._real(p, b, tree_unflatten(whole, spec))

        try:
            graph = make_fx(step)(parameters, buffers, [leaves[i] for i in where])
        except Exception:
            return None
        _shorten(graph)
        return graph.forward


def _form(batch: Any) -> tuple[tuple[Any, ...] | None, list[Tensor]]:
    """All of a batch that a recording takes for granted, and its tensors; None where anything may hide."""
    leaves, spec = tree_flatten(batch)
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    if not plain(leaves):
        return None, tensors
    rest = tuple((type(x), x) for x in leaves if not isinstance(x, Tensor))
    return (spec, rest, *((x.shape, x.dtype) for x in tensors)), tensors


def _shorten(module: torch.fx.GraphModule) -> None:
    """Remove operations that compute nothing."""
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
    value = meta.get("tensor_meta", meta.get("val"))
    return None if value is None else tuple(value.shape)


def _alike(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    scale = float(a.abs().nan_to_num(0.0, 0.0, 0.0).amax()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
