"""Random orthogonal matrices of O(n) memory, O(n log n) a product: signs between Hartley transforms.

The Hartley transform H_jk = cas(2πjk/n)/√n, cas = cos + sin (Bracewell, 1983), is real, symmetric,
orthogonal, flat (no entry above √(2/n)), and exists for every n. Three rounds of it after random signs,

    H S₃ H S₂ H S₁,

mix as a rotation drawn from Haar's measure does, for what the state evolution of a network depends on
(semi-random matrices: Dudeja, Lu, Sen, arXiv 2204.04281; Wang, Zhong, Fan, arXiv 2206.13037).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

ROUNDS = 3
# Up to so many coordinates two products with small matrices take less time than a Fourier transform.
_SMALL = 2048
# The longer of both factors is at most so many times the shorter one; up to _WHOLE one matrix is enough.
_UNEVEN, _WHOLE = 4, 48
# Numbers worked on together: what a processor's cache holds.
_CHUNK = 1 << 19


def hartley(x: Tensor) -> Tensor:
    """An orthonormal, symmetric Hartley transform of the rows x (p, n): its own inverse.

    For n up to 2048 with factors of similar size it is that of a grid (the Kronecker product of the
    factors' transforms), else that of a line.
    """
    p, n = x.shape
    plan = _plan(n, x.dtype, x.device)
    if plan is None:
        return _line(x)
    a, b = plan
    rows, columns = a.shape[0], b.shape[0]
    if rows == 1:
        return x @ b
    return (a @ (x.reshape(-1, columns) @ b).view(p, rows, columns)).view(p, n)


def _line(x: Tensor) -> Tensor:
    n = x.shape[1]
    half = n // 2 + 1
    f = torch.fft.rfft(x, norm="ortho")
    out = torch.empty_like(x)
    torch.sub(f.real, f.imag, out=out[:, :half])
    out[:, half:] = (f.real + f.imag)[:, 1 : n - half + 1].flip(1)
    return out


def factors(n: int) -> tuple[int, int] | None:
    """a ≤ b with a b = n, as near to each other as can be; None if that is not near enough."""
    if n <= _WHOLE:
        return 1, n
    a = next(a for a in range(math.isqrt(n), 0, -1) if n % a == 0)
    return (a, n // a) if n // a <= _UNEVEN * a else None


@lru_cache(maxsize=64)
def _plan(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The factors' transforms, or None."""
    split = factors(n) if n <= _SMALL else None
    if split is None:
        return None
    a, b = (_matrix(k, dtype, device) for k in split)
    return a, b


def _matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    k = np.arange(n)
    angle = 2 * np.pi / n * (np.outer(k, k) % n)
    entries = (np.cos(angle) + np.sin(angle)) / np.sqrt(n)
    with torch.inference_mode(False):
        return torch.from_numpy(entries).to(device, dtype)


class Rotation:
    """An orthogonal matrix (n, n) from the bits of a generator: the same on any device, in any precision.

    Args:
        bits: where the 3 n signs come from.
    """

    def __init__(
        self, n: int, bits: np.random.BitGenerator, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.n = n
        words = bits.random_raw(-(-ROUNDS * n // 64)).astype("<u8")
        drawn = np.unpackbits(words.view(np.uint8))[: ROUNDS * n].reshape(ROUNDS, n)
        signs = torch.from_numpy(2.0 * drawn - 1.0).to(device, dtype)
        self._signs = signs.unbind(0)

    def __call__(self, x: Tensor) -> Tensor:
        """O x for rows x (p, n)."""
        for signs in self._signs:
            x = hartley(x * signs)
        return x

    def transposed(self, x: Tensor) -> Tensor:
        """Oᵀ x for rows x (p, n)."""
        for signs in reversed(self._signs):
            x = hartley(x).mul_(signs)
        return x


@lru_cache(maxsize=16)
def singular_values(n_out: int, n_in: int) -> np.ndarray:
    """Singular values of a Gaussian matrix (n_out, n_in) over √max(n_out, n_in), increasing.

    The quantiles (i + ½)/k, k = min(n_out, n_in), of the law of Marchenko and Pastur (1967), which for a
    square matrix is the quarter circle on [0, 2]; scaled so that the mean of the squares is exactly 1.
    """
    k, most = sorted((n_out, n_in))
    ratio = k / most
    # s² = 1 + β + 2√β cos θ has the density 2 sin²θ/(π s²) in θ, which is smooth for every β.
    count = max(1 << 16, 1 << (4 * k).bit_length())
    theta = (np.arange(count) + 0.5) * (np.pi / count)
    square = 1 + ratio + 2 * np.sqrt(ratio) * np.cos(theta)
    mass = np.cumsum(np.sin(theta) ** 2 / square)
    edges = np.append(0.0, mass / mass[-1])
    at = np.interp((np.arange(k) + 0.5) / k, edges, np.linspace(0.0, np.pi, count + 1))
    out = np.sqrt(np.maximum(1 + ratio + 2 * np.sqrt(ratio) * np.cos(at), 0.0))[::-1]
    return out / np.sqrt((out**2).mean())


class FastGaussian:
    """W(0) (n_out, n_in) = std·√max · Oᵀ diag(s) O': entries of variance std², O(n) memory.

    Not the law of a Gaussian matrix, but its singular values, between rotations that are as good as
    free of everything else: the same limit.

    Args:
        sequence: where all random numbers come from.
    """

    def __init__(
        self,
        n_out: int,
        n_in: int,
        std: float,
        sequence: np.random.SeedSequence,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        bits = np.random.SFC64(sequence)
        self.k = min(n_out, n_in)
        self._in = Rotation(n_in, bits, dtype, device)
        self._out = Rotation(n_out, bits, dtype, device)
        # Not Generator.permutation, whose numbers may change from one NumPy to the next.
        order = np.argsort(bits.random_raw(self.k), kind="stable")
        values = std * math.sqrt(max(n_out, n_in)) * singular_values(n_out, n_in)[order]
        self._values = torch.from_numpy(values).to(device, dtype)

    def __call__(self, u: Tensor) -> Tensor:
        """W(0) u for rows u (p, n_in): (p, n_out)."""
        return self._through(u, self._in, self._out)

    def transposed(self, z: Tensor) -> Tensor:
        """W(0)ᵀ z for rows z (p, n_out): (p, n_in)."""
        return self._through(z, self._out, self._in)

    def _through(self, x: Tensor, near: Rotation, far: Rotation) -> Tensor:
        rows = max(_CHUNK // max(near.n, far.n), 1) if x.device.type == "cpu" else len(x)
        if len(x) <= rows:
            return self._product(x, near, far)
        out = x.new_empty((len(x), far.n))
        for part, into in zip(x.split(rows), out.split(rows), strict=True):
            into.copy_(self._product(part, near, far))
        return out

    def _product(self, x: Tensor, near: Rotation, far: Rotation) -> Tensor:
        x = near(x)[:, : self.k] * self._values
        if self.k < far.n:
            x = torch.nn.functional.pad(x, (0, far.n - self.k))
        return far.transposed(x)
