"""The rates of every shape of a sweep: one plan for each scheme, optimizer and set of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from leadline.planning.plan import Plan, plan
from leadline.sweeps.rates import Network, Own, Planned, Rates
from leadline.sweeps.schedule import builder_of
from leadline.sweeps.specification import Run
from leadline.tracing.builder import Size, construct


def _check_own(build: Any, at: Size) -> None:
    """Refuse a builder whose models share what trains: one run would begin where another ended."""
    first, second = (construct(build, at) for _ in range(2))
    own = {id(p) for p in first.parameters()} | {id(m) for m in first.modules()}
    held = [(n, m) for n, m in second.named_modules() if next(m.buffers(), None) is not None]
    for name, x in (*second.named_parameters(), *held):
        if id(x) in own:
            raise ValueError(
                f"build={build!r} returns models that share {name!r}: make it anew in every call, or pass "
                "what holds it in arguments="
            )


def rates_of(
    build: Any, runs: Sequence[Run], roles: Any, inputs: Any, base: Size
) -> dict[tuple[Any, ...], Rates]:
    """One plan for each scheme, optimizer and set of arguments; its sizes for each shape."""
    made: dict[tuple[Any, ...], Plan] = {}
    out: dict[tuple[Any, ...], Rates] = {}
    checked: set[tuple[Any, ...]] = set()
    for run in runs:
        if run.program in out:
            continue
        builder = builder_of(build, run)
        if isinstance(builder, Network):
            out[run.program] = Own(builder, run.width, run.depth)
            continue
        key = (run.scheme, run.optimizer, run.arguments)
        if key[2] not in checked:
            checked.add(key[2])
            _check_own(builder, base)
        if key not in made:
            made[key] = plan(
                builder,
                base,
                scheme=run.scheme,
                optimizer=run.optimizer,
                roles=roles,
                inputs=inputs,
            )
        out[run.program] = Planned(replace(made[key].at(run.width, run.depth), build=None))
    return out
