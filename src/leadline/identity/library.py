"""Which modules are libraries: what they hold is known by its name and the library's version."""

from __future__ import annotations

import site
import sys
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

OWN = "leadline"
_MISSING = object()


@cache
def release(module: str) -> str | None:
    """The library of a module and its version; None for a user's own module.

    >>> release("no_such_module") is None, release("leadline.recipes.sgd")
    (True, 'leadline')
    """
    top = module.partition(".")[0]
    if top == OWN:
        # Numbers that change with its version are kept apart by ENGINE and by the file formats.
        return OWN
    loaded = sys.modules.get(top)
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        where = _place(loaded)
        if where is None or (_within(where, _standard()) and not _installed(where)):
            return f"python{sys.version_info.major}.{sys.version_info.minor}"
    where = _place(loaded)
    if loaded is None or where is None or not _installed(where):
        return None
    version = getattr(loaded, "__version__", None)
    if not isinstance(version, str):
        try:
            version = metadata.version(top)
        except metadata.PackageNotFoundError:
            version = "0"
    # A build for another device is the same version.
    return f"{top}{version.partition('+')[0]}"


def library_name(x: Any) -> str | None:
    """The name by which a library's function or class is found, and the library; None otherwise."""
    names = (getattr(x, "__qualname__", None), getattr(x, "__name__", None))
    module = getattr(x, "__module__", None)
    owner = getattr(x, "__self__", None)
    if isinstance(owner, ModuleType):
        module = owner.__name__
    places = [m for m in (module, *_search(x)) if isinstance(m, str)]
    for place in places:
        version = release(place)
        if version is None:
            continue
        for name in names:
            if isinstance(name, str) and _same(_at(place, name), x):
                return f"{place}.{name}@{version}"
    return None


def _search(x: Any) -> tuple[str, ...]:
    """Where to look for what does not say where it is from."""
    if type(x).__module__ == "numpy":
        return ("numpy", "scipy.special")
    if type(getattr(x, "__self__", None)).__module__.startswith("numpy.random"):
        return ("numpy.random",)
    if getattr(x, "__module__", None) is None:
        return ("torch", "torch.nn.functional", "torch.special")
    return ()


def _same(a: Any, b: Any) -> bool:
    # Bound methods are made anew whenever they are looked up.
    return a is b or (hasattr(a, "__self__") and type(a) is type(b) and bool(a == b))


def _at(module: str, path: str) -> Any:
    at: Any = sys.modules.get(module, _MISSING)
    for part in path.split("."):
        at = getattr(at, part, _MISSING)
    return at


def _place(module: ModuleType | None) -> str | None:
    if module is None:
        return None
    file = getattr(module, "__file__", None)
    if file is None:
        file = next(iter(getattr(module, "__path__", ())), None)
    return file if isinstance(file, str) else None


@cache
def _standard() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({str(Path(paths[k]).resolve()) for k in ("stdlib", "platstdlib")})


@cache
def _sites() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    loaded = [paths["purelib"], paths["platlib"], *site.getsitepackages()]
    return tuple({str(Path(p).resolve()) for p in loaded})


def _within(file: str, folders: tuple[str, ...]) -> bool:
    path = Path(file).resolve()
    return any(path.is_relative_to(f) for f in folders)


def _installed(file: str) -> bool:
    parts = Path(file).parts
    return _within(file, _sites()) or "site-packages" in parts or "dist-packages" in parts
