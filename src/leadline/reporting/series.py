"""What the figures show, as plain data: curves by panel, without any drawing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from leadline.trajectory import Trajectory, standard_error

if TYPE_CHECKING:
    from leadline.comparison import Branch, Comparison
    from leadline.limits.extrapolation import Limit


class Series(TypedDict):
    """One curve.

    panel: "train" and "test" (loss over step), "size" (final loss over width), "gap" (to the limit,
    over width). role: "limit", "reference", "lazy", "finite" or "result". shade: 0 (smallest size)
    to 1 (largest, and limits). error: half-widths of about 95 %, or None.
    """

    name: str
    panel: str
    role: str
    coupling: str | None
    shade: float
    x: list[float]
    y: list[float]
    error: list[float] | None


def loss_curves(comparison: Comparison) -> list[Series]:
    """The series of all panels of a comparison, limits first."""
    branches = comparison.branches
    networks = [b for b in branches if b.role == "finite"]
    sizes = sorted({_size(b) for b in networks})
    out: list[Series] = []
    for part in ("train", "test"):
        for branch in branches:
            loss, error = branch.loss(part), branch.error(part)
            if loss is None:
                continue
            shade = 1.0
            if branch.role == "finite" and len(sizes) > 1:
                shade = sizes.index(_size(branch)) / (len(sizes) - 1)
            steps = branch.result.steps
            out.append(_series(branch, part, label(branch), shade, steps, loss, error))
    out += _over_width(comparison, networks)
    return out


def _over_width(comparison: Comparison, networks: list[Branch]) -> list[Series]:
    """Final loss and gap of the finite networks over width, and the limits as horizontal lines."""
    rows = {row["name"]: row for row in comparison.rows}
    out: list[Series] = []
    widths = sorted({float(b.width or 0) for b in networks})
    for branch in comparison.branches:
        if branch.role != "finite":
            row = rows[branch.name]
            loss, error = ([row[k]] * len(widths) for k in ("train_loss", "train_loss_error"))
            out.append(_series(branch, "size", label(branch), 1.0, widths, loss, error))
    for coupling in dict.fromkeys(b.coupling for b in networks):
        group = sorted((b for b in networks if b.coupling == coupling), key=_size)
        n = [float(b.width or 0) for b in group]
        name = f"networks, {coupling}"
        values = {
            k: [rows[b.name][k] for b in group] for k in ("train_loss", "train_loss_error", "gap")
        }
        loss, error = values["train_loss"], values["train_loss_error"]
        out.append(_series(group[-1], "size", name, 1.0, n, loss, error))
        out.append(_series(group[-1], "gap", name, 1.0, n, values["gap"], None))
    return out


def result_curves(result: Trajectory | Limit) -> list[Series]:
    """Training and test loss of one result, with its error."""
    out: list[Series] = []
    for part in ("train", "test"):
        value = getattr(result, f"{part}_loss")
        if value is None:
            continue
        if isinstance(result, Trajectory):
            loss = value.mean(0)
            error = 2 * standard_error(value) if result.seeds > 1 else None
        else:
            loss, error = value, getattr(result, f"{part}_loss_error")
        out.append(
            Series(
                name=f"{part} loss",
                panel="loss",
                role="result",
                coupling=part,
                shade=1.0,
                x=_list(result.steps),
                y=_list(loss),
                error=None if error is None else _list(error),
            )
        )
    return out


def label(branch: Branch) -> str:
    """A branch as the legend names it."""
    if branch.role == "limit":
        return f"limit, {branch.coupling}"
    if branch.role == "lazy":
        return "lazy limit" if branch.depth is None else f"lazy, n=∞, L={branch.depth}"
    size = f"n={branch.width}, L={branch.depth}"
    return f"solve {size}, {branch.coupling}" if branch.role == "reference" else size


def _size(branch: Branch) -> tuple[int, int]:
    return branch.width or 0, branch.depth or 0


def _series(
    branch: Branch,
    panel: str,
    name: str,
    shade: float,
    x: Iterable[float],
    y: Iterable[float],
    error: Iterable[float] | None,
) -> Series:
    return Series(
        name=name,
        panel=panel,
        role=branch.role,
        coupling=branch.coupling,
        shade=shade,
        x=_list(x),
        y=_list(y),
        error=None if error is None else _list(error),
    )


def _list(x: Iterable[Any]) -> list[float]:
    return [float(v) for v in np.asarray([np.nan if v is None else v for v in x], dtype=float)]
