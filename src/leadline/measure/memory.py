"""Bytes that a training's data and records take, whichever solver makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leadline import available
from leadline.errors import check_real

if TYPE_CHECKING:
    from leadline.measure.observation import Measure
    from leadline.problems import Problem
    from leadline.recipe import SGD

# What libraries take when they first compute, and the smallest things of a run.
OVERHEAD = 32 << 20


def budget_of(memory: Any) -> int:
    """A budget in bytes that was given, checked; from then on memory that is freed is given back."""
    budget = int(check_real("memory", memory, 1.0, 1e18))
    available.return_freed()
    return budget


def data_bytes(problem: Problem, size: int) -> int:
    """The problem's arrays, a solver's copies of them with ``size`` bytes a number, and a record's."""
    own = 8 * (problem.x.size + problem.y.size)
    test = 0
    if problem.x_test is not None and problem.y_test is not None:
        test = 8 * (problem.x_test.size + problem.y_test.size)
    labels = 8 * (problem.samples + problem.test_samples) if problem.labels is not None else 0
    return (own + test) * (8 + size) // 8 + own + test + 2 * labels


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


def check_available(name: str, need: dict[str, int]) -> None:
    """Refuse what has no budget of its own and does not fit into what is available.

    Raises:
        MemoryError: naming the parts, and what would help.
    """
    budget = int(0.8 * available.memory())
    if sum(need.values()) > budget:
        raise MemoryError(refusal(name, need, budget, given=False))


def refusal(name: str, need: dict[str, int], budget: int, given: bool = True) -> str:
    """What does not fit, largest part first, and what would help with it."""
    total = sum(need.values())
    parts = sorted(need.items(), key=lambda item: -item[1])
    said = ", ".join(f"{part} {count:,}" for part, count in parts if 20 * count > total)
    remedies = {
        "weights": "less width or depth, fewer inputs or outputs",
        "records": "a larger record_every=, fewer steps, seeds or measures",
        "data": "fewer samples",
        "passes": "less width or depth, fewer samples or test samples, a smaller batch",
    }
    remedy = remedies.get(parts[0][0], "less width or depth, a smaller batch")
    if not given:
        return f"{name} needs {total:,} bytes ({said}), and {budget:,} are available: give {remedy}"
    return (
        f"{name} needs {total:,} bytes ({said}), more than the budget memory={budget:,}: give "
        f"{remedy}, or memory= of at least {total:,}"
    )
