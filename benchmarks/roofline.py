"""What a machine can do, and what a program asked of it.

``peaks()`` measures in this process and now: the rate of matrix products (sgemm, dgemm) and the bandwidth
of memory (copy, triad and a pure read; the best of them). ``Noted`` sees every torch operation and keeps
the shapes of the products: flops, and bytes where every operand is read once and every result written once.
The floor of the products is Σ max(flops/peak, bytes/bandwidth): no order of the same products can be
faster, unless what one product read is still in a cache for the next.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "mv", "addmv", "addmv_", "dot")


@dataclass(frozen=True)
class Peaks:
    """flops: per second, by dtype; bandwidth: bytes per second, by kind of access."""

    flops: dict[torch.dtype, float]
    bandwidth: dict[str, float]

    def seconds(self, product: Product) -> float:
        """The floor of one product."""
        rate = self.flops[product.dtype]
        return max(product.flops / rate, product.bytes / max(self.bandwidth.values()))

    def floor(self, products: dict[Product, int]) -> float:
        """The floor of all of them."""
        return sum(self.seconds(p) * count for p, count in products.items())


@dataclass(frozen=True)
class Product:
    """A matrix product: ``batch`` times (m, k) by (k, n), ``added`` to something or not."""

    m: int
    k: int
    n: int
    dtype: torch.dtype
    batch: int = 1
    added: bool = False

    @property
    def flops(self) -> int:
        """A multiplication and an addition each."""
        return 2 * self.batch * self.m * self.k * self.n

    @property
    def bytes(self) -> int:
        """Operands read once, the result written once."""
        m, k, n = self.m, self.k, self.n
        return self.dtype.itemsize * self.batch * (m * k + k * n + (1 + self.added) * m * n)


def product(name: str, args: tuple[Any, ...]) -> Product:
    """Of an operation of ``PRODUCTS`` with these arguments."""
    added = name.startswith(("add", "badd"))
    a, b = args[1:3] if added else args[:2]
    batch = a.shape[0] if a.dim() == 3 else 1
    m = a.shape[-2] if a.dim() > 1 else 1
    n = b.shape[-1] if b.dim() > 1 else 1
    return Product(m, a.shape[-1], n, a.dtype, batch, added)


class Noted(TorchDispatchMode):
    """Counts products by shape, and all torch operations.

    Attributes:
        products: how often each was asked. seconds: that they took.
        calls: torch operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: dict[Product, int] = defaultdict(int)
        self.seconds = 0.0
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "matmul":  # whole under inference_mode
            with self:
                return func.decompose(*args, **(kwargs or {}))
        self.calls += 1
        if name not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        p = product(name, args)
        if p.flops:
            self.products[p] += 1
        started = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        self.seconds += time.perf_counter() - started
        return out


class Clock:
    """Wall time by part: ``with clock.on(owner, "method", part)`` times what runs inside the method,
    less what runs inside other timed methods that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    @contextmanager
    def on(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Time ``owner.name`` while the context lasts."""
        original = getattr(owner, name)

        def timed(*args: Any, **how: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return original(*args, **how)
            finally:
                took = time.perf_counter() - started
                self.seconds[part] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)


def best(call, seconds: float = 0.6) -> float:
    """Smallest wall time of repeated calls."""
    call()
    until, smallest = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < until:
        started = time.perf_counter()
        call()
        smallest = min(smallest, time.perf_counter() - started)
    return smallest


def peaks(n: int = 2048, values: int = 1 << 26, seconds: float = 0.6) -> Peaks:
    """Of this process, now, with its number of threads.

    Args:
        n: products are n×n by n×n.
        values: float32 numbers of each array that the bandwidth is measured on (256 MiB: far
            beyond any cache).
        seconds: that each measurement takes.
    """
    flops = {}
    for dtype in (torch.float32, torch.float64):
        a, b, c = (torch.randn(n, n, dtype=dtype) for _ in range(3))
        flops[dtype] = 2 * n**3 / best(lambda a=a, b=b, c=c: torch.mm(a, b, out=c), seconds)
    x, y, z = (torch.ones(values) for _ in range(3))
    size = 4 * values
    bandwidth = {
        "copy": 2 * size / best(lambda: y.copy_(x), seconds),
        "triad": 3 * size / best(lambda: torch.add(x, y, alpha=0.5, out=z), seconds),
        "read": 2 * size / best(lambda: torch.dot(x, y), seconds),
    }
    return Peaks(flops, bandwidth)
