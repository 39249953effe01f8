"""The role of every parameter: the user's word, what does not train, and what its uses say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from leadline.tracing.builder import Builder, Size
from leadline.tracing.draws import another_draw
from leadline.tracing.initialization import ALIKE, Rule
from leadline.tracing.kinds import Kind
from leadline.tracing.roles import Override, Use, role


class Still:
    """Which parameters are the same in every build: tables, statistics, identities."""

    def __init__(self, build: Builder, base: Size, model: nn.Module) -> None:
        self.here = dict(model.named_parameters())
        self.draw = lambda: dict(another_draw(build, base, 1, fresh=True).named_parameters())
        self.other: dict[str, nn.Parameter] = {}

    def __call__(self, name: str) -> bool:
        self.other = self.other or self.draw()
        return torch.equal(self.here[name], self.other[name])


def decide(
    name: str,
    p: Any,
    pattern: str,
    grows: tuple[bool, ...],
    used: list[Use],
    override: Override,
    still: Still,
    model: nn.Module,
) -> tuple[str, str, bool, str]:
    """As ``role``; the user's word counts first, and what is ``still`` is left alone.

    Returns:
        Role, reason, whether an embedding is the readout too, and for what does not train and is drawn
        at random the role that it would have.
    """
    if not p.requires_grad and override.role in (None, "frozen") and still(name):
        # What is one number was read as such where it multiplies.
        like = _read_role(name, grows, used, model) if used and not override.role else ""
        if like == "readout":
            raise ValueError(_refusal(name, pattern, "a readout, with which what trains aligns"))
        return "frozen", "does not train; equal in every build", False, like
    if not p.requires_grad and override.role is None:
        drawn_as = _drawn_as(name, pattern, grows, used, model)
        return "frozen", "does not train; drawn as it should be", False, drawn_as
    if not p.requires_grad and override.role != "frozen":
        raise ValueError(_refusal(name, pattern, f"not {override.role!r}"))
    if p.requires_grad and override.role == "frozen":
        raise ValueError(
            f"parameter {name!r} trains (requires_grad=True), and 'frozen' would leave it out of the "
            f"optimizer: give roles={{{pattern!r}: dict(init=False)}} to keep the builder's own values and "
            "train it at its role's rate, or set requires_grad=False in the builder"
        )
    if override.role is not None:
        return override.role, "given by roles=", False, ""
    return *role(name, grows, used, model), ""


def _read_role(name: str, grows: tuple[bool, ...], used: list[Use], model: nn.Module) -> str:
    """The role that its uses say; empty where they do not."""
    try:
        return role(name, grows, used, model)[0]
    except ValueError:
        return ""


def _drawn_as(
    name: str, pattern: str, grows: tuple[bool, ...], used: list[Use], model: nn.Module
) -> str:
    try:
        kind_role, _, readout = role(name, grows, used, model)
    except ValueError:
        raise ValueError(_refusal(name, pattern, "its role cannot be read off")) from None
    if readout or kind_role == "readout":
        # Features that train align with it, and its outputs grow with width.
        raise ValueError(_refusal(name, pattern, "a readout's draw changes with the scheme"))
    return kind_role


def left_alone(kinds: Iterable[Kind], base: Size) -> list[Kind]:
    """The kinds; what is frozen and drawn at random stays as it is, where its role would be drawn so.
    Otherwise it is rescaled as its role is: what trains behind it sees features of one size."""
    out = []
    for k in kinds:
        if k.drawn_as and _fits(k, base):
            out.append(replace(k, rule=Rule(fixed=True)))
        elif k.drawn_as:
            out.append(replace(k, reason=f"does not train; drawn as {k.drawn_as!r} at every size"))
        else:
            out.append(k)
    return out


def _fits(kind: Kind, base: Size) -> bool:
    """Does its draw change over width and depth as that of its role?"""
    if kind.rule.fixed:
        return True
    wide, deep = Size(2 * base.width, base.depth), Size(base.width, 2 * base.depth)
    expected = math.log(2) / -2 if kind.drawn_as == "hidden" else 0.0
    changes = [math.log(kind.init_ratio(at, base)) for at in (wide, deep)]
    return max(abs(changes[0] - expected), abs(changes[1])) <= ALIKE


def _refusal(name: str, pattern: str, why: str) -> str:
    return (
        f"parameter {name!r} is frozen (requires_grad=False; {why}): give roles={{{pattern!r}: 'frozen'}} "
        "to leave it alone, or train it"
    )
