"""A run as data: what it trains, at which size, with which settings. Its identity is its content."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from torch import nn

from leadline.describe import plain
from leadline.identity.told import told_or_not
from leadline.tracing.builder import Size

# Raised when the same specification would give other numbers. 2: tied weights stay tied; before, one of
# their names trained on memory that nobody had filled.
ENGINE = 2


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        model, data: names with fingerprints of the builder and of the data.
        base: size whose settings lr, weight_decay, ... are.
        batch_size: None is the full batch.
        arguments: further keywords of the builder.
        roles: those that the plan was told, as text; "" is none.
    """

    model: str
    data: str
    width: int
    depth: int
    lr: float
    seed: int
    scheme: str = "auto"
    optimizer: str = "adamw"
    steps: int = 100
    batch_size: int | None = None
    base: Size = field(default_factory=lambda: Size(1, 1))
    weight_decay: float = 0.0
    momentum: float = 0.0
    arguments: tuple[tuple[str, Any], ...] = ()
    roles: str = ""

    def spec(self) -> dict[str, Any]:
        """Plain data: what the run's id is made of."""
        arguments = {k: _argument(v) for k, v in self.arguments}
        out = asdict(replace(self, arguments=())) | {"arguments": arguments, "engine": ENGINE}
        return json.loads(json.dumps(out))

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Run:
        """The run of a specification."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in spec.items() if k in known}
        values["base"] = Size(**values["base"])
        values["arguments"] = tuple(sorted(values["arguments"].items()))
        return cls(**values)

    @property
    def size(self) -> Size:
        """Width and depth."""
        return Size(self.width, self.depth)

    @property
    def program(self) -> tuple[Any, ...]:
        """Runs that agree in this differ in lr, seed, weight decay and momentum only."""
        return (
            *(self.model, self.data, self.width, self.depth, self.scheme, self.optimizer),
            *(self.steps, self.batch_size, self.base, self.arguments, self.momentum > 0),
        )


@dataclass(frozen=True)
class WithArguments:
    """A builder with further keywords set, copies of their own; it pickles if the builder does."""

    build: Callable[..., nn.Module]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, width: int, depth: int) -> nn.Module:
        """Build."""
        return self.build(width, depth, **copy.deepcopy(dict(self.arguments)))


def _argument(value: Any) -> Any:
    """Numbers and texts as they are, objects by what they are."""
    return told_or_not(value) if is_dataclass(value) else plain(value)
