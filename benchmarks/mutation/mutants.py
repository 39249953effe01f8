"""Mutants of a Python file: small changes of its syntax tree, each at one place.

Left out, because nobody asserts on them or nothing runs: annotations, docstrings, imports, decorators,
what stands under ``if TYPE_CHECKING``, the arguments of ``raise``, f-strings, strings that contain a
blank (sentences for people), and the sign of an axis. That an error is raised, and where, is mutated; its
words are not.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from changes import changes


@dataclass(frozen=True)
class Mutant:
    """One change: bytes start:end of the source become ``after``.

    Attributes:
        function: qualified name of what it is in, "" for the module's own statements.
        lines: first and last line of the statement that runs it, from 1; a default stands for the
            whole of its function.
        scope: first and last line of its function. imported: run when the module is imported.
        before: the source text that changes. line: the whole line that it begins on.
        nth: which one, among changes of a function that read the same.
    """

    module: str
    function: str
    lines: tuple[int, int]
    scope: tuple[int, int]
    imported: bool
    start: int
    end: int
    before: str
    after: str
    line: str
    nth: int = 0

    @property
    def key(self) -> str:
        """A name that does not change when other code in the file does."""
        parts = (self.module, self.function, self.line, self.before, self.after, str(self.nth))
        return hashlib.sha1("\0".join(parts).encode()).hexdigest()[:16]

    def apply(self, source: str) -> str:
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()


def mutants(source: str, module: str) -> list[Mutant]:
    """Every mutant of a file, in the order of the source."""
    tree = ast.parse(source)
    found: list[Mutant] = []
    seen: dict[tuple[str, ...], int] = {}
    lines = source.encode().splitlines(keepends=True)
    offsets = [0]
    for text in lines:
        offsets.append(offsets[-1] + len(text))
    original, axes = ast.dump(tree), _axes(tree)
    for node, place in _places(tree):
        function = ".".join(place.names)
        at = node.test if isinstance(node, ast.If | ast.While | ast.Assert) else node
        start = offsets[at.lineno - 1] + at.col_offset
        end = offsets[at.end_lineno - 1] + at.end_col_offset
        before = source.encode()[start:end].decode()
        for made in changes(node):
            after = made if isinstance(made, str) else f"({ast.unparse(made)})"
            if id(node) in axes and after in (f"(-{before})", f"({before[1:]})"):
                continue
            line = lines[at.lineno - 1].decode().strip()
            same = (function, line, before, after)
            where = (function, place.lines, place.scope, place.imported)
            mutant = Mutant(module, *where, start, end, before, after, line, seen.get(same, 0))
            try:
                changed = ast.dump(ast.parse(mutant.apply(source))) != original
            except SyntaxError:
                continue
            if changed:
                seen[same] = mutant.nth + 1
                found.append(mutant)
    return found


_ALONG = set(
    "sum mean max min any all prod std var argmin argmax norm cumsum squeeze softmax diff sort".split()
)


def _axes(tree: ast.Module) -> set[int]:
    """Numbers of axes: counted from the front or the back they are the same, so none changes its sign."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            axes = [k.value for k in node.keywords if k.arg in ("axis", "dim", "axes")]
            if isinstance(node.func, ast.Attribute) and node.func.attr in _ALONG:
                axes += node.args[:2]
            numbers = [a for a in axes if isinstance(a, ast.Constant | ast.UnaryOp | ast.Tuple)]
            found |= {id(inner) for axis in numbers for inner in ast.walk(axis)}
        if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "shape":
            found.add(id(node.slice))
    return found


def sample(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """A uniform random sample: the lowest ``count`` hashes of seed and key.

    A mutant keeps its place in the draw whatever happens to the rest of the file.
    """

    def draw(m: Mutant) -> str:
        return hashlib.sha256(f"{seed} {m.key}".encode()).hexdigest()

    return sorted(found, key=draw)[:count]


@dataclass(frozen=True)
class _Place:
    names: tuple[str, ...]
    lines: tuple[int, int]
    scope: tuple[int, int]
    imported: bool = True


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, _Place]]:
    """Nodes that may change, and where they are."""

    def visit(node: ast.AST, place: _Place) -> Iterator[tuple[ast.AST, _Place]]:
        if isinstance(node, ast.stmt):
            last = node.end_lineno
            if getattr(node, "body", None):  # the head alone
                last = max(node.lineno, node.body[0].lineno - 1)
            place = replace(place, lines=(node.lineno, last))
            yield node, place
        elif isinstance(node, ast.expr) and not isinstance(getattr(node, "ctx", None), ast.Store):
            yield node, place
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            place = replace(place, names=(*place.names, node.name))
            if not isinstance(node, ast.ClassDef):
                # Defaults run with the definition, but what they do shows in the body.
                whole = (node.lineno, node.end_lineno)
                place = replace(place, lines=whole, scope=whole, imported=False)
        for child in _children(node):
            yield from visit(child, place)

    for child in tree.body:
        if not _skipped(child):
            yield from visit(child, _Place((), (0, 0), (1, tree.body[-1].end_lineno)))


def _skipped(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.If):
        return getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return any(c.isspace() for c in node.value)
    if isinstance(node, ast.Assign):
        return getattr(node.targets[0], "id", "") == "__all__"
    return isinstance(node, ast.Delete | ast.Global | ast.Nonlocal)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Raise):
        return
    for name, value in ast.iter_fields(node):
        if name in (
            "annotation",
            "returns",
            "decorator_list",
            "type_comment",
            "bases",
            "type_params",
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _skipped(child):
                yield child
