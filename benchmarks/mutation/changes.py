"""What may stand in the place of a node of the syntax tree."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_PAIRS = (
    "min max, minimum maximum, clamp_min clamp_max, argmin argmax, nanmin nanmax, fmin fmax, any all,"
    "mean sum, floor ceil, ones zeros, ones_like zeros_like, std var, cumsum cumprod, vstack hstack"
)
SWAPS = {a: b for pair in _PAIRS.split(",") for a, b in (pair.split(), pair.split()[::-1])}
SWAPS |= {
    "median": "mean",
    "log2": "log",
    "log10": "log",
    "lower": "upper",
    "startswith": "endswith",
}
# A call that is replaced by its argument, or a method by what it is called on.
IDENTITY = set(
    "sqrt exp log log1p expm1 abs fabs square tanh sorted reversed round clip clamp copy clone flip"
    " cumsum sort strip isfinite isnan float int bool".split()
)
# Calls whose first two arguments may be exchanged: the same function (clip: where low <= high).
SYMMETRIC = set(
    "min max minimum maximum fmin fmax clip hypot logaddexp isclose allclose array_equal gcd"
    " swapaxes".split()
)
# Constants this small or, inverted, this large are guards: twice as much, or one more, is the same guard.
GUARD = 1e-6


def changes(node: ast.AST) -> Iterator[ast.expr | str]:
    """What may stand in a node's place: an expression, or the text of a statement."""
    for kind, change in _OPERATORS.items():
        if isinstance(node, kind):
            yield from change(node)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _constant(node: ast.Constant) -> Iterator:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, str):
        yield ast.Constant(value + "_")
    elif isinstance(value, int | float):
        others = [value + 1, value - 1, value * 2, -value]
        if 0 < value < GUARD:
            others[2] = value * 1000
        elif isinstance(value, float) and 1 / GUARD < value < float("inf"):
            others = [value * 1000, value / 1000, -value]
        made = {repr(v): v for v in others if v != value}
        yield from (ast.Constant(v) for v in made.values())


def _compare(node: ast.Compare) -> Iterator:
    for i, op in enumerate(node.ops):
        for other in COMPARISONS[type(op)]:
            yield _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


def _binary(node: ast.BinOp) -> Iterator:
    other = ARITHMETIC.get(type(node.op))
    if other:
        yield _with(node, op=other())
    if isinstance(node.op, ast.MatMult | ast.Sub | ast.Div):
        yield _with(node, left=node.right, right=node.left)


def _boolean(node: ast.BoolOp) -> Iterator:
    yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for i in range(len(node.values)):
        left = node.values[:i] + node.values[i + 1 :]
        yield left[0] if len(left) == 1 else _with(node, values=left)


def _unary(node: ast.UnaryOp) -> Iterator:
    yield node.operand


def _condition(node: ast.IfExp) -> Iterator:
    yield node.body
    yield node.orelse


def _comprehension(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator:
    for i, generator in enumerate(node.generators):
        for j in range(len(generator.ifs)):
            left = _with(generator, ifs=generator.ifs[:j] + generator.ifs[j + 1 :])
            yield _with(node, generators=[*node.generators[:i], left, *node.generators[i + 1 :]])


def _call(node: ast.Call) -> Iterator:
    for i, keyword in enumerate(node.keywords):
        if keyword.arg:
            yield _with(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
    method = isinstance(node.func, ast.Attribute)
    name = node.func.attr if method else getattr(node.func, "id", "")
    starred = any(isinstance(a, ast.Starred) for a in node.args[:2])
    # torch's x.clip(low, high) is a method; numpy's clip(x, low, high) has three arguments.
    same = name in SYMMETRIC and not (name == "clip" and len(node.args) != 3)
    if len(node.args) > 1 and not starred and not same:
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    if name in SWAPS:
        function = _with(node.func, **{"attr" if method else "id": SWAPS[name]})
        yield _with(node, func=function)
    if name in IDENTITY:
        if node.args and not isinstance(node.args[0], ast.Starred):
            yield node.args[0]
        elif method:
            yield node.func.value


def _attribute(node: ast.Attribute) -> Iterator:
    if node.attr in ("T", "mT"):
        yield node.value


def _slice(node: ast.Slice) -> Iterator:
    for name in ("lower", "upper", "step"):
        if getattr(node, name) is not None:
            yield ast.unparse(_with(node, **{name: None}))


def _subscript(node: ast.Subscript) -> Iterator:
    if isinstance(node.slice, ast.Name):  # i + 1
        yield _with(node, slice=ast.BinOp(node.slice, ast.Add(), ast.Constant(1)))


def _if(node: ast.If | ast.While) -> Iterator[str]:
    yield "False"
    if isinstance(node, ast.If):
        yield "True"


def _return(node: ast.Return) -> Iterator[str]:
    if node.value is not None and getattr(node.value, "value", 0) is not None:
        yield "return None"


def _dropped(node: ast.stmt) -> Iterator[str]:
    yield "pass"


def _assign(node: ast.Assign) -> Iterator[str]:
    if not all(isinstance(t, ast.Name | ast.Tuple) for t in node.targets):
        yield "pass"


def _augmented(node: ast.AugAssign) -> Iterator[str]:
    yield "pass"
    yield ast.unparse(ast.Assign([node.target], node.value, lineno=0))
    other = ARITHMETIC.get(type(node.op))
    if other:
        yield ast.unparse(_with(node, op=other()))


def _break(node: ast.stmt) -> Iterator[str]:
    yield "pass"
    yield "continue" if isinstance(node, ast.Break) else "break"


_OPERATORS: dict[type | tuple, Callable] = {
    ast.Constant: _constant,
    ast.Compare: _compare,
    ast.BinOp: _binary,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.IfExp: _condition,
    (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp): _comprehension,
    ast.Call: _call,
    ast.Attribute: _attribute,
    ast.Slice: _slice,
    ast.Subscript: _subscript,
    (ast.If, ast.While): _if,
    ast.Return: _return,
    (ast.Expr, ast.Raise): _dropped,
    ast.Assign: _assign,
    ast.AugAssign: _augmented,
    (ast.Break, ast.Continue): _break,
}
