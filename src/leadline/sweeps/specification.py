"""A run as data: what it trains, at which size, with which settings. Its identity is its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from torch import nn

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

    def spec(self) -> dict[str, Any]:
        """Plain data: what the run's id is made of."""
        out = asdict(self) | {"arguments": dict(self.arguments), "engine": ENGINE}
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
    """A builder with further keywords set; it pickles if the builder does."""

    build: Callable[..., nn.Module]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, width: int, depth: int) -> nn.Module:
        """Build."""
        return self.build(width, depth, **dict(self.arguments))


def builder_name(build: Any) -> str:
    """A name that changes with what the builder does, as far as that can be seen.

    Of a dataclass its fields count, of functions, classes and a user's dataclasses the code; what they
    call does not.
    """
    if hasattr(type(build), "__dataclass_fields__"):
        values = ((f.name, getattr(build, f.name)) for f in fields(build))
        inner = (
            f"{n}={builder_name(v) if callable(v) or is_dataclass(v) else repr(v)}"
            for n, v in values
        )
        name = f"{type(build).__qualname__}({', '.join(inner)})"
        own = type(build).__module__.startswith("leadline.")
        return name if own else f"{name}#{_digest(type(build))}"
    where = f"{getattr(build, '__module__', '')}.{getattr(build, '__qualname__', type(build))}"
    return f"{where}#{_digest(build)}"


def _digest(build: Any) -> str:
    return hashlib.sha256(_code(build)).hexdigest()[:12]


def _code(build: Any) -> bytes:
    import inspect

    try:
        return inspect.getsource(build).encode()
    except (OSError, TypeError):
        code = getattr(build, "__code__", None)
        return b"" if code is None else code.co_code + repr(code.co_consts).encode()
