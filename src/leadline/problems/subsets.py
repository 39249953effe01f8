"""Random subsets of samples with an equal share of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leadline.errors import check_int


def round_robin(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All indices (N,) in random order, class by class in turn: every beginning is balanced."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[rng.permutation(members)] = np.arange(len(members))
    return np.lexsort((labels, rank))


def balanced_limit(counts: Sequence[int]) -> int:
    """The most samples of which each class has an equal share, the first ones one more."""
    least = min(counts)
    spare = next((i for i, count in enumerate(counts) if count == least), 0)
    return least * len(counts) + spare


def check_samples(samples: Any, labels: np.ndarray, classes: tuple[Any, ...]) -> int:
    """Check a balanced number of training samples against the class indices (N,) there are."""
    count = check_int("samples", samples, 1)
    if count < len(classes):
        raise ValueError(
            f"samples={samples!r} is fewer than the {len(classes)} classes: "
            f"give at least {len(classes)}, or fewer classes"
        )
    limit = balanced_limit(np.bincount(labels, minlength=len(classes)).tolist())
    if count > limit:
        raise ValueError(
            f"samples={samples!r} is more than the classes {classes!r} hold in equal shares: "
            f"give at most {limit}"
        )
    return count


def check_subset(name: str, value: Any, available: int) -> int:
    """Check a number of samples against those there are; None is all of them, 0 is allowed."""
    if value is None:
        return available
    count = check_int(name, value, 0)
    if count > available:
        raise ValueError(
            f"{name}={value!r} is more than the {available} samples there are: "
            f"give at most {available}"
        )
    return count
