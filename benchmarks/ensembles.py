"""W(0) multiplied fast against Gaussian W(0), as the width grows: ./dev bench ensembles [combination ...]

Residual networks with everything trained, eight samples, in combinations of activation, depth, steps,
momentum and coupling. At every width both ensembles train with the same U and v (variance reduction
"ends"), seed by seed; up to n = 256 as dense networks, the fast W(0) read off (a solve is that network:
tests/test_replay.py), above by ``solve`` with tol = 1e-3. Outputs at four steps (the first, a quarter,
half, all), and losses there in units of the initial one, differ by D(n) = D + A·64/n + noise. Reported are
D and its 95 % interval, simultaneous over the steps and samples of a combination (bootstrap of the seeds),
relative to the root mean square of the outputs at the last step, and the p-value of D = 0; and the same
for A (do finite networks differ?). Of every step the sample is shown that is farthest from 0 in units of
its interval.

Finished sizes are kept in --work (build/ensembles): the same command goes on. --until SECONDS begins no
size after that.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from history import TOY, keep, size

import leadline as ll
from leadline.dense.forward import Weights, forward, param_groups
from leadline.problems.losses import loss_value
from leadline.solving.rotations import FastGaussian
from leadline.solving.shards import Shards
from leadline.solving.variance_reduction import orthogonal_ends

# Width -> seeds.
SEEDS = size({64: 256, 128: 128, 256: 64, 512: 32, 1024: 32}, {16: 6, 24: 4, 32: 4})
# Up to this width as dense networks, so many seeds together.
DENSE, TOGETHER = size((256, 32), (24, 4))
BOOTSTRAP = size(2000, 500)
ENSEMBLES = ("gaussian", "fast")


@dataclass(frozen=True)
class Combination:
    """One training, at a rate at which the loss falls to a few per cent."""

    activation: str
    depth: int
    steps: int
    momentum: float
    coupling: str
    lr: float

    @property
    def name(self) -> str:
        """As on the command line."""
        m = f"{self.momentum:g}".lstrip("0") or "0"
        return f"{self.activation}-L{self.depth}-T{self.steps}-m{m}-{self.coupling}"


COMBINATIONS = [
    Combination("tanh", 2, 60, 0.0, "reused", 0.5),
    Combination("relu", 2, 60, 0.9, "independent", 0.05),
    Combination("gelu", 4, 30, 0.0, "independent", 0.5),
    Combination("tanh", 4, 60, 0.9, "reused", 0.05),
    Combination("relu", 8, 30, 0.0, "reused", 0.3),
    Combination("gelu", 8, 30, 0.9, "reused", 0.05),
    Combination("tanh", 8, 30, 0.0, "independent", 0.5),
    Combination("relu", 8, 30, 0.9, "independent", 0.05),
    Combination("gelu", 16, 20, 0.0, "reused", 0.5),
    Combination("tanh", 16, 20, 0.9, "independent", 0.1),
    Combination("relu", 32, 15, 0.0, "reused", 0.3),
    Combination("gelu", 32, 15, 0.9, "independent", 0.1),
    Combination("tanh", 32, 15, 0.9, "reused", 0.1),
]
if TOY:
    COMBINATIONS = [Combination("tanh", 2, 4, 0.9, "independent", 0.1)]


def problem() -> ll.Problem:
    """Eight samples."""
    return ll.teacher(samples=8, dimension=6, seed=1)


def shown(steps: int) -> np.ndarray:
    """The steps that are compared."""
    return np.unique([1, steps // 4, steps // 2, steps])


def outputs(c: Combination, n: int, ensemble: str) -> np.ndarray:
    """(seeds, steps, samples), and the losses as one more sample."""
    p, network = problem(), ll.ResNet(c.activation)
    sgd = ll.SGD(lr=c.lr, steps=c.steps, momentum=c.momentum)
    count = SEEDS[n]
    if n <= DENSE:
        runs = range(count)
        parts = [
            dense(c, p, network, sgd, n, ensemble, runs[i : i + TOGETHER])
            for i in range(0, count, TOGETHER)
        ]
        f, loss = (np.concatenate(x) for x in zip(*parts, strict=True))
    else:
        t = ll.solve(
            p,
            network,
            sgd,
            width=n,
            depth=c.depth,
            coupling=c.coupling,
            ensemble=ensemble,
            seeds=count,
            seed=n,
            variance_reduction="ends",
        )
        f, loss = t.train_outputs[..., 0], t.train_loss
    loss = loss / loss[:, :1].mean()
    return np.concatenate([f, loss[..., None]], axis=2)[:, shown(c.steps)]


def dense(
    c: Combination,
    p: ll.Problem,
    network: ll.ResNet,
    sgd: ll.SGD,
    n: int,
    ensemble: str,
    runs: range,
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (seeds, steps + 1, samples) and losses of stacked dense networks."""
    x, y = torch.tensor(p.x, dtype=torch.float32), torch.tensor(p.y, dtype=torch.float32)
    shards = Shards(n)

    def ends(s: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([n, s])
        u, v = rng.standard_normal((n, x.shape[1])), rng.standard_normal((n, 1))
        return orthogonal_ends(torch.from_numpy(u).float(), torch.from_numpy(v).float(), shards)

    def hidden(s: int, l: int, back: int) -> torch.Tensor:
        sequence = np.random.SeedSequence([n, s, l, back])
        if ensemble == "fast":
            kind = torch.float32, torch.device("cpu")
            return FastGaussian(n, n, 1.0, sequence, *kind)(torch.eye(n)).mT
        rng = np.random.default_rng(sequence)
        return torch.from_numpy(rng.standard_normal((n, n), dtype=np.float32))

    def stacked(back: int) -> list[torch.Tensor]:
        return [torch.stack([hidden(s, l, back) for s in runs]) for l in range(c.depth)]

    u, v = (torch.stack(w) for w in zip(*map(ends, runs), strict=True))
    weights = Weights(u, stacked(0), v, stacked(1) if c.coupling == "independent" else None)
    for w in weights.tensors:
        w.requires_grad_()
    optimizer = torch.optim.SGD(param_groups(network, sgd, weights, c.depth), foreach=False)
    kept, losses = [], []
    for step in range(c.steps + 1):
        f = forward(network, weights, x)
        loss = loss_value(p.loss, f, y)
        kept.append(f.detach().numpy()[..., 0])
        losses.append(loss.detach().numpy())
        if step < c.steps:
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
    return np.stack(kept, axis=1), np.stack(losses, axis=1)


def series(widths: np.ndarray, differences: list[np.ndarray]) -> dict[str, np.ndarray]:
    """D and A of D(n) = D + A·64/n, from differences (seeds, steps, features) at every width.

    Returns:
        D, A (steps, features), their simultaneous half-intervals and p-values.
    """
    count = np.array([len(d) for d in differences])
    means = np.stack([d.mean(0) for d in differences])
    # Fluctuations are ∝ 1/√n: one variance for all widths, times 1/n.
    scaled = np.stack([d.var(0, ddof=1) for d in differences]) * widths[:, None, None]
    pooled = (scaled * (count - 1)[:, None, None]).sum(0) / (count - 1).sum()
    variance = 1 / (widths * count)
    design = (
        np.stack([np.ones(len(widths)), widths[0] / widths], axis=1) / np.sqrt(variance)[:, None]
    )
    solver = np.linalg.pinv(design) / np.sqrt(variance)
    rng = np.random.default_rng(0)
    drawn = []
    for d, m in zip(differences, means, strict=True):
        shares = rng.multinomial(len(d), np.full(len(d), 1 / len(d)), BOOTSTRAP) / len(d)
        centred = (d - m) * np.sqrt(len(d) / (len(d) - 1))
        drawn.append(np.einsum("bs,srm->brm", shares, centred))
    out = {}
    for name, w in zip(("D", "A"), solver, strict=True):
        value = np.einsum("c,crm->rm", w, means)
        error = np.sqrt(pooled * (w**2 * variance).sum())
        noise = np.einsum("c,cbrm->brm", w, np.stack(drawn)) / error
        top = np.abs(noise).max((1, 2))
        out |= {
            name: value,
            f"{name} half": np.quantile(top, 0.95) * error,
            f"{name} p": (1 + (top >= np.abs(value / error).max()).sum()) / (1 + BOOTSTRAP),
        }
    return out


def compared(c: Combination, results: dict[int, dict[str, np.ndarray]]) -> dict[str, object]:
    """What is said of a combination."""
    widths = np.array(sorted(results))
    differences = [results[n]["fast"] - results[n]["gaussian"] for n in widths]
    largest = results[widths[-1]]["gaussian"].mean(0)
    level = np.sqrt((largest[-1, :-1] ** 2).mean())
    found = {
        "outputs": series(widths, [d[..., :-1] / level for d in differences]),
        "loss": series(widths, [d[..., -1:] for d in differences]),
    }
    row: dict[str, object] = {
        "widths": widths.tolist(),
        "seeds": [len(d) for d in differences],
        "lr": c.lr,
        "steps": shown(c.steps).tolist(),
        "loss of gaussian": largest[:, -1].tolist(),
        "variance over seeds, fast / gaussian": [
            float(
                np.exp(np.log(r["fast"][..., :-1].var(0) / r["gaussian"][..., :-1].var(0)).mean())
            )
            for _, r in sorted(results.items())
        ],
    }
    for what, s in found.items():
        for name in ("D", "A"):
            value, half = s[name], s[f"{name} half"]
            at = np.arange(len(value)), np.abs(value / half).argmax(1)
            row[f"{what}: {name}, %"] = (100 * value[at]).round(3).tolist()
            row[f"{what}: half-interval of {name}, %"] = (100 * half[at]).round(3).tolist()
            row[f"{what}: p of {name} = 0"] = float(s[f"{name} p"])
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*")
    parser.add_argument("--work", default=None)
    parser.add_argument("--until", type=float, default=np.inf)
    options = parser.parse_args()
    chosen = [c for c in COMBINATIONS if not options.only or c.name in options.only]
    folder = None if TOY else Path(options.work or "build/ensembles")
    started, every = time.monotonic(), {c: {} for c in chosen}
    # Small widths of every combination first: whenever it ends, all combinations have come as far.
    for n in SEEDS:
        for c in chosen:
            cell = {}
            for ensemble in ENSEMBLES:
                path = folder and folder / f"{c.name}-{n}-{ensemble}.npy"
                if path and path.exists():
                    cell[ensemble] = np.load(path)
                elif time.monotonic() - started < options.until:
                    cell[ensemble] = outputs(c, n, ensemble)
                    if path:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        np.save(path, cell[ensemble])
            if len(cell) == len(ENSEMBLES):
                every[c][n] = cell
                means = [cell[e][..., -1].mean(0).round(4) for e in ENSEMBLES]
                print(f"{c.name} n={n}: losses {means[0]} gaussian, {means[1]} fast", flush=True)
    numbers = {c.name: compared(c, results) for c, results in every.items() if len(results) > 2}
    for name, row in numbers.items():
        print(name, f"n = {row['widths'][0]} to {row['widths'][-1]}")
        for key in ("outputs", "loss"):
            for what in ("D", "A"):
                pairs = zip(
                    row[f"{key}: {what}, %"], row[f"{key}: half-interval of {what}, %"], strict=True
                )
                text = ", ".join(f"{a:+.1f} ± {b:.1f}" for a, b in pairs)
                print(f"  {key} {what}, %: {text}; p = {row[f'{key}: p of {what} = 0']:.2g}")
    for what in ("D", "A"):
        p = sorted((float(row[f"outputs: p of {what} = 0"]), name) for name, row in numbers.items())
        whole = min(1.0, len(p) * p[0][0])
        print(
            f"{what} = 0 for the outputs of all {len(p)} combinations: p = {whole:.2g} ({p[0][1]})"
        )
    keep("ensembles", numbers)


if __name__ == "__main__":
    main()
