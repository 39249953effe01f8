"""What a training of a builder's models is asked for: one record that checks itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from leadline import available
from leadline.describe import plain, settings
from leadline.errors import check_int, check_list, check_type, shown
from leadline.identity.names import readable, told_or_not
from leadline.measure.evaluation import check_test_every
from leadline.measure.record import Record, check_measure
from leadline.parametrization.schemes import Scheme
from leadline.planning.factors import check_scheme
from leadline.planning.of_task import plan_for_task, refuse_beside_a_plan
from leadline.planning.plans import Plan
from leadline.problems import Problem
from leadline.recipes.base import Recipe
from leadline.recipes.muon import Muon
from leadline.recipes.sgd import SGD
from leadline.solving.configuration import Options
from leadline.tasks.builtin import Samples
from leadline.tasks.data import Accumulated, TrainingData, copied
from leadline.tasks.task import Task, data_of
from leadline.tracing.builder import Builder, Size, construct, size

# Part of a device's free memory that a solve takes unless told otherwise, and that tiles take.
_TAKEN, _TILES = 0.8, 0.2
# Newton–Schulz steps multiply what is cut off by up to 485.
_MUON_TOL = 1e-3


@dataclass(frozen=True, eq=False)
class TaskConfiguration(Options):
    """A task, a builder, a recipe, and the options of ``train`` and ``solve`` that both have.

    Attributes:
        task: a ``Task``, a ``Problem`` or a ``Text``.
        build: a builder (width, depth) -> model, or a plan, whose base, scheme, roles and inputs count.
        recipe: optimizer and settings at the base.
        base: the size that the recipe's settings refer to.
        scheme, roles, inputs: as of ``leadline.plan``.
        accumulation: batches a step, >= 1.
        stored: names or patterns of hidden weights that ``solve`` keeps as tensors with entries.
        plan: of the size; made where it is None.

    Raises:
        ValueError, TypeError: when it is made, naming the argument, its value and the remedy.
    """

    task: Any
    build: Builder | Plan
    recipe: Recipe
    width: int
    depth: int
    base: Mapping[str, int] | Size | None = None
    scheme: str | Scheme = "auto"
    accumulation: int = 1
    roles: Mapping[str, Any] | None = None
    inputs: Any = None
    stored: str | Sequence[str] = ()
    plan: Plan = None  # ty: ignore[invalid-assignment]

    def __post_init__(self) -> None:
        as_made = data_of(self.task)
        if not callable(self.build) and not isinstance(self.build, Plan):
            raise TypeError(
                f"build={shown(self.build)} cannot be called: give a callable (width, depth) -> model, "
                "a plan or a ResNet"
            )
        remedy = "give leadline.SGD(...), Adam, AdamW, Lion, SignSGD or Muon"
        check_type("recipe", self.recipe, Recipe, remedy)
        if isinstance(self.recipe, SGD):
            self.recipe.check_model()
        for name in ("width", "depth"):
            self._keep(name, check_int(name, getattr(self, name), 1))
        super().__post_init__()
        if isinstance(self.recipe, Muon) and self.tol > _MUON_TOL:
            raise ValueError(
                f"tol={self.tol:g} is too large for Muon, which makes small singular values large: give "
                f"tol <= {_MUON_TOL:g}"
            )
        self._keep("accumulation", check_int("accumulation", self.accumulation, 1, 10_000))
        if self.measure is not None:
            check_measure(self.measure, self.recipe)
            if not self.measure.modules:
                raise ValueError(
                    "measure.modules is missing, for a builder's models: give such as "
                    "measure=Measure(modules=('blocks.*', 'head')), with names of the model's modules"
                )
        patterns = (self.stored,) if isinstance(self.stored, str) else self.stored
        if patterns:
            patterns = check_list("stored", patterns, 1000, what="names or patterns")
        self._keep("stored", tuple(patterns))
        if self.problem is not None:
            self.recipe.check(self.problem.samples)
        self._keep("test_every", self._test_every())
        self._keep("plan", self._planned(as_made))

    def _test_every(self) -> int:
        """Steps between two evaluations of test data."""
        rows = test_rows = None
        if self.test_every == "auto" and (kept := self.single.test()) is not None:
            batch = self.single.batch(0, self.recipe.batch_size, self.batch_order)
            rows, test_rows = _rows(batch) * self.accumulation, sum(map(_rows, kept))
        return check_test_every(self.test_every, self.recipe, self.record_every, rows, test_rows)

    def _planned(self, data: TrainingData) -> Plan:
        """The plan of this size; the builder is called and the loss is taken at the base, once."""
        if self.plan is not None:
            return self.plan.at(self.width, self.depth)
        told = {"base": self.base, "roles": self.roles, "inputs": self.inputs}
        if isinstance(self.build, Plan):
            refuse_beside_a_plan(told | {"scheme": None if self.scheme == "auto" else self.scheme})
            if self.build.build is None:
                raise ValueError(
                    "this plan has no builder (files do not keep it): give the builder, with base="
                )
            name = self.build.optimizer_rule.name
            if name != self.recipe.optimizer:
                raise ValueError(
                    f"the plan is for optimizer={name!r} and the recipe is {type(self.recipe).__name__}: "
                    f"plan with optimizer={self.recipe.optimizer!r}"
                )
            return self.build.at(self.width, self.depth)
        if self.base is None:
            raise ValueError(
                "base is missing: the recipe's lr, weight_decay and eps are those of one size, from which "
                "the plan carries them to the others; give such as base=dict(width=64, depth=2)"
            )
        check_scheme(self.scheme)
        base = size("base", self.base)
        how = dict(scheme=self.scheme, roles=self.roles, inputs=self.inputs)
        plan = plan_for_task(
            data, self.build, base, self.recipe.batch_size, optimizer=self.recipe.optimizer, **how
        )
        return plan.at(self.width, self.depth)

    def at(self, width: int, depth: int, **changes: Any) -> TaskConfiguration:
        """This configuration at another size, whose plan has the same base; nothing is read again."""
        return replace(self, width=width, depth=depth, **changes)

    @property
    def builder(self) -> Builder:
        """(width, depth) -> model."""
        build = self.build.build if isinstance(self.build, Plan) else self.build
        assert build is not None
        return build

    @cached_property
    def single(self) -> TrainingData:
        """Batches and loss, in the dtype and on the device."""
        return data_of(self.task).typed(self.dtype).on(self.device)

    @cached_property
    def data(self) -> TrainingData:
        """Batches and loss, with as many batches a step as are accumulated."""
        return (
            self.single if self.accumulation == 1 else Accumulated(self.single, self.accumulation)
        )

    @property
    def problem(self) -> Problem | None:
        """The problem whose outputs are recorded; None for other tasks."""
        if isinstance(self.task, Samples):
            return self.task.problem
        return self.task if isinstance(self.task, Problem) else None

    def batch(self, step: int) -> Any:
        """A copy of the batch of a step."""
        return copied(self.data.batch(step, self.recipe.batch_size, self.batch_order))

    def run_seed(self, s: int) -> int:
        """The seed of run s, for the builder's draw and for what training draws (dropout).

        Run 0 has ``seed`` itself and is what ``sweep`` trains with it; the others have hashes of
        seed and s.
        """
        if s == 0:
            return self.seed & 0xFFFFFFFF
        return int(np.random.SeedSequence([self.seed, s]).generate_state(1)[0])

    def model(self, s: int, build: Callable[..., nn.Module] | None = None) -> nn.Module:
        """The model of run s at initialization: the builder's draw at the plan's scales."""
        model = construct(build or self.builder, self.plan.target, self.run_seed(s))
        return self.plan.apply(model).to(self.device, self.dtype)

    def optimizers(
        self, model: nn.Module, skip: Collection[str] = frozenset()
    ) -> list[torch.optim.Optimizer]:
        """The recipe's torch optimizers at the plan's rates; see ``Recipe.optimizers``."""
        return self.recipe.optimizers(self.plan, model, skip)

    def record(self) -> Record:
        """One run's record, empty: outputs and losses of a ``Problem``, losses of other tasks."""
        assert isinstance(self.test_every, int)
        if self.problem is not None:
            return Record.empty(self.problem, self.recipe, self.record_every, self.test_every)
        tested = None if self.single.test() is None else self.test_every
        return Record.of_losses(self.recipe, self.record_every, tested)

    @property
    def entries(self) -> int:
        """Parameters of a model of the size."""
        plan = self.plan
        shapes = [plan.kinds[k].shape_at(plan.m, plan.r) for k in plan.names.values()]
        return round(sum(math.prod(shape) for shape in shapes))

    def info(self, kind: str) -> dict[str, Any]:
        """All that the answer depends on, as JSON can say it."""
        plan = self.plan
        out: dict[str, Any] = {
            "kind": kind,
            "problem": self._task_info(),
            "network": {
                "build": told_or_not(self.builder),
                "scheme": plain(plan.scheme),
                "base": plain(plan.base),
                "roles": None if self.roles is None else plain(dict(self.roles)),
            },
            "recipe": {"optimizer": self.recipe.optimizer, **settings(self.recipe)},
            "recorded": "losses" if self.problem is None else "outputs",
        }
        names = ("width", "depth", "coupling", "seeds", "seed", "batch_seed", "accumulation")
        out |= {name: getattr(self, name) for name in names}
        if kind != "train":
            out |= {"ensemble": self.ensemble, "tol": self.tol, "stored": list(self.stored)}
        out["dtype"] = str(self.dtype).removeprefix("torch.")
        if self.measure is not None:
            out["measure"] = plain(self.measure)
        return out | {"record_every": self.record_every, "test_every": self.test_every}

    def _task_info(self) -> dict[str, Any]:
        problem, task = self.problem, self.task
        if problem is not None:
            return {
                "name": problem.name,
                "fingerprint": problem.fingerprint(),
                "samples": problem.samples,
                "loss": problem.loss,
            }
        if isinstance(task, Task):
            name = task.name or readable(task.loss)
            return {"name": name, "fingerprint": task.identity(), "loss": readable(task.loss)}
        name = self.single.name
        return {"name": name.partition("#")[0], "fingerprint": name, "loss": "cross_entropy"}


def _rows(batch: Any) -> int:
    """Rows of a batch: of its first tensor that has any; 0 if none has."""
    tensors = (x for x in tree_flatten(batch)[0] if isinstance(x, Tensor) and x.ndim)
    return next((len(x) for x in tensors), 0)


def budget(c: TaskConfiguration) -> int:
    """The budget of a solve in bytes: as given, or 80 % of what the device has available."""
    return int(_TAKEN * _free(c)) if c.memory is None else available.budget_of(c.memory)


def tile_room(c: TaskConfiguration) -> int:
    """Bytes for what elementwise optimizers have learned: a fifth of what the device has available.

    With a budget of the caller's none: D is then made anew from the history.
    """
    return int(_TILES * _free(c)) if c.memory is None else 0


def _free(c: TaskConfiguration) -> int:
    """Bytes that the device has available."""
    return available.memory_on(c.device)
