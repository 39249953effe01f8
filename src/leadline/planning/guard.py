"""Does the plan do to weights what it says? Measured where a model makes them of its parameters.

A normalised weight (spectral or weight norm, orthogonal, cosine classifiers) does not follow the scale of
what it is made of. Whether it has the right scale all the same is seen at twice the width and depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from leadline.parametrization.rules import ONE, Power, deviation
from leadline.planning.factors import Scaling, rescale_, resolve
from leadline.tracing.builder import Builder, Size, construct, example, seed_of_passes, seeded
from leadline.tracing.derived import DerivedWeight, derived_values
from leadline.tracing.initialization import Scale
from leadline.tracing.kinds import Kind

# Half of what the smallest wrong exponent (1/2) does to the logarithm over an octave.
_TOLERANCE = 0.25 * math.log(2)
_SIGMAS, _BUILDS = 5.0, 16


def check_derived(
    plan: Scaling, build: Builder, derived: Iterable[DerivedWeight], inputs: Any
) -> None:
    """Refuse weights whose scale does not become what the plan means it to be.

    Raises:
        ValueError: names the parameters, what their weight does and the remedy.
    """
    derived = [x for x in derived if x.role != "finite"]
    if not derived or resolve(plan.scheme, None) is None:
        return
    base = plan.base
    sizes = {Size(2 * base.width, base.depth): "width", Size(base.width, 2 * base.depth): "depth"}
    if plan.width_alone:
        sizes.popitem()
    scales = {s: {x: Scale() for x in derived} for s in (base, *sizes)}
    kinds = plan.at(base.width, base.depth).kind_of(construct(build, base))
    # Numbers in names may be others at another depth.
    made_of = {x: frozenset(kinds[n] for n in x.parameters) for x in derived}
    for seed in range(_BUILDS):
        for s, by_weight in scales.items():
            _measure(plan.at(s.width, s.depth), build, inputs, seed, by_weight, made_of)
        if all(_SIGMAS * _error(scales, s, x) < _TOLERANCE for s in sizes for x in derived):
            break
    for s, what in sizes.items():
        for x in derived:
            here, there = scales[base][x].rms, scales[s][x].rms
            if here and there:
                _compare(plan, x, [kinds[n] for n in x.parameters], s, what, there / here)


def _measure(
    plan: Scaling,
    build: Builder,
    inputs: Any,
    seed: int,
    scales: dict[DerivedWeight, Scale],
    made_of: dict[DerivedWeight, frozenset[Kind]],
) -> None:
    at = plan.target
    model = construct(build, at, seed)
    kinds = plan.kind_of(model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            rescale_(p, kinds[name], plan.kind_factors(kinds[name]).init)
    with seeded(seed_of_passes(seed)):
        values = derived_values(model, example(model, inputs, at))
    by_kinds: dict[frozenset[Kind], list[Tensor]] = {}
    for names, value in values.items():
        by_kinds.setdefault(frozenset(kinds[n] for n in names), []).append(value)
    for x, scale in scales.items():
        if made_of[x] not in by_kinds:
            raise ValueError(
                f"parameter {min(x.parameters)!r} is turned into a weight at {plan.base} and its like at "
                f"{at} is not: use it as a weight directly, or name layers by an index of their own"
            )
        for value in by_kinds[made_of[x]]:
            scale.add(value)


def _error(scales: dict[Size, dict[DerivedWeight, Scale]], s: Size, x: DerivedWeight) -> float:
    base = next(iter(scales))
    return math.hypot(scales[base][x].error, scales[s][x].error)


def _compare(
    plan: Scaling, x: DerivedWeight, kinds: list[Kind], at: Size, what: str, ratio: float
) -> None:
    outside = resolve(plan.scheme, None)
    assert outside is not None
    folds, present = ONE, ONE
    for k in kinds:
        folds += plan.fold(k, norms=False)
        present += k.present
    expected = Power(width=deviation(outside, x.role)) + folds
    m, r = at.width / plan.base.width, at.depth / plan.base.depth
    # A number of the forward pass stands inside the weight, or beside it.
    allowed = [p.at(m, r) for p in (expected, expected + present)]
    if all(abs(math.log(ratio / a)) > _TOLERANCE for a in allowed):
        raise ValueError(
            f"parameter {min(x.parameters)!r} is turned into a weight by operations that change its "
            f"scale: at twice the {what} the plan multiplies the weight by {ratio:.3g} where "
            f"{allowed[0]:.3g} is due; give the layer a plain weight (without weight norm, spectral norm "
            "or another parametrization)"
        )
