"""A smooth minimum through measured points, where they support one.

The model is a parabola, or two with a common vertex (log loss rises differently on either side), through
the smallest point and up to two on either side of it. It has fewer parameters than points, so that it can
miss them; by how much decides whether it is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.transferring.bounds import Valley

MISFIT = 0.1
"""Largest misfit, in parts of the rise to the nearer neighbours, of a model that is believed."""
CANDIDATES = 17
"""Vertices tried in each of three rounds."""


@dataclass(frozen=True)
class Vertex:
    """A model's vertex: its place, its log loss, second derivatives left and right, misfit (root mean
    square a degree of freedom)."""

    x: float
    value: float
    bends: tuple[float, float]
    misfit: float


def window(r: Valley) -> slice:
    """The points a model is fitted to."""
    return slice(max(r.best - 2, r.convex[0]), min(r.best + 2, r.convex[1]) + 1)


def vertex(r: Valley, sides: int) -> Vertex | None:
    """Fit of a parabola (``sides`` 1) or of two (2); None where points are too few or it has no minimum
    between the neighbours of the smallest point."""
    at, b = window(r), r.best
    if at.stop - at.start < 3 + sides or not 0 < b < len(r.x) - 1:
        return None
    x, y = r.x[at] - r.x[b], r.y[at] - r.y[b]
    low, high = float(r.x[b - 1] - r.x[b]), float(r.x[b + 1] - r.x[b])
    model = _one(x, y) if sides == 1 else _two(x, y, low, high)
    if model is None or not low <= model.x <= high or min(model.bends) <= 0:
        return None
    return Vertex(model.x + float(r.x[b]), model.value + float(r.y[b]), model.bends, model.misfit)


def believed(r: Valley, noise: float) -> int:
    """Sides of the simplest model that the points support; 0: none.

    Args:
        noise: standard error of a point.
    """
    for sides in (1, 2):
        v = vertex(r, sides)
        if v is None:
            continue
        b = r.best
        rise = min(r.y[b - 1], r.y[b + 1]) - v.value
        if v.misfit <= max(MISFIT * rise, 2 * noise):
            return sides
    return 0


def _one(x: np.ndarray, y: np.ndarray) -> Vertex | None:
    basis = np.stack([np.ones_like(x), x, x**2], axis=1)
    a, b, c = np.linalg.solve(basis.T @ basis, basis.T @ y).tolist()
    if c <= 0:
        return None
    miss = ((basis @ [a, b, c] - y) ** 2).sum() / (len(x) - 3)
    return Vertex(-b / (2 * c), a - b**2 / (4 * c), (2 * c, 2 * c), float(miss**0.5))


def _two(x: np.ndarray, y: np.ndarray, low: float, high: float) -> Vertex | None:
    """Least squares: for each candidate vertex a linear fit; three rounds, each around the last's best."""
    span = high - low
    best = (np.inf, 0.0, np.zeros(3))
    centre = (low + high) / 2
    for _ in range(3):
        at = np.clip(centre + span * np.linspace(-0.5, 0.5, CANDIDATES), low, high)
        u = x[None, :] - at[:, None]
        basis = np.stack([np.ones_like(u), np.minimum(u, 0) ** 2, np.maximum(u, 0) ** 2], axis=-1)
        normal = basis.transpose(0, 2, 1) @ basis
        # A vertex at the last point of a side leaves that side's parabola open: the ridge makes it 0.
        normal += 1e-12 * np.eye(3)
        c = np.linalg.solve(normal, (basis.transpose(0, 2, 1) @ y)[..., None])[..., 0]
        miss = (((basis @ c[..., None])[..., 0] - y) ** 2).sum(1)
        miss = np.where((c[:, 1:] > 0).all(1), miss, np.inf)
        k = int(np.argmin(miss))
        if miss[k] < best[0]:
            best = (float(miss[k]), float(at[k]), c[k])
        centre, span = best[1], 2 * span / (CANDIDATES - 1)
    if not np.isfinite(best[0]):
        return None
    miss, at, c = best
    bends = (2 * float(c[1]), 2 * float(c[2]))
    return Vertex(at, float(c[0]), bends, float((miss / (len(x) - 4)) ** 0.5))
