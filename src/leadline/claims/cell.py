"""Cells: one call of a verb each, as data that any process can run and the store can name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.describe import plain
from leadline.errors import check_choice

if TYPE_CHECKING:
    from leadline.problems import Problem

# Raised when the same specification would give other numbers.
ENGINE = 2

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cell:
    """One call.

    Attributes:
        kind: one of ``KINDS``.
        arguments: the call's, by name: dataclasses, numbers, text and tuples.
        keep: names of the trajectory's arrays that are wanted.
        device: where it runs; no part of the identity.
    """

    kind: str
    problem: Problem
    arguments: Mapping[str, Any]
    keep: tuple[str, ...] = ()
    device: str = field(default="cpu", compare=False)

    def spec(self) -> dict[str, Any]:
        """What the cell's id in a store is made of."""
        p = self.problem
        return {
            "cell": self.kind,
            "data": f"{p.name}#{p.fingerprint()[:12]}",
            **{k: plain(v) for k, v in self.arguments.items()},
            "keep": list(self.keep),
            "engine": ENGINE,
        }

    @property
    def label(self) -> str:
        """A few words for the progress line."""
        a = self.arguments
        sizes = [f"{k[0]}={a[k]}" for k in ("width", "depth") if a.get(k) is not None]
        return " ".join([self.kind, *sizes])

    @property
    def work(self) -> float:
        """A rough cost, to begin with the longest: weights times seeds and steps."""
        a = self.arguments
        n, depth, seeds = a.get("width") or 1, a.get("depth") or 1, a.get("seeds", 1)
        steps = getattr(a.get("sgd"), "steps", a.get("steps", 1)) + 1
        width = n * 64 if self.kind in ("solve", "limit") else n * n
        return float(width * depth * seeds * steps) * len(a.get("lrs", (1,)))


def run(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    """Call, and return scalars and arrays."""
    started = time.perf_counter()
    check_choice("kind", cell.kind, KINDS)
    result, arrays = KINDS[cell.kind](cell)
    return {"seconds": time.perf_counter() - started, **result}, arrays


def _trajectory(verb: str) -> Callable[[Cell], tuple[dict[str, Any], Arrays]]:
    def call(cell: Cell) -> tuple[dict[str, Any], Arrays]:
        import leadline

        how = dict(cell.arguments)
        network, sgd = how.pop("network"), how.pop("sgd")
        # A study says how long it takes.
        how |= {"seconds": None} if verb == "lazy" else {"device": cell.device}
        t = getattr(leadline, verb)(cell.problem, network, sgd, **how)
        names = cell.keep or ("train_loss", "test_loss")
        found = {n: t.measures.get(n, getattr(t, n, None)) for n in names}
        return {"diverged": bool((t.diverged >= 0).any())}, {
            n: np.asarray(v, dtype=np.float64) for n, v in found.items() if v is not None
        }

    return call


def _probe(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    from leadline.claims.probe import probe

    return {}, probe(cell.problem, device=cell.device, **cell.arguments)


def _rates(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    from leadline.claims.rates import rates

    return {}, rates(cell.problem, device=cell.device, **cell.arguments)


def _kernels(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    from leadline.kernels.kernels import initial_kernels

    k = initial_kernels(cell.problem, **cell.arguments, seconds=None)
    paths = {"feature_kernel": k.feature_path, "gradient_kernel": k.gradient_path}
    return {}, {"tangent_kernel": k.tangent} | {n: p for n, p in paths.items() if p is not None}


def _limit(cell: Cell) -> tuple[dict[str, Any], Arrays]:
    import leadline

    how = dict(cell.arguments)
    network, sgd = how.pop("network"), how.pop("sgd")
    found = leadline.limit(cell.problem, network, sgd, device=cell.device, **how)
    names = ("train_loss", "train_loss_error", "test_loss", "test_loss_error")
    values = {n: getattr(found, n) for n in (*names, "train_outputs", "test_outputs")}
    arrays = {n: np.asarray(v, dtype=np.float64) for n, v in values.items() if v is not None}
    return {"message": found.message}, arrays | {"converged": np.array(float(found.converged))}


KINDS: dict[str, Callable[[Cell], tuple[dict[str, Any], Arrays]]] = {
    "solve": _trajectory("solve"),
    "train": _trajectory("train"),
    "lazy": _trajectory("lazy"),
    "limit": _limit,
    "kernels": _kernels,
    "probe": _probe,
    "rates": _rates,
}
