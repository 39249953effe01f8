"""Finished runs as a fit takes them: sizes by axis, losses, groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

DATA = ("tokens", "samples", "steps")
"""Axes along which one training goes."""
MODEL = ("parameters", "width", "depth")
"""Axes that one training keeps."""
FLOPS = 6
"""Operations of a training, forward and backward, for each parameter and token."""


@dataclass(frozen=True)
class Runs:
    """Runs with a finite loss.

    Attributes:
        sizes: (N,) by axis, for the axes that the data have.
        loss: (N,).
        cell: (N,) number of the run's size, 0 to the number of sizes - 1.
        roles: what an axis is ("parameters", "tokens", "width", …), by axis.
        groups: (N,) number of the training that a row belongs to; every row its own where all are
            independent.
        costs: (N,) a column of costs, if the table has one, called ``cost_column``.
        diverged: how many runs were left out.
        notes: what a reader of the forecast has to know about the data.
        label: what the table calls a row.
        read: which columns are what, in words.
    """

    sizes: Mapping[str, np.ndarray]
    loss: np.ndarray
    cell: np.ndarray
    roles: Mapping[str, str] = field(default_factory=dict)
    groups: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    costs: np.ndarray | None = None
    cost_column: str = ""
    diverged: int = 0
    notes: tuple[str, ...] = ()
    label: Callable[[int], str] = "row {}".format
    read: str = ""

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

    @property
    def grouped(self) -> bool:
        """Whether some rows belong to one training."""
        return len(np.unique(self.groups)) < len(self)

    def role(self, axis: str) -> str:
        """What an axis is; its name where that says it."""
        return self.roles.get(axis, axis)

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
        rows = np.flatnonzero(keep)
        return make_runs(
            {a: x[keep] for a, x in self.sizes.items()},
            self.loss[keep],
            roles=self.roles,
            groups=numbered(self.groups[keep]),
            costs=None if self.costs is None else self.costs[keep],
            cost_column=self.cost_column,
            diverged=self.diverged,
            notes=self.notes,
            label=lambda i: self.label(int(rows[i])),
            read=self.read,
        )

    def means(self) -> Runs:
        """One run a size: the geometric mean of its losses."""
        first = np.unique(self.cell, return_index=True)[1]
        counts = np.bincount(self.cell)
        loss = np.exp(np.bincount(self.cell, np.log(self.loss)) / counts)
        return make_runs(
            {a: x[first] for a, x in self.sizes.items()},
            loss,
            roles=self.roles,
            diverged=self.diverged,
            label=lambda i: self.label(int(first[i])),
        )


def make_runs(sizes: Mapping[str, np.ndarray], loss: np.ndarray, **rest: object) -> Runs:
    """Runs whose sizes are numbered; each its own group unless told."""
    cell = numbered_rows(list(sizes.values()))
    groups = rest.pop("groups", None)
    groups = np.arange(len(loss)) if groups is None else groups
    return Runs(sizes, loss, cell, groups=groups, **rest)  # ty: ignore


def numbered(values: np.ndarray) -> np.ndarray:
    """Numbers 0, 1, … in place of the different values."""
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def numbered_rows(columns: list[np.ndarray]) -> np.ndarray:
    """(N,) numbers of the different rows."""
    return np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1].reshape(-1)
