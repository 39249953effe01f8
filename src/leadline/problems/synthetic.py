"""Synthetic problems: a random network as the teacher, and inputs with a power-law spectrum."""

from __future__ import annotations

import numpy as np

from leadline import available
from leadline.errors import check_choice, check_int, check_real
from leadline.problems.data import arrays
from leadline.problems.losses import NAMES
from leadline.problems.naming import spec
from leadline.problems.problem import Problem


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
    samples = check_int("samples", samples, 1)
    dimension = check_int("dimension", dimension, 1)
    test_samples = check_int("test_samples", test_samples, 0)
    outputs = check_int("outputs", outputs, 1)
    width = check_int("width", width, 1)
    noise = check_real("noise", noise, 0.0)
    seed = check_int("seed", seed, 0)
    loss = check_choice("loss", loss, NAMES)
    if loss == "cross_entropy" and outputs < 2:
        raise ValueError(
            f"outputs={outputs} with loss='cross_entropy': give outputs >= 2, one for each class"
        )
    _check_room(samples + test_samples, dimension + width + outputs, width * (dimension + outputs))
    target, train, test, noises = _streams(seed)
    u = target.standard_normal((width, dimension)) / np.sqrt(dimension)
    v = target.standard_normal((outputs, width)) / np.sqrt(width)
    x = train.standard_normal((samples, dimension))
    x_test = test.standard_normal((test_samples, dimension))
    y = np.tanh(x @ u.T) @ v.T + noise * noises.standard_normal((samples, outputs))
    y_test = np.tanh(x_test @ u.T) @ v.T
    classes = None
    if loss == "cross_entropy":
        y, y_test = y.argmax(1), y_test.argmax(1)
        classes = tuple(range(outputs))
    return arrays(
        x,
        y,
        x_test if test_samples else None,
        y_test if test_samples else None,
        loss=loss,
        classes=classes,
        standardize=False,
        name=spec(
            teacher,
            samples=samples,
            dimension=dimension,
            test_samples=test_samples,
            outputs=outputs,
            width=width,
            noise=noise,
            seed=seed,
            loss=loss,
        ),
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
    samples = check_int("samples", samples, 1)
    dimension = check_int("dimension", dimension, 1)
    test_samples = check_int("test_samples", test_samples, 0)
    exponent = check_real("exponent", exponent, 0.0)
    noise = check_real("noise", noise, 0.0)
    seed = check_int("seed", seed, 0)
    loss = check_choice("loss", loss, NAMES)
    _check_room(samples + test_samples, dimension + 1, dimension)
    target, train, test, noises = _streams(seed)
    variance = np.arange(1.0, dimension + 1) ** -exponent
    deviation = np.sqrt(variance / variance.mean())
    w = target.standard_normal(dimension)
    w /= np.linalg.norm(w)
    x = train.standard_normal((samples, dimension)) * deviation
    x_test = test.standard_normal((test_samples, dimension)) * deviation
    y = x @ w + noise * noises.standard_normal(samples)
    y_test = x_test @ w
    classes = None
    if loss == "cross_entropy":
        y, y_test = (y > 0).astype(int), (y_test > 0).astype(int)
        classes = (0, 1)
    return arrays(
        x,
        y,
        x_test if test_samples else None,
        y_test if test_samples else None,
        loss=loss,
        classes=classes,
        standardize=standardize,
        name=spec(
            power_law,
            samples=samples,
            dimension=dimension,
            test_samples=test_samples,
            exponent=exponent,
            noise=noise,
            seed=seed,
            loss=loss,
            standardize=standardize,
        ),
    )
