"""``transfer``: does my learning rate carry over, and what do I lose if I trust it?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leadline.errors import check_bool, check_choice, check_int
from leadline.sweeps.driver import Sweep, sweep
from leadline.sweeps.grid import grid_of
from leadline.sweeps.schedule import SweepEstimate
from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import landscapes
from leadline.transferring.result import Transfer

METRICS = ("loss", "test_loss")

# A grid that has not reached an optimum in so many steps has none.
_MOST_EXTENSIONS = 100


def transfer(
    build: Callable[..., Any],
    data: Any,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    lrs: Sequence[float],
    schemes: Sequence[str] = ("auto",),
    seeds: int | Sequence[int] = 3,
    metric: str = "loss",
    extend: int = 0,
    dry_run: bool = False,
    **settings: Any,
) -> Transfer | SweepEstimate:
    """Sweep learning rates over width (at the smallest depth) and over depth (at the smallest width).

    How drift, regret, sharpness and verdict are defined: ``leadline.transferring.analysis``.

    Args:
        widths, depths: the first of each is the base; one value leaves that axis out.
        lrs: of the base, increasing by equal factors is best; they have to bracket every optimum.
        metric: "loss" (training set, at the end) or "test_loss".
        extend: how often the grid may be extended by two rates on a side where it does not bracket an
            optimum; 0 only says in which direction to extend.
        dry_run: return a ``SweepEstimate`` of runs and time instead, as ``sweep`` does, without what
            ``extend`` would add.
        settings: as for ``sweep``: steps, batch_size, optimizer, store, executor, ...

    Raises:
        ValueError: a bad argument, or one size only.
    """
    check_choice("metric", metric, METRICS)
    grid = grid_of(width=widths, depth=depths, lr=lrs)
    widths, depths, lrs = grid["width"], grid["depth"], grid["lr"]
    schemes = grid_of(scheme=schemes)["scheme"]
    extend, dry_run = (
        check_int("extend", extend, 0, _MOST_EXTENSIONS),
        check_bool("dry_run", dry_run),
    )
    axes = [a for a, v in (("width", widths), ("depth", depths)) if len(set(v)) > 1]
    if not axes:
        raise ValueError(
            f"widths={list(widths)!r} and depths={list(depths)!r} hold one size: give two or more of one"
        )
    if len(set(lrs)) < 3:
        raise ValueError(f"lrs={list(lrs)!r} are too few to find an optimum: give three or more")
    # Both axes as one sweep: the base's runs are on both, and programs of both run side by side.
    over = functools.partial(
        sweep,
        build,
        data,
        widths=widths,
        depths=depths,
        sizes="axes",
        base=dict(width=min(widths), depth=min(depths)),
        seeds=seeds,
        scheme=schemes,
        **settings,
    )
    if dry_run:
        estimate = over(lrs=lrs, dry_run=True)
        assert isinstance(estimate, SweepEstimate)
        return estimate
    rows: dict[str, dict[str, Any]] = {}

    def result(new: Sequence[float]) -> Transfer:
        rows.update({r["id"]: r for r in _rows(over(lrs=new))})
        return from_rows(rows.values(), schemes, metric, axes)

    outcome = result(lrs)
    rates = sorted(set(lrs))
    for _ in range(extend):
        new = further(outcome, rates)
        if not new:
            break
        rates = sorted({*rates, *new})
        outcome = result(new)
    return outcome


def further(outcome: Transfer, lrs: Sequence[float]) -> list[float]:
    """Two rates beyond each end of a grid that cuts an optimum off, at the grid's own spacing."""
    edges = {s.edge for a in outcome.axes for s in a.sizes}
    low, high = min(lrs), max(lrs)
    factor = (high / low) ** (1 / (len(set(lrs)) - 1))
    down = [low / factor, low / factor**2] if edges & {"low", "all diverged"} else []
    return down + ([high * factor, high * factor**2] if "high" in edges else [])


def _rows(done: Sweep | SweepEstimate) -> list[dict[str, Any]]:
    """The runs of a sweep.

    Raises:
        ValueError: some could not be trained.
    """
    assert isinstance(done, Sweep)
    if done.failed:
        raise ValueError(f"runs failed: {'; '.join(done.failed)}")
    return done.rows


def from_rows(
    rows: Iterable[Mapping[str, Any]],
    schemes: Sequence[str] | None = None,
    metric: str = "loss",
    axes: Sequence[str] = ("width", "depth"),
) -> Transfer:
    """The same analysis of runs from anywhere: dicts with width, depth, lr, seed, scheme and the metric."""
    kept = tuple(dict(r) for r in rows)
    if not kept:
        raise ValueError("there are no runs to compare")
    names = (
        list(dict.fromkeys(r.get("scheme", "auto") for r in kept)) if schemes is None else schemes
    )
    results = [
        analyse(s, axis, landscapes(kept, s, axis, metric))
        for s in names
        for axis in axes
        if len({r[axis] for r in kept}) > 1
    ]
    if not results:
        raise ValueError("the runs hold one size: give two or more")
    return Transfer(tuple(results), kept, metric)
