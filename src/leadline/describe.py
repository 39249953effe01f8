"""Problem, network and recipe as plain data: what a file needs to say to be rerun."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem
    from leadline.recipe import SGD


def describe(problem: Problem, network: ResNet, sgd: SGD) -> dict[str, Any]:
    """JSON-able description; functions appear by name."""
    return {
        "problem": {
            "name": problem.name,
            "fingerprint": problem.fingerprint(),
            "samples": problem.samples,
            "loss": problem.loss,
        },
        "network": plain(network),
        "sgd": plain(sgd),
    }


def plain(x: Any) -> Any:
    """Dataclasses, tuples and functions as what JSON can say."""
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
    if isinstance(x, tuple | list):
        return [plain(v) for v in x]
    if callable(x):
        return getattr(x, "__qualname__", repr(type(x)))
    return x
