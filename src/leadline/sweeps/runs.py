"""A training run: its settings, its result, and the runs that train together with it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from leadline.describe import plain
from leadline.identity.names import told_or_not
from leadline.parametrization.schemes import EXPONENTS, Scheme
from leadline.schedules import Schedule, course
from leadline.sweeps.rates import Network, Rates
from leadline.tasks.data import Accumulated, TrainingData
from leadline.tracing.builder import Size, construct

# Raised when the same specification would give other numbers. 2: tied weights stay tied; before, one of
# their names trained on memory that nobody had filled.
ENGINE = 2


_LATER = {
    "schedule": "constant",
    "warmup": 0,
    "clip": None,
    "accumulation": 1,
    "precision": "float32",
}


@dataclass(frozen=True)
class TrainingRun:
    """One training run; its identity is its content.

    Attributes:
        model, data: names with fingerprints of the builder and of the data.
        base: size whose settings lr, weight_decay, ... are.
        batch_size: None is the full batch.
        schedule, warmup: see ``leadline.schedules.course``.
        clip: largest norm of the gradient, in the base's units; None leaves it.
        accumulation: batches whose gradients make a step.
        arguments: further keywords of the builder.
        roles: those that the plan was told, as text; "" is none.
    """

    model: str
    data: str
    width: int
    depth: int
    lr: float
    seed: int
    scheme: str | Scheme = "auto"
    optimizer: str = "adamw"
    steps: int = 100
    batch_size: int | None = None
    base: Size = field(default_factory=lambda: Size(1, 1))
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Schedule = "constant"
    warmup: int = 0
    clip: float | None = None
    accumulation: int = 1
    precision: str = "float32"
    arguments: tuple[tuple[str, Any], ...] = ()
    roles: str = ""

    def spec(self) -> dict[str, Any]:
        """Plain data, from which the run's id is computed."""
        arguments = {k: _argument(v) for k, v in self.arguments}
        out = asdict(replace(self, arguments=())) | {"arguments": arguments, "engine": ENGINE}
        # What came later counts only where it is used: earlier runs keep their ids.
        out = {k: v for k, v in out.items() if k not in _LATER or v != _LATER[k]}
        if isinstance(self.scheme, Scheme):
            # The name for rows and tables; what it is beside it.
            numbers = dict(zip(EXPONENTS, self.scheme.exponents, strict=True))
            out |= {"scheme": self.scheme.name, "scheme_exponents": numbers}
        if callable(self.schedule):
            out["schedule"] = told_or_not(self.schedule)
        return json.loads(json.dumps(out))

    @property
    def scheme_name(self) -> str:
        """The scheme's name, as rows have it."""
        return self.scheme if isinstance(self.scheme, str) else self.scheme.name

    @property
    def size(self) -> Size:
        """Width and depth."""
        return Size(self.width, self.depth)

    @property
    def common(self) -> TrainingRun:
        """Without what runs that train together may differ in: lr, seed, weight decay and momentum."""
        return replace(self, lr=0.0, seed=0, weight_decay=0.0, momentum=float(self.momentum > 0))


@dataclass(frozen=True)
class WithArguments:
    """A builder with further keywords set, copied at every call; it pickles if the builder does."""

    build: Callable[..., nn.Module]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, width: int, depth: int) -> nn.Module:
        """Build the model of a size."""
        return self.build(width, depth, **copy.deepcopy(dict(self.arguments)))


@dataclass(frozen=True)
class RunGroup:
    """Runs that train together: they agree in their ``common``."""

    build: Any
    rates: Rates
    data: TrainingData
    runs: tuple[TrainingRun, ...]
    batched: bool = True
    hopeless: float | None = None
    """Give up runs whose loss after half the steps exceeds this many times the best one's."""
    device: str = "cpu"
    """Where they train."""

    def __post_init__(self) -> None:
        if self.runs:
            first = self.runs[0]
            kept = self.data.precise(first.precision)
            if first.accumulation > 1 and not isinstance(kept, Accumulated):
                kept = Accumulated(kept, first.accumulation)
            object.__setattr__(self, "data", kept)

    @property
    def course(self) -> np.ndarray:
        """(steps,) factors on the learning rate."""
        run = self.runs[0]
        return course(run.schedule, run.warmup, run.steps)

    def model(self, seed: int) -> nn.Module:
        """A new model at initialization, on the device."""
        model = self.rates.apply(construct(self.build, self.runs[0].size, seed))
        return model.to(self.device)


@dataclass(frozen=True)
class Result:
    """The result of one run.

    Attributes:
        loss, test_loss: at the end, on all training and test samples; None where it ended early.
        diverged: its loss was infinite or many times its first.
        stopped: it was given up as hopeless.
        seconds: of its training; of runs that trained together, their share.
        curve: (steps_done,) the batch's loss before each step.
    """

    loss: float | None
    test_loss: float | None
    diverged: bool
    stopped: bool
    steps_done: int
    seconds: float
    curve: np.ndarray

    @property
    def values(self) -> dict[str, Any]:
        """All but the curve, as the store keeps it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "curve"}


# A run is given up when its loss is not finite or this many times its first.
_DIVERGED = 10.0


def diverged(loss: Any, first: Any) -> np.ndarray:
    """Does a run end at this loss? Elementwise."""
    return ~np.isfinite(loss) | (np.asarray(loss) > _DIVERGED * np.asarray(first))


def final_loss(row: Mapping[str, Any], metric: str = "loss") -> float:
    """The loss by which a row of a sweep is compared with others: infinite if it did not end well."""
    value = row.get(metric)
    if value is None or row.get("diverged") or row.get("stopped"):
        return np.inf
    return float(value) if np.isfinite(float(value)) else np.inf


def builder_of(build: Any, run: TrainingRun) -> Any:
    """The builder with the run's arguments; a network of the run's scheme."""
    if isinstance(build, Network):
        return build.of(run.scheme)
    return WithArguments(build, run.arguments) if run.arguments else build


def _argument(value: Any) -> Any:
    """Numbers and texts as they are, objects by their identity."""
    return told_or_not(value) if is_dataclass(value) else plain(value)
