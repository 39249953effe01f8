"""A run of a builder's model at initialization."""

from __future__ import annotations

from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.model import wide_model
from leadline.matrixfree.updates import WideUpdates


def training(c: TaskConfiguration, s: int) -> tuple[TaskTraining, WideUpdates]:
    """Run s at initialization, and its wide weights."""
    model, wide, passes = wide_model(c, s)
    if not wide:
        raise ValueError(
            "no hidden weight of the model can be wide (a matrix, a convolution or experts' matrices whose "
            "two sides grow with width): leadline.plan(...) says which role each parameter has; train it "
            "with leadline.train"
        )
    updates = WideUpdates(c, wide, passes)
    return TaskTraining(c, s, model, c.optimizers(model, frozenset(wide)), updates), updates
