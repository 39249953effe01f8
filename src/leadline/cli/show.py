"""What is printed beside a result's own text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.comparison import Comparison
from leadline.disk.plain import plain
from leadline.limits.extrapolation import Limit
from leadline.reporting.tables import text_table
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    from leadline.kernels.kernels import InitialKernels

_PARTS = ("features", "gradients", "tangent", "tangent_input", "tangent_hidden", "tangent_readout")


def warnings(result: Trajectory | Limit | Comparison) -> list[str]:
    """A line for each training that diverged."""
    if isinstance(result, Comparison):
        return [f"{b.name}: {w}" for b in result.branches for w in warnings(b.result)]
    remedy = "lower --lr, or use a scheme with a limit"
    if isinstance(result, Limit):
        bad = np.flatnonzero(~np.isfinite(result.train_loss))
        found = [f"diverged at step {result.steps[bad[0]]}: {remedy}"] if len(bad) else []
        return found if result.converged else [*found, f"not converged: {result.message}"]
    if result.diverged is None or not (result.diverged >= 0).any():
        return []
    at = result.diverged[result.diverged >= 0]
    return [f"diverged at step {at.min()} ({len(at)} of {result.seeds} seeds): {remedy}"]


def kernels_json(kernels: InitialKernels) -> dict[str, Any]:
    """All kernels as nested lists."""
    about = {"depth": kernels.depth, "accuracy": kernels.accuracy}
    return about | {p: plain(getattr(kernels, p)) for p in _PARTS}


def kernels_table(kernels: InitialKernels) -> str:
    """Diagonal, off-diagonal and spectrum of each kernel."""
    rows = []
    for part in _PARTS:
        matrix = getattr(kernels, part)
        p = len(matrix)
        diagonal = np.trace(matrix) / p
        rest = (matrix.sum() - np.trace(matrix)) / max(p * (p - 1), 1)
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        numbers = (diagonal, rest, values[-1], values[0])
        rows.append([part, *(f"{x:.4g}" for x in numbers)])
    header = ["kernel", "mean K(x,x)", "mean K(x,x')", "largest eigenvalue", "smallest"]
    note = (
        "Tangent kernels are in units of η. accuracy: the largest relative error that was measured."
    )
    return f"{kernels!r}\n\n{text_table(header, rows)}\n\n{note}"
