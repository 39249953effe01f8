"""The settings of a sweep: every axis checked, counted before the product is made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.errors import (
    LARGEST_RATE,
    check_choice,
    check_int,
    check_list,
    check_real,
    check_type,
    scalar,
)
from leadline.parametrization.schemes import SCHEMES, Scheme
from leadline.planning.factors import NAMES, check_scheme
from leadline.schedules import check_schedule, course
from leadline.sweeps.optimizers import NAMES as OPTIMIZERS
from leadline.sweeps.runs import TrainingRun
from leadline.tasks.data import PRECISIONS
from leadline.tracing.builder import Size, size

# Runs of one call: each is a record of a store and a row of a table.
MOST_RUNS = 1_000_000
SIZES = ("product", "axes")
_PLURAL = {"width": "widths", "depth": "depths", "lr": "lrs", "seed": "seeds"}
_CHOICES = {"optimizer": OPTIMIZERS, "precision": PRECISIONS}
# In the order in which they vary, the last one fastest.
_AXES = (
    *("width", "depth", "lr", "seed", "steps", "batch_size"),
    *("scheme", "optimizer", "weight_decay", "momentum"),
    *("schedule", "warmup", "clip", "accumulation", "precision"),
)


@dataclass(frozen=True)
class SweepGrid:
    """What a sweep trains, as ``sweep`` takes it; once made, lists of checked values by axis.

    Attributes:
        arguments: lists of values by name.
        base: size that learning rates refer to.

    Raises:
        ValueError, TypeError: an empty axis or a bad value, named; more runs than ``MOST_RUNS``.
    """

    width: Any
    depth: Any
    lr: Any
    seed: Any
    steps: Any
    batch_size: Any
    scheme: Any
    optimizer: Any
    weight_decay: Any
    momentum: Any
    schedule: Any
    warmup: Any
    clip: Any
    accumulation: Any
    precision: Any
    arguments: Any
    sizes: str
    base: Any

    def __post_init__(self) -> None:
        checked: dict[str, Any] = grid_of(**self._axes())
        for how in itertools.product(*(checked[k] for k in ("schedule", "warmup", "steps"))):
            course(*how)
        checked["arguments"] = _arguments(self.arguments)
        _check_count(checked | checked["arguments"])
        check_choice("sizes", self.sizes, SIZES)
        checked["base"] = Size(min(checked["width"]), min(checked["depth"]))
        if self.base is not None:
            checked["base"] = size("base", self.base)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _axes(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _AXES}

    def runs(self, model: str, data: str, roles: str) -> list[TrainingRun]:
        """Every run once.

        Args:
            model, data, roles: what they are, as text.
        """
        width, depth = min(self.width), min(self.depth)
        runs = [
            TrainingRun(
                model=model,
                data=data,
                base=self.base,
                arguments=tuple(sorted(arguments.items())),
                roles=roles,
                **values,
            )
            for arguments in _product(self.arguments)
            for values in _product(self._axes())
            if self.sizes == "product" or width == values["width"] or depth == values["depth"]
        ]
        return list(dict.fromkeys(runs))


def grid_of(**axes: Any) -> dict[str, list[Any]]:
    """Values by axis, in their plain form: one value or several of each.

    Raises:
        ValueError, TypeError: an empty axis or a bad value, named; more runs than ``MOST_RUNS``.
    """
    return {name: _axis(name, value) for name, value in axes.items()}


def _axis(name: str, value: Any) -> list[Any]:
    label = _PLURAL.get(name, name)
    one = isinstance(scalar(value), str | bytes | int | float | Scheme) or callable(value)
    several = not one and value is not None
    if name == "seed" and not several:
        return list(range(check_int(label, value, 1, MOST_RUNS)))
    if several or name in _PLURAL:
        values = check_list(label, value, MOST_RUNS)
    else:
        values = [value]
    checked = [_value(name, label, v) for v in values]
    if name == "scheme":
        _check_names(checked)
    return checked


def _check_names(schemes: Sequence[str | Scheme]) -> None:
    """Refuse two schemes of one name: rows are told apart by it.

    Raises:
        ValueError: a user's scheme has the name of another.
    """
    named: dict[str, Any] = {n: n for n in NAMES} | SCHEMES
    for s in schemes:
        name = s if isinstance(s, str) else s.name
        other = named.setdefault(name, s)
        if isinstance(s, Scheme) and (isinstance(other, str) or other.exponents != s.exponents):
            raise ValueError(
                f"scheme={name!r} is the name of another scheme: give yours a name of its own"
            )


def _value(name: str, label: str, v: Any) -> Any:
    if name in ("width", "depth", "steps"):
        return check_int(label, v, 1)
    if name == "batch_size":
        return None if v is None else check_int(label, v, 1)
    if name == "seed":
        return check_int(label, v, 0)
    if name == "lr":
        return check_real(label, v, 0.0, LARGEST_RATE, open_minimum=True)
    if name in ("weight_decay", "momentum"):
        return check_real(label, v, 0.0, LARGEST_RATE)
    if name == "schedule":
        return check_schedule(label, v)
    if name == "warmup":
        return check_int(label, v, 0)
    if name == "accumulation":
        return check_int(label, v, 1, 10_000)
    if name == "clip":
        return None if v is None else check_real(label, v, 0.0, open_minimum=True)
    if name == "scheme":
        return check_scheme(v)
    return check_choice(label, v, _CHOICES[name])


def _arguments(arguments: Any) -> dict[str, list[Any]]:
    if arguments is None:
        return {}
    check_type("arguments", arguments, Mapping, "give a dict such as {'gain': [0.5, 1.0]}")
    return {
        str(name): check_list(f"arguments[{name!r}]", values, MOST_RUNS)
        for name, values in arguments.items()
    }


def _check_count(axes: Mapping[str, Any]) -> None:
    lengths = {name: len(values) for name, values in axes.items() if name != "arguments"}
    count = math.prod(lengths.values())
    if count > MOST_RUNS:
        longest = sorted(lengths.items(), key=lambda item: -item[1])[:3]
        said = ", ".join(f"{n} {_PLURAL.get(name, name)}" for name, n in longest)
        raise ValueError(
            f"{said}: the sweep would be {count:,} runs; give fewer values, at most "
            f"{MOST_RUNS:,} runs in all"
        )


def _product(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))
