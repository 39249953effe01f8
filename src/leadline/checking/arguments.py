"""What a check is told: the plan, or the builder of which it makes one, and the sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leadline.errors import check_choice, check_int, check_list, shown
from leadline.planning.of_task import plan_for_task, refuse_beside_a_plan
from leadline.planning.plans import Plan
from leadline.tasks.data import PRECISIONS, Accumulated, TrainingData
from leadline.tracing.builder import Size, size

# Multiples of the base's width and depth.
_WIDTHS, _DEPTHS = (1, 2, 4), (1, 2, 4, 8)
_BASE = Size(64, 4)


def plan_of(
    data: TrainingData, build: Any, base: Any, widths: Any, depths: Any, how: dict[str, Any]
) -> Plan:
    """The plan itself, or that of a builder.

    Raises:
        TypeError: settings of a plan beside a plan.
    """
    if isinstance(build, Plan):
        others = how | {"base": base, "scheme": None if how["scheme"] == "auto" else how["scheme"]}
        refuse_beside_a_plan({k: v for k, v in others.items() if not callable(v)})
        return build
    if base is None:
        smallest = dict(width=_BASE.width, depth=_BASE.depth)
        for axis, sizes in (("width", widths), ("depth", depths)):
            if sizes is not None:
                smallest[axis] = min(check_int(f"{axis}s", v, 1) for v in sizes)
        base = smallest
    if how["optimizer"] is None or callable(how["optimizer"]):
        how["optimizer"] = "adamw"
    at = size("base", base)
    if depths is not None and all(depth == at.depth for depth in depths):
        how["target"] = at  # What depth alone leaves undecided is no matter.
    return plan_for_task(data, build, at, **how)


def recipe_of(data: TrainingData, accumulation: int, precision: str) -> TrainingData:
    """The data with so many batches a step, in this precision."""
    kept = data.precise(check_choice("precision", precision, PRECISIONS))
    count = check_int("accumulation", accumulation, 1)
    return kept if count == 1 else Accumulated(kept, count)


def sizes_of(
    plan: Plan, widths: Sequence[int] | None, depths: Sequence[int] | None
) -> dict[str, list[Size]]:
    """Sizes of every axis that has two or more.

    Raises:
        ValueError: a size is no multiple of the base's, or there is nothing to compare.
    """
    widths = [plan.base.width * k for k in _WIDTHS] if widths is None else widths
    depths = [plan.base.depth * k for k in _DEPTHS] if depths is None else depths
    out = {}
    values: dict[str, list[int]] = {}
    for axis, sizes in (("width", widths), ("depth", depths)):
        base = getattr(plan.base, axis)
        name, what = f"{axis}s", f"multiples of the base's {axis}, {base}"
        values[axis] = [check_int(name, v, 1) for v in check_list(name, sizes, 1000, what=what)]
    for axis, several in values.items():
        base = getattr(plan.base, axis)
        for v in several:
            if v % base:
                near = max(round(v / base), 1) * base
                raise ValueError(
                    f"{axis}s={several!r}: {v} is no multiple of the base's {axis}, {base}: give {near}"
                )
        values[axis] = sorted(set(several))
    width, depth = values["width"][0], values["depth"][0]
    if len(values["width"]) > 1:
        out["width"] = [Size(w, depth) for w in values["width"]]
    if len(values["depth"]) > 1:
        out["depth"] = [Size(width, d) for d in values["depth"]]
    if not out:
        raise ValueError(
            f"widths={shown(widths)} and depths={shown(depths)} hold one size: give two or more of one"
        )
    return out
