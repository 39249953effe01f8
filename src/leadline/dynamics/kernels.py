"""Kernels of infinitely wide networks at initialization, at finite and at infinite depth.

With K_t = h·h'/n, G_t = z·z'/n, A_t the log of the backward growth up to t, and per block
(Σ_j the kernel of u_j, γ the gain, k weight layers)

    k = 1:  Σ_1 = γ²E[φφ'](K),   growth D = γ²E[φ'φ'](K)
    k ≥ 2:  Σ_1 = γ²K,  Σ_j = γ²E[φφ'](Σ_{j-1}),   D = γ^2k Π_{j<k} E[φ'φ'](Σ_j)

a block at depth L adds α²Σ_k to K and multiplies G by 1 + α²D. Weight layer j adds to the tangent
kernel α²·c_j·γ²·(kernel of its input)·Π_{j≤i<k} γ²E[φ'φ'](Σ_i) times G at the block's output.
With a = lim L·α² and b_j = lim L·α²·c_j the limit L→∞ is one forward solve

    dK/dt = a Σ_k,   dA/dt = a D,   dΘ/dt = a D·Θ + Σ_j b_j(…),   G_t = exp(A_1 − A_t).

At k = 1 under depth-mup this is section 3 of arXiv 2512.21075v1 at step 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leadline.dynamics.expectations import HOMOGENEOUS, dual_on_pairs
from leadline.dynamics.pairs import Pairs, follow
from leadline.errors import check_choice, check_int, check_real

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems.problem import Problem

COUPLINGS = ("reused", "independent")


@dataclass(frozen=True, repr=False)
class InitialKernels:
    """Kernels at step 0 of a network of infinite width; all (P, P), tangent ones in units of η.

    Attributes:
        features: K at t = 1, h_L·h_L'/n.
        gradients: G at t = 0, z_0·z_0'/n.
        tangent: Θ, the sum of its parts; prefactor 1 in every scheme (rates ηn in mup forms, η in
            ntk): one step moves the outputs by −ηΘχ/B.
        tangent_input, tangent_hidden, tangent_readout: the parts of U, of all W, of v.
        depth: L, or None for the infinite-depth limit.
        times: (D,) depth times t in [0, 1], if asked for.
        feature_path, gradient_path: K_t and G_t at ``times``, (D, P, P).
    """

    features: np.ndarray
    gradients: np.ndarray
    tangent: np.ndarray
    tangent_input: np.ndarray
    tangent_hidden: np.ndarray
    tangent_readout: np.ndarray
    depth: int | None
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    feature_path: np.ndarray | None = None
    gradient_path: np.ndarray | None = None

    def part(self, roles: Sequence[str]) -> np.ndarray:
        """Θ of the weights that learn: the sum of the parts named, (P, P)."""
        return np.sum([getattr(self, f"tangent_{role}") for role in roles], axis=0)

    def __repr__(self) -> str:
        depth = "∞" if self.depth is None else self.depth
        return f"InitialKernels({len(self.features)} inputs, depth={depth})"


def initial_kernels(
    problem: Problem,
    network: ResNet,
    depth: int | None = None,
    *,
    times: Sequence[float] | None = None,
) -> InitialKernels:
    """Kernels at initialization on the training inputs, at infinite width.

    Args:
        problem: its inputs ``x`` (P, d) are used.
        network: activation, block layers, gain, horizon and scheme.
        depth: L ≥ 1 for the exact recursion (n→∞ at this L); None for the limit L→∞, which the
            scheme must have.
        times: depth times in [0, 1] at which K_t and G_t are wanted too; with a depth, those of
            layer round(t·L).

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """
    return input_kernels(problem.x, network, depth, times=times)


def input_kernels(
    x: np.ndarray,
    network: ResNet,
    depth: int | None = None,
    *,
    times: Sequence[float] | None = None,
) -> InitialKernels:
    """``initial_kernels`` of raw inputs (P, d), for example training and test inputs together."""
    inputs = np.asarray(x, dtype=np.float64)
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"x has shape {inputs.shape}: give inputs of shape (P, d)")
    if not np.isfinite(inputs).all():
        raise ValueError("x has entries that are not finite: give finite inputs")
    k0 = inputs @ inputs.T / inputs.shape[1]
    t = np.zeros(0) if times is None else np.atleast_1d(np.asarray(times, dtype=np.float64))
    for value in t:
        check_real("times", value, 0.0, 1.0)
    block = _Block(network)
    if depth is None:
        check_limit(network)

        def work(pairs: Pairs, start: np.ndarray) -> tuple[np.ndarray, ...]:
            return _solve(block, pairs, start, t)
    else:
        layers = check_int("depth", depth, 1)

        def work(pairs: Pairs, start: np.ndarray) -> tuple[np.ndarray, ...]:
            return _recursion(block, pairs, start, layers, t)

    homogeneous = network.activation in HOMOGENEOUS
    with np.errstate(over="ignore", invalid="ignore"):
        k, growth, hidden = follow(k0, work, (1, 0, 1), homogeneous=homogeneous)
    gradients, paths = growth[-1], growth[:-1]
    if not np.isfinite(hidden).all():
        raise ValueError(
            f"depth={depth!r} with scheme={network.scheme!r}, gain={network.gain!r}: the kernels "
            "overflow; give a smaller depth, gain or horizon"
        )
    outer = gradients * k0
    return InitialKernels(
        features=k[-1],
        gradients=gradients,
        tangent=outer + hidden + k[-1],
        tangent_input=outer,
        tangent_hidden=hidden,
        tangent_readout=k[-1],
        depth=depth,
        times=t,
        feature_path=None if times is None else k[:-1],
        gradient_path=None if times is None else paths,
    )


def first_step(
    problem: Problem, network: ResNet, coupling: str = "reused", depth: int | None = None
) -> np.ndarray:
    """M (P, P) with Δf(x)/η = −M χ/B for a first small step of the hidden weights alone.

    ``reused``, true backpropagation: the tangent kernel T γ²∫ Φ_t G_t dt. ``independent``, the
    backward pass through an independent copy of W(0): T γ²∫ Φ_t dt = K_1 − K_0. One-layer blocks
    with skip connections under depth-mup, at infinite width and from f_0 = 0.

    Raises:
        ValueError: for another architecture or scheme, or an unknown coupling.
    """
    check_choice("coupling", coupling, COUPLINGS)
    table, layers = network.table, network.block_layers
    if (
        not network.skip
        or layers != 1
        or (table.noise, table.drift(0, 1), table.readout) != (0, 0, -1)
    ):
        raise ValueError(
            f"scheme={table.name!r}, skip={network.skip}, block_layers={layers}: the two couplings "
            "are known in closed form for skip=True, block_layers=1 and scheme 'depth-mup' only"
        )
    kernels = initial_kernels(problem, network, depth)
    if coupling == "reused":
        return kernels.tangent_hidden
    x = np.asarray(problem.x, dtype=np.float64)
    return kernels.features - x @ x.T / x.shape[1]


def check_limit(network: ResNet) -> None:
    """Refuse a network without an infinite-depth limit of all its kernels."""
    table, layers = network.table, network.block_layers
    if not network.skip:
        raise ValueError(
            "depth=None with skip=False: a plain network has no infinite-depth limit; "
            "give depth an integer, or use skip=True"
        )
    drifts = [table.drift(j, layers) for j in range(layers)]
    if max(table.noise, *drifts) > 0:
        what = "features" if table.noise > 0 else "tangent kernel"
        remedy = "depth-mup" if layers == 1 else "completep"
        raise ValueError(
            f"depth=None with scheme={table.name!r}, skip=True, block_layers={layers}: the {what} "
            f"grows without bound with depth; give depth an integer, or use scheme={remedy!r}"
        )


class _Block:
    """One block at infinite width: what it adds, its backward growth, its layers' kernels."""

    def __init__(self, network: ResNet) -> None:
        self.network = network
        self._dual = dual_on_pairs(network.activation)
        self._gain = network.gain**2

    def __call__(
        self, k: np.ndarray, pairs: Pairs
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Σ_k, D, and for every weight layer γ²·(kernel of its input)·(growth after it); (N,)."""
        gain, layers = self._gain, self.network.block_layers
        phi, slope = self._dual(k, pairs) if layers == 1 else (k, np.ones_like(k))
        inputs, growths = [phi], [slope]
        for _ in range(1, layers):
            phi, slope = self._dual(gain * phi, pairs)
            inputs.append(phi)
            growths.append(slope)
        parts: list[np.ndarray] = []
        after = np.ones_like(k)
        for u, s in zip(reversed(inputs), reversed(growths), strict=True):
            parts.insert(0, gain * u * after)
            after = after * (gain * s)
        return gain * phi, after, parts


def _recursion(
    block: _Block, pairs: Pairs, k0: np.ndarray, depth: int, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K at times and at the end, G at times and at 0 (D+1, N), Θ of W (N,); n→∞ at this depth."""
    network = block.network
    a = network.branch(depth) ** 2
    b = [a * network.rate_factor(j, depth) for j in range(network.block_layers)]
    keep = float(network.skip)
    at = np.append(np.rint(times * depth).astype(int), 0)
    k, hidden = k0, np.zeros_like(k0)
    k_path = np.empty((len(at), *k0.shape))
    g_path = np.ones((len(at), *k0.shape))
    for layer in range(depth + 1):
        k_path[:-1][at[:-1] == layer] = k
        if layer == depth:
            break
        added, d, parts = block(k, pairs)
        factor = keep + a * d
        hidden = factor * hidden
        for rate, part in zip(b, parts, strict=True):
            hidden += rate * part
        g_path[at <= layer] *= factor
        k = keep * k + a * added
    k_path[-1] = k
    return k_path, g_path, hidden


def _solve(
    block: _Block, pairs: Pairs, k0: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K at times and at the end, G at times and at 0 (D+1, N), Θ of W (N,); the limit L→∞."""
    from scipy.integrate import solve_ivp

    network = block.network
    table, layers = network.table, network.block_layers

    def limit(exponent: float) -> float:
        return network.horizon if exponent == 0 else 0.0

    a = limit(table.noise)
    b = [limit(table.drift(j, layers)) for j in range(layers)]

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        k, _growth, theta = state.reshape(3, -1)
        added, d, parts = block(k, pairs)
        out = np.empty((3, len(k)))
        np.multiply(a, added, out=out[0])
        np.multiply(a, d, out=out[1])
        np.multiply(out[1], theta, out=out[2])
        for rate, part in zip(b, parts, strict=True):
            out[2] += rate * part
        return out.ravel()

    start = np.concatenate([k0, np.zeros(2 * len(k0))])
    grid, back = np.unique(np.append(times, 1.0), return_inverse=True)
    result = solve_ivp(slope, (0, 1), start, "DOP853", grid, rtol=1e-9, atol=1e-11)
    if not result.success:
        raise ValueError(
            f"horizon={network.horizon!r}: the kernels' depth equation failed "
            f"({result.message}); give a smaller horizon or gain, or an integer depth"
        )
    path = result.y.T.reshape(len(grid), 3, -1)
    k, growth = path[back, 0], path[back, 1]
    whole = growth[-1]
    return k, np.exp(whole - np.concatenate([growth[:-1], np.zeros((1, len(k0)))])), path[-1, 2]
