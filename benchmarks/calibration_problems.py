"""Random small problems for the calibration of ``limit``, and solves kept on disk.

Problem i of a seed is a function of (seed, i) alone. Its learning rate is a fraction of the largest at
which a small network still trains: from a tenth of it to all of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import leadline as ll
from leadline.solver import solve
from leadline.solving.configuration import Configuration
from leadline.solving.solver import run

ACTIVATIONS = ("identity", "relu", "tanh", "erf", "gelu", "silu")
SAMPLES = (1, 1, 2, 3, 4, 5, 6, 8)
STARTS = ((None, 8), (128, 4), (256, 4), (256, 8), (512, 8))


@dataclass(frozen=True)
class Case:
    """One problem: what ``limit`` is called with."""

    problem: ll.Problem
    network: ll.ResNet
    sgd: ll.SGD
    coupling: str
    width: int | None
    depth: int

    @property
    def key(self) -> str:
        """Names the problem, whatever sizes it starts from."""
        what = [self.problem.fingerprint(), asdict(self.network), asdict(self.sgd), self.coupling]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]

    def __str__(self) -> str:
        p, n, s = self.problem, self.network, self.sgd
        start = f"{self.width or 'auto'}x{self.depth}"
        return (
            f"{n.activation}, {n.block_layers}-layer, {self.coupling}, {p.loss}, P={p.samples}, T="
            f"{n.horizon:.2f}, lr={s.lr:.3g}, momentum={s.momentum:g}, {s.steps} steps, from {start}"
        )


def draw(seed: int, i: int) -> Case:
    """Problem i of a seed."""
    rng = np.random.default_rng([0x6361, seed, i])
    cross = bool(rng.random() < 0.3)
    samples = max(int(rng.choice(SAMPLES)), 1 + cross)
    dimension = int(rng.integers(1, 7))
    x = rng.standard_normal((samples, dimension)) * rng.uniform(0.4, 1.4)
    if cross:
        classes = int(rng.integers(2, 4))
        y: Any = rng.permutation(np.arange(samples) % classes)
        problem = ll.arrays(x, y, standardize=False, loss="cross_entropy", classes=None)
    else:
        outputs = int(rng.integers(1, 3))
        y = rng.standard_normal((samples, outputs)) * rng.uniform(0.5, 2.0)
        problem = ll.arrays(x, y, standardize=False)
    network = ll.ResNet(
        activation=str(rng.choice(ACTIVATIONS)),
        block_layers=2 if rng.random() < 0.3 else 1,
        horizon=float(np.exp(rng.uniform(np.log(0.25), np.log(2.0)))),
    )
    momentum = float(rng.choice([0.0, 0.0, 0.0, 0.5, 0.9]))
    hidden = bool(rng.random() < 0.2)
    batch = int(rng.integers(1, samples + 1)) if rng.random() < 0.2 else None
    sgd = ll.SGD(
        lr=1.0,
        steps=int(rng.integers(3, 8)),
        batch_size=None if batch == samples else batch,
        momentum=momentum,
        train=("hidden",) if hidden else ("input", "hidden", "readout"),
        center=hidden,
    )
    coupling = str(rng.choice(["reused", "independent"]))
    fraction = float(np.exp(rng.uniform(np.log(0.1), 0.0)))
    width, depth = STARTS[int(rng.integers(len(STARTS)))]
    case = Case(problem, network, sgd, coupling, width, depth)
    # Three digits: the same problem wherever it is drawn.
    return replace(case, sgd=replace(sgd, lr=float(f"{fraction * edge(case):.3g}")))


def edge(case: Case) -> float:
    """The largest rate, to a tenth, at which one small network stays below three times its first loss."""

    def trains(lr: float) -> bool:
        t = solve(
            case.problem,
            case.network,
            replace(case.sgd, lr=lr),
            width=128,
            depth=8,
            seed=99,
            coupling=case.coupling,
            variance_reduction="balanced",
        )
        loss = t.train_loss[0]
        return bool(np.isfinite(loss).all() and loss.max() < 3 * loss[0])

    top = ll.initial_kernels(case.problem, case.network).tangent
    rate = 2 * case.problem.samples / float(np.linalg.eigvalsh(top)[-1])
    low, high = (rate, 2 * rate) if trains(rate) else (rate / 2, rate)
    while high < 4 * rate and trains(high):
        low, high = high, 2 * high
    while low > rate / 64 and not trains(low):
        low, high = low / 2, low
    for _ in range(3):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if trains(middle) else (low, middle)
    return low


class Solves:
    """``solve``, with every answer kept in a folder; its seconds are those of one processor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(
        self, problem: ll.Problem, network: ll.ResNet, sgd: ll.SGD, **options: Any
    ) -> ll.Trajectory:
        """As ``solve``; the second time from disk."""
        return self.run(Configuration(problem, network, sgd, **options))

    def run(self, c: Configuration, progress: Any = None) -> ll.Trajectory:
        """The same of a configuration."""
        name = hashlib.sha256(json.dumps(c.info, sort_keys=True).encode()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            return ll.Trajectory.load(path)
        started = time.process_time()
        done = run(c)
        # What an idle core would take: others may be at work here.
        done = replace(done, info={**done.info, "seconds": time.process_time() - started})
        done.save(path)
        return done
