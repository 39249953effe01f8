"""Problems that need no file: handwritten digits, a random teacher, a power-law spectrum."""

from __future__ import annotations

import functools
import gzip
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from leadline import available
from leadline.errors import check_choice, check_int, check_real
from leadline.problems.data import arrays, check_classes, check_samples, check_subset, round_robin
from leadline.problems.losses import NAMES
from leadline.problems.problem import Problem, spec


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
    pixels, values = _pixels_and_digits()
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


@functools.cache
def _pixels_and_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64) and digits (1797,) of scikit-learn's file, without the seconds of its import."""
    package = importlib.util.find_spec("sklearn")
    folders = None if package is None else package.submodule_search_locations
    for folder in folders or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt") as file:
                table = np.loadtxt(file, delimiter=",")
            break
    else:
        from sklearn.datasets import load_digits

        table = np.column_stack(load_digits(return_X_y=True))
    table.flags.writeable = False
    return table[:, :-1], table[:, -1].astype(np.int64)


def _streams(seed: int) -> list[np.random.Generator]:
    """Generators of the target, the training inputs, the test inputs and the noise."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]


def _check_room(rows: int, columns: int, others: int) -> None:
    """Refuse what memory has no room for; NumPy would be killed, or say it without names.

    Raises:
        MemoryError: naming samples and dimension.
    """
    need, have = 8 * (4 * rows * columns + others), available.memory()
    if need > have:
        raise MemoryError(
            f"samples and test_samples of {rows:,} in all need {need:,} bytes with this dimension, and "
            f"{have:,} are available: give fewer samples, or a smaller dimension or width"
        )


def _checked(
    samples: int, dimension: int, test_samples: int, noise: float, seed: int, loss: str
) -> dict[str, Any]:
    """The arguments that synthetic problems share."""
    return {
        "samples": check_int("samples", samples, 1),
        "dimension": check_int("dimension", dimension, 1),
        "test_samples": check_int("test_samples", test_samples, 0),
        "noise": check_real("noise", noise, 0.0),
        "seed": check_int("seed", seed, 0),
        "loss": check_choice("loss", loss, NAMES),
    }


def _synthetic(
    build: FunctionType,
    values: dict[str, Any],
    function: Callable[[np.ndarray], np.ndarray],
    classify: Callable[[np.ndarray], np.ndarray],
    classes: int,
    deviation: np.ndarray | float = 1.0,
) -> Problem:
    """Gaussian inputs and a function's values, with noise on those of the training samples.

    Args:
        build, values: the builder and its checked arguments, which make the name.
        classify: class indices of the function's values, for cross_entropy.
        deviation: standard deviations of the inputs.
    """
    _, train, test, noises = _streams(values["seed"])
    d, loss, count = values["dimension"], values["loss"], values["test_samples"]
    x = train.standard_normal((values["samples"], d)) * deviation
    x_test = test.standard_normal((count, d)) * deviation
    y, y_test = function(x), function(x_test)
    y = y + values["noise"] * noises.standard_normal(y.shape)
    classified = loss == "cross_entropy"
    if classified:
        y, y_test = classify(y), classify(y_test)
    return arrays(
        x,
        y,
        x_test if count else None,
        y_test if count else None,
        loss=loss,
        classes=tuple(range(classes)) if classified else None,
        standardize=values.get("standardize", False),
        name=spec(build, **values),
    )


def teacher(
    samples: int = 32,
    dimension: int = 8,
    test_samples: int = 0,
    outputs: int = 1,
    width: int = 64,
    noise: float = 0.0,
    seed: int = 0,
    loss: str = "mse",
) -> Problem:
    """Standard Gaussian inputs, targets of a random network V tanh(U x/√d)/√width.

    U and V have standard Gaussian entries. The inputs are not standardized (|x|² ≈ d).

    Args:
        samples: P >= 1.
        dimension: d >= 1.
        test_samples: size of the test set; 0 is none.
        outputs: C >= 1; under cross_entropy the number of classes, >= 2.
        width: the teacher's hidden width, >= 1.
        noise: standard deviation of what is added to the training targets (not the test targets).
        seed: of everything, >= 0; the training samples do not depend on test_samples.
        loss: "mse" regresses on the outputs, "cross_entropy" on the class of the largest.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """
    values = _checked(samples, dimension, test_samples, noise, seed, loss)
    outputs = check_int("outputs", outputs, 1)
    width = check_int("width", width, 1)
    if values["loss"] == "cross_entropy" and outputs < 2:
        raise ValueError(
            f"outputs={outputs} with loss='cross_entropy': give outputs >= 2, one for each class"
        )
    rows, d = values["samples"] + values["test_samples"], values["dimension"]
    _check_room(rows, d + width + outputs, width * (d + outputs))
    target = _streams(values["seed"])[0]
    u = target.standard_normal((width, d)) / np.sqrt(d)
    v = target.standard_normal((outputs, width)) / np.sqrt(width)
    return _synthetic(
        teacher,
        values | {"outputs": outputs, "width": width},
        lambda x: np.tanh(x @ u.T) @ v.T,
        lambda y: y.argmax(1),
        outputs,
    )


def power_law(
    samples: int = 32,
    dimension: int = 64,
    test_samples: int = 0,
    exponent: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
    loss: str = "mse",
    standardize: bool = False,
) -> Problem:
    """Gaussian inputs with independent coordinates of variance ∝ j^-exponent, a linear target.

    The variances j = 1..d have mean 1, and the target is w·x with a random w of unit norm.

    Args:
        samples: P >= 1.
        dimension: d >= 1.
        test_samples: size of the test set; 0 is none.
        exponent: decay of the spectrum, >= 0; 0 is white.
        noise: standard deviation of what is added to the training targets (not the test targets).
        seed: of everything, >= 0; the training samples do not depend on test_samples.
        loss: "mse" regresses on w·x, "cross_entropy" on its sign (classes 0 and 1).
        standardize: see ``arrays``. Off here, since scaling the rows changes the spectrum, and
            the target is no longer linear in the scaled inputs.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """
    values = _checked(samples, dimension, test_samples, noise, seed, loss)
    exponent = check_real("exponent", exponent, 0.0)
    rows, d = values["samples"] + values["test_samples"], values["dimension"]
    _check_room(rows, d + 1, d)
    variance = np.arange(1.0, d + 1) ** -exponent
    w = _streams(values["seed"])[0].standard_normal(d)
    w /= np.linalg.norm(w)
    return _synthetic(
        power_law,
        values | {"exponent": exponent, "standardize": standardize},
        lambda x: x @ w,
        lambda y: (y > 0).astype(int),
        2,
        np.sqrt(variance / variance.mean()),
    )
