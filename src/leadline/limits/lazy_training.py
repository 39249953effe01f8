"""The lazy limit: training of the network linearised at initialization, at infinite width.

The outputs obey f(w) = f_0 + J·(w − w_0) with ⟨J(x), J(x')⟩ = Θ(x, x') in units of η, so a step of
SGD on the weights is, for training and test inputs together (Jacot et al., arXiv 1806.07572),

    b ← μ b + Θ_train χ/B + λ f,      f ← f − η_k b,      χ = ∂loss/∂f on the batch, b = 0 at first.

Weight decay adds λ J·w to the gradient's effect, and J·w = f − f_0 + J·w_0. In mup forms f_0 and
J·w_0 (the derivative of f_0 by the scale of the weights) vanish at infinite width, in ntk with the
readout alone J·w_0 = f_0: in both J·w = f. For ntk with other weights J·w_0 is a Gaussian field of
its own, correlated with f_0, and weight decay is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from leadline.available import check_available
from leadline.describe import describe
from leadline.errors import check_int, shown
from leadline.kernels.expectations import RTOL
from leadline.kernels.kernels import SECONDS, InitialKernels, input_kernels
from leadline.measure.record import Record, assemble, check_task, record_bytes
from leadline.problems.losses import chi, loss_value
from leadline.solving.updates import Step, StoredWeight
from leadline.trajectory import Trajectory, has_diverged, versions

if TYPE_CHECKING:
    import torch

    from leadline.architecture import ResNet
    from leadline.problems import Problem
    from leadline.recipes.sgd import SGD


def lazy(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    *,
    depth: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    record_every: int = 1,
    rtol: float = RTOL,
    seconds: float | None = SECONDS,
) -> Trajectory:
    """Train the network linearised at initialization, at infinite width.

    What solving or training adds to this is feature learning.

    Args:
        problem: data and loss.
        network: its tangent kernel at initialization, of the weights that ``sgd.train`` names, is
            the kernel.
        sgd: the recipe. Weight decay is refused for scheme ntk unless only the readout learns.
        depth: L ≥ 1 for n→∞ at this depth; None for L→∞ too, which the scheme must have.
        seeds: S ≥ 1 runs. In mup forms f_0 = 0 and all are equal; in ntk f_0 ~ N(0, K_1) over
            training and test inputs, or, with ``sgd.center``, 0 on the training inputs and the
            conditional law on the test inputs.
        seed: run s takes child s of ``SeedSequence(seed)``; the batch order depends on it too.
        record_every: record steps 0, record_every, ..., and always the last.
        rtol, seconds: of the kernel, as in ``initial_kernels``.

    Returns:
        A Trajectory, ``info["kind"] == "lazy"``; from a step at which training diverges on, NaN.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """
    started = time.perf_counter()
    check_task(problem, network, sgd)
    depth = None if depth is None else check_int("depth", depth, 1)
    count, seed = check_int("seeds", seeds, 1), check_int("seed", seed, 0)
    every = check_int("record_every", record_every, 1)
    samples = len(problem.x)
    random = network.table.readout > -1  # f_0 does not vanish with width
    if random and sgd.weight_decay and sgd.train != ("readout",):
        raise ValueError(
            f"weight_decay={sgd.weight_decay!r} with scheme={shown(network.scheme)} and "
            f"train={sgd.train!r}: its effect on the initial outputs is not known here; give "
            "weight_decay=0, train='readout', or a mup scheme"
        )
    inputs = samples + problem.test_samples
    kept = record_bytes(problem, sgd, every, None, count if random else 1)
    check_available("the lazy limit", {"records": kept, "kernels": 8 * 16 * inputs**2})
    x = problem.x if problem.x_test is None else np.concatenate([problem.x, problem.x_test])
    kernels = input_kernels(x, network, depth, rtol=rtol, seconds=seconds)
    starts = _starts(kernels, problem, sgd.center, count if random else 1, seed, random)
    records = []
    for start in starts:
        records.append(Record.empty(problem, sgd, every))
        _run(problem, sgd, kernels.part(sgd.train)[:, :samples], start, seed, records[-1])
    info = {
        "kind": "lazy",
        **describe(problem, network, sgd),
        "width": None,
        "depth": depth,
        "seeds": count,
        "seed": seed,
        "record_every": every,
        "kernel_accuracy": kernels.accuracy,
        "versions": versions(),
        "seconds": time.perf_counter() - started,
    }
    return assemble(records, info, sgd, None, 1 if random else count)


def _run(
    problem: Problem, sgd: SGD, theta: np.ndarray, start: np.ndarray, seed: int, record: Record
) -> None:
    """One seed: Θ (P + P_test, P) and f_0 (P + P_test, C) into ``record``."""
    import torch

    y, kernel = torch.tensor(problem.y), torch.tensor(theta)
    samples = len(y)
    outputs = StoredWeight(torch.tensor(start))
    first = float(loss_value(problem.loss, outputs.value[:samples], y))
    _observe(record, 0, outputs.value, samples)
    for step, batch in enumerate(sgd.batches(samples, seed)):
        f = outputs.value
        g = chi(problem.loss, f[batch], y[batch]) / len(batch)
        lr = sgd.lr * sgd.multiplier(step)
        outputs.update(kernel[:, batch] @ g, Step(lr, sgd.momentum, sgd.weight_decay))
        f = outputs.value
        if has_diverged(float(loss_value(problem.loss, f[:samples], y)), first):
            record.diverge(step + 1)
            return
        if record.recorded(step + 1):
            _observe(record, step + 1, f, samples)


def _observe(record: Record, step: int, f: torch.Tensor, samples: int) -> None:
    record.observe(step, f[:samples], f[samples:] if len(f) > samples else None)


def _starts(
    kernels: InitialKernels, problem: Problem, center: bool, count: int, seed: int, random: bool
) -> Iterator[np.ndarray]:
    """f_0 (P + P_test, C) of every run: 0, or a Gaussian field of covariance K_1 per output."""
    samples, outputs = problem.y.shape
    size = len(kernels.features)
    if not random:
        yield np.zeros((size, outputs))
        return
    fixed = samples if center else 0
    root = _root(_conditional(kernels.features, fixed))
    for child in np.random.SeedSequence(seed).spawn(count):
        draw = np.random.default_rng(child).standard_normal((size - fixed, outputs))
        yield np.concatenate([np.zeros((fixed, outputs)), root @ draw])


def _conditional(k: np.ndarray, fixed: int) -> np.ndarray:
    """Covariance of the rest given the first ``fixed`` coordinates: K_tt − K_tp K_pp⁺ K_pt."""
    if fixed == 0:
        return k
    across = k[fixed:, :fixed]
    inverse = np.linalg.pinv(k[:fixed, :fixed], rcond=1e-12, hermitian=True)
    return k[fixed:, fixed:] - across @ inverse @ across.T


def _root(k: np.ndarray) -> np.ndarray:
    """A symmetric square root of a covariance; rounding's negative eigenvalues count as 0."""
    if not k.size:
        return k
    values, vectors = np.linalg.eigh(k)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
