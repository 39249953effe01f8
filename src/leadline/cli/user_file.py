"""The user's FILE.py: its builder, loss and batches, and what else it says."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

_NEEDS = (
    "define loss(model, batch) and batch (one that stays) or batches (a DataLoader, a list, or a "
    "function of step and generator) there, or give --problem"
)


def is_file(reference: str) -> bool:
    """Does a reference name a file or module of the user's, not a built-in model?"""
    return ":" in reference or reference.endswith(".py")


def load(reference: str) -> tuple[ModuleType, Any]:
    """The module and the builder that ``model.py``, ``model.py:NAME`` or ``package.module:NAME`` names.

    Without a name the builder is ``build``.

    Raises:
        ValueError: no such file, module or name; or its import fails.
    """
    where, _, name = reference.rpartition(":")
    if reference.endswith(".py"):
        where, name = reference, "build"
    if not where or not name:
        raise ValueError(f"build={reference!r} is no reference: give FILE.py:NAME or MODULE:NAME")
    try:
        module = _imported(reference, where)
    except ValueError as e:
        if str(e).startswith("build="):
            raise
        raise _import_failed(reference, where, e) from e
    except Exception as e:
        raise _import_failed(reference, where, e) from e
    if not hasattr(module, name):
        near = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        raise ValueError(
            f"build={reference!r}: {where!r} has no {name!r}; it has {', '.join(near)}"
        )
    return module, getattr(module, name)


def _imported(reference: str, where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, "")
        return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise ValueError(f"build={reference!r}: there is no file {where!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"build={reference!r}: {where!r} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module


def _import_failed(reference: str, where: str, error: Exception) -> ValueError:
    from leadline.tasks.places import failed

    return failed(f"build={reference!r}: importing {where!r}", error, "run it with python to see")


def task_of(module: Any, problem: str | None) -> Any:
    """What the file trains on: its own loss and batches, or the problem or text of ``--problem``.

    Raises:
        ValueError: it has neither, and no problem is named; or both batch and batches.
    """
    if problem is not None:
        from leadline.problems.parsing import parse_data

        return parse_data(problem, getattr(module, "tokenizer", None))
    for name in ("task", "data"):
        if hasattr(module, name):
            return getattr(module, name)
    from leadline.tasks.task import Task

    names = [n for n in ("batch", "batches") if hasattr(module, n)]
    missing = [] if hasattr(module, "loss") else ["loss"]
    missing += [] if names else ["batch or batches"]
    if missing:
        raise ValueError(f"{_file(module)} defines no {' and no '.join(missing)}: {_NEEDS}")
    if len(names) > 1:
        raise ValueError(f"{_file(module)} defines both batch and batches: define one of them")
    return Task(
        module.loss,
        **{names[0]: getattr(module, names[0])},
        eval_batch=getattr(module, "eval_batch", None),
    )


def _file(module: Any) -> str:
    return Path(getattr(module, "__file__", None) or module.__name__).name


def settings(module: Any, *names: str) -> dict[str, Any]:
    """What the file says of these names."""
    return {n: getattr(module, n) for n in names if hasattr(module, n)}
