"""What a function or class is: the names its code uses, what these stand for, and a digest of all that."""

from __future__ import annotations

import builtins
import dis
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from leadline.identity.library import library_name, release
from leadline.identity.plain import Digester, Unidentified, combined

_MISSING = object()

# What in a class's namespace is made from the rest, or says nothing of what the class does.
_LEFT_OUT = frozenset({
    "__module__", "__doc__", "__qualname__", "__dict__", "__weakref__", "__annotations__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__",
    "__dataclass_params__", "__dataclass_fields__", "__match_args__", "__classcell__",
})  # fmt: skip


def of_function(walk: Digester, f: FunctionType) -> bytes:
    """The hash of a Python function."""
    compiled = vars(f).get("_torchdynamo_orig_callable")
    if compiled is not None:
        return walk.of(compiled)
    if not walk.code:
        # The same for every model of a builder; what a closure holds may not be.
        return combined("function", id(f.__code__), *(walk.of(x) for x in (*_held(f), vars(f))))
    changed = state_kept(f.__code__)
    if changed is not None:
        raise Unidentified(f"{_name(f)} sets the variable {changed!r} outside of itself")
    used = [_used(walk, f, chain) for chain in chains(f.__code__)]
    taken = [_imported(walk, f, *names) for names in imports(f.__code__)]
    held = [walk.of(x) for x in (*_held(f), vars(f))]
    return combined("function", of_code(walk, f.__code__), *held, "uses", *used, *taken)


def _held(f: FunctionType) -> list[Any]:
    """What a function holds: its defaults and its closure."""
    cells = []
    for cell in f.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:
            cells.append("(empty)")
    return [f.__defaults__, f.__kwdefaults__, tuple(cells)]


def of_code(walk: Digester, code: CodeType) -> bytes:
    """Bytecode and constants, without names of files and numbers of lines."""
    constants = [
        of_code(walk, c) if isinstance(c, CodeType) else walk.of(c) for c in code.co_consts
    ]
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return combined(
        "code", code.co_code, code.co_exceptiontable, repr(counts), repr(names), *constants
    )


def _used(walk: Digester, f: FunctionType, chain: tuple[str, ...]) -> bytes:
    """What a global name stands for; of modules, the attribute that is looked up."""
    name, *attributes = chain
    value = f.__globals__.get(name, _MISSING)
    if value is _MISSING:
        if name in DYNAMIC:
            raise Unidentified(f"{_name(f)} calls {name}()")
        known = hasattr(builtins, name)
        return combined("name", name, "builtin" if known else "missing")
    with walk.at(f"the global {name!r} of {_name(f)}"):
        return combined("global", ".".join(chain), _followed(walk, value, attributes))


def _followed(walk: Digester, value: Any, attributes: list[str]) -> bytes:
    while isinstance(value, ModuleType) and attributes:
        module, name, attributes = value, attributes[0], attributes[1:]
        value = getattr(module, name, _MISSING)
        if value is _MISSING:
            return combined("missing", name)
        version = release(module.__name__)
        if version is not None and _from_library(value):
            # As a library has it: random generators and the like are state that no file could hold.
            return combined("library", f"{module.__name__}.{name}@{version}")
    return walk.of(value)


def _from_library(value: Any) -> bool:
    """Is it the library's own, not something that a user put there, and no plain data?"""
    if isinstance(
        value, ModuleType | int | float | complex | str | bytes | tuple | list | dict | set
    ):
        return False
    if isinstance(value, FunctionType | type):
        return release(value.__module__ or "") is not None
    return release(type(value).__module__) is not None


def _imported(
    walk: Digester, f: FunctionType, name: str, level: int, names: tuple[str, ...]
) -> bytes:
    """What an import inside a function brings."""
    package = f.__globals__.get("__package__") or ""
    try:
        full = importlib.util.resolve_name("." * level + name, package) if level else name
    except ImportError:
        return combined("missing", name)
    version = release(full)
    if version is not None:
        return combined("library", full, version, *names)
    try:
        module = sys.modules.get(full) or importlib.import_module(full)
    except Exception as e:
        raise Unidentified(f"{_name(f)} imports {full!r}, which fails ({e})") from None
    version = release(full)
    if version is not None:
        return combined("library", full, version, *names)
    if not names or "*" in names:
        return walk.of(module)
    return combined("import", *(walk.of(getattr(module, n, None)) for n in names))


def of_module(walk: Digester, module: ModuleType) -> bytes:
    """A library by name; of a user's module everything that it holds."""
    version = release(module.__name__)
    if version is not None:
        return combined("module", module.__name__, version)
    held = {k: v for k, v in vars(module).items() if not (k.startswith("__") and k.endswith("__"))}
    return combined("module", *(combined(k, walk.of(held[k])) for k in sorted(held)))


def of_callable(walk: Digester, f: Any) -> bytes | None:
    """Functions and methods of every kind; None for others."""
    if (
        isinstance(f, FunctionType | BuiltinFunctionType | MethodType)
        or type(f).__name__ == "ufunc"
    ):
        known = library_name(f)
        if known is not None:
            return combined("library", known)
    if isinstance(f, FunctionType):
        with walk.at(_name(f)):
            return of_function(walk, f)
    if isinstance(f, MethodType):
        return combined("method", walk.of(f.__func__), walk.of(f.__self__))
    kind = type(f).__name__
    if isinstance(f, BuiltinFunctionType) or kind == "method-wrapper":
        owner = getattr(f, "__self__", None)
        if owner is None:
            raise Unidentified(f"{f!r} is compiled code that no library of a known version holds")
        return combined("bound", f.__name__, walk.of(owner))
    if kind in ("wrapper_descriptor", "method_descriptor", "classmethod_descriptor"):
        return combined("descriptor", f.__name__, walk.of(f.__objclass__))
    if kind == "ufunc":
        raise Unidentified(f"{f!r} is compiled code that no library of a known version holds")
    return None


def of_class(walk: Digester, cls: type) -> bytes:
    """A library's class by name, a user's by its bases and what it defines."""
    if not walk.code:
        return combined("class", cls.__module__, cls.__qualname__)
    known = library_name(cls)
    if known is not None:
        return combined("library", known)
    parts = [walk.of(b) for b in cls.__bases__]
    if type(cls) is not type:
        parts.append(walk.of(type(cls)))
    fields = vars(cls).get("__dataclass_fields__")
    with walk.at(f"the class {cls.__name__}"):
        for name in sorted(vars(cls)):
            value = vars(cls)[name]
            made = fields is not None and _generated(value)
            if name not in _LEFT_OUT and not made and not _slot(value):
                parts.append(combined(name, _defined(walk, value)))
        for f in (fields or {}).values():
            factory = None if _is_missing(f.default_factory) else f.default_factory
            parts.append(combined("field", f.name, walk.of(factory)))
    return combined("class", *parts)


def _defined(walk: Digester, value: Any) -> bytes:
    if isinstance(value, staticmethod | classmethod):
        return combined(type(value).__name__, walk.of(value.__func__))
    if isinstance(value, property):
        return combined("property", *(walk.of(f) for f in (value.fget, value.fset, value.fdel)))
    return walk.of(value)


def _generated(value: Any) -> bool:
    """Written by ``dataclass`` from the fields."""
    return isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"


def _slot(value: Any) -> bool:
    return type(value).__name__ in ("member_descriptor", "getset_descriptor")


def _is_missing(x: Any) -> bool:
    import dataclasses

    return x is dataclasses.MISSING


def _name(f: FunctionType) -> str:
    return f.__qualname__.rpartition("<locals>.")[2]


_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
# What reaches anything by a text made at run time.
DYNAMIC = frozenset({"eval", "exec", "compile", "globals", "__import__"})

Chain = tuple[str, ...]
"""A global name and the attributes looked up on it: ("torch", "nn", "functional", "gelu")."""


def nested(code: CodeType) -> Iterator[CodeType]:
    """The code and all code within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def chains(code: CodeType) -> list[Chain]:
    """Global names with their attributes, each once, in order of appearance."""
    seen: dict[Chain, None] = {}
    for inner in nested(code):
        chain: list[str] = []
        for step in dis.get_instructions(inner):
            if step.opname in _GLOBALS:
                if chain:
                    seen[tuple(chain)] = None
                chain = [step.argval]
            elif chain and step.opname in _ATTRIBUTES:
                chain.append(step.argval)
            elif chain:
                seen[tuple(chain)] = None
                chain = []
        if chain:
            seen[tuple(chain)] = None
    return list(seen)


def imports(code: CodeType) -> list[tuple[str, int, Chain]]:
    """Imports inside the code: module, level, and the names taken from it (none: the module)."""
    seen: list[tuple[str, int, Chain]] = []
    for inner in nested(code):
        steps = list(dis.get_instructions(inner))
        for i, step in enumerate(steps):
            if step.opname != "IMPORT_NAME":
                continue
            level, names = steps[i - 2].argval, steps[i - 1].argval
            seen.append((step.argval, int(level or 0), tuple(names or ())))
    return seen


def state_kept(code: CodeType) -> str | None:
    """The variable outside of a function that it sets, so that its next call may differ; or None."""
    outside = set(code.co_freevars)
    for inner in nested(code):
        for step in dis.get_instructions(inner):
            if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                return step.argval
            set_here = step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in outside
            if set_here and step.argval in inner.co_freevars:
                return step.argval
    return None
