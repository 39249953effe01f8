"""``transfer``: does my learning rate carry over, and what do I lose if I trust it?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leadline.errors import check_choice
from leadline.sweeps.sweep import Sweep, sweep
from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import landscapes
from leadline.transferring.result import Transfer

METRICS = ("loss", "test_loss")


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
    **settings: Any,
) -> Transfer:
    """Sweep learning rates over width (at the smallest depth) and over depth (at the smallest width).

    Args:
        widths, depths: the first of each is the base; one value leaves that axis out.
        lrs: of the base, increasing by equal factors is best; they have to bracket every optimum.
        metric: "loss" (training set, at the end) or "test_loss".
        settings: as for ``sweep``: steps, batch_size, optimizer, store, executor, ...

    Raises:
        ValueError: a bad argument, or one size only.
    """
    check_choice("metric", metric, METRICS)
    axes = [a for a, v in (("width", widths), ("depth", depths)) if len(set(v)) > 1]
    if not axes:
        raise ValueError(
            f"widths={list(widths)!r} and depths={list(depths)!r} hold one size: give two or more of one"
        )
    if len(set(lrs)) < 3:
        raise ValueError(f"lrs={list(lrs)!r} are too few to find an optimum: give three or more")
    base = dict(width=min(widths), depth=min(depths))
    rows: dict[str, dict[str, Any]] = {}
    for axis in axes:
        done = sweep(
            build,
            data,
            widths=widths if axis == "width" else [base["width"]],
            depths=depths if axis == "depth" else [base["depth"]],
            lrs=lrs,
            seeds=seeds,
            scheme=list(schemes),
            base=base,
            **settings,
        )
        assert isinstance(done, Sweep)
        if done.failed:
            raise ValueError(f"runs failed: {'; '.join(done.failed)}")
        rows |= {r["id"]: r for r in done.rows}
    return from_rows(rows.values(), schemes, metric, axes)


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
