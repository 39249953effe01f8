"""The computations that are compared, and what they say in sentences: how far networks are from limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leadline.disk.write import write_atomic
from leadline.limits.result import Limit
from leadline.reporting.json_text import write as write_json
from leadline.tabular.tables import number, with_error
from leadline.trajectory import Trajectory


@dataclass(frozen=True)
class Computation:
    """One of the computations compared.

    Attributes:
        name: names its file too. role: "limit", "reference" (a large solve where there is no
            limit), "lazy" or "finite".
        width, depth: None is infinite. coupling: None for lazy, which has none.
    """

    name: str
    role: str
    width: int | None
    depth: int | None
    coupling: str | None
    result: Trajectory | Limit

    def loss(self, part: str = "train") -> np.ndarray | None:
        """Mean loss (R,); None without a test set."""
        value = getattr(self.result, f"{part}_loss")
        if value is None or isinstance(self.result, Limit):
            return value
        return self.result.mean(f"{part}_loss")

    def error(self, part: str = "train") -> np.ndarray | None:
        """Half of the 95 % interval of the mean over seeds, or the limit's error bar."""
        if isinstance(self.result, Limit):
            return getattr(self.result, f"{part}_loss_error")
        if self.loss(part) is None:
            return None
        return self.result.half_width(f"{part}_loss")

    def gap(self, other: Computation) -> float:
        """RMS over recorded steps of the difference of the mean training losses."""
        a, b = self.loss(), other.loss()
        assert a is not None
        assert b is not None
        return float(np.sqrt(np.mean((a - b) ** 2)))

    def write(self, folder: Path) -> Path:
        """Write the result, whole or not at all."""
        if isinstance(self.result, Limit):
            data = self.result.to_json(lists=False)
            return write_atomic(folder / f"{self.name}.json", lambda file: write_json(file, data))
        return self.result.save(folder / f"{self.name}.safetensors")


def label(branch: Computation) -> str:
    """A branch as the legend names it."""
    if branch.role == "limit":
        at = "" if branch.depth is None else f"width ∞, depth {branch.depth}, "
        return f"limit, {at}{branch.coupling}"
    if branch.role == "lazy":
        return "lazy limit" if branch.depth is None else f"lazy, width ∞, depth {branch.depth}"
    size = f"width {branch.width}, depth {branch.depth}"
    return f"solve {size}, {branch.coupling}" if branch.role == "reference" else size


def size_of(branch: Computation) -> tuple[int, int]:
    """Width and depth, to sort by."""
    return branch.width or 0, branch.depth or 0


def summary(branches: Sequence[Computation]) -> list[str]:
    """Differences between the limits."""
    ends = {b.coupling: b for b in branches if b.role in ("limit", "reference")}
    lazy = next((b for b in branches if b.role == "lazy"), None)
    lines = []
    if len(ends) == 2:
        distance = number(ends["independent"].gap(ends["reused"]))
        lines.append(f"The limits of the two couplings are {distance} apart.")
    for coupling, branch in ends.items() if lazy is not None else ():
        assert lazy is not None
        distance = number(lazy.gap(branch))
        kind = "limit" if branch.role == "limit" else "solve"
        lines.append(
            f"Over all steps, feature learning moves the {kind} ({coupling}) by {distance} from the "
            "lazy one."
        )
    return lines


def differences(branches: Sequence[Computation]) -> list[str]:
    """Loss at the end of the largest networks of each coupling minus that of every limit."""
    others = [b for b in branches if b.role != "finite"]
    lines = []
    for coupling in ("reused", "independent"):
        network = _largest(branches, coupling)
        if network is None or not others:
            continue
        kind = f", {coupling}" if _largest(branches, "independent") is not None else ""
        lines += [
            "",
            f"Training loss at the last step of networks of {label(network)}{kind}, minus",
        ]
        lines += [f"  that of the {_named(b)}: {_difference(network, b)}" for b in others]
    return lines


def _largest(branches: Sequence[Computation], coupling: str | None) -> Computation | None:
    group = [b for b in branches if (b.role, b.coupling) == ("finite", coupling)]
    return max(group, key=size_of, default=None)


def _named(branch: Computation) -> str:
    if branch.role == "lazy":
        return "lazy limit"
    return f"{'limit' if branch.role == 'limit' else 'large solve'} ({branch.coupling})"


def _difference(network: Computation, branch: Computation) -> str:
    """The difference with its interval, both errors together, and whether it is one."""
    (a, e), (b, f) = _last(network), _last(branch)
    value, error = a - b, math.hypot(e, f)
    if not math.isfinite(value):
        return "one of them diverged"
    told = "different" if abs(value) > error else "no difference seen"
    if not _met(branch):
        told += ", and this limit's error bar is not met or not tested"
    return f"{with_error(value, error)}, {told}".replace("-", "−")


def _last(branch: Computation) -> tuple[float, float]:
    """The last training loss and its error, 0 where there is none."""
    loss, error = branch.loss(), branch.error()
    assert loss is not None
    return float(loss[-1]), 0.0 if error is None else float(error[-1])


def _met(branch: Computation) -> bool:
    return not isinstance(branch.result, Limit) or branch.result.converged


def answer(branches: Sequence[Computation]) -> tuple[str, ...]:
    """Where the largest networks and their limit end, for each coupling."""
    said = []
    for b in branches:
        if b.role not in ("limit", "reference"):
            continue
        end = f"Training loss at the end: {label(b)}: {_end(b)}"
        network = _largest(branches, b.coupling)
        if network is not None:
            end += f"; networks of {label(network)}: {_end(network)} ({_difference(network, b)})"
        met = "" if _met(b) else "Undecided, the error bar is not met or not tested. "
        said.append(f"{met}{end}.")
    return tuple(said)


def _end(branch: Computation) -> str:
    """The last training loss with its error."""
    loss, error = _last(branch)
    return with_error(loss, None if branch.error() is None else error)
