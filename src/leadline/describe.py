"""Problem, network and recipe as plain data: what a file needs to say to be rerun."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from leadline.identity.digest import identify
from leadline.identity.names import UNKNOWN, check_told, readable, told_or_not
from leadline.identity.plain import Named

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.problems import Problem
    from leadline.recipes.base import Recipe
    from leadline.recipes.sgd import SGD

# Steps up to which a schedule is known by its multipliers.
_ASKED = 100_000


def describe(problem: Problem, network: ResNet, sgd: SGD) -> dict[str, Any]:
    """JSON-able description; functions appear by name and digest."""
    return {
        "problem": {
            "name": problem.name,
            "fingerprint": problem.fingerprint(),
            "samples": problem.samples,
            "loss": problem.loss,
        },
        "network": plain(network),
        "sgd": settings(sgd),
    }


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe's settings; clip and no_decay where there are some."""
    out = plain(recipe)
    for name in ("clip", "no_decay"):
        if not out[name]:
            del out[name]
    if callable(recipe.schedule):
        out["schedule"] = schedule(recipe)
    return out


def schedule(sgd: Recipe) -> str:
    """A schedule that is a function, as text: what it is are its multipliers.

    A schedule that gives other numbers when it is called again has a question mark, as has a function that
    cannot be told from others and would be called too often.
    """
    name = readable(sgd.schedule)
    if isinstance(sgd.schedule, Named):
        return name
    if sgd.steps > _ASKED:
        return told_or_not(sgd.schedule)
    try:
        once, again = ([sgd.multiplier(k) for k in range(sgd.steps)] for _ in range(2))
    except ValueError:
        return f"{name}#{UNKNOWN}"
    return f"{name}#{identify(once)[:16] if once == again else UNKNOWN}"


def check_identified(network: ResNet, sgd: SGD, what: str) -> None:
    """Refuse functions that cannot be told from others, where what is kept would answer for them.

    Raises:
        TypeError: naming the argument and the remedy.
    """
    if not isinstance(network.activation, str):
        check_told("activation", network.activation, what)
    check_schedule_identified(sgd, what)


def check_schedule_identified(recipe: Recipe, what: str) -> None:
    """Refuse a schedule that cannot be told from others; as ``check_identified``."""
    if callable(recipe.schedule) and schedule(recipe).endswith(f"#{UNKNOWN}"):
        raise TypeError(
            f"schedule={readable(recipe.schedule)} gives other multipliers when it is called again: a "
            f"{what} could go on with another schedule; give a sequence of numbers, a function of the step "
            f"alone, schedule=leadline.named('my-schedule', ...), or no {what}"
        )


def identified(network: ResNet, sgd: SGD) -> bool:
    """Can what is kept of a computation be told from another's?"""
    try:
        check_identified(network, sgd, "checkpoint")
    except TypeError:
        return False
    return True


def plain(x: Any) -> Any:
    """Dataclasses, tuples and functions as what JSON can say."""
    if isinstance(x, Named):
        return readable(x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type) and not callable(x):
        return {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
    if isinstance(x, tuple | list):
        return [plain(v) for v in x]
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    return x if x is None or isinstance(x, str | int | float) else told_or_not(x)
