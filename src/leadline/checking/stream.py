"""The residual stream, and the modules that repeat with depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from leadline.planning.plan import Plan
from leadline.tracing.survey import Kind


@dataclass
class Seen:
    """What passed through a module in one forward pass."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor | None


def first_tensor(out: Any) -> Tensor | None:
    """The first floating-point tensor of a model's or module's output."""
    if isinstance(out, Tensor):
        return out if out.is_floating_point() else None
    logits = getattr(out, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    values = out.values() if isinstance(out, dict) else out
    if isinstance(out, dict | list | tuple) or hasattr(out, "values"):
        for v in values if isinstance(out, dict | list | tuple) else out.values():
            found = first_tensor(v)
            if found is not None:
                return found
    return None


def blocks(plan: Plan, kinds: Mapping[str, Kind]) -> dict[str, str]:
    """Modules that repeat with depth, and their templates: those that hold whole branches if there are any.

    Otherwise (lists of layers side by side, tied together in the model's forward) the layers themselves.

    Args:
        kinds: of every parameter of the model, by name.
    """
    whole = {_to_index(b) for b in plan.branches} - {""}
    out: dict[str, str] = {}
    for name, kind in kinds.items():
        template = _to_index(kind.template.rpartition(".")[0])
        if kind.branch is None or not template or (whole and template not in whole):
            continue
        out[".".join(name.split(".")[: template.count(".") + 1])] = template
    return out


def _to_index(template: str) -> str:
    """Up to the last ``*``.

    >>> _to_index("h.*.attn.c_attn"), _to_index("embed")
    ('h.*', '')
    """
    parts = template.split(".")
    last = max((i for i, part in enumerate(parts) if "*" in part), default=-1)
    return ".".join(parts[: last + 1])


def streams(blocks: Mapping[str, str], seen: Mapping[str, Seen]) -> dict[str, Tensor]:
    """The residual stream after every block, by the block's name.

    Where each block takes what the one before it put out, that is the stream; where the model adds the
    branch itself, h + block(h), the stream is what blocks take, and of several lists of layers what those
    of the first take.

    Args:
        seen: in the order of the calls.
    """
    groups: dict[str, list[str]] = {}
    for name in seen:
        if name in blocks:
            groups.setdefault(blocks[name], []).append(name)
    out: dict[str, Tensor] = {}
    outside = False
    for members in groups.values():
        pairs = [(seen[a].output, _taken(seen[b])) for a, b in pairwise(members)]
        if all(a is not None and b is not None and _same(a, b) for a, b in pairs):
            out |= {n: x for n in members if (x := seen[n].output) is not None}
        elif not outside:
            outside = True
            out |= {n: x for n in members[1:] if (x := _taken(seen[n])) is not None}
    return out


def _taken(call: Seen) -> Tensor | None:
    return first_tensor((*call.args, *call.kwargs.values()))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def without_cache(x: Any) -> Any:
    """Arguments to call a block with once more: attention's caches would grow at every call."""
    if isinstance(x, dict):
        kept = {k: without_cache(v) for k, v in x.items()}
        return kept | ({"use_cache": False} if "use_cache" in x else {})
    if isinstance(x, tuple):
        return tuple(without_cache(v) for v in x)
    return None if type(x).__name__.endswith("Cache") else x
