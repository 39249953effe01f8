"""The user's FILE.py: its builder, loss and batches, and what else it says."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
    from leadline.places import failed

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


READING = (
    click.option(
        "--role",
        multiple=True,
        metavar="PATTERN=ROLE",
        help="What a parameter is, such as '*.k_proj*=hidden', '*Norm*=vector,branch=false' or "
        "'*.A_log=init=false'; may be repeated, before FILE.py's roles.",
    ),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="SHAPE",
        help="What the model takes, such as 2x3x32x32, or ids:2x64 for token ids (below 16; ids:2x64:50257 "
        "below that); once for each argument. Default: what FILE.py says, or its loss shows.",
    ),
)
"""Options that say how a model is read."""


def reading(module: Any, role: Iterable[str], inputs: Iterable[str]) -> dict[str, Any]:
    """Roles and inputs of the options and of the file."""
    out = settings(module, "inputs", "roles")
    roles = dict(_role(text) for text in role)
    if roles:
        out["roles"] = roles | {k: v for k, v in out.get("roles", {}).items() if k not in roles}
    made = tuple(_tensor(text) for text in inputs)
    if made:
        out["inputs"] = made if len(made) > 1 else made[0]
    return out


def _role(text: str) -> tuple[str, Any]:
    """PATTERN=ROLE with branch=false or init=false behind it.

    >>> _role("*Norm*=vector,branch=false"), _role("*.k*=hidden"), _role("*.A_log=init=false")
    (('*Norm*', {'role': 'vector', 'branch': False}), ('*.k*', 'hidden'), ('*.A_log', {'init': False}))
    """
    pattern, equals, rest = text.partition("=")
    if not pattern or not equals or not rest:
        raise ValueError(
            f"role={text!r} is not PATTERN=ROLE: give such as '*.k_proj*=hidden', in quotes"
        )
    out: dict[str, Any] = {}
    for part in rest.split(","):
        key, mark, value = part.partition("=")
        if not mark:
            out["role"] = key
        elif key in ("branch", "init") and value.lower() in ("true", "false"):
            out[key] = value.lower() == "true"
        else:
            raise ValueError(
                f"role={text!r}: {part!r} is no setting: give branch=false or init=false"
            )
    return pattern, out["role"] if set(out) == {"role"} else out


def _tensor(text: str) -> Any:
    """A tensor of this shape: normal numbers, or token ids."""
    import torch

    match = re.fullmatch(
        r"(ids:)?([0-9]{1,9}(?:x[0-9]{1,9})*)(?::([0-9]{1,9}))?", text.strip().lower()
    )
    if match is None or (match[3] and not match[1]):
        raise ValueError(
            f"input={text!r} is no shape: give such as 2x3x32x32, ids:2x64 or ids:2x64:50257"
        )
    shape = [int(n) for n in match[2].split("x")]
    if math.prod(shape) > 1e9:
        raise ValueError(f"input={text!r} is too large for an example: give a small batch")
    generator = torch.Generator().manual_seed(0)
    if match[1]:
        return torch.randint(0, int(match[3] or 16), shape, generator=generator)
    return torch.randn(shape, generator=generator)


def settings(module: Any, *names: str) -> dict[str, Any]:
    """What the file says of these names."""
    return {n: getattr(module, n) for n in names if hasattr(module, n)}
