"""``explain``: a scheme's table for an optimizer, with reasons and sources."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.parametrization.optimizers import OPTIMIZERS, Optimizer
from leadline.parametrization.optimizers import optimizer as named_optimizer
from leadline.parametrization.rules import ONE, Place, Power, exponents
from leadline.parametrization.schemes import Scheme
from leadline.planning.factors import check_scheme, resolve
from leadline.tabular.tables import text_table

_ROLES = {
    "input": "its gradient is ∂f/∂h; only the fan-out grows, so entries stay O(1)",
    "hidden": "n terms add up: at random at first (std m^-½), aligned once trained",
    "readout": "n aligned terms must add up to O(1)",
    "vector": "as the input's: one entry a neuron",
    "finite": "nothing grows",
}
_DEPTH = {
    0.0: "branches are not scaled",
    -0.5: "L branches of random sign add up to O(1): multiplier r^-½",
    -1.0: "L aligned branches add up to O(1): multiplier 1/r",
}


@dataclass(frozen=True)
class Explanation:
    """The table: ``rows`` of (place, init, lr, weight decay, eps, reason); printable."""

    scheme: str
    optimizer: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        table = text_table(self.header, self.rows, left=99)
        title = f"{self.scheme}, {self.optimizer}: m = width/base width, r = depth/base depth"
        return "\n".join([title, table, *self.notes])


def explain(scheme: str | Scheme, optimizer: str | Optimizer = "adamw") -> Explanation:
    """A scheme's exponents for an optimizer, each with its reason, and the sources.

    >>> print(explain("mup", "sgd").rows[1][:3])
    ('hidden', 'm^-½', '1')

    Args:
        scheme: a name as in ``plan``, or a table of your own.
        optimizer: a name as in ``plan``.

    Raises:
        ValueError: an unknown scheme or optimizer.
    """
    check_scheme(scheme)
    o = named_optimizer(optimizer)
    name = scheme if isinstance(scheme, str) else scheme.name
    rows = []

    def row(label: str, place: Place, fold: Power, reason: str) -> None:
        used = o
        if o.orthogonal and place.role != "hidden":
            used = OPTIMIZERS["adamw"]
            reason += " (by AdamW)"
        e = exponents(resolve(scheme, place.layers), used, place, fold)
        cells = [str(p) for p in (e.init, e.lr, e.weight_decay, e.eps)]
        rows.append((label, *cells, reason))

    for role, reason in _ROLES.items():
        row(role, Place(role), ONE, "the builder's own" if scheme == "sp" else reason)
    notes = []
    for layers in (1, 2):
        s = resolve(scheme, layers)
        if s is None:
            notes.append("sp: every factor is 1; nothing is promised about any size but the base.")
            break
        branch = f"branch of {'1 weight layer' if layers == 1 else '2 or more'}"
        why = _DEPTH.get(s.branch, f"multiplier r^{s.branch:g}")
        fold = Power(depth=s.branch)
        if layers == 1:
            row(f"{branch}: the layer*", Place("hidden", 0, 1, True), fold, why)
        else:
            row(f"{branch}: inner", Place("hidden", 0, 2, False), ONE, _inner(s))
            row(f"{branch}: inner bias, gain", Place("vector", 0, 2, False), ONE, "as its layer")
            row(f"{branch}: last*", Place("hidden", 1, 2, True), fold, why)
            row(f"{branch}: last bias, gain*", Place("vector", 1, 2, True), fold, "as its layer")
        notes.append(f"{branch}: {s.name}, {s.reason} [{s.source}]")
    if any("*" in r[0] for r in rows):
        notes.insert(0, "* with the branch multiplier folded into it")
    header = ("parameter", "init", "lr", "weight decay", "eps", "reason")
    return Explanation(name, o.name, header, tuple(rows), tuple(notes))


def _inner(s: Scheme) -> str:
    if s.rate_internal:
        return (
            f"gradients carry r^{s.branch:g}: the rate's r^{s.rate_internal:g} keeps its own update"
        )
    if s.branch == 0:
        return "branches are not scaled"
    return "no factor: its own update shrinks with the branch multiplier"
