"""Finished runs, from what a user has: read as columns and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.tabular.columns import Columns
from leadline.tabular.files import read_columns

AXES = ("width", "depth", "samples", "steps")
# Settings that a law has no term for: where they vary, runs of a size are no replicates.
_SETTINGS = ("lr", "scheme", "optimizer", "batch_size", "weight_decay", "momentum", "activation")
_FEWEST = 3
_NEEDED = "columns width, depth and loss are needed, one row a run"


@dataclass(frozen=True)
class Runs:
    """Runs with a finite loss.

    Attributes:
        sizes: (N,) by axis, for the axes that the data have.
        loss: (N,).
        cell: (N,) number of the run's size, 0 to the number of sizes - 1.
        diverged: how many runs were left out.
        notes: what a reader of the forecast has to know about the data.
    """

    sizes: Mapping[str, np.ndarray]
    loss: np.ndarray
    cell: np.ndarray
    diverged: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def cells(self) -> int:
        """Number of sizes."""
        return int(self.cell.max()) + 1

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that vary."""
        return tuple(a for a, x in self.sizes.items() if len(np.unique(x)) > 1)

    def levels(self, axis: str) -> np.ndarray:
        """The values of an axis, ascending."""
        return np.unique(self.sizes[axis])

    def logs(self, axes: tuple[str, ...], origin: np.ndarray) -> np.ndarray:
        """(N, axes) logarithms of size over origin."""
        if not axes:
            return np.zeros((len(self), 0))
        return np.log(np.stack([self.sizes[a] for a in axes], axis=1) / origin)

    def take(self, keep: np.ndarray) -> Runs:
        """The runs where ``keep`` is true."""
        return _runs({a: x[keep] for a, x in self.sizes.items()}, self.loss[keep])

    def means(self) -> Runs:
        """One run a size: the geometric mean of its losses."""
        first = np.unique(self.cell, return_index=True)[1]
        counts = np.bincount(self.cell)
        loss = np.exp(np.bincount(self.cell, np.log(self.loss)) / counts)
        return Runs(
            {a: x[first] for a, x in self.sizes.items()}, loss, np.arange(len(first)), self.diverged
        )


def _runs(sizes: Mapping[str, np.ndarray], loss: np.ndarray, *rest: Any) -> Runs:
    cell = np.unique(np.stack(list(sizes.values()), axis=1), axis=0, return_inverse=True)[1]
    return Runs(sizes, loss, cell.reshape(-1), *rest)


def runs(data: Any, loss: str = "loss") -> Runs:
    """Read and check.

    Raises:
        ValueError, TypeError, OSError: naming column, row and remedy.
    """
    t = data if isinstance(data, Columns) else read_columns(data)
    y = t.numbers(loss, _NEEDED)
    ok = np.isfinite(y)
    sizes = {}
    for axis in AXES:
        if axis not in t.columns and axis in ("samples", "steps"):
            continue
        sizes[axis] = _sizes(t, axis)
    if not ok.any():
        raise ValueError(
            f"{t.source}: all {len(t)} runs diverged (column {loss!r} is nowhere finite): "
            "lower the learning rate and run again"
        )
    for i in np.flatnonzero(ok & (y <= 0)):
        raise ValueError(
            f"{t.source}: column {loss!r} is {y[i]:g} in {t.row(i)}: a law of sizes needs losses "
            "> 0; leave accuracies and shifted losses out"
        )
    notes = _notes(t, ok)
    finite = _runs({a: x[ok] for a, x in sizes.items()}, y[ok], int((~ok).sum()), notes)
    if finite.cells < _FEWEST:
        seen = ", ".join(
            "×".join(f"{v:g}" for v in size)
            for size in np.unique(np.stack(list(finite.sizes.values()), 1), axis=0)
        )
        what = "one size" if finite.cells == 1 else "two sizes"
        raise ValueError(
            f"{t.source} has only {what} ({'×'.join(finite.sizes)}: {seen}): give runs of at least "
            f"{_FEWEST} sizes, better 4 widths and 4 depths"
        )
    return finite


def _sizes(t: Columns, axis: str) -> np.ndarray:
    x = t.numbers(axis, _NEEDED)
    for i in np.flatnonzero(~np.isfinite(x)):
        raise ValueError(
            f"{t.source}: column {axis!r} has no finite number in {t.row(i)}: fill it in, or leave "
            "the row out"
        )
    for i in np.flatnonzero(x <= 0):
        raise ValueError(f"{t.source}: column {axis!r} is {x[i]:g} in {t.row(i)}: give a size > 0")
    return x


def _notes(t: Columns, ok: np.ndarray) -> tuple[str, ...]:
    notes = []
    if not ok.all():
        count = int((~ok).sum())
        said = "1 run without a finite loss (diverged) is" if count == 1 else (
            f"{count} runs without a finite loss (diverged) are"
        )  # fmt: skip
        notes.append(f"{said} left out, of {len(t)}.")
    for name in _SETTINGS:
        values = list(dict.fromkeys(str(v) for v in t.columns.get(name, [])))
        if len(values) > 1:
            notes.append(
                f"Column {name!r} takes {len(values)} values and no law has a term for it: its runs "
                "count as replicates; better give the best setting's runs only."
            )
    if "seed" in t.columns:
        key = [n for n in (*AXES, *_SETTINGS, "seed") if n in t.columns]
        rows = [tuple(str(t.columns[n][i]) for n in key) for i in np.flatnonzero(ok)]
        twice = len(rows) - len(set(rows))
        if twice:
            notes.append(f"{twice} rows repeat the size and seed of another: they count twice.")
    return tuple(notes)
