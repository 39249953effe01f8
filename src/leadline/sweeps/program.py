"""Same-shape runs trained together: parameters stacked over runs, one program, one thread."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from leadline.parametrization.optimizers import BETAS, EPS
from leadline.planning.plan import Factors
from leadline.sweeps.alone import DIVERGED, EVERY, Result, alone
from leadline.sweeps.data import Samples, Tokens
from leadline.sweeps.first import First, NotBatched, begin, output
from leadline.sweeps.gradients import Gradients
from leadline.sweeps.optimizers import Stacked
from leadline.sweeps.rates import Rates
from leadline.sweeps.specification import Run
from leadline.tracing.held import call, places, registered

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
            # Control flow on values, random numbers, a state of its own: one real model at a time.
            pass
    out = []
    for i, run in enumerate(program.runs):
        steps = _counted(report, i * run.steps, 1)
        out.append(alone(program.build, program.rates, program.data, run, program.device, steps))
    return out


def _together(
    program: Program, runs: tuple[Run, ...], report: Callable[[int], None] | None, before: int
) -> list[Result]:
    """As one program, or two, four, ... where the device has no memory for that."""
    twice = runs if len(runs) > 1 else runs * 2
    try:
        steps = _counted(report, before, len(runs))
        with warnings.catch_warnings():
            # An operation without a rule of its own is mapped by a loop: no news for the user.
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
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


def _begun(program: Program) -> First:
    run = program.runs[0]
    return begin(
        program.build,
        program.rates,
        program.data,
        run.size,
        run.batch_size,
        [r.seed for r in program.runs],
        torch.device(program.device),
    )


class _Batch:
    """Members of the stack: the runs that go on, and ended ones not yet taken out."""

    def __init__(self, program: Program, begun: First | None = None) -> None:
        self.program, self.device = program, torch.device(program.device)
        self.data = program.data.on(self.device)
        self.runs = program.runs
        self.size, self.steps = self.runs[0].batch_size, self.runs[0].steps
        # Real models, filled and on the device: whatever is not replaced below has numbers, and those that
        # are not the run's own show in the first step.
        self.first = begun or _begun(replace(program, data=self.data))
        self.model, states = self.first.model, self.first.states
        self.places = places(self.model)
        factors = program.rates.factors(self.model)
        seeds = [run.seed for run in self.runs]
        stacks = {n: torch.stack([states[s][n] for s in seeds]) for n in states[seeds[0]]}
        self.names = tuple(n for n in stacks if n in factors)
        self.parameters = [stacks[n] for n in self.names]
        # What no optimizer moves: buffers, and parameters that do not train.
        self.fixed = {n: t for n, t in stacks.items() if n not in factors}
        self.optimizer = _optimizer(program, [factors[n] for n in self.names])
        self.shared = self.data.shared(self.size)
        data_dims = None if self.shared else 0
        losses = vmap(self._loss, in_dims=(0, 0, data_dims, data_dims))
        self.gradients = Gradients(losses, self.names, record=True)
        self.members = np.arange(len(self.runs))
        self.alive = np.ones(len(self.runs), dtype=bool)

    def _loss(self, p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Of one member."""
        out = output(call(self.model, self.places, p | b, (x,)))
        return self.data.loss(out, y)

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
                if step == 0:
                    self.first.compare([r.seed for r in self.runs], gradients, losses)
                recent.append(losses)
                self.optimizer.step(self.parameters, gradients)
                if step % EVERY == EVERY - 1 or step == self.steps - 1:
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
        if self.shared:
            x, y = self.data.batch(step, self.size, seeds[0])
        else:
            x, y = self.data.stacked(step, self.size, seeds)
        left = self.steps - step
        try:
            return self.gradients(self.parameters, self.fixed, x, y, left)
        except torch.OutOfMemoryError:
            raise
        except Exception as e:
            # If it is not the mapping, it comes again, in the user's own terms.
            raise NotBatched(str(e)) from e

    def _end(self, curves: np.ndarray, step: int, ended: dict[int, str]) -> None:
        """Mark runs that are over, and take them out when that is worth new stacks."""
        on = self.members[self.alive]
        now, first = curves[on, step], curves[on, 0]
        over = ~np.isfinite(now) | (now > DIVERGED * first)
        for i in on[over]:
            ended[int(i)] = "diverged"
        factor = self.program.hopeless
        if factor is not None and step >= self.steps // 2:
            window = curves[on, max(step - EVERY, 0) : step + 1].mean(1)
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
        row = int(np.argmax(self.alive))
        # Before evaluation, which may change buffers.
        learned = {n: t[row].clone() for n, t in (p | self.fixed).items()}
        for values, batch in zip(out, (self.data.train(), self.data.test()), strict=True):
            if batch is None:
                continue
            losses = self._mapped(p, *batch)
            for i, value in zip(self.members.tolist(), losses.tolist(), strict=True):
                if i not in ended and np.isfinite(value):
                    values[i] = value
        self._compare(learned, out[0][int(self.members[row])])
        return out[0], out[1]

    def _mapped(self, p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Losses (K,) on the same samples."""
        try:
            return vmap(self._loss, in_dims=(0, 0, None, None))(p, self.fixed, x, y)
        except torch.OutOfMemoryError:
            raise
        except Exception as e:
            raise NotBatched(str(e)) from e

    def _compare(self, learned: dict[str, Tensor], found: float | None) -> None:
        """With the model itself, filled with what one run has learned.

        Raises:
            NotBatched: it has another loss.
        """
        if found is None:
            return
        for name, own in registered(self.model).items():
            own.copy_(learned[name])
        x, y = self.data.train()
        due = float(self.data.loss(output(self.model(x.clone())), y))
        scale = max(abs(float(v)) for v in self.first.losses.values())
        if not abs(found - due) <= 1e-2 * abs(due) + 1e-5 * scale:
            raise NotBatched("the stack's last loss differs from the model's own")


def _optimizer(program: Program, factors: Sequence[tuple[Factors, bool]]) -> Stacked:
    """Rates of every run and parameter."""
    rates, runs = program.rates, program.runs

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    lr, decay = column([r.lr for r in runs]), column([r.weight_decay for r in runs])
    eps = column([EPS] * len(runs))
    return Stacked(
        rates.optimizer,
        [lr * f.lr for f, _ in factors],
        [decay * f.weight_decay for f, _ in factors],
        [eps * f.eps for f, _ in factors],
        column([r.momentum for r in runs]),
        rates.betas(BETAS),
        [muon for _, muon in factors],
    )
