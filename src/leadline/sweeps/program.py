"""Same-shape runs trained together: parameters stacked over runs, one program, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from leadline.planning.plan import Factors
from leadline.sweeps.data import Samples, Tokens
from leadline.sweeps.gradients import Gradients
from leadline.sweeps.optimizers import BETAS, EPS, Stacked
from leadline.sweeps.rates import Rates
from leadline.sweeps.specification import Run
from leadline.tracing.builder import construct, seeded

# A run is given up when its loss is not finite or this many times its first.
DIVERGED = 10.0
_EVERY = 10
# Ended runs stay in the stack, unread, until this share of it is left.
_SHRINK = 0.75


@dataclass(frozen=True)
class Program:
    """Runs that differ in learning rate, seed, decay and momentum only."""

    build: Any
    rates: Rates
    data: Samples | Tokens
    runs: tuple[Run, ...]
    batched: bool = True
    hopeless: float | None = None
    """Give up runs whose loss after half the steps exceeds this many times the best one's."""
    device: str = "cpu"
    """Where they train."""


@dataclass(frozen=True)
class Result:
    """What is kept of one run."""

    values: dict[str, Any]
    """loss (training set, at the end), test_loss, diverged, stopped, steps_done, seconds."""
    curve: np.ndarray
    """(steps_done,) the batch's loss before each step."""


def train(program: Program, report: Callable[[int], None] | None = None) -> list[Result]:
    """Train every run of a program; the results are those of separate runs, to float rounding.

    Those of a batched program do not depend on which runs are in it, to the last bit, so that a sweep
    that was interrupted ends as one that was not: a run left alone trains beside itself, because plain
    products of matrices round otherwise than stacked ones. (On a CPU: a GPU's libraries may choose another
    kernel for another number of runs.) Runs that do not fit into the device's memory together train in
    halves.

    Args:
        report: called after every step with the steps done so far, those of all runs together.
    """
    if program.batched:
        try:
            return _together(program, program.runs, report, 0)
        except NotBatched:
            # Control flow on values, or random numbers in the forward pass: one run at a time.
            pass
    out = []
    for i, run in enumerate(program.runs):
        alone = replace(program, runs=(run,), batched=False, hopeless=None)
        with seeded(run.seed):
            out.extend(_Batch(alone).train(_counted(report, i * run.steps, 1)))
    return out


def _together(
    program: Program, runs: tuple[Run, ...], report: Callable[[int], None] | None, before: int
) -> list[Result]:
    """As one program, or two, four, ... where the device has no memory for that."""
    twice = runs if len(runs) > 1 else runs * 2
    try:
        steps = _counted(report, before, len(runs))
        return _Batch(replace(program, runs=twice)).train(steps)[: len(runs)]
    except torch.OutOfMemoryError:
        if len(runs) == 1:
            raise
    # Out here: the error would keep what was allocated.
    torch.cuda.empty_cache()
    half = len(runs) // 2
    first = _together(program, runs[:half], report, before)
    return first + _together(program, runs[half:], report, before + half * runs[0].steps)


def _counted(
    report: Callable[[int], None] | None, before: int, runs: int
) -> Callable[[int], None] | None:
    """Report the steps of runs that train at once, after others that took ``before`` steps."""
    return None if report is None else lambda steps: report(before + runs * steps)


class NotBatched(Exception):
    """The model cannot be mapped over a stack of parameters."""


def models(program: Program) -> dict[int, nn.Module]:
    """The model at initialization by seed."""
    first = program.runs[0]
    return {
        s: program.rates.apply(construct(program.build, first.size, s))
        for s in dict.fromkeys(run.seed for run in program.runs)
    }


class _Batch:
    """Members of the stack: the runs that go on, and ended ones not yet taken out."""

    def __init__(self, program: Program) -> None:
        self.program, self.device = program, torch.device(program.device)
        self.data = program.data.on(self.device)
        self.runs = program.runs
        first = self.runs[0]
        self.size, self.steps = first.batch_size, first.steps
        one = len(self.runs) == 1
        drawn = models(program)
        model = next(iter(drawn.values()))
        seeds = [run.seed for run in self.runs]
        factors = program.rates.factors(model)
        state = {s: _state(m) for s, m in drawn.items()}
        # Drawn on the CPU: the same numbers wherever they train.
        stacks = {
            n: torch.stack([state[s][n] for s in seeds]).to(self.device) for n in state[seeds[0]]
        }
        self.names = tuple(n for n in stacks if n in factors)
        self.parameters = [stacks[n] for n in self.names]
        # What no optimizer moves: buffers, and parameters that are frozen.
        self.fixed = {n: t for n, t in stacks.items() if n not in factors}
        self.optimizer = _optimizer(program, [factors[n] for n in self.names])
        self.model = model.to("meta")
        self.shared = self.data.shared(self.size)

        def loss(p: Any, b: Any, x: Tensor, y: Tensor) -> Tensor:
            return self.data.loss(_output(functional_call(self.model, {**p, **b}, (x,))), y)

        self._loss = loss
        data_dims = None if self.shared else 0
        losses = _single(loss) if one else vmap(loss, in_dims=(0, 0, data_dims, data_dims))
        self.gradients = Gradients(losses, self.names, record=not one)
        self.members = np.arange(len(self.runs))
        self.alive = np.ones(len(self.runs), dtype=bool)

    def train(self, report: Callable[[int], None] | None = None) -> list[Result]:
        """The training loop; ``report`` is called with the number of steps after each."""
        started = time.perf_counter()
        k = len(self.runs)
        curves = np.full((k, self.steps), np.nan, dtype=np.float32)
        done = np.zeros(k, dtype=int)
        ended: dict[int, str] = {}
        recent: list[Tensor] = []
        with torch.no_grad():
            for step in range(self.steps):
                gradients, losses = self._gradients(step)
                recent.append(losses)
                self.optimizer.step(self.parameters, gradients)
                if step % _EVERY == _EVERY - 1 or step == self.steps - 1:
                    # One look at the device for all steps since the last.
                    on = self.members[self.alive]
                    found = torch.stack(recent).cpu().numpy()
                    curves[on, step + 1 - len(recent) : step + 1] = found[:, self.alive].T
                    done[on] = step + 1
                    recent.clear()
                    self._end(curves, step, ended)
                    if not self.alive.any():
                        break
                if report is not None:
                    report(step + 1)
            final, test = self._evaluate(ended)
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

    def _gradients(self, step: int) -> tuple[list[Tensor], Tensor]:
        seeds = [self.runs[i].seed for i in self.members]
        if self.shared or len(self.runs) == 1:
            x, y = self.data.batch(step, self.size, seeds[0])
        else:
            x, y = self.data.stacked(step, self.size, seeds)
        left = self.steps - step
        try:
            return self.gradients(self.parameters, self.fixed, x, y, left)
        except torch.OutOfMemoryError:
            raise
        except Exception as e:
            if step == 0 and len(self.runs) > 1:
                raise NotBatched(str(e)) from e
            raise

    def _end(self, curves: np.ndarray, step: int, ended: dict[int, str]) -> None:
        """Mark runs that are over, and take them out when that is worth new stacks."""
        on = self.members[self.alive]
        now, first = curves[on, step], curves[on, 0]
        over = ~np.isfinite(now) | (now > DIVERGED * first)
        for i in on[over]:
            ended[int(i)] = "diverged"
        factor = self.program.hopeless
        if factor is not None and step >= self.steps // 2:
            window = curves[on, max(step - _EVERY, 0) : step + 1].mean(1)
            best = np.nanmin(np.where(over, np.nan, window)) if not over.all() else np.nan
            late = (window > factor * best) & ~over
            for i in on[late]:
                ended[int(i)] = "hopeless"
            over |= late
        self.alive[self.alive] = ~over
        count = int(self.alive.sum())
        if 0 < count <= _SHRINK * len(self.alive) and len(self.alive) > 2:
            # At least two, as in ``train``.
            kept = np.sort(np.argsort(~self.alive, kind="stable")[: max(count, 2)])
            rows = torch.from_numpy(kept).to(self.device)
            self.members, self.alive = self.members[kept], self.alive[kept]
            self.parameters = [p.index_select(0, rows) for p in self.parameters]
            self.fixed = {n: b.index_select(0, rows) for n, b in self.fixed.items()}
            self.optimizer.keep(rows)
            self.gradients.forget()

    def _evaluate(self, ended: dict[int, str]) -> tuple[list[float | None], list[float | None]]:
        """Losses at the end on training and test data; None for runs that ended early."""
        k = len(self.runs)
        out: list[list[float | None]] = [[None] * k, [None] * k]
        if not self.alive.any():
            return out[0], out[1]
        self.model.eval()
        p = dict(zip(self.names, self.parameters, strict=True))
        for values, batch in zip(out, (self.data.train(), self.data.test()), strict=True):
            if batch is None:
                continue
            if k == 1:
                losses = _single(self._loss)(p, self.fixed, *batch)
            else:
                losses = vmap(self._loss, in_dims=(0, 0, None, None))(p, self.fixed, *batch)
            for i, value in zip(self.members.tolist(), losses.tolist(), strict=True):
                if i not in ended and np.isfinite(value):
                    values[i] = value
        return out[0], out[1]


def _output(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result.logits


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, shared ones once."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {n: t.detach() for n, t in named}


def _first(stacks: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t[0] for n, t in stacks.items()}


def _single(loss: Any) -> Any:
    """A stack of one, without vmap: plain matrices are quicker for large models."""

    def losses(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> Tensor:
        return loss(_first(parameters), _first(buffers), x, y)[None]

    return losses


def _optimizer(program: Program, factors: Sequence[tuple[Factors, bool]]) -> Stacked:
    """Rates of every run and parameter."""
    rates, runs = program.rates, program.runs

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    lr, decay = column([r.lr for r in runs]), column([r.weight_decay for r in runs])
    eps = column([EPS] * len(runs))
    return Stacked(
        rates.optimizer.name,
        [lr * f.lr for f, _ in factors],
        [decay * f.weight_decay for f, _ in factors],
        [eps * f.eps for f, _ in factors],
        column([r.momentum for r in runs]),
        rates.betas(BETAS),
        [muon for _, muon in factors],
    )
