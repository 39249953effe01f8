"""What was measured inside a network, as a table: one number a module (or depth time) and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leadline.intervals import half_width
from leadline.tabular.tables import text_table, with_error
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    from leadline.limits.result import Limit

Row = tuple[str, str, np.ndarray, np.ndarray | None]
"""Place, quantity, values (M,) and half-widths of about 95 % (M,), or None for one seed."""

_WORDS = {
    "movement": "movement, RMS over samples",
    "feature_kernel": "features: mean K(x,x)",
    "activation_kernel": "activations: mean K(x,x)",
    "gradient_kernel": "gradients: mean K(x,x)",
    "tangent_input": "tangent, input: mean K(x,x)",
    "tangent_hidden": "tangent, hidden: mean K(x,x)",
    "tangent_readout": "tangent, readout: mean K(x,x)",
}
_KERNELS = ("feature_kernel", "activation_kernel", "gradient_kernel")


def measures_text(result: Trajectory | Limit, targets: np.ndarray | None = None) -> str:
    """The table of ``measures_table`` as text; "" where nothing was measured."""
    table = measures_table(result, targets)
    return "" if table is None else text_table(*table, left=2)


def measures_table(
    result: Trajectory | Limit, targets: np.ndarray | None = None
) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows: where, what, and a number for every measured step, with its half-width.

    Half-widths are about 95 %: of a trajectory Student's t over seeds; of a limit the largest
    that the bars of a kernel's entries allow, to first order.

    Args:
        targets: (P, C), for the alignment of the features' kernel with them.

    Returns:
        None where nothing was measured.
    """
    inner = result if isinstance(result, Trajectory) else result.measures
    if inner is None or (isinstance(result, Trajectory) and not result.measures):
        return None
    steps = inner.measured_steps if isinstance(inner, Trajectory) else inner.steps
    assert steps is not None
    rows = list(
        _of_runs(result, targets) if isinstance(result, Trajectory) else _of_limit(result, targets)
    )
    header = ["where", "what", *(f"step {k}" for k in steps)]
    return header, [[place, what, *_cells(values, errors)] for place, what, values, errors in rows]


def _cells(values: np.ndarray, errors: np.ndarray | None) -> Iterator[str]:
    for k, value in enumerate(values):
        yield with_error(float(value), None if errors is None else float(errors[k]))


def _places(modules: Sequence[str], times: np.ndarray | None, count: int) -> list[str]:
    if modules:
        return list(modules)
    return [f"t = {t:g}" for t in times] if times is not None and len(times) == count else [""]


def _of_runs(t: Trajectory, targets: np.ndarray | None) -> Iterator[Row]:
    """Rows of a trajectory, whose measures have first axes (S, M)."""

    def row(place: str, what: str, values: np.ndarray) -> Row:
        error = half_width(values) if t.seeds > 1 else None
        return place, what, values.mean(0), error

    for name, x in t.measures.items():
        if name not in _WORDS:
            continue
        x = np.asarray(x, dtype=float)
        each = [x] if name.startswith("tangent") else [x[:, :, d] for d in range(x.shape[2])]
        for place, y in zip(_places(t.modules, t.times, len(each)), each, strict=True):
            yield row(place, _WORDS[name], _summary(name, y))
            if name in _KERNELS and y.shape[1] > 1:
                yield row(place, f"{name.split('_')[0]} kernel's alignment with step "
                          f"{_first(t.measured_steps)}", _cosine(y, y[:, :1]))  # fmt: skip
            if name == "feature_kernel" and targets is not None:
                yield row(
                    place, "feature kernel's alignment with targets", _cosine(y, _outer(targets, y))
                )


def _of_limit(result: Limit, targets: np.ndarray | None) -> Iterator[Row]:
    """Rows of a limit, whose entries have bars of their own."""
    measures = result.measures
    assert measures is not None
    for name, x in measures.values.items():
        bars = measures.errors[name]
        each = [(x, bars)] if name.startswith("tangent") else [
            (x[:, d], bars[:, d]) for d in range(x.shape[1])
        ]  # fmt: skip
        for place, (y, e) in zip(
            _places(measures.modules, measures.times, len(each)), each, strict=True
        ):
            value = _summary(name, y)
            slope = y / (value[..., None] * y.shape[-1]) if name == "movement" else None
            error = (np.abs(slope) * e).sum(-1) if slope is not None else _diagonal(e).mean(-1)
            yield place, _WORDS[name], value, error
            if name == "feature_kernel" and targets is not None:
                yield (
                    place,
                    "feature kernel's alignment with targets",
                    *_aligned(y, e, _outer(targets, y)),
                )


def _first(steps: np.ndarray | None) -> int:
    return 0 if steps is None else int(steps[0])


def _diagonal(x: np.ndarray) -> np.ndarray:
    return np.diagonal(x, axis1=-2, axis2=-1)


def _summary(name: str, x: np.ndarray) -> np.ndarray:
    """The mean of a kernel's diagonal; the root mean square of movements."""
    return np.sqrt((x**2).mean(-1)) if name == "movement" else _diagonal(x).mean(-1)


def _norm(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).sum((-2, -1)))


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """⟨x, y⟩/(‖x‖‖y‖) of matrices."""
    return (x * y).sum((-2, -1)) / (_norm(x) * _norm(y))


def _outer(targets: np.ndarray, like: np.ndarray) -> np.ndarray:
    """yyᵀ of the samples that a kernel is of."""
    count = like.shape[-1]
    y = np.asarray(targets, dtype=float)[:count].reshape(count, -1)
    return y @ y.T


def _aligned(x: np.ndarray, error: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The alignment of kernels (M, P, P) with a matrix, and the largest change that their bars allow."""
    a, size = _cosine(x, y), _norm(x)[..., None, None]
    slope = (y / _norm(y) - a[..., None, None] * x / size) / size
    return a, (np.abs(slope) * error).sum((-2, -1))
