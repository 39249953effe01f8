"""Kernels of infinite width through depth: the recursion of L blocks, or its limit, one equation.

Both work on a list of pairs (``pairs``) and return K at the times wanted and at the end, G at those
times and at 0, and Θ of W. What the equation's steps miss is held to ``STEP``; whether it is, and what
errors of the expectations become on the way, ``kernels`` measures with a second run of a few inputs.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations.pairs import Pairs
from leadline.errors import TimeBudgetError, shown
from leadline.kernels.expectations import OnPairs

if TYPE_CHECKING:
    from leadline.architecture import ResNet

STEP = 1e-9
"""Relative error of a step of the depth equation; a tenth of it when it is measured."""
_ROUGH, _LONG = 1e-4, 100.0
"""Error of the scout's steps; the horizon in units of 1/γ² from which on it is sent."""
_LARGEST = 1e200
_STEPS, _STALLED = 16, 1e-3
"""Where so many steps go on by less than this share of t a pole is near."""

Followed = tuple[np.ndarray, np.ndarray, np.ndarray]


class Budget:
    """A bound on the time of one call: what would take longer is refused, with its time.

    Args:
        seconds: the bound, or None.
        what: the argument that made it long, with its value.
        remedy: what to give instead of more seconds.
    """

    def __init__(self, seconds: float | None, what: str, remedy: str) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._what, self._remedy = what, remedy
        self._started = self._mark = time.perf_counter()

    def begin(self) -> None:
        """Begin the part of the work whose done share ``check`` is told."""
        self._mark = time.perf_counter()

    def check(self, done: float | None = None) -> None:
        """Refuse if the bound is over, or will by far be: of what began, this share is done."""
        now = time.perf_counter()
        spent = now - self._started
        if spent <= 0.1 * self._seconds:
            return
        need = self._mark - self._started + (now - self._mark) / done if done else math.inf
        if spent > self._seconds or (done and need > 2 * self._seconds):
            raise self.over(need)

    def over(self, need: float) -> TimeBudgetError:
        """The refusal of a call that would take ``need`` seconds."""
        about = f"about {_duration(need)}" if need < math.inf else "longer"
        enough = f"seconds={1.5 * need:.2g}" if need < 1e9 else "more seconds"
        return TimeBudgetError(
            f"{self._what}: the kernels would take {about} here, seconds={self._seconds:g} is the "
            f"bound; give {enough}, {self._remedy}"
        )


@dataclass(frozen=True, eq=False)
class BlockKernels:
    """One block at infinite width: what it adds, its backward growth, its layers' kernels.

    Attributes:
        shifted: add to every expectation the bound of its error, to see what becomes of it.
    """

    network: ResNet
    dual: OnPairs
    budget: Budget
    shifted: bool = False

    def __call__(
        self, k: np.ndarray, pairs: Pairs
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Σ_k, D, and for every weight layer γ²·(kernel of its input)·(growth after it); (N,)."""
        gain, layers = self.network.gain**2, self.network.block_layers
        phi, slope = self._expect(k, pairs) if layers == 1 else (k, np.ones_like(k))
        inputs, growths = [phi], [slope]
        for _ in range(1, layers):
            self.budget.check()
            phi, slope = self._expect(gain * phi, pairs)
            inputs.append(phi)
            growths.append(slope)
        parts: list[np.ndarray] = []
        after = np.ones_like(k)
        for u, s in zip(reversed(inputs), reversed(growths), strict=True):
            parts.append(gain * u * after)
            after = after * (gain * s)
        return gain * phi, after, parts[::-1]

    def _expect(self, k: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        moments = self.dual(k, pairs)
        if not self.shifted:
            return moments.phi, moments.slope
        return moments.phi + moments.error[0], moments.slope + moments.error[1]

    def off(self) -> BlockKernels:
        """This block with expectations shifted by their errors."""
        return replace(self, shifted=True)


def recursion(
    block: BlockKernels, pairs: Pairs, k0: np.ndarray, depth: int, times: np.ndarray
) -> Followed:
    """K at times and at the end, G at times and at 0 (D+1, N), Θ of W (N,); n→∞ at this depth."""
    network, budget = block.network, block.budget
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
        if not np.isfinite(k).all() or not np.isfinite(hidden).all():
            raise overflow(network, f"depth={depth}", f"in layer {layer + 1}")
        if layer == 0:  # which may have had to learn about φ
            budget.begin()
        budget.check(layer / depth if layer > 2 else None)
    k_path[-1] = k
    return k_path, g_path, hidden


def limit(
    block: BlockKernels, pairs: Pairs, k0: np.ndarray, times: np.ndarray, step: float
) -> Followed:
    """``recursion`` in the limit L→∞, by steps of relative error ``step``."""
    from scipy.integrate import DOP853

    network = block.network
    a, b = _rates(network)
    failed: list[ValueError] = []

    def slope(t: float, state: np.ndarray) -> np.ndarray:
        block.budget.check()
        k, _growth, theta = state.reshape(3, -1)
        try:
            added, d, parts = block(k, pairs)
        except ValueError as e:
            if t == 0 or isinstance(e, TimeBudgetError):
                raise
            failed.append(e)
            return np.full(len(state), np.inf)  # a trial that went too far
        out = np.empty((3, len(k)))
        np.multiply(a, added, out=out[0])
        np.multiply(a, d, out=out[1])
        np.multiply(out[1], theta, out=out[2])
        for rate, part in zip(b, parts, strict=True):
            out[2] += rate * part
        return out.ravel()

    start = np.concatenate([k0, np.zeros(2 * len(k0))])
    first = slope(0.0, start).reshape(3, -1)
    if not np.abs(first).max() < _LARGEST:
        raise overflow(network, f"horizon={network.horizon!r}", "at once")
    scale = np.abs(first[:, : pairs.groups])
    scale[0] += k0[: pairs.groups]
    absolute = (
        0.01
        * step
        * np.concatenate(
            [
                pairs.outer(np.sqrt(np.maximum(scale[0], 1e-280))),
                np.ones(len(k0)),
                pairs.outer(np.sqrt(np.maximum(scale[2], 1e-280))),
            ]
        )
    )
    grid, back = np.unique(np.append(times, 1.0), return_inverse=True)
    path = np.empty((len(grid), len(start)))
    path[grid == 0] = start
    solver = DOP853(slope, 0.0, start, 1.0, rtol=step, atol=absolute)
    block.budget.begin()
    where, before = f"horizon={network.horizon!r}", deque([0.0], _STEPS)
    while solver.status == "running":
        solver.step()
        t, state = float(solver.t), solver.y.reshape(3, -1)
        moved = t - before[0]
        if solver.status == "failed" or (len(before) == _STEPS and moved < _STALLED * t):
            grown = state[0].max() > 1.5 * k0.max()
            raise _unbounded(network, t, failed) if grown else _stuck(network, t, failed)
        if not max(np.abs(state[0]).max(), state[2].max()) < _LARGEST or not (
            state[1].max() < math.log(_LARGEST)
        ):
            raise overflow(network, where, f"at depth time {t:.3g}")
        passed = (grid > solver.t_old) & (grid <= t)
        if passed.any():
            dense = None if (grid[passed] == t).all() else solver.dense_output()
            path[passed] = solver.y if dense is None else dense(grid[passed]).T
        # The first steps are short, so are those before a pole, and an overflow may end it all.
        before.append(t)
        ahead = (state[1] + (1 - t) * solver.f.reshape(3, -1)[1]).max()
        regular = len(before) > 8 and moved > 0.02 * t and ahead < math.log(_LARGEST)
        block.budget.check(t if regular else None)
    path = path.reshape(len(grid), 3, -1)
    k, growth = path[back, 0], path[back, 1]
    whole = growth[-1]
    return k, np.exp(whole - np.concatenate([growth[:-1], np.zeros((1, len(k0)))])), path[-1, 2]


def scout(block: BlockKernels, q: np.ndarray) -> None:
    """Refuse what has no limit by the variances (P,) alone, where that may be so.

    That is where E[φ²] grows faster than q, or the horizon is long: a pole or an overflow is found in few
    and large steps, before pairs are followed up to it in many small ones.
    """
    network, q = block.network, np.unique(q)
    pairs = Pairs.of(len(q), *np.zeros((2, 0), dtype=int))
    try:
        slower = (block(1.1 * q, pairs)[0] <= 1.11 * block(q, pairs)[0]).all()
    except TimeBudgetError:
        raise
    except ValueError:
        slower = False
    if network.horizon * network.gain**2 > _LONG or not slower:
        limit(block, pairs, q, np.zeros(0), _ROUGH)


def _rates(network: ResNet) -> tuple[float, list[float]]:
    """a = lim L·α² and b_j = lim L·α²·c_j."""
    table, layers = network.table, network.block_layers

    def rate(exponent: float) -> float:
        return network.horizon if exponent == 0 else 0.0

    return rate(table.noise), [rate(table.drift(j, layers)) for j in range(layers)]


def overflow(network: ResNet, what: str, where: str) -> ValueError:
    """The refusal of kernels that no number holds."""
    return ValueError(
        f"{what} with scheme={shown(network.scheme)}, gain={network.gain!r}: the kernels overflow "
        f"{where}; give a smaller depth, gain or horizon"
    )


def _unbounded(network: ResNet, t: float, failed: list[ValueError]) -> ValueError:
    """The refusal of an equation that has no solution up to 1."""
    end = t * network.horizon
    why = f" ({failed[-1]})" if failed else ""
    return ValueError(
        f"horizon={network.horizon!r}, gain={network.gain!r}: the kernels grow without bound at depth "
        f"time {t:.4g}, that is at a horizon of {end:.4g}{why}; give a horizon of "
        f"{0.5 * end:.2g}, or a smaller gain or inputs of smaller norm"
    )


def _stuck(network: ResNet, t: float, failed: list[ValueError]) -> ValueError:
    """The refusal of an equation whose right-hand side is rougher than its steps."""
    why = failed[-1] if failed else "its expectations change by less than K is rounded to"
    return ValueError(
        f"horizon={network.horizon!r}, activation={network.activation_name}: the kernels' depth "
        f"equation cannot be followed beyond depth time {t:.3g} ({why}); give inputs of smaller "
        "norm, or an integer depth"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("years", 3.15e7), ("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
