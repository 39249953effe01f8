"""The builder's own initialization rule of every kind, from as many draws as it takes."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

from torch import nn

from leadline.tracing.builder import Builder, Size, construct
from leadline.tracing.initialization import Scale, Undecided, snap
from leadline.tracing.kinds import Kind

# Models are small at the base: more draws cost little, and decide rules of parameters with few entries.
_DRAWS = 1000
_SECONDS = 20.0
# A rule of matrices that fits is looked at more closely, as long as that is cheap: 1/log(depth) is
# near 1/√depth.
_CLOSE, _CLOSER_DRAWS, _CLOSER_SECONDS = 0.008, 16, 1.0


def draws(
    build: Builder,
    models: dict[Size, nn.Module],
    kinds: list[Kind],
    which: dict[Size, dict[str, int]],
) -> list[Kind]:
    """Find every kind's initialization rule, drawing more models until all are decided.

    Args:
        models: the first draw at the base, at twice its width and at twice its depth, in this order.
        which: the kind of each of their parameters.

    Raises:
        ValueError: a scale that follows no known rule.
    """
    sizes = list(models)
    base = sizes[0]
    scales = {s: [Scale() for _ in kinds] for s in sizes}
    out = list(kinds)
    open_ = {k for k in range(len(kinds)) if kinds[k].role != "frozen"}
    last: dict[int, str] = {}
    started = time.monotonic()
    for seed in range(_DRAWS):
        if seed > 1 and time.monotonic() - started > _SECONDS:
            break
        for s in sizes:
            model = models[s] if seed == 0 else _again(build, s, seed)
            for name, p in model.named_parameters():
                k = which[s][name]
                if k in open_:
                    scales[s][k].add(p)
        for k in sorted(open_):
            here = [scales[s][k] for s in sizes]
            at = [kinds[k].dims(s, base) for s in sizes]
            try:
                rule = snap(*here, at[0], at[1])
            except Undecided as e:
                last[k] = str(e)
                continue
            out[k] = replace(kinds[k], rule=rule, scale=here[0].rms)
            close = len(kinds[k].shape) < 2 or max(s.error for s in here) < _CLOSE
            spent = time.monotonic() - started > _CLOSER_SECONDS
            if close or spent or seed + 1 >= _CLOSER_DRAWS:
                open_.discard(k)
        if not open_:
            return out
    lines = [
        f"{kinds[k].template}: its scale at initialization follows no known rule over width and depth "
        f"({last[k]})"
        for k in sorted(open_)
    ]
    raise ValueError(
        "cannot decide:\n  "
        + "\n  ".join(lines)
        + "\n  give it a constant or a 1/√fan_in scale, or leave it alone with roles={...: 'frozen'}"
    )


def _again(build: Builder, at: Size, seed: int) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return construct(build, at, seed)
