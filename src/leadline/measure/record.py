"""One run's records, all seeds' records as a trajectory, and the bytes that they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from leadline.architecture import ResNet
from leadline.errors import check_type, shown
from leadline.measure.observation import Measure
from leadline.problems import Problem
from leadline.problems.losses import accuracy, loss_value
from leadline.recipes.base import Recipe
from leadline.recipes.sgd import SGD
from leadline.trajectory import Trajectory, has_diverged

if TYPE_CHECKING:
    from leadline.measure.observation import Measure
    from leadline.problems import Problem
    from leadline.recipes.sgd import SGD


def recorded_steps(steps: int, every: int) -> np.ndarray:
    """0, every, 2·every, … and always the last."""
    out = np.arange(0, steps + 1, every)
    return out if out[-1] == steps else np.append(out, steps)


def check_task(problem: Any, network: Any, sgd: Any, measure: Any = None) -> None:
    """Refuse what every solver is given, where it is of another type.

    Raises:
        TypeError: naming the argument.
        ValueError: a measured step that the training does not have, a batch larger than the problem.
    """
    check_type("problem", problem, Problem, "give leadline.digits(...), arrays(...) or another")
    check_type("network", network, ResNet)
    if isinstance(sgd, Recipe) and not isinstance(sgd, SGD):
        raise TypeError(
            f"sgd={shown(sgd)} is for a model of a builder: a ResNet trains by SGD(...); give "
            "ll.residual_mlp(...) in its place, the same function class, to ll.train"
        )
    check_type("sgd", sgd, SGD)
    for name in ("clip", "no_decay"):
        value = getattr(sgd, name)
        if value:
            raise ValueError(
                f"{name}={shown(value)} is for a model of a builder: a ResNet has none; leave it out, or "
                "give ll.residual_mlp(...), the same function class, to ll.train"
            )
    sgd.check(problem.samples)
    if measure is not None:
        check_measure(measure, sgd)
        if measure.modules:
            raise ValueError(
                f"measure.modules={shown(measure.modules)} is for a builder's models: give times= for a "
                "ResNet"
            )


def check_measure(measure: Any, recipe: Recipe) -> None:
    """Refuse what is no request, or one of steps that the training does not have."""
    check_type("measure", measure, Measure, "give leadline.Measure(...) or None")
    measure.at(recipe.steps)


@dataclass
class Record:
    """One seed's records: arrays over the recorded steps, NaN where nothing was recorded."""

    steps: np.ndarray
    every: int
    test_every: int
    loss: str
    y: Tensor | None
    labels: Tensor | None
    y_test: Tensor | None
    labels_test: Tensor | None
    arrays: dict[str, np.ndarray]
    measures: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    diverged: int = -1
    largest_rank: int = 0
    last_loss: float = float("nan")
    product_error: float = 0.0

    @classmethod
    def empty(
        cls, problem: Problem, sgd: Recipe, every: int, test_every: int | None = None
    ) -> Record:
        """Nothing recorded yet.

        Args:
            test_every: steps between two evaluations of test inputs, a multiple of every; None is every.
        """
        steps, tested = recorded_steps(sgd.steps, every), test_every or every

        def tensor(x: np.ndarray | None) -> Tensor | None:
            return None if x is None else torch.tensor(x)

        y = torch.tensor(problem.y)
        out = cls(
            steps,
            every,
            tested,
            problem.loss,
            y,
            tensor(problem.labels),
            tensor(problem.y_test),
            tensor(problem.labels_test),
            {},
        )
        for part, targets, labels in (
            ("train", y, out.labels),
            ("test", out.y_test, out.labels_test),
        ):
            if targets is None:
                continue
            count = len(steps if part == "train" else out.test_steps)
            out.arrays[f"{part}_outputs"] = np.full((count, *targets.shape), np.nan)
            out.arrays[f"{part}_loss"] = np.full(count, np.nan)
            if labels is not None:
                out.arrays[f"{part}_accuracy"] = np.full(count, np.nan)
        return out

    @classmethod
    def of_losses(cls, recipe: Recipe, every: int, test_every: int | None) -> Record:
        """Nothing recorded yet, where only losses will be.

        Args:
            test_every: of held-out data too, so often; None for no such data.
        """
        steps = recorded_steps(recipe.steps, every)
        out = cls(steps, every, test_every or every, "", None, None, None, None, {})
        out.arrays["train_loss"] = np.full(len(steps), np.nan)
        if test_every is not None:
            out.arrays["test_loss"] = np.full(len(out.test_steps), np.nan)
        return out

    @property
    def test_steps(self) -> np.ndarray:
        """Steps at which test inputs are evaluated."""
        return recorded_steps(int(self.steps[-1]), self.test_every)

    def tested(self, k: int) -> bool:
        """Whether test inputs, if there are any, are evaluated at step k."""
        return k % self.test_every == 0 or k == self.steps[-1]

    def recorded(self, k: int) -> bool:
        """Whether step k is one to be recorded."""
        return k % self.every == 0 or k == self.steps[-1]

    def observe(self, k: int, outputs: Tensor, test: Tensor | None) -> bool:
        """Record outputs (P, C) at step k; False, and nothing kept, if training has diverged."""
        assert self.y is not None
        f = outputs.detach().cpu().double()
        if not self.goes_on(k, float(loss_value(self.loss, f, self.y))):
            return False
        r = -(-k // self.every)
        self._put("train", r, f, self.y, self.labels)
        if test is not None and self.y_test is not None:
            f = test.detach().cpu().double()
            r = -(-k // self.test_every)
            self._put("test", r, f, self.y_test, self.labels_test)
        return True

    def observe_losses(self, k: int, loss: float, test: float | None) -> bool:
        """Record losses at step k; False, and nothing kept, if training has diverged."""
        if not self.goes_on(k, loss):
            return False
        self.arrays["train_loss"][-(-k // self.every)] = loss
        if test is not None:
            self.arrays["test_loss"][-(-k // self.test_every)] = test
        return True

    def goes_on(self, k: int, loss: float) -> bool:
        """Whether training goes on after this loss of step k; it has diverged otherwise."""
        self.last_loss = loss
        if has_diverged(loss, float(self.arrays["train_loss"][0]) if k else loss):
            self.diverge(k)
            return False
        return True

    def _put(self, part: str, r: int, f: Tensor, y: Tensor, labels: Tensor | None) -> None:
        self.arrays[f"{part}_outputs"][r] = f.numpy()
        self.arrays[f"{part}_loss"][r] = float(loss_value(self.loss, f, y))
        if labels is not None:
            self.arrays[f"{part}_accuracy"][r] = float(accuracy(f, labels))

    def measure(self, k: int, values: dict[str, np.ndarray]) -> None:
        """Keep the numbers of one snapshot."""
        self.measures[k] = values

    def diverge(self, k: int) -> None:
        """Training has diverged at step k: nothing from then on is recorded."""
        self.diverged = k

    def with_ranks(self, ranks: np.ndarray) -> Record:
        """Note the largest rank of the run."""
        self.largest_rank = int(ranks.max(initial=0))
        return self

    def state(self) -> dict[str, np.ndarray]:
        """Flat arrays for a checkpoint."""
        out = {f"record/{k}": v for k, v in self.arrays.items()}
        for k, values in self.measures.items():
            out |= {f"measure/{k}/{name}": v for name, v in values.items()}
        scalars = [self.diverged, self.largest_rank, self.last_loss, self.product_error]
        out["scalars"] = np.array(scalars)
        return out

    def restore(self, state: Mapping[str, np.ndarray]) -> Record:
        """Continue from ``state()``.

        Raises:
            ValueError, KeyError: it is that of another record.
        """
        there = {n.removeprefix("record/"): v for n, v in state.items() if n.startswith("record/")}
        for name, value in self.arrays.items():
            if there[name].shape != value.shape or there[name].dtype != value.dtype:
                raise ValueError(f"{name} has another shape or type")
        for name, value in state.items():
            kind, _, rest = name.partition("/")
            if kind == "record" and rest in self.arrays:
                self.arrays[rest] = value.copy()
            elif kind == "measure":
                step, _, quantity = rest.partition("/")
                self.measures.setdefault(int(step), {})[quantity] = value
        diverged, rank, self.last_loss, *rest = state["scalars"].tolist()
        self.product_error = rest[0] if rest else 0.0
        self.diverged, self.largest_rank = int(diverged), int(rank)
        return self


def assemble(
    records: Sequence[Record],
    info: Mapping[str, Any],
    sgd: Recipe,
    measure: Measure | None,
    copies: int = 1,
) -> Trajectory:
    """All seeds' records as one trajectory; they give their outputs away, so that these exist once.

    Args:
        copies: of a single record, for as many seeds that are all alike.
    """
    first = records[0]
    extra: dict[str, Any] = {name: _joined(records, name, copies) for name in list(first.arrays)}
    if measure is not None:
        at = measure.at(sgd.steps)
        # Nothing was measured if every run diverged before the first measured step.
        shapes = {n: v.shape for r in records for m in r.measures.values() for n, v in m.items()}
        if not measure.modules:
            extra["times"] = np.array(measure.times)
        extra["measured_steps"] = np.array(at)
        extra["measures"] = {
            name: np.stack(
                [
                    [r.measures.get(k, {}).get(name, np.full(shape, np.nan)) for k in at]
                    for r in records
                ]
            )
            for name, shape in shapes.items()
        }
    if "test_loss" in extra:
        extra["test_steps"] = first.test_steps
    return Trajectory(
        steps=first.steps,
        diverged=np.array([r.diverged for r in records] * copies),
        info=info,
        **extra,
    )


def _joined(records: Sequence[Record], name: str, copies: int) -> np.ndarray:
    """(S, ...) of one array of all records, which they lose."""
    if len(records) == 1:
        one = records[0].arrays.pop(name)
        return np.broadcast_to(one, (copies, *one.shape))
    out = np.empty((len(records), *records[0].arrays[name].shape))
    for row, record in zip(out, records, strict=True):
        row[:] = record.arrays.pop(name)
    return out


def data_bytes(problem: Problem, size: int) -> int:
    """The problem's arrays, a solver's copies of them with ``size`` bytes a number, and a record's."""
    training = 8 * (problem.x.size + problem.y.size)
    test = 0
    if problem.x_test is not None and problem.y_test is not None:
        test = 8 * (problem.x_test.size + problem.y_test.size)
    labels = 8 * (problem.samples + problem.test_samples) if problem.labels is not None else 0
    return (training + test) * (8 + size) // 8 + training + test + 2 * labels


def record_bytes(
    problem: Problem, sgd: SGD, every: int, measure: Measure | None, seeds: int = 1
) -> int:
    """Outputs, losses and measures of all seeds, and what joining them takes."""
    recorded = sgd.steps // every + 1 + (sgd.steps % every > 0)
    rows = problem.samples + problem.test_samples
    one = 8 * recorded * (rows * problem.outputs + 5)
    one += 8 * rows * (problem.outputs + 1)
    if measure is not None:
        p, times = problem.samples, len(measure.times)
        kernels = len(
            {"feature_kernel", "activation_kernel", "gradient_kernel"} & {*measure.quantities}
        )
        each = times * p * (kernels * p + measure.particles + 1)
        each += 3 * p * p if "tangent_kernel" in measure.quantities else 0
        one += 8 * len(measure.steps) * each
    return one * (seeds + 1 if seeds > 1 else 1)
