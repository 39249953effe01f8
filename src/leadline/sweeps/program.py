"""Same-shape runs trained together: parameters stacked over runs, one program, one thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from leadline.planning.plan import Plan
from leadline.sweeps.data import Samples, Tokens
from leadline.sweeps.optimizers import BETAS, EPS, Stacked
from leadline.sweeps.specification import Run
from leadline.tracing.builder import construct

# A run is given up when its loss is not finite or this many times its first.
DIVERGED = 10.0
_EVERY = 10


@dataclass(frozen=True)
class Program:
    """Runs that differ in learning rate, seed, decay and momentum only."""

    build: Any
    plan: Plan
    data: Samples | Tokens
    runs: tuple[Run, ...]
    batched: bool = True
    hopeless: float | None = None
    """Give up runs whose loss after half the steps exceeds this many times the best one's."""


@dataclass(frozen=True)
class Result:
    """What is kept of one run."""

    values: dict[str, Any]
    """loss (training set, at the end), test_loss, diverged, stopped, steps_done, seconds."""
    curve: np.ndarray
    """(steps_done,) the batch's loss before each step."""


def train(program: Program) -> list[Result]:
    """Train every run of a program; the results are those of separate runs, to float rounding."""
    if program.batched and len(program.runs) > 1:
        return _Batch(program).train()
    out = []
    for run in program.runs:
        alone = Program(program.build, program.plan, program.data, (run,), False)
        out.extend(_Batch(alone).train())
    return out


def models(program: Program) -> list[nn.Module]:
    """Every run's model at initialization."""
    return [
        program.plan.apply(construct(program.build, run.size, run.seed)) for run in program.runs
    ]


class _Batch:
    def __init__(self, program: Program) -> None:
        self.program, self.data = program, program.data
        self.runs = program.runs
        first = self.runs[0]
        self.size, self.steps = first.batch_size, first.steps
        drawn = models(program)
        self.parameters, self.buffers = _stacked(drawn)
        self.model = drawn[0].to("meta")
        self.optimizer = _optimizer(program, drawn[0])
        shared = self.data.shared(self.size)
        self.shared = shared
        one = len(self.runs) == 1

        def loss(p: Any, b: Any, x: Tensor, y: Tensor) -> Tensor:
            return self.data.loss(_output(functional_call(self.model, (p, b), (x,))), y)

        self._loss = loss
        data_dims = None if shared else 0
        self._losses = _single(loss) if one else vmap(loss, in_dims=(0, 0, data_dims, data_dims))
        self.alive = torch.arange(len(self.runs))

    def train(self) -> list[Result]:
        """The training loop."""
        started = time.perf_counter()
        k = len(self.runs)
        curves = np.full((k, self.steps), np.nan, dtype=np.float32)
        done = np.zeros(k, dtype=int)
        ended: dict[int, str] = {}
        for step in range(self.steps):
            x, y = self._batch(step)
            gradients, losses = self._gradients(x, y)
            alive = self.alive.numpy()
            curves[alive, step] = losses.numpy()
            done[alive] = step + 1
            with torch.no_grad():
                self.optimizer.step(self.parameters, gradients)
            if step % _EVERY == _EVERY - 1 or step == self.steps - 1:
                self._drop(curves, step, ended)
                if not len(self.alive):
                    break
        final, test = self._evaluate(curves, ended)
        seconds = (time.perf_counter() - started) / k
        return [
            Result(
                {
                    "loss": final[i],
                    "test_loss": test[i],
                    "diverged": ended.get(i) == "diverged",
                    "stopped": ended.get(i) == "hopeless",
                    "steps_done": int(done[i]),
                    "seconds": seconds,
                },
                curves[i, : done[i]],
            )
            for i in range(k)
        ]

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Of every run's own loss: the runs share nothing, so the sum's gradient holds them all."""
        p = {n: t.detach().requires_grad_() for n, t in self.parameters.items()}
        losses = self._losses(p, self.buffers, x, y)
        gradients = torch.autograd.grad(losses.sum(), list(p.values()))
        return dict(zip(p, gradients, strict=True)), losses.detach()

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        seeds = [self.runs[i].seed for i in self.alive.tolist()]
        if self.shared or len(self.runs) == 1:
            return self.data.batch(step, self.size, seeds[0])
        made = {s: self.data.batch(step, self.size, s) for s in set(seeds)}
        return (
            torch.stack([made[s][0] for s in seeds]),
            torch.stack([made[s][1] for s in seeds]),
        )

    def _drop(self, curves: np.ndarray, step: int, ended: dict[int, str]) -> None:
        """Leave out runs that are over."""
        alive = self.alive.numpy()
        now, first = curves[alive, step], curves[alive, 0]
        over = ~np.isfinite(now) | (now > DIVERGED * first)
        for i in alive[over]:
            ended[int(i)] = "diverged"
        factor = self.program.hopeless
        if factor is not None and step >= self.steps // 2:
            window = curves[alive, max(step - _EVERY, 0) : step + 1].mean(1)
            best = np.nanmin(np.where(over, np.nan, window)) if not over.all() else np.nan
            late = (window > factor * best) & ~over
            for i in alive[late]:
                ended[int(i)] = "hopeless"
            over |= late
        if over.any() and len(self.runs) > 1:
            rows = torch.from_numpy(np.flatnonzero(~over))
            self.alive = self.alive[rows]
            self.parameters = {n: p[rows] for n, p in self.parameters.items()}
            self.buffers = {n: b[rows] for n, b in self.buffers.items()}
            self.optimizer.keep(rows)
        elif over.any():
            self.alive = self.alive[:0]

    def _evaluate(
        self, curves: np.ndarray, ended: dict[int, str]
    ) -> tuple[list[float | None], list[float | None]]:
        """Losses at the end on training and test data; None for runs that ended early."""
        k = len(self.runs)
        out: list[list[float | None]] = [[None] * k, [None] * k]
        test = self.data.test()
        if not len(self.alive):
            return out[0], out[1]
        for values, batch in zip(out, (self.data.train(), test), strict=True):
            if batch is None:
                continue
            with torch.no_grad():
                if len(self.runs) == 1:
                    p, b = _first(self.parameters), _first(self.buffers)
                    losses = self._loss(p, b, *batch)[None]
                else:
                    losses = vmap(self._loss, in_dims=(0, 0, None, None))(
                        self.parameters, self.buffers, *batch
                    )
            for i, value in zip(self.alive.tolist(), losses.tolist(), strict=True):
                if i not in ended and np.isfinite(value):
                    values[i] = value
        return out[0], out[1]


def _output(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result.logits


def _stacked(drawn: Sequence[nn.Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parameters, buffers = stack_module_state(list(drawn))
    return {n: p.detach() for n, p in parameters.items()}, dict(buffers)


def _first(stacks: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t[0] for n, t in stacks.items()}


def _single(loss: Any) -> Any:
    """A stack of one, without vmap: plain matrices are quicker for large models."""

    def losses(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> Tensor:
        return loss(_first(parameters), _first(buffers), x, y)[None]

    return losses


def _optimizer(program: Program, model: nn.Module) -> Stacked:
    """Rates of every run and parameter from the plan."""
    plan, runs = program.plan, program.runs
    kinds = plan.kind_of(model)
    factors = {n: plan.kind_factors(k) for n, k in kinds.items()}

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    lr, decay = column([r.lr for r in runs]), column([r.weight_decay for r in runs])
    eps = column([EPS] * len(runs))
    muon = frozenset(n for n, k in kinds.items() if plan.uses(k).update.startswith("orthogonal"))
    return Stacked(
        plan.optimizer.name,
        {n: lr * f.lr for n, f in factors.items()},
        {n: decay * f.weight_decay for n, f in factors.items()},
        {n: eps * f.eps for n, f in factors.items()},
        column([r.momentum for r in runs]),
        plan.betas(BETAS),
        muon,
    )
