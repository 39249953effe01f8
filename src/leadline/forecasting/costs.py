"""What a run costs: 6·N·D, a column of the table, an expression or a function."""

from __future__ import annotations

import ast
import inspect
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline.errors import shown
from leadline.forecasting.runs import DATA, FLOPS, Runs

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "log": np.log, "log2": np.log2, "sqrt": np.sqrt, "exp": np.exp, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
# A column that is off its power law by more than this is no cost of the sizes alone.
_OFF = 0.2


@dataclass(frozen=True)
class RunCost:
    """A cost of sizes by axis.

    Attributes:
        text: as it is printed. axes: those it depends on. function: sizes by axis to costs.
        powers: by axis, where the cost is a product of powers; None elsewhere.
    """

    text: str
    axes: tuple[str, ...]
    function: Callable[[Mapping[str, Any]], Any]
    powers: Mapping[str, float] | None

    def __call__(self, sizes: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(self.function(sizes), dtype=float)


def make_cost(cost: Any, runs: Runs) -> RunCost:
    """The cost that is meant: None is 6·N·D, or width²·depth·samples·steps of what the runs have.

    Raises:
        ValueError, TypeError: an expression of other names, or something else.
    """
    if cost is None:
        return _default(runs)
    if isinstance(cost, RunCost):
        return cost
    if isinstance(cost, str):
        if runs.costs is not None and cost in ("flops", "cost", "column", runs.cost_column):
            return _column(runs)
        return _expression(cost, runs)
    if callable(cost):
        return _function(cost, runs)
    raise TypeError(
        f"cost={shown(cost)} is no cost: give an expression such as '6*N*D', the name of the column of "
        "costs, or a function of sizes"
    )


def axis_named(name: str, runs: Runs) -> str | None:
    """The axis of a name: its own, or what it is, or the field's letter."""
    if name in runs.sizes:
        return name
    letters = {"N": "parameters", "D": "tokens", "C": "flops", "n": "width", "l": "depth"}
    wanted = {name, letters.get(name, name)}
    if "tokens" in wanted and "tokens" not in runs.roles.values():
        wanted.add("samples")
    same = [a for a in runs.sizes if runs.role(a) in wanted]
    return same[0] if len(same) == 1 else None


def _default(runs: Runs) -> RunCost:
    roles = {runs.role(a): a for a in runs.sizes}
    data = next((roles[r] for r in DATA if r in roles and r != "steps"), None)
    if "parameters" in roles and data is not None:
        return _power({roles["parameters"]: 1.0, data: 1.0}, FLOPS)
    powers = {"width": 2.0, "depth": 1.0, "samples": 1.0, "tokens": 1.0, "steps": 1.0}
    used = {roles[r]: p for r, p in powers.items() if r in roles}
    if not used:
        raise ValueError(
            f"cost=None: nothing is known of the cost of {', '.join(runs.sizes)}: give an expression of "
            f"them, such as cost='{FLOPS}*{next(iter(runs.sizes))}' (--cost)"
        )
    return _power(used, 1.0)


def _power(powers: Mapping[str, float], factor: float) -> RunCost:
    def function(sizes: Mapping[str, Any]) -> Any:
        out = factor
        for axis, power in powers.items():
            out = out * np.asarray(sizes[axis], dtype=float) ** power
        return out

    parts = [f"{factor:.4g}"] * (factor != 1)
    squares = {1.0: "", 2.0: "²", 3.0: "³"}
    parts += [a + squares.get(p, f"^{p:.3g}") for a, p in powers.items()]
    return RunCost("·".join(parts), tuple(powers), function, dict(powers))


def _column(runs: Runs) -> RunCost:
    """The power law of the axes that a column of costs follows."""
    assert runs.costs is not None
    axes = runs.axes
    design = np.stack([np.ones(len(runs)), *(np.log(runs.sizes[a]) for a in axes)], 1)
    fitted = np.linalg.lstsq(design, np.log(runs.costs), rcond=None)[0]
    off = np.log(runs.costs) - design @ fitted
    if np.sqrt((off**2).mean()) > _OFF:
        raise ValueError(
            f"cost: the column of costs is no power law of {', '.join(axes)} (off by "
            f"{np.sqrt((off**2).mean()):.0%} in the mean): give an expression of them"
        )
    powers = {a: float(p) for a, p in zip(axes, np.round(fitted[1:], 4), strict=True) if p}
    return _power(powers, float(np.exp(fitted[0])))


def _expression(text: str, runs: Runs) -> RunCost:
    try:
        tree = ast.parse(text.replace("^", "**").replace("·", "*"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"cost={shown(text)} is no expression: write it such as 6*N*D") from None

    def axis(name: str) -> str:
        known = axis_named(name, runs)
        if known is None:
            raise ValueError(
                f"cost={shown(text)}: {name!r} is no axis of the runs: they have "
                f"{', '.join(runs.sizes)}"
            )
        return known

    def value(node: ast.AST, sizes: Mapping[str, Any]) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name):
            return sizes[axis(node.id)]
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _BINARY[type(node.op)](value(node.left, sizes), value(node.right, sizes))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand, sizes)
        call = (
            node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        )
        if isinstance(node, ast.Call) and call in _CALLS and not node.keywords:
            return _CALLS[call](*(value(a, sizes) for a in node.args))
        raise ValueError(
            f"cost={shown(text)} has something else than names, numbers, + - * / ^ and "
            f"{', '.join(_CALLS)}: write it with these"
        )

    def function(sizes: Mapping[str, Any]) -> Any:
        with np.errstate(all="ignore"):
            return value(tree, sizes)

    called = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n not in called]
    return _checked(text, function, runs, tuple(dict.fromkeys(map(axis, names))))


def _function(cost: Callable[..., Any], runs: Runs) -> RunCost:
    """A function whose arguments are axes by their names; of those that the runs lack it gets 1."""
    name = getattr(cost, "__name__", "cost")
    try:
        arguments = list(inspect.signature(cost).parameters.values())
    except (TypeError, ValueError):
        arguments = []
    if not arguments or any(a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in arguments):
        raise ValueError(
            f"cost={name!r} does not say what it takes: name its arguments after the axes "
            f"({', '.join(runs.sizes)})"
        )
    known = ("width", "depth", "samples", "steps", "parameters", "tokens", "N", "D")
    axes: list[str | None] = []
    for argument in arguments:
        axis = axis_named(argument.name, runs)
        if axis is None and argument.name not in known and argument.default is argument.empty:
            raise ValueError(
                f"cost={name!r} takes {argument.name!r}, which is no axis of the runs: they have "
                f"{', '.join(runs.sizes)}"
            )
        axes.append(axis)

    def function(sizes: Mapping[str, Any]) -> Any:
        values = [1.0 if a is None else sizes[a] for a in axes]
        try:
            return cost(*values)
        except (TypeError, ValueError):
            return np.vectorize(cost, otypes=[float])(*values)

    return _checked(name, function, runs, tuple(a for a in axes if a is not None))


def _checked(
    text: str,
    function: Callable[[Mapping[str, Any]], Any],
    runs: Runs,
    axes: tuple[str, ...],
) -> RunCost:
    """A cost that is positive on the runs; its powers, if it is a product of some."""
    sizes = {a: x.astype(float) for a, x in runs.sizes.items()}
    values = np.broadcast_to(np.asarray(function(sizes), dtype=float), (len(runs),))
    if not (np.isfinite(values) & (values > 0)).all():
        i = int(np.argmin(np.isfinite(values) & (values > 0)))
        raise ValueError(
            f"cost={text!r} is {values[i]:g} at {runs.label(i)}: give a cost that is > 0"
        )
    base = {a: float(np.exp(np.log(x).mean())) for a, x in sizes.items()}
    powers: dict[str, float] | None = {}
    for axis in axes:
        at = [base | {axis: base[axis] * f} for f in (0.5, 1.0, 4.0)]
        c = [math.log(float(np.asarray(function(x)))) for x in at]
        low, high = (c[1] - c[0]) / math.log(2), (c[2] - c[1]) / math.log(4)
        both = [base | {a: 3 * base[a] for a in base} | {axis: base[axis] * f} for f in (1.0, 2.0)]
        apart = [math.log(float(np.asarray(function(x)))) for x in both]
        there = (apart[1] - apart[0]) / math.log(2)
        if max(abs(low - high), abs(low - there)) > 1e-9 * max(1.0, abs(low)):
            powers = None
            break
        if abs(low) > 1e-12 and powers is not None:
            powers[axis] = low
    return RunCost(text, axes, function, powers)
