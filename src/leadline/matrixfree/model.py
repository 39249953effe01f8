"""A user's model whose hidden weights are wide: built without them, and trained through their products."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import nn

import leadline.matrixfree.products
import leadline.matrixfree.views  # noqa: F401  (both fill the table of torch's functions)
from leadline.errors import cut
from leadline.matrixfree.configuration import TaskConfiguration, tile_room
from leadline.matrixfree.drawn import Draw
from leadline.matrixfree.elementwise import ElementwisePart, shared_out
from leadline.matrixfree.holders import Replaced, exchange
from leadline.matrixfree.hollow import hollow_model
from leadline.matrixfree.matrix import Answers, Passes, WideMatrix
from leadline.matrixfree.steps import rule_of
from leadline.matrixfree.weight import Layout, WideWeight
from leadline.planning.factors import Factors, rescale_
from leadline.planning.plans import Plan
from leadline.solving.configuration import Settings
from leadline.solving.fast import FastOperator
from leadline.solving.noise import Draws, HashedNoise, Noise
from leadline.solving.operator import Operator
from leadline.solving.sides import Rectangle
from leadline.tracing.builder import construct
from leadline.tracing.kinds import Kind

_FORWARD, _BACKWARD, _SCRATCH_FORWARD, _SCRATCH_BACKWARD, _FAST = range(10, 15)


@dataclass
class WideParameter:
    """A weight of a model that is wide.

    Attributes:
        name, kind, factors: in the plan. matrices: one, or one for every expert.
    """

    name: str
    kind: Kind
    factors: Factors
    matrices: tuple[WideMatrix, ...]

    @property
    def has_gradient(self) -> bool:
        """Did the loss depend on it? Experts without rows then have the gradient 0."""
        return any(m.pending for m in self.matrices)

    def square_norm(self) -> float:
        """The squared norm of the gradient."""
        return sum(m.square_norm() for m in self.matrices if m.pending)

    def update(self, step: Any, factor: float = 1.0) -> None:
        """The optimizer's step, unless the loss did not depend on the weight."""
        if self.has_gradient:
            for m in self.matrices:
                m.update(step, factor)

    def forget(self) -> None:
        """Forget the gradient."""
        for m in self.matrices:
            m.pending.clear()


def answers(
    c: TaskConfiguration, key: Sequence[int], shape: tuple[int, int], std: float
) -> Answers:
    """W(0) (n_out, n_in) of a run's weight, in the ensemble of the configuration.

    Args:
        key: run, weight, expert.
    """
    n_out, n_in = shape
    settings = Settings(
        n=n_out,
        expected=min(max(n_out, n_in), 512),
        reused=c.coupling == "reused",
        tol=c.tol,
        dtype=c.dtype,
        device=c.device,
    )
    if c.ensemble == "fast":
        sequence = np.random.SeedSequence(c.seed, spawn_key=(key[0], _FAST, *key[1:]))
        return FastOperator(settings, sequence, n_in=n_in, n_out=n_out, std=std)

    def noise(stream: int, n: int) -> Draws:
        kind = HashedNoise if settings.counter else Noise
        return kind(c.seed, (key[0], stream, *key[1:]), n)

    sides = Rectangle(n_out, n_in, std, noise(_BACKWARD, n_in), noise(_SCRATCH_BACKWARD, n_in))
    return Operator(settings, noise(_FORWARD, n_out), noise(_SCRATCH_FORWARD, n_out), sides)


def wide_names(plan: Plan, stored: Iterable[str] = ()) -> list[str]:
    """Names of the hidden weights of a plan's target that can be wide, in the model's order.

    Args:
        stored: patterns of names that stay tensors with entries.

    Raises:
        ValueError: a pattern that matches no hidden weight.
    """
    hidden = [n for n, k in plan.names.items() if _is_wide(plan.kinds[k])]
    for pattern in stored:
        if not any(fnmatchcase(n, pattern) for n in plan.names):
            raise ValueError(
                f"stored={pattern!r} matches no parameter; hidden ones: {cut(', '.join(hidden), 300)}"
            )
    return [n for n in hidden if not any(fnmatchcase(n, p) for p in stored)]


def _is_wide(kind: Kind) -> bool:
    """A matrix, a convolution's kernel or a tensor of experts' matrices, of which both sides grow."""
    if kind.role != "hidden" or sum(kind.grows) != 2 or kind.offset or kind.layered:
        return False
    if len(kind.shape) == 3 and not kind.grows[0]:
        return True
    return kind.grows[0] and kind.grows[1]


def wide_model(c: TaskConfiguration, s: int) -> tuple[nn.Module, dict[str, WideParameter], Passes]:
    """The model of run s with the plan's initialization, and its wide weights by name.

    Raises:
        ValueError: the builder needs values of wide weights, or they are no independent draws.
    """
    plan, passes = c.plan, Passes()
    names = wide_names(plan, c.stored)
    kinds = {n: plan.kinds[plan.names[n]] for n in names}
    shapes = {n: _shape(plan, kinds[n]) for n in names}
    model, draws = hollow_model(c.builder, plan.target, c.run_seed(s), shapes)
    parameters, factors = dict(model.named_parameters()), plan.factors()
    wide: dict[str, WideParameter] = {}
    weights: dict[int, WideWeight] = {}
    rules = {name: rule_of(c.recipe, kinds[name], factors[name]) for name in names}
    each = {
        name: c.dtype.itemsize * math.prod(shapes[name]) * (1 + rule.moments)
        for name, rule in rules.items()
        if rule is not None
    }
    deviations = _deviations({name: draws[name] for name in names})
    if s == 0:
        _check_seeds(c, names)
    total, most = sum(each.values()), tile_room(c) if each else 0
    for i, name in enumerate(names):
        shape, kind, f = tuple(parameters[name].shape), kinds[name], factors[name]
        std = deviations[name] * f.init
        stacked = _is_stack(kind)
        sides = (shape[1], shape[2]) if stacked else (shape[0], math.prod(shape[1:]))
        made = []
        for e in range(shape[0] if stacked else 1):
            a = answers(c, (s, i, e), sides, std)
            rule, part = rules[name], None
            if rule is not None:
                count = shape[0] if stacked else 1
                memory = shared_out(each[name] // count, total, most)
                part = ElementwisePart(
                    sides[1],
                    sides[0],
                    rule,
                    seed=c.seed,
                    dtype=c.dtype,
                    device=c.device,
                    memory=memory,
                )
            made.append(WideMatrix(*sides, a, passes, c.dtype, part, whole=c.ensemble == "fast"))
        wide[name] = WideParameter(name, kind, f, tuple(made))
        kernel = () if stacked else shape[2:]
        layout = Layout(
            name, tuple(made), (0, sides[0]), (0, sides[1]), stacked=stacked, kernel=kernel
        )
        weights[id(parameters[name])] = WideWeight.parameter(layout, c.dtype, c.device)
        weights[id(parameters[name])].__dict__.update(parameters[name].__dict__)
    exchange(model, lambda _, x: weights.get(id(x), x))
    for name in names:
        Replaced.of(parameters[name], name)
    _rescale(c, model, wide)
    return model, wide, passes


def _check_seeds(c: TaskConfiguration, names: Sequence[str]) -> None:
    """Refuse weights of the base that are the same for every seed, or the same as others.

    Raises:
        ValueError: the builder seeds its own random numbers.
    """
    first, second = (
        dict(construct(c.builder, c.plan.base, seed).named_parameters()) for seed in (0, 1)
    )
    begun: dict[tuple[float, ...], str] = {}
    for name in (n for n in names if n in first):
        p = first[name].detach()
        like = begun.setdefault(tuple(p.flatten()[:8].tolist()), name)
        if bool((p == p.flatten()[0]).all()):  # zeros
            continue
        equal = like != name and torch.equal(first[like], p)
        if not equal and not torch.equal(p, second[name]):
            continue
        what = f"equal to those of {like!r}" if equal else "the same for every seed"
        raise ValueError(
            f"the entries of parameter {name!r} are {what}: the builder draws them with a seed of its own "
            "(torch.manual_seed, torch.Generator), and wide weights are drawn anew in every run: draw "
            f"without it, or give stored={name!r} to keep its entries in memory"
        )


def _deviations(draws: Mapping[str, Draw]) -> dict[str, float]:
    """Standard deviations of the weights' draws; those that have none are refused together."""
    deviations, others, reason = {}, [], ""
    for name, draw in draws.items():
        try:
            deviations[name] = draw.std()
        except ValueError as e:
            reason = reason or str(e)
            others.append(name)
    if others:
        one, every = len(others) == 1, len(others) == len(draws)
        what = f"parameter {others[0]!r} is" if one else f"{len(others)} parameters are"
        keep = (
            f"give stored={(others[0] if one else others)!r} to keep {'its' if one else 'their'} "
        )
        # With all of them stored nothing is left to solve.
        other = "train it with leadline.train" if every else f"{keep}entries in memory"
        raise ValueError(
            f"{what} not drawn as independent entries of mean 0 ({reason}): draw {'it' if one else 'them'} "
            f"so (normal_, uniform_), or {other}"
        )
    return deviations


def _is_stack(kind: Kind) -> bool:
    """Is it a tensor of experts' matrices?"""
    return len(kind.shape) == 3 and not kind.grows[0]


def _shape(plan: Plan, kind: Kind) -> tuple[int, ...]:
    return tuple(round(d) for d in kind.shape_at(plan.m, plan.r))


def _rescale(c: TaskConfiguration, model: nn.Module, wide: Mapping[str, WideParameter]) -> None:
    """The plan's initialization of the weights with entries, and the run's type and device for them."""
    plan, factors = c.plan, c.plan.factors()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in wide:
                continue
            p.data = p.data.to(c.device, c.dtype)
            if factors[name].init != 1.0:
                rescale_(p, plan.kinds[plan.names[name]], factors[name].init)
        for module in model.modules():
            for key, b in module._buffers.items():
                if b is not None:
                    dtype = c.dtype if b.is_floating_point() else b.dtype
                    module._buffers[key] = b.to(c.device, dtype)
