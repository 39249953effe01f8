"""The builder's own initialization rule of every kind, from as many draws as it takes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from leadline.tracing.builder import Builder, Size, construct
from leadline.tracing.initialization import (
    OVER_DEPTH,
    Dims,
    Rule,
    Scale,
    Undecided,
    entries,
    layer_rule,
    layers_differ,
    snap,
)
from leadline.tracing.kinds import Kind, same
from leadline.tracing.modes import OperationMode
from leadline.tracing.values import even

# Models are small at the base: more draws cost little, and decide rules of parameters with few entries.
_DRAWS = 1000
_SECONDS = 20.0
# A rule of matrices that fits is looked at more closely, as long as that is cheap: 1/log(depth) is
# near 1/√depth.
_CLOSE, _CLOSER_DRAWS, _CLOSER_SECONDS = 0.008, 16, 1.0
# The share of values that builds have in common: standard errors by which it is seen, the least that
# matters, and what the standard errors may come to.
_SIGMAS, _SHARE, _KNOWN = 5.0, 0.02, 0.5
# Exponents of width in the scale of fixed matrices that keep activations in size: identities and
# orthonormal bases (-½), means (-1); inputs and readouts around the exponents of their rules.
_FINE = {"input": (-0.25, 0.25), "hidden": (-1.1, -0.4), "readout": (-1.1, -0.4)}
"""Powers of 2 that the size of values which are no draw may be multiplied by where the width doubles."""


class _Fresh(OperationMode):
    """Every random operation draws from a seed of its own, whatever was seeded before it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        # The generator of the CPU looks at 32 bits.
        self.next = seed << 20

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.next += 1
            generator = kwargs.get("generator")
            if generator is not None:
                other = torch.Generator(generator.device).manual_seed(self.next)
                kwargs = {**kwargs, "generator": other}
            else:
                torch.default_generator.manual_seed(self.next)
                if torch.cuda.is_initialized():
                    torch.cuda.manual_seed_all(self.next)
        return func(*args, **kwargs)


def another_draw(build: Builder, at: Size, seed: int, fresh: bool) -> nn.Module:
    """The builder's model with other random numbers; the caller's go on as if nothing happened.

    Args:
        seed: at least 1; 0 is that of the first.
        fresh: whatever the builder seeds itself: what is equal in two of these is no draw (as far as
            torch draws it). False is faster.
    """
    with warnings.catch_warnings(action="ignore"), _Fresh(seed) if fresh else nullcontext():
        return construct(build, at, seed)


def seeds_itself(build: Builder, at: Size, other: Mapping[str, Tensor]) -> bool:
    """Does the builder seed its own random numbers?

    Args:
        other: parameters of a fresh model.
    """
    models = (another_draw(build, at, seed, fresh=False) for seed in (0, 1))
    first, second = (dict(m.named_parameters()) for m in models)
    return any(torch.equal(p, second[n]) and not torch.equal(p, other[n]) for n, p in first.items())


@dataclass
class SharedValues:
    """How much of a kind's values the builds have in common: each is compared with the one before."""

    last: dict[str, Tensor] = field(default_factory=dict)
    equal: bool = True
    """All values are the same in every build."""
    products: float = 0.0
    squares: float = 0.0
    fourth: float = 0.0

    def add(self, name: str, p: Tensor) -> None:
        """Another build's values of a parameter."""
        x = entries(p)
        if name in self.last:
            last = self.last[name]
            self.equal &= bool(torch.equal(x, last))
            self.products += float(x @ last)
            self.squares += float(x @ x + last @ last) / 2
            self.fourth += float((x * x) @ (last * last))
        self.last[name] = x

    @property
    def share(self) -> tuple[float, float]:
        """The part of the mean square that builds have in common, and its standard error."""
        if not self.squares:
            return 0.0, 0.0
        return self.products / self.squares, math.sqrt(self.fourth) / self.squares


def fixed_rule(
    kind: Kind,
    values: Mapping[str, Tensor],
    wide: Mapping[str, Tensor],
    deep: Mapping[str, Tensor],
) -> Rule:
    """What is known of values that the builder chooses: left alone over width.

    A power of the depth in what takes a branch's multiplier is one already.

    Args:
        values, wide, deep: the kind's parameters at the base, at twice its width, at twice its depth.

    Raises:
        Undecided: a matrix of such values whose products grow or fade with width.
    """
    one = kind.role == "input" and sum(d > 1 for d in kind.shape) < 2  # An entry a neuron.
    summed = len(kind.shape) > 1 or kind.role == "readout"
    if kind.role in _FINE and summed and not one:
        change = _rms(wide.values()) / _rms(values.values())
        low, high = _FINE[kind.role]
        if not low <= math.log2(change) <= high:
            raise Undecided(
                f"its values are the same in every build, and their size is multiplied by {change:.3g} at "
                f"twice the width, where 2^{low:g} to 2^{high:g} suit its role",
                final=True,
            )
    a, b = even(values.values()), even(wide.values())
    if kind.role in ("vector", "finite") and a and b and not math.isclose(a, b, rel_tol=1e-5):
        raise Undecided(
            f"every entry begins with {a:.4g}, and with {b:.4g} at twice the width: a number that the "
            "forward pass multiplies by would be read, the value of a parameter is not; begin with the "
            "same value at every width, and multiply by that number",
            final=True,
        )
    if any(what == "branch" for what, _ in kind.takes):
        for name, change in OVER_DEPTH.items():
            common = [n for n in values if n in deep]
            if common and all(
                torch.allclose(
                    deep[n].double(), values[n].double() * math.exp(change), rtol=1e-5, atol=0.0
                )
                for n in common
            ):
                return Rule(depth=name, fixed=True)
    return Rule(fixed=True)


def _rms(values: Iterable[Tensor]) -> float:
    out = Scale()
    for x in values:
        out.add(x)
    return out.rms


@dataclass
class _Drawn:
    """The draws of one kind: scales by name at the three sizes, and the values that builds share."""

    kind: Kind
    values: list[dict[str, Tensor]]
    """The first draw at the base, at twice its width, at twice its depth."""
    dims: list[Dims]
    shared: SharedValues = field(default_factory=SharedValues)
    scales: list[dict[str, Scale]] = field(init=False)

    def __post_init__(self) -> None:
        self.scales = [{n: Scale() for n in v} for v in self.values]

    def add(self, models: Iterable[Mapping[str, Tensor]]) -> None:
        """Count one more build at every size in."""
        for k, parameters in enumerate(models):
            for name, s in self.scales[k].items():
                s.add(parameters[name])
                if k == 0:
                    self.shared.add(name, parameters[name])

    @property
    def rms(self) -> float:
        """Root mean square of the values at the base."""
        return Scale.pooled(self.scales[0].values()).rms

    def rule(self) -> Rule:
        """The initialization rule.

        Raises:
            Undecided: more draws are needed, or there is none.
        """
        base, wide, deep = self.scales
        here, wider, deeper = (Scale.pooled(s.values()) for s in self.scales)
        zero = [not s.total for s in (here, wider, deeper) if s.count]
        if all(zero):
            return Rule()
        if any(zero):
            raise Undecided("it is zero at one size and not at another", final=True)
        if self.shared.equal:
            return fixed_rule(self.kind, *self.values)
        share, error = self.shared.share
        partly = share > max(_SIGMAS * error, _SHARE) and self.kind.gain_of is None
        if partly and self.kind.role in ("hidden", "readout"):
            raise Undecided(
                f"{share:.0%} of its mean square is the same in every build, and no factor is right for "
                "both parts",
                final=True,
            )
        if partly:
            return fixed_rule(self.kind, *self.values)
        if any(map(layers_differ, self.scales)):
            return layer_rule(base, wide, deep, *self.dims[:2])
        rule = snap(here, wider, deeper, *self.dims)
        if rule != Rule() and _SIGMAS * error > _KNOWN:
            raise Undecided("too few entries tell whether they are fixed")
        return rule

    @property
    def close(self) -> bool:
        """Is a rule that fits known closely enough?"""
        errors = (Scale.pooled(s.values()).error for s in self.scales)
        return len(self.kind.shape) < 2 or max(errors) < _CLOSE


def draws(
    build: Builder,
    models: dict[Size, nn.Module],
    kinds: list[Kind],
    which: dict[Size, dict[str, int]],
    kept: frozenset[str] = frozenset(),
) -> list[Kind]:
    """Find every kind's initialization rule, drawing more models until all are decided.

    Args:
        models: the first draw at the base, at twice its width and at twice its depth, in this order.
        which: the kind of each of their parameters.
        kept: parameters whose values the user wants as the builder makes them.

    Raises:
        ValueError: a scale that follows no known rule.
    """
    base = next(iter(models))
    parameters = [dict(m.named_parameters()) for m in models.values()]
    # Kinds that differ in nothing but a number in their reason are drawn alike.
    first = [next(j for j, other in enumerate(kinds) if same(other, k)) for k in kinds]
    drawn = {}
    for k in sorted(set(first)):
        values = [
            {n: p.detach() for n, p in at.items() if first[which[s][n]] == k}
            for s, at in zip(models, parameters, strict=True)
        ]
        looked_at = replace(kinds[k], role=kinds[k].drawn_as or kinds[k].role)
        drawn[k] = _Drawn(looked_at, values, [kinds[k].dims(s, base) for s in models])
    rules: dict[int, Rule] = {}
    for k, d in drawn.items():
        if d.kind.role == "frozen" or kept.intersection(d.values[0]):
            d.add([d.values[0]])
            rules[k] = Rule(fixed=True)
    open_ = {k for k in drawn if k not in rules}
    last: dict[int, Undecided] = {}
    fresh = True
    started = time.process_time()
    for seed in range(_DRAWS):
        if (
            not open_
            or all(k in last and last[k].final for k in open_)
            or (seed > 1 and time.process_time() - started > _SECONDS)
        ):
            break
        if seed:
            parameters = [
                dict(another_draw(build, s, seed, fresh).named_parameters()) for s in models
            ]
        if seed == 1:
            fresh = seeds_itself(build, base, parameters[0])
        for k in open_:
            drawn[k].add(parameters)
        for k in sorted(open_) if seed else ():
            try:
                rules[k] = drawn[k].rule()
            except Undecided as e:
                last[k] = e
                continue
            last.pop(k, None)
            spent = time.process_time() - started > _CLOSER_SECONDS
            if rules[k].fixed or drawn[k].close or spent or seed + 1 >= _CLOSER_DRAWS:
                open_.discard(k)
    if last:
        raise ValueError(_unknown({kinds[k].template: str(last[k]) for k in sorted(last)}))
    return [
        replace(k, rule=rules[j], scale=drawn[j].rms) for k, j in zip(kinds, first, strict=True)
    ]


def _unknown(why: dict[str, str]) -> str:
    lines = [
        f"{name}: its scale at initialization follows no known rule over width and depth ({reason})"
        for name, reason in why.items()
    ]
    kept = ", ".join(f"{name!r}: dict(init=False)" for name in why)
    return (
        "cannot decide:\n  "
        + "\n  ".join(lines)
        + "\n  give it a constant or a 1/√fan_in scale; or, if the builder's own values are right at every "
        f"size, keep them with roles={{{kept}}} (its rates follow its role)"
    )
