"""What all claims are measured on: the data, the seed, the preset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.errors import check_choice

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem

PRESETS = ("quick", "standard", "full")
TOY = "toy"
"""Sizes at which nothing can be decided: every road is taken, in seconds. For tests."""


@dataclass(frozen=True)
class Setting:
    """A study's choices.

    Attributes:
        source: "digits" or "cifar10:PATH".
        seed: of weights and batches; the samples are always the same.
    """

    preset: str
    source: str = "digits"
    seed: int = 0
    device: str = "cpu"

    def two(self, samples: int, test_samples: int = 0) -> Problem:
        """Two classes that are easily confused, one output, targets ±1, squared error."""
        return _problem(self.source, True, samples, test_samples, "mse")

    def all(self, samples: int, test_samples: int) -> Problem:
        """All ten classes, cross-entropy."""
        return _problem(self.source, False, samples, test_samples, "cross_entropy")


@cache
def _problem(source: str, pair: bool, samples: int, test_samples: int, loss: str) -> Problem:
    import leadline

    how: dict[str, Any] = dict(samples=samples, test_samples=test_samples, loss=loss)
    if source == "digits":
        return leadline.digits(classes=(3, 8) if pair else None, **how)
    path = source.partition(":")[2]
    return leadline.cifar10(path, classes=("cat", "dog") if pair else None, **how)


def check_source(source: str) -> str:
    """Refuse other data: the sizes of the presets are made for these.

    Raises:
        ValueError: naming the nearest valid one.
    """
    if not isinstance(source, str):
        raise TypeError(f"problem={source!r} is not a text: give 'digits' or 'cifar10:PATH'")
    kind, colon, path = source.partition(":")
    check_choice("problem", kind, ("digits", "cifar10"))
    if (kind == "cifar10") != bool(path) or (kind == "digits" and colon):
        raise ValueError(f"problem={source!r}: give 'digits' or 'cifar10:PATH'")
    return source


@cache
def stable_rate(
    problem: Problem,
    network: ResNet,
    depth: int | None,
    train: tuple[str, ...],
    fraction: float = 0.25,
) -> float:
    """A learning rate that means the same in every architecture: ``fraction``/λ.

    λ is the largest eigenvalue of the tangent kernel at initialization over P (of the weights that
    learn, at infinite width); linearised training diverges above 2/λ.
    """
    from leadline.kernels.kernels import initial_kernels

    kernel = initial_kernels(problem, network, depth, seconds=None).part(train)
    return fraction * problem.samples / float(np.linalg.eigvalsh(kernel)[-1])
