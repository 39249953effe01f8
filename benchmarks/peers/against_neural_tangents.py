"""Kernels at initialization against neural-tangents: ./dev peers neural-tangents [relu erf tanh]

200 digits; a residual MLP of one-layer blocks h + √(1/L) W φ(h) in NTK parametrization, whose tangent
kernel is ``initial_kernels(...).tangent`` at the same depth, entry by entry. Depths 8 to 256:

    plain    L blocks written out, under jax.jit: seconds of the first call (tracing, compiling) and of
             a later one
    repeat   one block in stax.repeat, under jax.jit (relu, erf)
    tanh     stax.ElementwiseNumerical (Gauss-Hermite, as there is no closed form), depth 16, the time
             of a call scaled to 256 by the number of layers

    ours     initial_kernels at infinite depth, a later call and the first one (which for tanh imports
             torch), and at the peer's depth

Ratios are peer / ours, both in this process, with the medians of repeated calls (and their range). jax
runs in its own default, float32; ours in float64. Errors are relative to the largest entry: ours at the
same depth, and the limit against the peer's extrapolated depth, 2 Θ(256) − Θ(128).
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import neural_tangents
import numpy as np
from history import TOY, keep, size, spread
from neural_tangents import stax

import leadline as ll

warnings.filterwarnings("ignore", module="neural_tangents")
SAMPLES = size(200, 12)
DEPTHS = size((8, 16, 32, 64, 128, 256), (4, 8))
REPEATS = size(7, 2)
NUMERICAL = size(16, 2)
PEERS = {"relu": stax.Relu, "erf": stax.Erf}


def network(phi, depth: int, repeat: bool = False):
    """The kernel function of the peer, jitted; (P, d) -> (K, Θ)."""
    block = stax.serial(
        stax.FanOut(2),
        stax.parallel(
            stax.Identity(), stax.serial(phi(), stax.Dense(1, W_std=depth**-0.5, b_std=None))
        ),
        stax.FanInSum(),
    )
    body = [stax.repeat(block, depth)] if repeat else [block] * depth
    ends = [stax.Dense(1, W_std=1, b_std=None) for _ in range(2)]
    kernel = stax.serial(ends[0], *body, ends[1])[2]
    return jax.jit(lambda x: tuple(kernel(x, None, ("nngp", "ntk"))))


def timed(call) -> tuple[float, list[float], np.ndarray]:
    """Seconds of the first call and of later ones, and the last of its results."""

    def once() -> tuple[float, np.ndarray]:
        started = time.perf_counter()
        out = jax.block_until_ready(call())
        return time.perf_counter() - started, out

    first = once()[0]
    later, outs = zip(*(once() for _ in range(REPEATS)), strict=True)
    return first, list(later), np.asarray(outs[-1][-1], dtype=np.float64)


def ours(problem: ll.Problem, name: str):
    net = ll.ResNet(name, scheme="depth-mup")
    first, later, theta = timed(lambda: (ll.initial_kernels(problem, net).tangent,))
    return net, first, later, theta


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def median(values: list[float]) -> float:
    return float(np.median(values))


def closed_form(problem: ll.Problem, name: str) -> dict:
    x = np.asarray(problem.x)
    net, cold, warm, limit = ours(problem, name)
    row = {"ours": warm, "ours_first": cold}
    print(f"\n{name}: initial_kernels {spread(warm)} s, the first call {cold:.3g} s")
    print(f"  depth    plain  {'later':26s} repeat  {'later':26s} {'ours, same depth':26s} error")
    thetas = {}
    for depth in DEPTHS:
        first, later, theta = timed(lambda d=depth: network_of(name, d)(x))
        first_r, later_r, theta_r = timed(lambda d=depth: network_of(name, d, True)(x))
        _, same, exact = timed(lambda d=depth: (ll.initial_kernels(problem, net, d).tangent,))
        errors = [off(theta, exact), off(theta_r, exact)]
        thetas[depth] = theta
        row[f"depth {depth}"] = {
            "plain_first": first,
            "plain": later,
            "repeat_first": first_r,
            "repeat": later_r,
            "ours_at_this_depth": same,
            "error": max(errors),
        }
        print(
            f"  {depth:5d}   {first:6.3g}  {spread(later):26s} {first_r:6.3g}  "
            f"{spread(later_r):26s} {spread(same):26s} {max(errors):.1e}",
            flush=True,
        )
    deep, half = DEPTHS[-1], DEPTHS[-2]
    at = row[f"depth {deep}"]
    row["extrapolated_error (<= 1e-3)"] = off(2 * thetas[deep] - thetas[half], limit)
    row["including compile (>= 20)"] = at["plain_first"] / median(warm)
    row["including compile, first calls"] = at["plain_first"] / cold
    row["compiled plain"] = median(at["plain"]) / median(warm)
    row["compiled repeat (>= 1)"] = median(at["repeat"]) / median(warm)
    return row


_networks: dict = {}


def network_of(name: str, depth: int, repeat: bool = False):
    """Built once, so that later calls are compiled ones; building counts in the first."""
    key = name, depth, repeat
    if key not in _networks:
        _networks[key] = network(PEERS[name], depth, repeat)
    return _networks[key]


def numerical(problem: ll.Problem) -> dict:
    x = np.asarray(problem.x)
    net, cold, warm, _ = ours(problem, "tanh")
    made = []

    def call():
        if not made:
            phi = lambda: stax.ElementwiseNumerical(jax.numpy.tanh, deg=25)  # noqa: E731
            made.append(network(phi, NUMERICAL))
        return made[0](x)

    first, later, theta = timed(call)
    exact = ll.initial_kernels(problem, net, NUMERICAL).tangent
    scale = size(256, 8) / NUMERICAL
    print(
        f"\ntanh: initial_kernels {spread(warm)} s, the first call {cold:.3g} s; peer at depth "
        f"{NUMERICAL}: first {first:.3g} s, later {spread(later)} s, error {off(theta, exact):.1e}"
    )
    return {
        "ours": warm,
        "ours_first": cold,
        "peer_first": first,
        "peer": later,
        "error (<= 1e-3)": off(theta, exact),
        f"a call, scaled to depth {size(256, 8)} (>= 20)": median(later) * scale / median(warm),
    }


def main() -> None:
    print(
        f"neural-tangents {neural_tangents.__version__}, jax {jax.__version__}, "
        f"{SAMPLES} digits{' (toy)' if TOY else ''}"
    )
    problem = ll.digits(samples=SAMPLES, test_samples=0)
    rows = {
        name: numerical(problem) if name == "tanh" else closed_form(problem, name)
        for name in sys.argv[1:] or (*PEERS, "tanh")
    }
    print()
    for name, row in rows.items():
        for key, value in row.items():
            if isinstance(value, float) and ("(" in key or "compile" in key):
                print(f"{name:5s} {key}: {value:.3g}")
    keep("peers-neural-tangents", rows)


if __name__ == "__main__":
    main()
