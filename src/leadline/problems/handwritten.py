"""Handwritten digits, 8 × 8 pixels, from scikit-learn's bundled copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leadline.errors import check_int
from leadline.problems.data import arrays, check_classes
from leadline.problems.draw import check_samples, check_subset, round_robin
from leadline.problems.naming import spec
from leadline.problems.problem import Problem


def digits(
    classes: Sequence[int] | None = None,
    samples: int | None = None,
    test_samples: int | None = None,
    loss: str = "mse",
    seed: int = 0,
    standardize: bool = True,
) -> Problem:
    """Handwritten digits (d = 64, pixels 0..16; about 180 samples of each digit).

    With one seed, a larger draw contains the smaller ones.

    Args:
        classes: two or more of 0..9, in the order of their indices; None is all ten.
        samples: P, with an equal share of every class (the first classes have one more where it
            does not divide); None is half of each class.
        test_samples: size of the test set, drawn from the rest as balanced as it allows; None is
            all the rest, 0 is no test set.
        loss: "mse" or "cross_entropy".
        seed: of the draw, >= 0.
        standardize: see ``arrays``.

    Raises:
        ValueError: on an unknown digit, fewer than two classes, fewer samples than classes or more
            than there are.
        TypeError: on values of another type.
    """
    from sklearn.datasets import load_digits

    argument = ""
    if classes is None:
        classes = tuple(range(10))
    else:
        classes = tuple(check_int("classes", c, 0) for c in check_classes(classes))
        argument = ",".join(str(c) for c in classes)
        for c in classes:
            if c > 9:
                raise ValueError(f"classes={classes!r} holds {c}: give digits 0..9")
    seed = check_int("seed", seed, 0)
    pixels, values = load_digits(return_X_y=True)
    order = np.array([classes.index(v) if v in classes else -1 for v in values.tolist()])
    pixels, values, labels = pixels[order >= 0], values[order >= 0], order[order >= 0]

    turn = round_robin(labels, np.random.default_rng(seed))
    if samples is None:
        half = np.bincount(labels) // 2
        rank = np.empty(len(labels), dtype=np.int64)
        for c in range(len(classes)):
            members = turn[labels[turn] == c]
            rank[members] = np.arange(len(members))
        first = rank[turn] < half[labels[turn]]
    else:
        first = np.arange(len(turn)) < check_samples(samples, labels, classes)
    train, rest = np.sort(turn[first]), turn[~first]
    count = check_subset("test_samples", test_samples, len(rest))
    test = np.sort(rest[:count])
    return arrays(
        pixels[train],
        values[train],
        pixels[test] if count else None,
        values[test] if count else None,
        loss=loss,
        classes=classes,
        standardize=standardize,
        name=spec(
            digits,
            argument,
            samples=samples,
            test_samples=test_samples,
            loss=loss,
            seed=seed,
            standardize=standardize,
        ),
    )
