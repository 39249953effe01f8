"""Problems from arrays in memory: checks, class labels, random subsets, standardization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from leadline.errors import check_bool, check_choice, check_int, check_list, scalar
from leadline.problems.losses import NAMES
from leadline.problems.problem import Problem, check_both, check_finite, encode

# A row this much smaller than it was before centring is rounding noise, not a direction.
_ROUNDING = 1e-12
# Integers beyond this are not exact as floats.
_EXACT = 2.0**53
_MOST_CLASSES = 10**6


def as_array(name: str, value: Any) -> np.ndarray:
    """A NumPy array of booleans, integers, floats or strings from an array, list or tensor."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no such type
            value = value.float()
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries: remove their samples or fill them in")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array ({error}): pad or drop rows") from None
    if array.dtype.kind not in "biufUS":
        raise TypeError(
            f"{name} has dtype {array.dtype}: give real numbers (or for class labels strings), "
            "for example by .astype(float) or .astype(str)"
        )
    if array.dtype.kind == "f":
        check_finite(name, array)
    return array


def are_labels(y: np.ndarray, loss: str, classes: Any = None) -> bool:
    """Whether ``arrays`` reads y as class labels."""
    return (
        loss == "cross_entropy" or classes is not None or (y.ndim == 1 and y.dtype.kind in "biuUS")
    )


def _inputs(name: str, value: Any) -> np.ndarray:
    """Inputs as (P, d) float64."""
    x = as_array(name, value)
    if x.dtype.kind in "US":
        raise TypeError(f"{name} has dtype {x.dtype}: give numbers, as by .astype(float)")
    if x.size == 0:
        raise ValueError(f"{name} has shape {x.shape} and is empty: give at least one sample")
    if x.ndim < 2:
        raise ValueError(
            f"{name} has shape {x.shape}: give (samples, inputs), as by reshape(-1, 1) if each "
            "sample is one number"
        )
    x = x.astype(np.float64).reshape(len(x), -1)
    check_finite(name, x)
    return x


def _check_length(x: np.ndarray, y: np.ndarray, end: str) -> None:
    rows = len(y) if y.ndim else 0
    if rows != len(x):
        raise ValueError(
            f"y{end} has shape {y.shape} for the {len(x)} samples of x{end}: give one a sample"
        )


def _regression(name: str, y: np.ndarray, columns: int | None) -> np.ndarray:
    """Regression targets as (P, C) float64."""
    if y.dtype.kind in "US":
        raise TypeError(f"{name} has dtype {y.dtype}: give numbers, or class labels of shape (P,)")
    if y.ndim > 2 or y.size == 0:
        raise ValueError(f"{name} has shape {y.shape}: give (samples,) or (samples, outputs)")
    y = y.astype(np.float64).reshape(len(y), -1)
    if columns is not None and y.shape[1] != columns:
        raise ValueError(f"{name} has {y.shape[1]} columns and y {columns}: give as many")
    return y


def class_labels(name: str, y: np.ndarray) -> np.ndarray:
    """Class labels as (P,) booleans, integers or strings."""
    if y.ndim != 1:
        raise ValueError(
            f"{name} has shape {y.shape}: give class labels of shape (samples,), as by "
            "argmax(1) from one-hot rows"
        )
    if y.dtype.kind != "f":
        return y
    if (y != np.round(y)).any() or (np.abs(y) > _EXACT).any():
        bad = float(y[(y != np.round(y)) | (np.abs(y) > _EXACT)][0])
        raise TypeError(
            f"{name} holds {bad!r}, which is not a class label: give integers, booleans or "
            "strings (float targets need loss='mse' and classes=None)"
        )
    return y.astype(np.int64)


def check_classes(classes: Any) -> tuple[Any, ...]:
    """Explicit class labels as a tuple of at least two different ones, or raise."""
    values = tuple(map(scalar, check_list("classes", classes, _MOST_CLASSES, what="class labels")))
    for value in values:
        if not isinstance(value, bool | int | float | str | bytes):
            raise TypeError(f"classes holds {value!r}: give integers, booleans or strings")
    if len(set(values)) != len(values):
        raise ValueError(f"classes={values!r} repeats a class: name each once")
    if len(values) < 2:
        raise ValueError(f"classes={values!r} holds {len(values)} class(es): give at least two")
    return values


def _indices(name: str, y: np.ndarray, classes: tuple[Any, ...]) -> np.ndarray:
    """Class indices (P,) int64 of the labels y."""
    values, inverse = np.unique(y, return_inverse=True)
    order = {c: i for i, c in enumerate(classes)}
    for value in values.tolist():
        if value not in order:
            whose = "the training classes " if name == "y_test" else "classes="
            raise ValueError(
                f"{name} holds the class {value!r}, which is not among {whose}{classes!r}: "
                "name it in classes, or drop its samples"
            )
    return np.array([order[v] for v in values.tolist()], dtype=np.int64)[inverse]


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


def balanced_draw(
    labels: np.ndarray,
    classes: Sequence[int],
    rng: np.random.Generator,
    count: int | None,
    *,
    train: bool,
    names: tuple[Any, ...] | None = None,
) -> np.ndarray:
    """Places (P,) of samples of these classes, sorted; of every class as many, as far as there are.

    Args:
        labels: (N,) class indices. classes: those that are drawn from.
        count: P; None is all.
        train: P must be an equal share of every class; else it is as balanced as there are samples.
        names: of the classes, for errors.
    """
    renumber = np.full(max(int(labels.max()), *classes) + 1, -1)
    renumber[list(classes)] = np.arange(len(classes))
    order = renumber[labels]
    members = np.flatnonzero(order >= 0)
    order = order[members]
    if not train:
        count = check_subset("test_samples", count, len(members))
    elif count is None:
        count = len(members)
    else:
        count = check_samples(count, order, tuple(classes) if names is None else names)
    return members[np.sort(round_robin(order, rng)[:count])]


def _scale_rows(name: str, x: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Scale rows to |x|² = d; ``before`` (P,) is each row's magnitude before centring."""
    size = np.abs(x).max(1)
    zero = size <= _ROUNDING * before
    if zero.any():
        raise ValueError(
            f"{name} row {int(np.argmax(zero))} is zero or equals the training mean, and cannot "
            "be scaled to |x|²=d: drop the row, or give standardize=False"
        )
    x = np.ldexp(x, -np.frexp(size)[1][:, None])  # exact; squares neither overflow nor vanish
    return x * np.sqrt(x.shape[1] / (x * x).sum(1, keepdims=True))


def _standardize(xs: dict[str, np.ndarray], center: bool) -> dict[str, np.ndarray]:
    """Centre by the training mean (not with one sample alone), then scale rows to |x|² = d."""
    shift = -np.frexp(max(np.abs(x).max() for x in xs.values()))[1]
    xs = {end: np.ldexp(x, shift) for end, x in xs.items()}  # exact; sums do not overflow
    train = xs[""]
    mean = train.mean(0) if center and len(train) > 1 else np.zeros(train.shape[1])
    results = {}
    for end, x in xs.items():
        before = np.maximum(np.abs(x).max(1), np.abs(mean).max())
        results[end] = _scale_rows(f"x{end}", x - mean, before)
    return results


def arrays(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    loss: str = "mse",
    classes: Sequence[Any] | None = None,
    standardize: bool = True,
    center: bool = True,
    name: str = "arrays",
) -> Problem:
    """A problem from NumPy arrays, lists or torch tensors.

    Args:
        x: (P, ...) finite real inputs, flattened to (P, d).
        y: (P,) class labels (booleans, integers or strings), or under mse regression targets:
            (P,) floats, or (P, C) numbers. Under cross_entropy, or with ``classes``, y is class
            labels; floats that are whole numbers are accepted there. Two classes become targets
            ±1 under mse (the second class is +1); else targets are one-hot.
        x_test, y_test: held-out samples, read as x and y are; both or neither.
        loss: "mse" or "cross_entropy".
        classes: class labels in the order of their indices; None is those of y, sorted.
        standardize: centre the inputs by the training mean, then scale each row to |x|² = d
            (test rows too, by the training mean). With one sample only the scaling is done.
        center: False leaves the training mean in when the rows are scaled.
        name: names the problem in records.

    Raises:
        ValueError: on empty or unequal shapes, NaN or infinity, an unknown loss, fewer than two
            classes, a label outside the classes, or a row that centring turns to zero.
        TypeError: on complex or object dtypes, and on targets where class labels are needed.

    >>> arrays([[0.0, 1.0], [1.0, 0.0]], ["cat", "dog"]).y.tolist()
    [[-1.0], [1.0]]
    """
    loss = check_choice("loss", loss, NAMES)
    standardize = check_bool("standardize", standardize)
    center = check_bool("center", center)
    check_both(x_test, y_test)
    xs = {"": _inputs("x", x)}
    ys = {"": as_array("y", y)}
    if x_test is not None:
        xs["_test"] = _inputs("x_test", x_test)
        ys["_test"] = as_array("y_test", y_test)
        if xs["_test"].shape[1] != xs[""].shape[1]:
            raise ValueError(
                f"x_test has {xs['_test'].shape[1]} inputs and x {xs[''].shape[1]}: give as many"
            )
    for end in xs:
        _check_length(xs[end], ys[end], end)
    labels: dict[str, np.ndarray] = {}
    if are_labels(ys[""], loss, classes):
        ys = {end: class_labels(f"y{end}", a) for end, a in ys.items()}
        if classes is None:
            values = tuple(np.unique(ys[""]).tolist())
            if len(values) < 2:
                raise ValueError(
                    f"y holds the single class {values[0]!r}: give samples of two classes, name "
                    "both in classes, or give floats for regression"
                )
        else:
            values = check_classes(classes)
        labels = {end: _indices(f"y{end}", a, values) for end, a in ys.items()}
        ys = {end: encode(a, len(values), loss) for end, a in labels.items()}
    else:
        values = None
        columns = None
        for end, a in ys.items():
            ys[end] = _regression(f"y{end}", a, columns)
            columns = ys[end].shape[1]
    if standardize:
        xs = _standardize(xs, center)
    return Problem(
        xs[""],
        ys[""],
        labels.get(""),
        xs.get("_test"),
        ys.get("_test"),
        labels.get("_test"),
        loss=loss,
        name=name,
        classes=values,
    )
