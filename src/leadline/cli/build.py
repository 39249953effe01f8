"""Problem, network, recipe and the remaining keywords from a command's flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli.mistakes import while_reading
from leadline.disk.bounded import within
from leadline.disk.write import check_folder

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem
    from leadline.recipe import SGD

_NETWORK = ("activation", "block_layers", "gain", "horizon", "scheme")
_SGD = ("lr", "steps", "batch_size", "momentum", "weight_decay", "center")


def network(given: dict[str, Any]) -> ResNet:
    """Take the network's flags out of ``given``."""
    from leadline.architecture import ResNet

    values = {name: given.pop(name) for name in _NETWORK}
    return ResNet(skip=not given.pop("skip"), **values)


def recipe(given: dict[str, Any]) -> SGD:
    """Take the recipe's flags out of ``given``."""
    from leadline.recipe import SGD

    roles = tuple(role.strip() for role in given.pop("train").split(",") if role.strip())
    return SGD(train=roles, **{name: given.pop(name) for name in _SGD})


def problem(given: dict[str, Any]) -> Problem:
    """Take the problem's flags out of ``given``."""
    text, loss = given.pop("problem"), given.pop("loss")
    with while_reading("--problem", "problem"), within(given.get("memory")):
        from leadline.problems import parse

        return parse(text, loss)


def folder(given: dict[str, Any]) -> Path | None:
    """Take --out out of ``given``, make it and try it, before any work (a dry run leaves nothing)."""
    out = given.pop("out")
    if out is None:
        return None
    return check_folder("out", out, make=not given.get("dry_run"))
