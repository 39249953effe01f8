"""A weight without entries: a tensor in a model's eyes, whose products are a wide matrix's.

The model's code stays as it is. What multiplies by the weight (linear, matmul, einsum, a convolution)
becomes a query; views (a transpose, one expert, a block of rows) become other views; anything that needs
the entries is refused by name.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from leadline.matrixfree.matrix import WideMatrix

Factor = float | Tensor


@dataclass(frozen=True)
class Layout:
    """What of which matrices a tensor stands for.

    Attributes:
        name: of the parameter.
        matrices: one, or one for every expert.
        rows, columns: the block [a, b) of each matrix.
        transposed: is the tensor (columns, rows)?
        stacked: is there an axis of experts in front?
        index: the expert of every entry of that axis, where it is not each expert once.
        kernel: side lengths of a convolution's kernel, which the columns hold.
        factor: on all entries.
        trained: do its products' gradients train the matrices? Not where it was detached.
    """

    name: str
    matrices: tuple[WideMatrix, ...]
    rows: tuple[int, int]
    columns: tuple[int, int]
    transposed: bool = False
    stacked: bool = False
    index: Tensor | None = None
    kernel: tuple[int, ...] = ()
    factor: Factor = 1.0
    trained: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        rows, columns = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        if self.kernel:
            channels = columns
            for k in self.kernel:
                channels //= k
            return (rows, channels, *self.kernel)
        sides = (columns, rows) if self.transposed else (rows, columns)
        return (len(self.experts), *sides) if self.stacked else sides

    @property
    def experts(self) -> tuple[WideMatrix, ...]:
        """The matrix of every entry of the axis in front."""
        if self.index is None:
            return self.matrices
        return tuple(self.matrices[int(i)] for i in self.index)

    def one(self, matrix: WideMatrix) -> Layout:
        """The view of one expert."""
        return replace(self, matrices=(matrix,), stacked=False, index=None)

    def times(self, x: Tensor, last: bool = True) -> Tensor:
        """Sum over the tensor's last axis (or its last but one) with rows x (..., n): (..., m)."""
        (matrix,) = self.matrices
        if torch.is_autocast_enabled(x.device.type):
            raise refusal(self.name, "a product under torch.autocast")
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise refusal(self.name, "a product in a transform of torch.func (vmap)")
        over_columns = last != self.transposed
        here, there = (self.columns, self.rows) if over_columns else (self.rows, self.columns)
        whole = matrix.n_in if over_columns else matrix.n_out
        if x.shape[-1] != here[1] - here[0] or x.is_complex():
            raise ValueError(
                f"parameter {self.name!r}, which has {here[1] - here[0]} real entries there, is multiplied "
                f"by rows of {x.shape[-1]} ({x.dtype})"
            )
        if here != (0, whole):
            x = F.pad(x, (here[0], whole - here[1]))
        if not matrix.answers.settings.reused and matrix.sides == {over_columns}:
            raise ValueError(
                f"parameter {self.name!r} and its transpose are multiplied by in one forward pass, and "
                "with coupling='independent' these would be two weights: give "
                f"stored={self.name!r} to keep its entries in memory"
            )
        y = matrix.product(x, not over_columns, self.trained)
        if there != (0, y.shape[-1]):
            y = y[..., there[0] : there[1]].contiguous()  # as a product is, for .view
        return y if isinstance(self.factor, float) and self.factor == 1.0 else y * self.factor


class WideWeight(Tensor):
    """A tensor that is known by its products; see the module."""

    layout_: Layout

    @staticmethod
    def __new__(cls, layout: Layout, dtype: torch.dtype, device: torch.device) -> WideWeight:
        """A tensor of the layout's shape without memory."""
        made = Tensor._make_wrapper_subclass(
            cls, layout.shape, dtype=dtype, device=device, requires_grad=layout.trained
        )
        made.layout_ = layout
        if layout.trained:
            with torch._C.DisableTorchFunctionSubclass():
                made.register_hook(_Formed(layout.name))
        return made

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()

    @classmethod
    def parameter(cls, layout: Layout, dtype: torch.dtype, device: torch.device) -> WideWeight:
        """One that modules take for an ``nn.Parameter``."""
        made = cls(layout, dtype, device)
        made._is_param = True
        return made

    def __repr__(self, *args: Any, **kwargs: Any) -> str:
        return f"WideWeight({self.layout_.name}, {tuple(self.layout_.shape)})"

    def __deepcopy__(self, memo: Any) -> WideWeight:
        raise refusal(self.layout_.name, "copy.deepcopy")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return answer(func, args, kwargs or {})

    @classmethod
    # ty: ignore[incompatible-method-override]
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in (*args, *(kwargs or {}).values()):
            if isinstance(x, WideWeight):
                if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
                    return view(x, x.layout_)
                raise refusal(x.layout_.name, str(func))
        return func(*args, **(kwargs or {}))


def trained_(weight: WideWeight, trained: bool = True) -> WideWeight:
    """Switch whether products from here on train the matrices."""
    if trained and not weight.layout_.trained and not getattr(weight, "_is_param", False):
        raise refusal(weight.layout_.name, "a leaf of its own (detach().requires_grad_())")
    weight.layout_ = replace(weight.layout_, trained=bool(trained))
    with torch._C.DisableTorchFunctionSubclass():
        weight.requires_grad = bool(trained)
    return weight


def view(weight: WideWeight, layout: Layout) -> WideWeight:
    """Another view of the same matrices."""
    with torch._C.DisableTorchFunctionSubclass():
        dtype, device = weight.dtype, weight.device
    return WideWeight(layout, dtype, device)


def refusal(name: str, operation: str) -> ValueError:
    """What is said where entries are needed."""
    return ValueError(
        f"parameter {name!r} is wide: it is multiplied and never stored, and {operation} needs its "
        f"entries; multiply by it (linear, matmul, einsum, a convolution), or give stored={name!r} to keep "
        "all of its entries in memory"
    )


@dataclass(frozen=True)
class _Formed:
    """A hook on the gradient with respect to entries, which only functions of a model's own can make."""

    name: str

    def __call__(self, gradient: Tensor) -> Tensor:
        raise refusal(self.name, "a torch.autograd.Function that returns its gradient")


def plain_matrix(x: Any, operation: str) -> None:
    """Refuse what is no wide weight, or one of a convolution or of experts."""
    if not isinstance(x, WideWeight) or x.layout_.kernel or x.layout_.stacked:
        raise refusal(first((x,), {}).layout_.name, operation)


def no_kernel(weight: WideWeight) -> None:
    """Refuse the weight of a convolution."""
    if weight.layout_.kernel:
        raise refusal(weight.layout_.name, "matmul with a convolution's kernel")


def transposed(weight: WideWeight) -> WideWeight:
    """The last two axes exchanged."""
    no_kernel(weight)
    return view(weight, replace(weight.layout_, transposed=not weight.layout_.transposed))


HANDLERS: dict[Any, Callable[..., Any]] = {}
"""What answers a call of one of torch's functions; ``products`` and ``views`` fill it."""


def handles(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(handler: Callable[..., Any]) -> Callable[..., Any]:
        for f in functions:
            HANDLERS[f] = handler
        return handler

    return keep


def named(*names: str) -> list[Any]:
    """Methods and functions of these names, as far as torch has them."""
    places = (Tensor, torch, F, torch._C._nn)
    return [getattr(p, n) for n in names for p in places if hasattr(p, n)]


def answer(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A call of one of torch's functions with a wide weight among its arguments.

    Raises:
        ValueError: it needs the weight's entries.
    """
    if handler := HANDLERS.get(func):
        # Torch's names of what handlers take in order.
        args = (*args, *(kwargs[k] for k in _IN_ORDER if k in kwargs))
        kwargs = {k: v for k, v in kwargs.items() if k not in _IN_ORDER}
        try:
            inspect.signature(handler).bind(*args, **kwargs)
        except TypeError:
            name = f"{_shown(func, func.__name__)} with the arguments {sorted(kwargs)}"
            raise refusal(first(args, kwargs).layout_.name, name) from None
        return handler(*args, **kwargs)
    attribute = getattr(getattr(func, "__self__", None), "__name__", "")
    name = attribute if getattr(func, "__name__", "") == "__get__" else func.__name__
    if name in _ATTRIBUTES or func in _PLAIN:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    if attribute == "data" and name == "data":
        return view(args[0], replace(args[0].layout_, trained=False))
    if attribute == "requires_grad" and len(args) == 2:
        return trained_(*args)
    if attribute in ("T", "mT") and name == attribute:
        return transposed(args[0])
    if isinstance(func, types.FunctionType):
        return _inside(func)(*args, **kwargs)
    raise refusal(first(args, kwargs).layout_.name, _shown(func, name))


def _shown(func: Any, name: str) -> str:
    module = getattr(func, "__module__", None) or "torch.Tensor"
    return f"{module}.{name}"


def first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> WideWeight:
    """The first wide weight among the arguments, in lists too."""
    for x in (*args, *kwargs.values()):
        if isinstance(x, WideWeight):
            return x
        if isinstance(x, list | tuple):
            for y in x:
                if isinstance(y, WideWeight):
                    return y
    raise TypeError("no wide weight among the arguments")


def _inside(func: types.FunctionType) -> Callable[..., Any]:
    """A function of torch that is written in Python, run to its end: what it calls is answered one by one.

    Such functions begin by handing the whole call to tensors like ours; that is left out.
    """
    names = {**func.__globals__, "has_torch_function": _none}
    names |= {f"has_torch_function_{k}": _none for k in ("unary", "variadic")}
    out = types.FunctionType(
        func.__code__, names, func.__name__, func.__defaults__, func.__closure__
    )
    out.__kwdefaults__ = func.__kwdefaults__
    return out


def _none(*args: Any) -> bool:
    return False


_IN_ORDER = tuple("input self mat1 batch1 mat tensor1 mat2 batch2 vec other".split())
_ATTRIBUTES = frozenset(
    "shape dtype device requires_grad is_leaf ndim layout grad grad_fn names is_cuda is_cpu is_meta is_mps "
    "is_sparse is_sparse_csr is_quantized is_mkldnn is_nested is_xpu is_vulkan is_xla is_ipu is_mtia "
    "itemsize _base _backward_hooks _post_accumulate_grad_hooks output_nr retains_grad".split()
)
_PLAIN = frozenset(
    named(
        *"size dim numel nelement is_floating_point is_complex is_contiguous stride element_size "
        "get_device is_inference is_same_size is_signed is_conj is_neg ndimension "
        "__len__ __hash__ __repr__ __format__ dim_order".split()
    )
)
