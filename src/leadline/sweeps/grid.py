"""The settings of a sweep: every axis checked, counted before the product is made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
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
from leadline.planning.schemes import NAMES as SCHEMES
from leadline.sweeps.optimizers import NAMES as OPTIMIZERS

# Runs of one call: each is a record of a store and a row of a table.
MOST_RUNS = 1_000_000
_PLURAL = {"width": "widths", "depth": "depths", "lr": "lrs", "seed": "seeds"}


def grid_of(**axes: Any) -> dict[str, list[Any]]:
    """Values by axis, in their plain form: one value or several of each.

    Raises:
        ValueError, TypeError: an empty axis or a bad value, named; more runs than ``MOST_RUNS``.
    """
    return {name: _axis(name, value) for name, value in axes.items()}


def _axis(name: str, value: Any) -> list[Any]:
    label = _PLURAL.get(name, name)
    several = not isinstance(scalar(value), str | bytes | int | float) and value is not None
    if name == "seed" and not several:
        return list(range(check_int(label, value, 1, MOST_RUNS)))
    if several or name in _PLURAL:
        values = check_list(label, value, MOST_RUNS)
    else:
        values = [value]
    return [_value(name, label, v) for v in values]


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
    return check_choice(label, v, SCHEMES if name == "scheme" else OPTIMIZERS)


def arguments_of(arguments: Any) -> dict[str, list[Any]]:
    """Values of the builder's further arguments, by name."""
    if arguments is None:
        return {}
    check_type("arguments", arguments, Mapping, "give a dict such as {'gain': [0.5, 1.0]}")
    return {
        str(name): check_list(f"arguments[{name!r}]", values, MOST_RUNS)
        for name, values in arguments.items()
    }


def check_count(*parts: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a product of more than ``MOST_RUNS`` runs."""
    lengths = {name: len(values) for part in parts for name, values in part.items()}
    count = math.prod(lengths.values())
    if count > MOST_RUNS:
        longest = sorted(lengths.items(), key=lambda item: -item[1])[:3]
        said = ", ".join(f"{n} {_PLURAL.get(name, name)}" for name, n in longest)
        raise ValueError(
            f"{said}: the sweep would be {count:,} runs; give fewer values, at most "
            f"{MOST_RUNS:,} runs in all"
        )


def product(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination."""
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))
