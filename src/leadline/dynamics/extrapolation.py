"""``limit``: infinite width and depth by doubling both and extrapolating, with an error bar."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.architecture import ResNet
from leadline.describe import describe
from leadline.dynamics import memory as memories
from leadline.dynamics.shards import Shards
from leadline.dynamics.solver import COUPLINGS, DTYPES, Progress, solve
from leadline.errors import MemoryBudgetError, check_choice, check_int, check_real
from leadline.measure.record import check_task
from leadline.recipe import SGD
from leadline.trajectory import Trajectory, jsonable, versions

if TYPE_CHECKING:
    from leadline.problems import Problem


@dataclass(frozen=True, repr=False)
class Limit:
    """The training of the infinitely wide and deep network, with error bars (about 95 %).

    Attributes:
        steps: (R,) recorded steps.
        train_loss, train_loss_error, test_loss, test_loss_error: (R,).
        train_outputs (R, P, C), test_outputs (R, P_test, C): extrapolated means over seeds.
        contributions: what each source adds to the error bar of the training loss where it is
            largest: sampling (two standard errors), width and depth (half of what extrapolation
            adds to the largest size), truncation (tol against tol/10, where significant).
        sizes: the sizes solved, as rows width, depth, seeds, loss, error, seconds.
        converged: whether the error bar met rtol. message: why it stopped.
        info: arguments and versions.
    """

    steps: np.ndarray
    train_loss: np.ndarray
    train_loss_error: np.ndarray
    train_outputs: np.ndarray
    contributions: Mapping[str, float]
    sizes: tuple[Mapping[str, Any], ...]
    converged: bool
    message: str
    info: Mapping[str, Any]
    test_loss: np.ndarray | None = None
    test_loss_error: np.ndarray | None = None
    test_outputs: np.ndarray | None = None

    def __repr__(self) -> str:
        k = self.steps[-1]
        lines = [
            f"Limit(coupling={self.info['coupling']}, {self.message})",
            f"  train_loss: {self.train_loss[0]:.4g} (step 0) → {self.train_loss[-1]:.4g} ± "
            f"{self.train_loss_error[-1]:.1g} (step {k})",
        ]
        if self.test_loss is not None and self.test_loss_error is not None:
            lines.append(
                f"  test_loss: {self.test_loss[0]:.4g} (step 0) → {self.test_loss[-1]:.4g} ± "
                f"{self.test_loss_error[-1]:.1g} (step {k})"
            )
        lines.append(
            "  error sources: " + ", ".join(f"{k} {v:.1g}" for k, v in self.contributions.items())
        )
        lines.append("  sizes: " + ", ".join(f"{c['width']}x{c['depth']}" for c in self.sizes))
        return "\n".join(lines)

    def to_json(self, lists: bool = True) -> dict[str, Any]:
        """Everything as plain lists and numbers; arrays as they are without ``lists``."""
        out: dict[str, Any] = {
            "info": dict(self.info),
            "converged": self.converged,
            "message": self.message,
            "contributions": dict(self.contributions),
            "sizes": [dict(c) for c in self.sizes],
        }
        for name in (
            "steps",
            "train_loss",
            "train_loss_error",
            "train_outputs",
            "test_loss",
            "test_loss_error",
            "test_outputs",
        ):
            value = getattr(self, name)
            out[name] = jsonable(value) if lists and value is not None else value
        return out


def limit(
    problem: Problem,
    network: ResNet,
    sgd: SGD,
    rtol: float = 0.01,
    *,
    coupling: str = "reused",
    width: int | None = None,
    depth: int = 8,
    seeds: int = 4,
    seed: int = 0,
    tol: float = 1e-3,
    variance_reduction: str = "balanced",
    dtype: str = "float32",
    device: str = "cpu",
    record_every: int = 1,
    seconds: float | None = None,
    memory: int | None = None,
    group: Any = None,
    progress: Progress | None = None,
) -> Limit:
    """Extrapolate ``solve`` to infinite width and depth.

    The loss of a network of width n and depth L differs from its limit by O(1/n + 1/L). Starting
    at (width, depth), the size whose error source is largest is doubled, and loss and outputs are
    fitted by E + A/n + B/L over all sizes, until the error bar of the training loss is at most
    ``rtol`` times the initial loss at every recorded step.

    Args:
        rtol: in (0, 1). width: the first n; None takes room enough for the problem.
        seconds: time budget: the next size is not begun if it would end later.
        memory: budget in bytes, as in ``solve``.
        The rest as in ``solve``.

    Returns:
        A ``Limit``; ``converged`` is False, with the reason, when a budget ended the doubling.

    Raises:
        ValueError, TypeError: bad arguments, or a scheme that has no limit.
        MemoryError: the first size does not fit.
    """
    check_task(problem, network, sgd)
    rtol = check_real("rtol", rtol, 0.0, 1.0, open_minimum=True, open_maximum=True)
    tol = check_real("tol", tol, 0.0, 1.0, open_maximum=True)
    coupling = check_choice("coupling", coupling, COUPLINGS)
    depth, seeds = check_int("depth", depth, 1), check_int("seeds", seeds, 2)
    seed, record_every = check_int("seed", seed, 0), check_int("record_every", record_every, 1)
    dtype = str(dtype).removeprefix("torch.")
    check_choice("dtype", dtype, DTYPES)
    if seconds is not None:
        seconds = check_real("seconds", seconds, 0.0, open_minimum=True)
    check_has_limit(network)
    if width is None:
        width = max(256, 1 << (4 * problem.samples - 1).bit_length())
    width = check_int("width", width, 1)

    ladder = _Ladder(
        problem,
        network,
        sgd,
        dict(
            coupling=coupling,
            seed=seed,
            variance_reduction=variance_reduction,
            dtype=dtype,
            device=device,
            record_every=record_every,
            memory=memory,
            group=group,
            progress=progress,
        ),
        seeds,
        tol,
    )
    started = time.perf_counter()
    for n, l in ((width, depth), (2 * width, depth), (width, 2 * depth)):
        ladder.solve(n, l)
    message = ""
    where = torch.device(device)
    while True:
        fit = ladder.fit()
        if ladder.diverged:
            message = "training diverges: no limit; lower lr"
            break
        if fit.worst <= rtol * fit.initial:
            message = f"error bar {fit.worst:.2g} within rtol={rtol:g} of the initial loss"
            break
        size = ladder.next_size(fit.model, rtol * fit.initial)
        shards = Shards(size[0], group, where)
        # One clock decides for all processes.
        need = shards.of_first(ladder.predict_seconds(*size))
        spent = shards.of_first(time.perf_counter() - started)
        left = None if seconds is None else seconds - spent
        plan = memories.predict(problem, network, sgd, *size, DTYPES[dtype], shards.widest)
        short = f"error bar {fit.worst:.2g}, rtol asks for {rtol * fit.initial:.2g}"
        if left is not None and need > left:
            message = (
                f"stopped by seconds={seconds:g}: {short}; width={size[0]}, depth={size[1]} would "
                f"take about {need:.0f} s more"
            )
            break
        try:
            plan.check_first_step(memories.budget(memory, where, shards))
            ladder.solve(*size)
        except MemoryError as e:
            if isinstance(e, MemoryBudgetError) and e.checkpoint is not None:
                # Nothing resumes one size of a ladder.
                Path(e.checkpoint).unlink(missing_ok=True)
                reason = f"width={size[0]}, depth={size[1]} grew past the budget of {memory} bytes"
            else:
                reason = str(e)
            message = f"stopped by memory: {short}; {reason}"
            break
    return Limit(
        steps=ladder.steps,
        **fit.arrays,
        contributions=fit.contributions,
        sizes=tuple(ladder.sizes()),
        converged=message.startswith("error bar"),
        message=message,
        info={
            "kind": "limit",
            **describe(problem, network, sgd),
            "coupling": coupling,
            "rtol": rtol,
            "seeds": seeds,
            "seed": seed,
            "tol": tol,
            "variance_reduction": variance_reduction,
            "dtype": dtype,
            "versions": versions(),
            "seconds": time.perf_counter() - started,
        },
    )


def check_has_limit(network: ResNet) -> None:
    """Refuse a network without a feature-learning limit in width and depth."""
    table, k = network.table, network.block_layers
    drift = max(table.drift(j, k) for j in range(k))
    if not network.skip:
        raise ValueError("skip=False has no infinite-depth limit: give skip=True, or use solve")
    if table.rate_width == 0.0:
        raise ValueError(
            f"scheme={network.scheme!r} is lazy in the limit: use leadline.lazy, or "
            "scheme='depth-mup' or 'auto'"
        )
    if table.noise > 0 or drift > 0:
        raise ValueError(
            f"scheme={network.scheme!r} with block_layers={k} has no infinite-depth limit (its "
            f"updates grow like L^{max(table.noise, drift):g}): use scheme='auto', or solve at a "
            "given depth"
        )


@dataclass(frozen=True)
class _Fit:
    """One extrapolation: arrays for ``Limit``, and where its error comes from."""

    arrays: dict[str, Any]
    contributions: dict[str, float]
    worst: float
    initial: float
    model: tuple[float, float, float]
    """At the worst step: A/n and B/L at the largest size, and n times the variance of a size."""


class _Ladder:
    """The sizes solved so far, and the extrapolation over them."""

    def __init__(
        self,
        problem: Problem,
        network: ResNet,
        sgd: SGD,
        how: dict[str, Any],
        seeds: int,
        tol: float,
    ) -> None:
        self._task = (problem, network, sgd)
        self._how, self._seeds, self._tol = how, seeds, tol
        self.cells: dict[tuple[int, int], Trajectory] = {}
        self.n = self.l = 0
        self._fine: Trajectory | None = None

    def solve(self, n: int, l: int) -> None:
        """Add one size (and, with the first, the check of the truncation)."""
        how: dict[str, Any] = self._how | dict(width=n, depth=l, seeds=self._seeds)
        first = not self.cells
        self.cells[n, l] = solve(*self._task, tol=self._tol, **how)
        if first:
            self._fine = solve(*self._task, tol=self._tol / 10, **how)
        self.n, self.l = max(self.n, n), max(self.l, l)

    @property
    def steps(self) -> np.ndarray:
        return next(iter(self.cells.values())).steps

    @property
    def diverged(self) -> bool:
        return any((t.diverged >= 0).any() for t in self.cells.values() if t.diverged is not None)

    def predict_seconds(self, n: int, l: int) -> float:
        """Time is linear in n·L."""
        (n0, l0), last = list(self.cells.items())[-1]
        return last.info["seconds"] * (n * l) / (n0 * l0)

    def sizes(self) -> list[dict[str, Any]]:
        """Rows for the result."""
        return [
            {
                "width": n,
                "depth": l,
                "seeds": t.seeds,
                "train_loss": float(t.mean()[-1]),
                "error": float(t.error()[-1]),
                "seconds": float(t.info["seconds"]),
            }
            for (n, l), t in self.cells.items()
        ]

    def fit(self) -> _Fit:
        """E + A/n + B/L by least squares weighted by n, the inverse of the seeds' variance."""
        n, rows = _rows(list(self.cells))
        runs = list(self.cells.values())

        def combine(name: str) -> np.ndarray:
            values = np.stack([t.mean(name) for t in runs])
            return np.tensordot(rows, values, axes=1)

        def pooled(name: str) -> np.ndarray:
            # Variances are ∝ 1/n: pool them over sizes, a few seeds each give too little.
            spread = np.stack([getattr(t, name).var(0, ddof=1) / t.seeds for t in runs])
            return (spread * n[:, None]).mean(0)

        def parts(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            e, a, b = combine(name)
            sources = {
                "sampling": 2 * np.sqrt(pooled(name) * (rows[0] ** 2 / n).sum()),
                "width": np.abs(a) / 2,
                "depth": np.abs(b) / 2,
                "truncation": self._truncation(name),
            }
            return e, sources

        arrays: dict[str, Any] = {}
        worst, model = None, (0.0, 0.0, 0.0)
        contributions: dict[str, float] = {}
        for name in ("train_loss", "test_loss"):
            if getattr(runs[0], name) is None:
                continue
            value, sources = parts(name)
            bar = np.sqrt(sum(x**2 for x in sources.values()))
            arrays[name], arrays[f"{name}_error"] = value, bar
            outputs = name.replace("loss", "outputs")
            arrays[outputs] = combine(outputs)[0]
            if name == "train_loss":
                k = int(np.argmax(bar))
                worst = float(bar[k])
                contributions = {source: float(x[k]) for source, x in sources.items()}
                _, a, b = combine(name)[:, k]
                model = (float(a), float(b), float(pooled(name)[k]))
        initial = float(runs[-1].mean()[0])
        assert worst is not None
        return _Fit(arrays, contributions, worst, initial, model)

    def next_size(self, model: tuple[float, float, float], target: float) -> tuple[int, int]:
        """The size that, by the fitted model, lowers the error bar most for its cost n·L.

        Candidates are the sizes of the grid not yet solved, and one doubling of width or depth.
        """
        a, b, variance = model
        have = list(self.cells)
        widths = sorted({n for n, _ in have} | {2 * self.n})
        depths = sorted({l for _, l in have} | {2 * self.l})

        def bar(sizes: list[tuple[int, int]]) -> float:
            n, rows = _rows(sizes)
            sampling = 2 * np.sqrt(variance * (rows[0] ** 2 / n).sum())
            width = a / 2 * self.n / max(n for n, _ in sizes)
            depth = b / 2 * self.l / max(l for _, l in sizes)
            return float(np.sqrt(sampling**2 + width**2 + depth**2))

        now = bar(have)

        def worth(size: tuple[int, int]) -> float:
            return (now - max(bar([*have, size]), target)) / (size[0] * size[1])

        new = [(n, l) for n in widths for l in depths if (n, l) not in self.cells]
        return max(new, key=worth)

    def _truncation(self, name: str) -> np.ndarray:
        """tol against tol/10 at the first size, where it is more than two standard errors."""
        coarse, fine = next(iter(self.cells.values())), self._fine
        assert fine is not None
        change = np.abs(coarse.mean(name) - fine.mean(name))
        noise = np.hypot(coarse.error(name), fine.error(name))
        return np.where(change > 2 * noise, change, 0.0)


def _rows(sizes: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Widths (c,), and (3, c): E, A/n_max and B/L_max as combinations of the sizes' values.

    Weighted least squares; the variance of a size's mean is ∝ 1/n.
    """
    n, l = np.array(sizes).T.astype(float)
    design = np.stack([np.ones_like(n), n.max() / n, l.max() / l], axis=1)
    weight = np.sqrt(n)
    return n, np.linalg.pinv(design * weight[:, None]) * weight
