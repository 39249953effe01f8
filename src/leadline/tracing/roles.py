"""Roles of parameters: which of the dimensions that they connect grow with width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from leadline.errors import check_choice, shown
from leadline.parametrization.rules import ROLES
from leadline.tracing.graph import (
    ATTENTION,
    BY_VECTORS,
    CONVOLUTIONS,
    MATRIX,
    NORMS,
    SCALINGS,
    SUMS,
    TABLES,
    VIEWS,
    Graph,
)
from leadline.tracing.patterns import enters
from leadline.tracing.sums import weighed_sums

_ROLES = (*ROLES, "frozen")
SIDES = {
    (True, True): ("hidden", "fan-in and fan-out grow"),
    (False, True): ("input", "only its fan-out grows"),
    (True, False): ("readout", "only its fan-in grows"),
    (False, False): ("finite", "no dimension grows"),
}
"""Role and reason by whether fan-in and fan-out grow."""


@dataclass(frozen=True)
class Override:
    """What the user says of the parameters whose names fit a pattern."""

    pattern: str
    role: str | None = None
    branch: bool = True
    """False: it counts as outside every branch."""
    init: bool = True
    """False: the builder's values are right at every size."""


@dataclass(frozen=True)
class Overrides:
    """The user's ``roles=``; of several patterns that fit a name the first counts."""

    entries: tuple[Override, ...]

    @classmethod
    def read(cls, roles: Mapping[str, Any] | None) -> Overrides:
        """Check name patterns with a role, or with dict(role=, branch=, init=).

        Raises:
            TypeError, ValueError: naming the pattern.
        """
        if not isinstance(roles, Mapping | None):
            raise TypeError(f"roles={shown(roles)} is no dict: give one of name pattern to role")
        entries = []
        for pattern, value in (roles or {}).items():
            entry = dict(value) if isinstance(value, Mapping) else {"role": value}
            if set(entry) - {"role", "branch", "init"} or not entry:
                raise ValueError(
                    f"roles[{pattern!r}]={value!r} is no role: give one of {', '.join(_ROLES)}, "
                    "dict(branch=False) for a parameter that counts as outside every branch, or "
                    "dict(init=False) for one whose values the builder makes right at every size"
                )
            for key in {"branch", "init"} & set(entry):
                if not isinstance(entry[key], bool):
                    raise TypeError(f"roles[{pattern!r}]: {key}={entry[key]!r}: give True or False")
            if "role" in entry:
                check_choice(f"roles[{pattern!r}]", entry["role"], _ROLES)
            entries.append(Override(pattern, **entry))
        return cls(tuple(entries))

    def check_used(self, names: Iterable[str]) -> None:
        """Every pattern has to match something."""
        known = list(dict.fromkeys(names))
        for pattern in (o.pattern for o in self.entries):
            if not any(fnmatchcase(name, pattern) for name in known):
                near = get_close_matches(pattern, known, n=1, cutoff=0.0)
                raise ValueError(
                    f"roles[{pattern!r}] matches no parameter: give a name or a pattern of names, such as "
                    f"{near[0]!r}"
                )

    def match(self, name: str) -> Override:
        """What is said of a parameter; an override that changes nothing where nothing is."""
        return next((o for o in self.entries if fnmatchcase(name, o.pattern)), Override(name))

    def outside(self, names: Iterable[str]) -> frozenset[str]:
        """Parameters that count as outside every branch."""
        return frozenset(n for n in names if not self.match(n).branch)

    def kept(self, names: Iterable[str]) -> frozenset[str]:
        """Parameters that keep the builder's values."""
        return frozenset(n for n in names if not self.match(n).init)


@dataclass(frozen=True)
class Use:
    """One operation that a parameter takes part in."""

    how: str
    """matrix, gain (of a weight-normalised matrix), derived (a matrix made by operations on several
    parameters), embedding, elementwise or other."""
    fan_in: bool = False
    fan_out: bool = False
    """Does what it contracts, and what it makes, grow with width?"""
    node: int = -1
    op: str = ""


def uses(graph: Graph, wide: Graph, grows: dict[str, tuple[bool, ...]]) -> dict[str, list[Use]]:
    """Every parameter's uses; ``wide`` is the same graph at twice the width."""
    out: dict[str, list[Use]] = {}

    def growing(i: int, dim: int) -> bool:
        a, b = graph.nodes[i].shape, wide.nodes[i].shape
        return len(a) >= abs(dim + 0.5) and a[dim] != b[dim]

    summed = weighed_sums(graph, wide)
    for node in graph.nodes:
        i = node.index
        if not graph.is_act(i):
            continue
        for place, j in enumerate(node.inputs):
            names = () if graph.is_act(j) else graph.leaves(j)
            for name in names:
                use = Use("other", node=i, op=node.op)
                if node.op in CONVOLUTIONS and place == 1:
                    turned = bool(node.kwargs.get("transposed"))
                    use = Use("matrix", growing(j, int(not turned)), growing(j, int(turned)), i)
                elif node.op in MATRIX and (
                    j not in graph.operands(i) or j == _rows(graph, growing, i)
                ):
                    # What is added to a product, and rows that stand for data.
                    use = Use("elementwise", node=i)
                elif node.op in MATRIX and len(graph.nodes[j].shape) > 1:
                    use = _product(graph, growing, i, j)
                elif (node.op in BY_VECTORS and j in graph.operands(i)) or i in summed:
                    # A vector's entries are its fan-in; a fan-out that grows is beside them.
                    use = Use("matrix", True in grows[name], sum(grows[name]) > 1, i)
                elif node.op in TABLES and place == 0:
                    use = Use("embedding", False, True in grows[name], i)
                elif node.op in _ELEMENTWISE or node.op in VIEWS:
                    use = Use("elementwise", node=i)
                if use.how == "matrix":
                    use = replace(use, how=enters(graph, j, name))
                out.setdefault(name, []).append(use)
    # What is only compared, or made and left, says nothing of a parameter that is used otherwise too.
    read = {n: [u for u in several if graph.read >> u.node & 1] for n, several in out.items()}
    return {n: read[n] or several for n, several in out.items()}


_ELEMENTWISE = (
    NORMS
    | MATRIX
    | CONVOLUTIONS
    | ATTENTION
    | SCALINGS
    | SUMS
    | frozenset(
        "cat stack where addcmul pow lerp copy_ select_scatter index_put index_put_ _prelu_kernel".split()
    )
)


def _rows(graph: Graph, growing: Any, i: int) -> int:
    """The factor that stands for data in a product of parameters alone; -1 in any other product."""
    if any(map(graph.is_act, graph.nodes[i].inputs)):
        return -1
    left, right = graph.operands(i)
    if graph.nodes[i].op in BY_VECTORS:
        return right
    # The outputs of a layer may grow; how many rows there are does not.
    many = graph.nodes[i].op in ("mm", "bmm", "addmm") and growing(left, -2)
    return right if many and not growing(right, -1) else left


def _product(graph: Graph, growing: Any, i: int, j: int) -> Use:
    node = graph.nodes[i]
    if node.op in ("linear", "mkldnn_linear"):
        return Use("matrix", growing(node.inputs[0], -1), growing(i, -1), i)
    left, right = graph.operands(i)
    # So many matrices (heads, groups) that their number grows make as many outputs.
    several = any(growing(j, k) for k in range(len(graph.nodes[j].shape) - 2))
    if j == right:
        return Use("matrix", growing(left, -1), several or growing(i, -1), i)
    return Use("matrix", growing(right, -2 if len(graph.nodes[right].shape) > 1 else -1),
               several or growing(i, -2 if len(node.shape) > 1 else -1), i)  # fmt: skip


def role(
    name: str, grows: tuple[bool, ...], uses: list[Use], model: nn.Module
) -> tuple[str, str, bool]:
    """The role, the reason, and whether the parameter is a tied readout too.

    Args:
        model: the module that holds it, which says what an unused one is.

    Raises:
        ValueError: it cannot be decided.
    """
    matrix = {(u.fan_in, u.fan_out) for u in uses if u.how == "matrix"}
    others = {u.how for u in uses} - {"matrix"}
    if not uses:
        return (*_unused(name, grows, model), False)
    if others & {"embedding"} and matrix == {(True, False)}:
        return "input", "embedding: only its fan-out grows; also the readout (tied)", True
    if others == {"embedding"} and matrix == {(False, False)}:
        return "finite", "no dimension grows", False
    if "derived" in others:
        sides = {(u.fan_in, u.fan_out) for u in uses if u.how == "derived"}
        likely = repr(SIDES[sides.pop()][0]) if len(sides) == 1 else "..."
        raise ValueError(
            f"parameter {name!r} is turned into a weight by operations whose scale cannot be read off: "
            f"use it as a weight directly, or give roles={{{name!r}: {likely}}}, with which the weight's "
            "scale is measured"
        )
    if others == {"gain"}:
        sides = {(u.fan_in, u.fan_out) for u in uses}
        if (True, False) in sides:
            raise ValueError(
                f"parameter {name!r} is the gain of a weight-normalised readout: give the readout a "
                "plain weight"
            )
        return ("vector" if any(grows) else "finite"), "gain of a normalised weight", False
    one_a_neuron = sum(grows) == 1 < len(grows)
    if matrix == {(False, True)} and others == {"elementwise"} and one_a_neuron:
        # Positions, say, that are made of data here and of constants there: its entries add up alike.
        return (*SIDES[False, True], False)
    if len(matrix) > 1 or (matrix and others):
        likely = repr(SIDES[next(iter(matrix))][0]) if len(matrix) == 1 else "..."
        raise ValueError(
            f"parameter {name!r} is used in different ways ({_ways(uses)}): give each use its own "
            f"parameter, or its role with roles={{{name!r}: {likely}}}"
        )
    if matrix:
        return (*SIDES[matrix.pop()], False)
    if others == {"embedding"}:
        return ("input", "embedding: only its fan-out grows", False) if any(grows) else (
            "finite", "no dimension grows", False)  # fmt: skip
    if {"elementwise"} <= others <= {"elementwise", "embedding"} and one_a_neuron:
        return "input", "added or multiplied: one entry a neuron", False
    if "other" in others and len(grows) > 1 and any(grows):
        ops = sorted({u.op for u in uses if u.how == "other"})
        raise ValueError(
            f"parameter {name!r} is used by {', '.join(ops)}, which is no operation whose scale is known: "
            f"use matmul, linear or a convolution, or give roles={{{name!r}: ...}}"
        )
    return (*_by_shape(name, grows, ""), False)


def _unused(name: str, grows: tuple[bool, ...], model: nn.Module) -> tuple[str, str]:
    """By what its module would do with it."""
    why = "unused in the forward pass; "
    holder, _, attribute = name.rpartition(".")
    module = model.get_submodule(holder)
    if attribute == "weight" and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return SIDES[grows[1], grows[0]][0], why + f"the weight of a {type(module).__name__}"
    if attribute == "weight" and isinstance(module, nn.Embedding) and any(grows):
        return "input", why + "an embedding"
    rest = [d for d, g in zip(model.get_parameter(name).shape, grows, strict=True) if not g]
    if sum(grows) == 1 and len(grows) > 1 and set(rest) == {1}:
        return "input", why + "one entry a neuron"
    return _by_shape(name, grows, why)


def _ways(uses: list[Use]) -> str:
    words = []
    for u in uses:
        sides = [s for s, g in (("fan-in", u.fan_in), ("fan-out", u.fan_out)) if g]
        words.append(f"{u.how}, growing: {' and '.join(sides) or 'nothing'}")
    return "; ".join(dict.fromkeys(words))


def _by_shape(name: str, grows: tuple[bool, ...], why: str) -> tuple[str, str]:
    if not any(grows):
        return "finite", why + "no dimension grows"
    if len(grows) == 1:
        return "vector", why + "a vector that grows"
    if sum(grows) == 2:
        return "hidden", why + "two dimensions grow"
    raise ValueError(
        f"parameter {name!r}: {why}one of its dimensions grows, and whether that is fan-in or fan-out "
        f"cannot be read off; give roles={{{name!r}: 'input'}} or 'readout'"
    )
