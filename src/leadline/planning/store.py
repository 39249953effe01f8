"""Plans as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from typing import Any

from leadline.disk import strict
from leadline.disk.write import as_path, write_atomic
from leadline.errors import check_choice, cut
from leadline.parametrization.optimizers import optimizer
from leadline.parametrization.rules import Power
from leadline.parametrization.schemes import Scheme
from leadline.planning.plan import Plan
from leadline.planning.schemes import NAMES
from leadline.tracing.builder import Size
from leadline.tracing.initialization import Rule
from leadline.tracing.naming import Naming
from leadline.tracing.survey import Kind

_VERSION = 1


def to_json(plan: Plan) -> str:
    """All but the builder."""
    data: dict[str, Any] = {"leadline_plan": _VERSION}
    for name in ("base", "target", "optimizer"):
        data[name] = asdict(getattr(plan, name))
    data["scheme"] = asdict(plan.scheme) if isinstance(plan.scheme, Scheme) else plan.scheme
    data["kinds"] = [asdict(k) for k in plan.kinds]
    data["names"] = dict(plan.names)
    data["naming"] = {k: list(v) for k, v in plan.naming.free.items()}
    data["branches"] = dict(plan.branches)
    for name in ("batch_ratio", "token_ratio", "decay"):
        data[name] = getattr(plan, name)
    return json.dumps(strict.seal(data), indent=1, ensure_ascii=False)


def from_json(text: str | bytes) -> Plan:
    """What ``to_json`` wrote.

    Raises:
        ValueError: it is no plan.
    """
    try:
        data = strict.unseal(text)
        if data.pop("leadline_plan") != _VERSION:
            raise ValueError("another version")
        scheme = data["scheme"]
        if isinstance(scheme, str):
            check_choice("scheme", scheme, NAMES)
        return Plan(
            scheme if isinstance(scheme, str) else Scheme(**scheme),
            replace(optimizer(data["optimizer"]["name"]), **data["optimizer"]),
            Size(**data["base"]),
            Size(**data["target"]),
            tuple(_kind(k) for k in data["kinds"]),
            data["names"],
            Naming({k: tuple(v) for k, v in data["naming"].items()}),
            data["branches"],
            data["batch_ratio"],
            data["token_ratio"],
            data["decay"],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise ValueError(
            f"text is no plan ({type(e).__name__}: {e}): give what save wrote, or plan again"
        ) from None


def _kind(data: dict[str, Any]) -> Kind:
    takes = tuple((what, Power(**p)) for what, p in data.pop("takes"))
    return Kind(
        takes=takes,
        present=Power(**data.pop("present")),
        rule=Rule(**data.pop("rule")),
        shape=tuple(data.pop("shape")),
        grows=tuple(data.pop("grows")),
        tied=tuple(data.pop("tied")),
        **data,
    )


def save(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write the plan, all or nothing."""
    write_atomic(path, to_json(plan).encode())


def load(path: str | os.PathLike[str]) -> Plan:
    """Read a file of ``save``."""
    shown = f"path={cut(repr(str(as_path('path', path))), 300)}"
    try:
        text = strict.read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown} does not exist: give what save wrote") from None
    except (OSError, ValueError) as e:
        raise OSError(
            f"{shown} cannot be read ({cut(str(e), 300)}): give what save wrote"
        ) from None
    try:
        return from_json(text)
    except ValueError as e:
        raise ValueError(f"{shown}: {e}") from None
