"""How often test inputs are evaluated, of which there may be many more than a step trains on."""

from __future__ import annotations

import math
from typing import Any

from leadline.errors import check_int, shown
from leadline.recipes.base import Recipe

# Evaluating as many test inputs as a step trains on takes .2 to .6 of the step's time (./dev bench seconds
# evaluation): so many test inputs for every one that is trained on make a third of the whole.
_WORTH = 1.0


def check_test_every(
    value: Any, recipe: Recipe, record_every: int, rows: int | None, test_rows: int | None
) -> int:
    """Steps between two evaluations of the test inputs, a multiple of ``record_every``.

    Args:
        value: a number of steps; None is ``record_every``; "auto" the smallest number with which
            evaluations take about a third of a solve's time at most, by the numbers of rows.
        rows, test_rows: inputs of a training step, and test inputs; None where they are not known.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """
    if value is None:
        return record_every
    if value != "auto":
        if isinstance(value, str):
            raise ValueError(f"test_every={shown(value)}: give a number of steps, or 'auto'")
        every = check_int("test_every", value, 1)
        if every % record_every:
            above = -(-every // record_every) * record_every
            raise ValueError(
                f"test_every={every} is no multiple of record_every={record_every}, and test inputs are "
                f"evaluated at recorded steps: give such as test_every={above}"
            )
        return every
    if not rows or not test_rows:
        return record_every
    # At the first step and at the last in any case.
    evaluations = max(2, math.floor(_WORTH * (recipe.steps + 1) * rows / test_rows))
    every = max(1, -(-recipe.steps // (evaluations - 1)))
    return -(-every // record_every) * record_every
