"""Same-shape runs trained together: parameters stacked over runs, one program, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.sweeps import stacks
from leadline.sweeps.modules import EVERY, FirstSteps, first_steps, own_step, train_alone
from leadline.sweeps.optimizers import Stacked, clipped
from leadline.sweeps.runs import Result, RunGroup, diverged
from leadline.sweeps.stacks import NotStacked, State, mapped
from leadline.tasks.data import LossModule, mean_loss
from leadline.tracing.held import alike, call, places, registered

# Ended runs stay in the stack, unread, until only this share of it goes on.
_SHRINK = 0.75


def train(group: RunGroup, report: Callable[[int], None] | None = None) -> list[Result]:
    """Train every run of a group; the results are those of separate runs, to float rounding.

    Those of a batched group do not depend on which runs are in it, to the last bit, so that a sweep
    that was interrupted ends as one that was not: a run left alone trains beside itself, because plain
    products of matrices round otherwise than stacked ones. (On a CPU: a GPU's libraries may choose another
    kernel for another number of runs.) Runs that do not fit into the device's memory together train in
    halves.

    Args:
        report: called after every step with the steps done so far, those of all runs together.
    """
    if group.batched:
        try:
            return together(group, report)
        except NotStacked:
            # Control flow on values, random numbers, a state of its own: one real model at a time.
            pass
    return [
        train_alone(group, run, _counted(report, i * run.steps, 1))
        for i, run in enumerate(group.runs)
    ]


def together(
    group: RunGroup, report: Callable[[int], None] | None = None, before: int = 0
) -> list[Result]:
    """Train as one program, or as two, four, ... if the device has too little memory.

    Args:
        before: steps that are done already, for the report.

    Raises:
        NotStacked: the models cannot be stacked, or the stack computes something else.
    """
    runs = group.runs
    twice = runs if len(runs) > 1 else runs * 2
    try:
        stack = _Stack(replace(group, runs=twice))
        return stack.train(_counted(report, before, len(runs)))[: len(runs)]
    except torch.OutOfMemoryError:
        if len(runs) == 1:
            raise
    # Out here: the error would keep what was allocated.
    torch.cuda.empty_cache()
    half = len(runs) // 2
    first = together(replace(group, runs=runs[:half]), report, before)
    return first + together(replace(group, runs=runs[half:]), report, before + half * runs[0].steps)


def _counted(
    report: Callable[[int], None] | None, before: int, runs: int
) -> Callable[[int], None] | None:
    """Report the steps of runs that train at once, after others that took ``before`` steps."""
    return None if report is None else lambda steps: report(before + runs * steps)


class _Stack:
    """Runs in one stack: those that go on, and ended ones not yet taken out."""

    def __init__(self, group: RunGroup, first: FirstSteps | None = None) -> None:
        self.group, self.device = group, torch.device(group.device)
        self.data = group.data.on(self.device)
        self.runs = group.runs
        self.size, self.steps = self.runs[0].batch_size, self.runs[0].steps
        # Real models, filled and on the device: whatever is not replaced below has numbers, and those that
        # are not the run's own show in the first step.
        self.first = first or first_steps(replace(group, data=self.data))
        self.model, states = self.first.model, self.first.states
        # Of the loss as a module of its own, in which the model is one part.
        self.whole = LossModule(self.model, self.data)
        self.places = {f"model.{at}": f"model.{n}" for at, n in places(self.model).items()}
        factors = group.rates.factors(self.model)
        seeds = [run.seed for run in self.runs]
        values = stacks.stacked([states[s] for s in seeds])
        self.names = tuple(n for n in values if n in factors)
        self.parameters = [values[n] for n in self.names]
        # What no optimizer moves: buffers, and parameters that do not train.
        self.fixed = {n: t for n, t in values.items() if n not in factors}
        self.optimizer = Stacked(group.rates, self.runs, [factors[n] for n in self.names])
        self.clip, self.folds = self.runs[0].clip, [factors[n][0].fold for n in self.names]
        self.shared = self.data.shared(self.size)
        self.gradients = stacks.Gradients(self._losses, self.names)
        self.members = np.arange(len(self.runs))
        self.alive = np.ones(len(self.runs), dtype=bool)

    def _losses(self, p: State, b: State, batch: Any) -> Tensor:
        """(K,) losses of one batch for all, or of a batch for each member."""
        if self.shared:
            return mapped(self._loss, p, b, shared=(batch,))
        return mapped(self._loss, p, b, batch)

    def _loss(self, p: State, b: State, batch: Any) -> Tensor:
        """The loss of one member of a stack."""
        state = {f"model.{n}": t for n, t in (p | b).items()}
        return call(self.whole, self.places, state, (batch,))

    def train(self, report: Callable[[int], None] | None = None) -> list[Result]:
        """The training loop; ``report`` is called with the number of steps after each."""
        started = time.perf_counter()
        k = len(self.runs)
        curves = np.full((k, self.steps), np.nan, dtype=np.float32)
        done = np.zeros(k, dtype=int)
        ended: dict[int, str] = {}
        recent: list[Tensor] = []
        course = self.group.course.tolist()
        with torch.no_grad():
            for step in range(self.steps):
                gradients, losses = self._gradients(step)
                if step == 0:
                    self._check_first(gradients, losses)
                recent.append(losses)
                if self.clip is not None:
                    gradients = clipped(gradients, self.folds, self.clip)
                self.optimizer.step(self.parameters, gradients, course[step])
                if step % EVERY == EVERY - 1 or step == self.steps - 1:
                    # One transfer from the device for all steps since the last.
                    on = self.members[self.alive]
                    read = torch.stack(recent).cpu().numpy()
                    curves[on, step + 1 - len(recent) : step + 1] = read[:, self.alive].T
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
                final[i],
                test[i],
                diverged=ended.get(i) == "diverged",
                stopped=ended.get(i) == "hopeless",
                steps_done=int(done[i]),
                seconds=seconds,
                curve=curves[i, : done[i]],
            )
            for i in range(k)
        ]

    def _check_first(self, gradients: list[Tensor], losses: Tensor) -> None:
        """Compare the first step with that of every seed's own model.

        Raises:
            NotStacked: it is another one.
        """
        seeds = [r.seed for r in self.runs]
        for seed in self.first.different(seeds, gradients, losses):
            # Sums in another order may turn a unit on that is off: not with all of its digits.
            if not self._same_in_double(seed):
                raise NotStacked(
                    f"the stack's first step differs from the model's own, seed={seed}"
                )

    def _same_in_double(self, seed: int) -> bool:
        """Is a stack's first step the model's own in float64, to the rounding of float32?"""
        group = replace(self.group, data=self.data.typed(torch.float64))
        model = group.model(seed).double()
        loss, expected = own_step(group, model, self.names, seed)
        whole = LossModule(model, group.data)
        values = stacks.stacked([registered(model)] * 2)
        fixed = {n: t for n, t in values.items() if n not in self.names}
        batch = group.data.batch(0, self.size, seed)

        def one(p: State, b: State) -> Tensor:
            state = {f"model.{n}": t for n, t in (p | b).items()}
            return call(whole, self.places, state, (batch,))

        p = {n: values[n] for n in self.names}
        with stacks.stacking():
            actual, losses = stacks.gradients(
                lambda p: mapped(one, p, fixed), p, self.names, zeros=True
            )
        stack = [g[0].float() for g in (losses, *actual) if g is not None]
        return alike(stack, [g.float() for g in (loss, *expected)])

    def _gradients(self, step: int) -> tuple[list[Tensor], Tensor]:
        seeds = [self.runs[i].seed for i in self.members]
        if self.shared:
            batch = self.data.batch(step, self.size, seeds[0])
        else:
            batch = self.data.stacked(step, self.size, seeds)
            if batch is None:
                raise NotStacked("the runs' batches differ in more than their numbers")
        with stacks.stacking():
            return self.gradients(self.parameters, self.fixed, batch, self.steps - step)

    def _end(self, curves: np.ndarray, step: int, ended: dict[int, str]) -> None:
        """Mark ended runs, and take them out once they are many enough for new stacks."""
        on = self.members[self.alive]
        now, first = curves[on, step], curves[on, 0]
        over = diverged(now, first)
        for i in on[over]:
            ended[int(i)] = "diverged"
        factor = self.group.hopeless
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
        for values, batches in zip(out, (self.data.train(), self.data.test()), strict=True):
            if batches is None:
                continue
            with stacks.stacking():
                each = [mapped(self._loss, p, self.fixed, shared=(b,)) for b in batches]
            losses = torch.stack(each).mean(0)
            for i, value in zip(self.members.tolist(), losses.tolist(), strict=True):
                if i not in ended and np.isfinite(value):
                    values[i] = value
        self._compare(learned, out[0][int(self.members[row])])
        return out[0], out[1]

    def _compare(self, learned: State, loss: float | None) -> None:
        """Compare the last loss with that of the model itself, filled with one run's parameters.

        Raises:
            NotStacked: it has another loss.
        """
        if loss is None:
            return
        for name, t in registered(self.model).items():
            t.copy_(learned[name])
        expected = float(mean_loss(self.data, self.model, self.data.train()))
        scale = max(abs(float(v)) for v in self.first.losses.values())
        if not abs(loss - expected) <= 1e-2 * abs(expected) + 1e-5 * scale:
            raise NotStacked("the stack's last loss differs from the model's own")
