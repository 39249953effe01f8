"""The plan of what a task trains: the loss, taken once before any work, shows what the model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leadline.errors import shown
from leadline.planning.plans import Plan, plan
from leadline.tasks.data import TrainingData
from leadline.tasks.first_call import first_call
from leadline.tasks.task import TaskData
from leadline.tracing.builder import Builder, Size, construct


def plan_for_task(
    data: TrainingData, build: Builder, base: Size, batch_size: int | None = None, **how: Any
) -> Plan:
    """The plan of a builder's models, read with what the loss calls them with.

    Args:
        batch_size: of the batch on which the loss is taken; None is the data's usual one.
        how: target, scheme, optimizer, roles and inputs, as of ``plan``.

    Raises:
        ValueError: the loss fails at the base, or the model cannot be planned.
    """
    taken = first_call(data, construct(build, base), batch_size)
    if how.get("inputs") is None and isinstance(data, TaskData):
        how["inputs"] = taken
    return plan(build, base, **how)


def refuse_beside_a_plan(settings: Mapping[str, Any]) -> None:
    """Refuse what a plan has.

    Args:
        settings: by argument; None where nothing is said.

    Raises:
        TypeError: naming the first that is said.
    """
    for name, value in settings.items():
        if value is not None:
            raise TypeError(
                f"{name}={shown(value)} beside a plan, which has one: leave it out, or give "
                "the builder instead of the plan"
            )
