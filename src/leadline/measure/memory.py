"""Bytes that a training's data and records take, whichever solver makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leadline.measure.observation import Measure
    from leadline.problems import Problem
    from leadline.recipe import SGD


def data_bytes(problem: Problem, size: int) -> int:
    """The problem's arrays, a solver's copies of them with ``size`` bytes a number, and a record's."""
    training = 8 * (problem.x.size + problem.y.size)
    test = 0
    if problem.x_test is not None and problem.y_test is not None:
        test = 8 * (problem.x_test.size + problem.y_test.size)
    labels = 8 * (problem.samples + problem.test_samples) if problem.labels is not None else 0
    return (training + test) * (8 + size) // 8 + training + test + 2 * labels


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
