"""One run of a training of a builder's model: batches, gradients, clipping, schedule, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leadline.matrixfree.configuration import TaskConfiguration
from leadline.measure.modules import ModuleMeasurement
from leadline.measure.observation import Measure
from leadline.planning.application import clip_grad_norm_
from leadline.tasks.builtin import output
from leadline.tasks.data import copied, mean_loss
from leadline.tracing.builder import seed_of_passes, seeded
from leadline.trajectory import too_large


class WeightUpdates(Protocol):
    """Weights that are trained elsewhere than by torch's optimizers, as the loop sees them."""

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        ...

    def grad_norm(self) -> float:
        """The norm of all their gradients together, in the base's units."""
        ...

    def scale_grad(self, factor: float) -> None:
        """Multiply all gradients by a factor."""
        ...

    def step(self, multiplier: float) -> None:
        """Take a step with every rate times the schedule's multiplier."""
        ...

    def gradients(self) -> AbstractContextManager[None]:
        """Within it the gradient of the training loss is taken."""
        ...

    def evaluation(self) -> AbstractContextManager[None]:
        """Within it the model is evaluated and not trained."""
        ...

    def initially(self) -> AbstractContextManager[None]:
        """Within an evaluation: the weights are as they were before training."""
        ...

    @property
    def names(self) -> Collection[str]:
        """Names of the weights."""
        ...


class TaskTraining:
    """A run, one step after the other.

    Args:
        model: at initialization, as of ``TaskConfiguration.model``.
        optimizers: of its ordinary parameters, as of ``TaskConfiguration.optimizers``.
        elsewhere: the weights that these do not train; None is none.

    Attributes:
        record: what was recorded so far. measurement: of modules, if that is wanted.
        k: steps taken. done: whether nothing is left to do.
        loss: that of the last step's batch, before the step.
    """

    def __init__(
        self,
        c: TaskConfiguration,
        s: int,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        elsewhere: WeightUpdates | None = None,
    ) -> None:
        self.c, self.seed, self.model = c, seed_of_passes(c.run_seed(s)), model
        self.optimizers, self.elsewhere = list(optimizers), elsewhere
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.record = c.record()
        self.k, self.done, self.loss = 0, False, float("nan")
        samples = 0 if c.problem is None else c.problem.samples
        size = c.recipe.batch_size or samples
        self.full = c.problem is not None and c.accumulation == 1 and size >= samples
        """Does a step's pass put out all that is recorded of the training samples?"""
        self.train = [] if c.problem is None else c.single.train()
        self.test = c.single.test()
        self.measurement = None if c.measure is None else self._measurement(c.measure)
        self.measured = () if c.measure is None else c.measure.at(c.recipe.steps)

    @property
    def modules(self) -> dict[str, list[str]]:
        """The names of the modules that are measured, for the result's info; empty if none are."""
        return {} if self.measurement is None else {"modules": self.measurement.names}

    def run(
        self, done: Callable[[], None] = lambda: None, begin: Callable[[], None] = lambda: None
    ) -> None:
        """Take all steps; random numbers that the model draws are the run's own.

        Args:
            done: called after every step. begin: called before the first, within the run's random state.
        """
        with seeded(self.seed):
            begin()
            while not self.done:
                self.advance()
                if not self.done:
                    done()

    def first_pass(self) -> None:
        """The loss of the first batch and its gradients, without a step."""
        with seeded(self.seed):
            self._pass(gradients=True)

    def advance(self) -> None:
        """Record step k if it is one to be recorded, then take the step from k to k + 1."""
        try:
            self._advance()
        except FloatingPointError:  # what is no number, met by weights that are trained elsewhere
            self.record.diverge(self.k)
            self.done = True

    def _advance(self) -> None:
        k, recorded = self.k, self.record.recorded(self.k)
        last = k == self.c.recipe.steps
        before = self._evaluate() if recorded else {}
        measurement = self.measurement if k in self.measured else None
        if measurement is not None:
            measurement.before_pass()
        outputs = None
        if not last or self.c.problem is None or self.full:
            outputs = self._pass(gradients=not last)
            if not self.record.goes_on(k, self.loss):
                self.done = True
                return
        if recorded and not self._observe(before, outputs):
            self.done = True
            return
        if measurement is not None:
            # After the step's pass, so that its queries' answers are those that are measured.
            self.record.measure(k, measurement.numbers())
        if last:
            self.done = True
            return
        try:
            self._step()
        except RuntimeError as error:
            if not too_large(error):
                raise
            self.record.diverge(k + 1)
            self.done = True
            return
        self.k += 1

    def _pass(self, gradients: bool) -> Tensor | None:
        """The loss of a step's batch and, where wanted, its gradients; what the model put out last."""
        for o in (*self.optimizers, self.elsewhere):
            if o is not None:
                o.zero_grad()
        parts = self.c.data.parts(self.c.batch(self.k))
        losses, results = [], []
        handle = self.model.register_forward_hook(lambda _m, _a, out: results.append(out))
        try:
            with torch.set_grad_enabled(gradients):
                for data, batch in parts:
                    loss = data.loss(self.model, batch)
                    if gradients:
                        with self._elsewhere("gradients"):
                            (loss / len(parts)).backward()
                    losses.append(loss.detach())
                    del results[:-1]
        finally:
            handle.remove()
        self.loss = float(torch.stack(losses).double().mean())
        return output(results[-1]).detach() if self.full else None

    def _step(self) -> None:
        """Clip, and let every optimizer step at the schedule's rates."""
        recipe, elsewhere = self.c.recipe, self.elsewhere
        if recipe.clip is not None:
            beside = 0.0 if elsewhere is None else elsewhere.grad_norm()
            total = float(clip_grad_norm_(self.c.plan, self.model, recipe.clip, beside))
            if elsewhere is not None:
                elsewhere.scale_grad(min(recipe.clip / (total + 1e-6), 1.0))
        multiplier = recipe.multiplier(self.k)
        for o, rates in zip(self.optimizers, self.rates, strict=True):
            for group, lr in zip(o.param_groups, rates, strict=True):
                group["lr"] = lr * multiplier
            o.step()
        if elsewhere is not None:
            elsewhere.step(multiplier)

    def _evaluate(self) -> dict[str, Any]:
        """What is recorded apart from the training pass: in evaluation mode, before it."""
        out: dict[str, Any] = {}
        problem = self.c.problem is not None
        if problem and not self.full:
            out["train"] = self._outputs(self.train)
        if self.test is not None and self.record.tested(self.k):
            with evaluating(self.model), self._elsewhere("evaluation"):
                if problem:
                    out["test"] = self._outputs(self.test)
                else:
                    out["test"] = float(mean_loss(self.c.single, self.model, self.test))
        return out

    def _outputs(self, batches: Sequence[Any]) -> Tensor:
        """Outputs of a problem's inputs, in evaluation mode."""
        ((x, _),) = copied(batches)
        with evaluating(self.model), self._elsewhere("evaluation"):
            return output(self.model(x))

    def _measurement(self, request: Measure) -> ModuleMeasurement:
        """The measurement of the run's model, which is at initialization."""

        @contextmanager
        def evaluation() -> Generator[None]:
            with evaluating(self.model), self._elsewhere("evaluation"):
                yield

        def backward() -> AbstractContextManager[None]:
            return self._elsewhere("gradients")

        options: dict[str, Any] = {}
        if self.elsewhere is not None:
            options = dict(initially=self.elsewhere.initially, elsewhere=self.elsewhere.names)
        data = self.c.single
        return ModuleMeasurement(request, self.model, data, evaluation, backward, **options)

    def _elsewhere(self, what: str) -> AbstractContextManager[None]:
        """The context of this name of the weights that are trained elsewhere."""
        return nullcontext() if self.elsewhere is None else getattr(self.elsewhere, what)()

    def _observe(self, before: dict[str, Any], outputs: Tensor | None) -> bool:
        """Record the step; False where training has diverged."""
        if self.c.problem is None:
            return self.record.observe_losses(self.k, self.loss, before.get("test"))
        if outputs is None:
            outputs = before["train"]
        return self.record.observe(self.k, outputs, before.get("test"))


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode without gradients; modes and random numbers are as before afterwards."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with seeded(0), torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
