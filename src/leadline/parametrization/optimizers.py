"""Optimizers as data: what a scaling rule has to know about each."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.errors import check_choice


@dataclass(frozen=True)
class Optimizer:
    """What a step looks like: this, not the name, decides the exponents."""

    name: str
    update: str
    """gradient: proportional to it; normalised: entries of size lr; relative: entries of size
    lr·RMS(weight); orthogonal: singular values of size lr; orthogonal-rms: of size
    lr·√max(shape) (both for matrices only)."""
    decay: str
    """coupled: λw is added to the gradient; decoupled: w loses lr·λ·w a step."""
    has_eps: bool


_TABLE = (
    Optimizer("sgd", "gradient", "coupled", False),
    Optimizer("adam", "normalised", "coupled", True),
    Optimizer("adamw", "normalised", "decoupled", True),
    Optimizer("lion", "normalised", "decoupled", False),
    Optimizer("adafactor", "relative", "decoupled", True),
    Optimizer("muon", "orthogonal", "decoupled", False),
    Optimizer("muon-match-rms", "orthogonal-rms", "decoupled", False),
)
OPTIMIZERS: dict[str, Optimizer] = {o.name: o for o in _TABLE}


def optimizer(name: str | Optimizer) -> Optimizer:
    """The optimizer called ``name``.

    Raises:
        ValueError: no rule for it; the message names the nearest that has one.
    """
    if isinstance(name, Optimizer):
        return name
    return OPTIMIZERS[check_choice("optimizer", name, OPTIMIZERS)]
