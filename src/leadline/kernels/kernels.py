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

How accurate the result is, is measured: the inputs with the largest and smallest norms and correlations
are followed again, through smaller steps, and with every expectation off by the bound of its error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from leadline import activations
from leadline.activations.pairs import Pairs, every
from leadline.architecture import COUPLINGS, ResNet
from leadline.errors import check_choice, check_int, check_list, check_real, check_type
from leadline.kernels import depth as through
from leadline.kernels.curves import follow
from leadline.kernels.expectations import RTOL, dual_on_pairs
from leadline.problems.problem import Problem

SECONDS = 15.0
"""What a call may take if nothing else is said."""
DEEPEST = 10**12
_MOST_TIMES = 10**6


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
        accuracy: the largest error that was measured in K, G and Θ, relative to √(K_xx K_x'x') and so
            on.
        times: (D,) depth times t in [0, 1], where wanted.
        feature_path, gradient_path: K_t and G_t at ``times``, (D, P, P).
    """

    features: np.ndarray
    gradients: np.ndarray
    tangent: np.ndarray
    tangent_input: np.ndarray
    tangent_hidden: np.ndarray
    tangent_readout: np.ndarray
    depth: int | None
    accuracy: float = math.nan
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    feature_path: np.ndarray | None = None
    gradient_path: np.ndarray | None = None

    def part(self, roles: Sequence[str]) -> np.ndarray:
        """Θ of the weights that learn: the sum of the parts named, (P, P)."""
        return np.sum([getattr(self, f"tangent_{role}") for role in roles], axis=0)

    def __repr__(self) -> str:
        depth = "∞" if self.depth is None else self.depth
        known = f"accuracy={max(self.accuracy, 1e-15):.0e}"
        return f"InitialKernels({len(self.features)} inputs, depth={depth}, {known})"


def initial_kernels(
    problem: Problem,
    network: ResNet,
    depth: int | None = None,
    *,
    times: Sequence[float] | None = None,
    rtol: float = RTOL,
    seconds: float | None = SECONDS,
) -> InitialKernels:
    """Kernels at initialization on the training inputs, at infinite width.

    Args:
        problem: its inputs ``x`` (P, d) are used.
        network: activation, block layers, gain, horizon and scheme.
        depth: L ≥ 1 for the exact recursion (n→∞ at this L); None for the limit L→∞, which the
            scheme must have.
        times: depth times in [0, 1] at which K_t and G_t are wanted too; with a depth, those of
            layer round(t·L).
        rtol: in (0, 1); kernels that are not known so well, by the result's ``accuracy``, are
            refused.
        seconds: > 0; what would take longer is refused, with its time. None: no bound.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy. Among them: an
            activation whose moments do not exist or are not known to ``rtol`` at the norms that
            occur, kernels that overflow, or that grow without bound before depth time 1.
    """
    check_type("problem", problem, Problem, "give leadline.digits(...), arrays(...) or another")
    return input_kernels(problem.x, network, depth, times=times, rtol=rtol, seconds=seconds)


def input_kernels(
    x: np.ndarray,
    network: ResNet,
    depth: int | None = None,
    *,
    times: Sequence[float] | None = None,
    rtol: float = RTOL,
    seconds: float | None = SECONDS,
) -> InitialKernels:
    """``initial_kernels`` of raw inputs (P, d), for example training and test inputs together."""
    check_type("network", network, ResNet)
    k0 = _covariances(x)
    values = () if times is None else check_list("times", times, _MOST_TIMES)
    t = np.array([check_real("times", value, 0.0, 1.0) for value in values])
    check_real("rtol", rtol, 0.0, 1.0, open_minimum=True)
    if seconds is not None:
        check_real("seconds", seconds, 0.0, open_minimum=True)
    if depth is None:
        check_limit(network)
    else:
        depth = check_int("depth", depth, 1)
        if depth > DEEPEST:
            raise ValueError(
                f"depth=10^{len(str(depth)) - 1} layers cannot be followed one by one: give a "
                f"depth of at most {DEEPEST}, or depth=None for the limit"
            )
    budget = _budget(network, depth, len(k0), seconds)
    dual = dual_on_pairs(network.activation, rtol, lambda _: budget.check())
    block = through.BlockKernels(network, dual, budget)

    def followed(which: through.BlockKernels, step: float, k: np.ndarray) -> list[np.ndarray]:
        def work(pairs: Pairs, start: np.ndarray) -> through.Followed:
            if depth is None:
                return through.limit(which, pairs, start, t, step)
            return through.recursion(which, pairs, start, depth, t)

        homogeneous = activations.find(network.activation).homogeneous
        return follow(k, work, (1, 0, 1), homogeneous=homogeneous)

    few = _extremes(k0)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if depth is None:
            through.scout(block, np.diagonal(k0))
        kernels = followed(block, through.STEP, k0)
        again = followed(block.off(), 0.1 * through.STEP, k0[np.ix_(few, few)])
    accuracy = max(
        _difference(kernel[..., few[:, None], few], other)
        for kernel, other in zip(kernels, again, strict=True)
    )
    k, growth, hidden = kernels
    outer = growth[-1] * k0
    tangent = outer + hidden + k[-1]
    if not np.isfinite(tangent).all():
        raise through.overflow(network, f"depth={depth!r}", "in the tangent kernel")
    if not accuracy <= rtol:
        raise ValueError(
            f"activation={network.activation_name}: the kernels are known to a relative "
            f"{accuracy:.1g} only, rtol={rtol:g} is asked for: they are sensitive to what is not "
            "known; give a larger rtol, a smaller depth or horizon, or inputs of smaller norm"
        )
    return InitialKernels(
        features=k[-1],
        gradients=growth[-1],
        tangent=tangent,
        tangent_input=outer,
        tangent_hidden=hidden,
        tangent_readout=k[-1],
        depth=depth,
        accuracy=accuracy,
        times=t,
        feature_path=None if times is None else k[:-1],
        gradient_path=None if times is None else growth[:-1],
    )


def _covariances(x: np.ndarray) -> np.ndarray:
    """Covariances K_0 = x·x'/d of the inputs, which are checked."""
    inputs = np.asarray(x, dtype=np.float64)
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"x has shape {inputs.shape}: give inputs of shape (P, d)")
    if not np.isfinite(inputs).all():
        raise ValueError("x has entries that are not finite: give finite inputs")
    largest = float(np.abs(inputs).max())
    if largest > 1e100:
        raise ValueError(
            f"the problem's x has entries up to {largest:.3g}: give inputs of at most 1e100"
        )
    return inputs @ inputs.T / inputs.shape[1]


def _budget(
    network: ResNet, depth: int | None, inputs: int, seconds: float | None
) -> through.Budget:
    """The bound on the time, with what to do about it."""
    if depth is None:
        what = f"horizon={network.horizon!r} and {inputs} inputs"
        return through.Budget(seconds, what, "a smaller horizon or fewer inputs")
    remedy = "a smaller depth or fewer inputs"
    try:
        check_limit(network)
        remedy += f", or depth=None for the limit, which is O(1/{depth}) away"
    except ValueError:
        pass
    return through.Budget(seconds, f"depth={depth} and {inputs} inputs", remedy)


def _extremes(k: np.ndarray) -> np.ndarray:
    """Inputs with the largest and smallest norms and correlations: at most 7."""
    pairs = every(len(k))
    q, rho = pairs.correlation(k[pairs.left, pairs.right])
    between = slice(len(k), None)
    few = [0, int(q.argmax()), int(q.argmin())]
    if len(k) > 1:
        r, l, m = rho[between], pairs.left[between], pairs.right[between]
        # Equal inputs aside, which are no harder than one.
        inside = np.where(np.abs(r) < 1 - 1e-12, r, 0)
        for at in (inside.argmax(), inside.argmin()):
            few += [int(l[at]), int(m[at])]
    return np.unique(few)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest of |a − b| relative to √(b_xx b_x'x'), of kernels (..., P, P)."""
    size = np.sqrt(np.abs(np.diagonal(b, axis1=-2, axis2=-1)))
    size = size[..., :, None] * size[..., None, :]
    off = np.abs(a - b)
    return float(np.divide(off, size, out=np.where(off > 0, np.inf, 0), where=size > 0).max())


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
