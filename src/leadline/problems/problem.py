"""Data, targets and loss: one frozen object that every solver reads."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from leadline.errors import check_choice, check_list
from leadline.problems.losses import NAMES

_ARRAYS = ("x", "y", "labels", "x_test", "y_test", "labels_test")


def check_finite(name: str, array: np.ndarray) -> None:
    """Refuse NaN and infinities with a ValueError naming the first one's index."""
    finite = np.isfinite(array)
    if finite.all():
        return
    index = np.unravel_index(int(np.argmin(finite)), array.shape)
    where = ", ".join(str(i) for i in index)
    raise ValueError(
        f"{name}[{where}]={float(array[index])} is not finite: "
        "remove the sample or fill in the value"
    )


def check_both(x_test: Any, y_test: Any) -> None:
    """Refuse held-out inputs without targets, and targets without inputs."""
    if (x_test is None) != (y_test is None):
        there, missing = ("x_test", "y_test") if y_test is None else ("y_test", "x_test")
        raise ValueError(f"{there} is given without {missing}: give both, or neither")


def _frozen(name: str, value: Any, dtype: type, ndim: int) -> np.ndarray:
    """A read-only C-contiguous array; copied unless ``value`` already is one that owns its data."""
    array = np.asarray(value)
    if array.dtype.kind not in ("iu" if dtype is np.int64 else "biuf"):
        raise TypeError(f"{name} has dtype {array.dtype}: give {np.dtype(dtype)}")
    if array.ndim != ndim or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}: give {ndim} dimension(s), none of them empty"
        )
    kept = array.dtype == dtype and array.flags.owndata and array.flags.c_contiguous
    if not kept or array.flags.writeable:
        array = np.array(array, dtype=dtype, order="C")
        array.flags.writeable = False
    if dtype is np.float64:
        check_finite(name, array)
    return array


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """What is learned: P samples of d inputs and C outputs, a loss, and held-out samples.

    Use a builder (``arrays``, ``digits``, ``cifar10``, ``mnist``, ``npz``, ``teacher``, ``power_law``)
    unless the arrays are already in this form. Problems are equal when their arrays and loss are.

    Attributes:
        x: (P, d) float64 inputs. All arrays are C-contiguous and read-only.
        y: (P, C) float64 targets. For mse regression targets, or of class labels ±1 for two
            classes (C=1, the second is +1) and one-hot for more; for cross_entropy one-hot, C >= 2.
        labels: (P,) int64 class indices 0..C-1 (0, 1 if C=1), or None for regression.
        x_test, y_test, labels_test: the same for held-out samples, or None.
        loss: "mse", the mean over samples of ½ Σ_c (f_c − y_c)², or "cross_entropy".
        name: names the problem in records; ``parse(name)`` builds it again, arrays aside.
        classes: the original class labels, in the order of the indices, or None.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
    """

    x: np.ndarray
    y: np.ndarray
    labels: np.ndarray | None = None
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    labels_test: np.ndarray | None = None
    loss: str = "mse"
    name: str = "arrays"
    classes: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", check_choice("loss", self.loss, NAMES))
        if not isinstance(self.name, str):
            raise TypeError(f"name={self.name!r} is not a string: give one, such as 'arrays'")
        for name in _ARRAYS:
            value = getattr(self, name)
            if value is None and name not in ("x", "y"):
                continue
            kind, ndim = (np.int64, 1) if name.startswith("labels") else (np.float64, 2)
            object.__setattr__(self, name, _frozen(name, value, kind, ndim))
        if self.classes is not None:
            names = check_list("classes", self.classes, 1_000_000, what="class labels")
            object.__setattr__(self, "classes", tuple(names))
        self._check_shapes()
        self._check_labels()

    def _check_shapes(self) -> None:
        check_both(self.x_test, self.y_test)
        expected = self.labels is not None and self.x_test is not None
        if (self.labels_test is not None) != expected:
            raise ValueError(
                "labels_test must be given with labels and x_test, and only then: "
                f"{'add' if expected else 'drop'} labels_test"
            )
        for name in ("y", "labels", "y_test", "labels_test"):
            source = "x_test" if name.endswith("_test") else "x"
            x, other = getattr(self, source), getattr(self, name)
            if other is not None and len(other) != len(x):
                raise ValueError(
                    f"{source} has {len(x)} rows and {name} {len(other)}: give one a sample"
                )
        for name, a, b in (("x_test", self.x, self.x_test), ("y_test", self.y, self.y_test)):
            if b is not None and a.shape[1] != b.shape[1]:
                raise ValueError(
                    f"{name} has {b.shape[1]} columns and {name[0]} {a.shape[1]}: give as many"
                )

    def _check_labels(self) -> None:
        c = self.outputs
        if self.loss == "cross_entropy" and (c < 2 or self.labels is None):
            raise ValueError(
                f"loss='cross_entropy' with {c} output(s) and labels "
                f"{'missing' if self.labels is None else 'given'}: give labels and a one-hot y "
                "with a column for each of at least 2 classes"
            )
        for end, labels in (("", self.labels), ("_test", self.labels_test)):
            if labels is None:
                continue
            top = max(c, 2)
            if labels.min() < 0 or labels.max() >= top:
                bad = labels[(labels < 0) | (labels >= top)][0]
                raise ValueError(f"labels{end} holds {bad}: give class indices 0..{top - 1}")
            if not np.array_equal(getattr(self, f"y{end}"), encode(labels, top, self.loss)):
                raise ValueError(
                    f"y{end} is not the encoding of labels{end}: give ±1 for two classes under "
                    "mse, else one-hot rows, or let leadline.problems.arrays do it"
                )
        if self.classes is not None and (
            self.labels is None or len(self.classes) != max(c, 2) or len(set(self.classes)) < 2
        ):
            raise ValueError(
                f"classes={self.classes!r} does not name the {max(c, 2)} classes of labels: "
                "give one different label for each, or None for regression"
            )

    @property
    def samples(self) -> int:
        """P, the number of training samples."""
        return self.x.shape[0]

    @property
    def dimension(self) -> int:
        """d, the number of inputs."""
        return self.x.shape[1]

    @property
    def outputs(self) -> int:
        """C, the number of outputs."""
        return self.y.shape[1]

    @property
    def test_samples(self) -> int:
        """The number of held-out samples; 0 if there are none."""
        return 0 if self.x_test is None else self.x_test.shape[0]

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(self.loss.encode())
        for name in _ARRAYS:
            array = getattr(self, name)
            if array is not None:
                digest.update(f"|{name}{array.shape}{array.dtype.str}|".encode())
                digest.update(array)
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the arrays and the loss; the name and class labels do not enter."""
        return self._digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        return self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copies and pickles forget that the arrays are read-only.
        self.__dict__.update(state)
        for name in _ARRAYS:
            array = state.get(name)
            if array is not None:
                array.flags.writeable = False

    def __repr__(self) -> str:
        return (
            f"Problem({self.name!r}, samples={self.samples}, test_samples={self.test_samples}, "
            f"dimension={self.dimension}, outputs={self.outputs}, loss={self.loss!r})"
        )


def encode(labels: np.ndarray, count: int, loss: str) -> np.ndarray:
    """Targets (P, C) of class indices (P,) among ``count`` classes.

    ±1 in one column for two classes under mse, one-hot with ``count`` columns otherwise.
    """
    if loss == "mse" and count == 2:
        return 2.0 * labels[:, None] - 1.0
    targets = np.zeros((len(labels), count))
    targets[np.arange(len(labels)), labels] = 1.0
    return targets


def _spell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ";".join(str(v) for v in value)
    return repr(value) if isinstance(value, float) else str(value)


def spec(build: FunctionType, argument: str = "", **values: Any) -> str:
    """The name of ``build``'s problem, as ``parse`` reads it: kind:argument?parameter=value,...

    Values that are the builder's default are left out.
    A path that holds a "?" gets one more at its end, which ``parse`` splits at.
    """
    defaults = {k: p.default for k, p in inspect.signature(build).parameters.items()}
    changed = [
        f"{k}={_spell(values[k])}"
        for k, default in defaults.items()
        if k in values and values[k] != default
    ]
    name = f"{build.__name__}:{argument}" if argument else build.__name__
    return f"{name}?{','.join(changed)}" if changed or "?" in argument else name
