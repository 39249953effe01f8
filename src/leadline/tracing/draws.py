"""The builder's own initialization rule of every kind, from as many draws as it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from leadline.tracing.builder import Builder, Size
from leadline.tracing.fixed import Pairs, fixed, fixed_rule, shared
from leadline.tracing.initialization import Dims, Rule, Scale, Undecided, snap
from leadline.tracing.kinds import Kind, same
from leadline.tracing.layers import differ, layer_rule
from leadline.tracing.redraw import again, reseeds

# Models are small at the base: more draws cost little, and decide rules of parameters with few entries.
_DRAWS = 1000
_SECONDS = 20.0
# A rule of matrices that fits is looked at more closely, as long as that is cheap: 1/log(depth) is
# near 1/√depth.
_CLOSE, _CLOSER_DRAWS, _CLOSER_SECONDS = 0.008, 16, 1.0
# Of values that are partly fixed: a share that is seen (standard errors), and one that matters.
_SIGMAS, _SHARE, _KNOWN = 5.0, 0.02, 0.5


@dataclass
class _Drawn:
    """What was drawn of one kind: scales by name at the three sizes, and what builds share."""

    kind: Kind
    values: list[dict[str, Tensor]]
    """The first draw at the base, at twice its width, at twice its depth."""
    dims: list[Dims]
    pairs: dict[str, Pairs] = field(default_factory=dict)
    scales: list[dict[str, Scale]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = {n: Pairs() for n in self.values[0]}
        self.scales = [{n: Scale() for n in v} for v in self.values]

    def add(self, models: Iterable[Mapping[str, Tensor]]) -> None:
        """Count one more build at every size in."""
        for k, parameters in enumerate(models):
            for name, s in self.scales[k].items():
                s.add(parameters[name])
                if k == 0:
                    self.pairs[name].add(parameters[name])

    @property
    def rms(self) -> float:
        """At the base."""
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
        if fixed(self.pairs.values()):
            return fixed_rule(self.kind, *self.values)
        share, error = shared(self.pairs.values())
        partly = share > max(_SIGMAS * error, _SHARE) and self.kind.gain_of is None
        if partly and self.kind.role in ("hidden", "readout"):
            raise Undecided(
                f"{share:.0%} of its mean square is the same in every build, and no factor is right for "
                "both parts",
                final=True,
            )
        if partly:
            return fixed_rule(self.kind, *self.values)
        if any(map(differ, self.scales)):
            return layer_rule(base, wide, deep, *self.dims[:2])
        rule = snap(here, wider, deeper, *self.dims[:2])
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
        drawn[k] = _Drawn(kinds[k], values, [kinds[k].dims(s, base) for s in models])
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
            or any(last[k].final for k in open_ & set(last))
            or (seed > 1 and time.process_time() - started > _SECONDS)
        ):
            break
        if seed:
            parameters = [dict(again(build, s, seed, fresh).named_parameters()) for s in models]
        if seed == 1:
            fresh = reseeds(build, base, parameters[0])
        for k in open_:
            drawn[k].add(parameters)
        for k in sorted(open_) if seed else ():
            try:
                rules[k] = drawn[k].rule()
            except Undecided as e:
                last[k] = e
                continue
            spent = time.process_time() - started > _CLOSER_SECONDS
            if rules[k].fixed or drawn[k].close or spent or seed + 1 >= _CLOSER_DRAWS:
                open_.discard(k)
    if open_:
        why = {k: last[k] for k in sorted(open_ & set(last))}
        final = {k: e for k, e in why.items() if e.final}
        raise ValueError(_unknown({kinds[k].template: str(e) for k, e in (final or why).items()}))
    return [
        replace(k, rule=rules[j], scale=drawn[j].rms) for k, j in zip(kinds, first, strict=True)
    ]


def _unknown(why: dict[str, str]) -> str:
    lines = [
        f"{name}: its scale at initialization follows no known rule over width and depth ({reason})"
        for name, reason in why.items()
    ]
    return (
        "cannot decide:\n  "
        + "\n  ".join(lines)
        + "\n  give it a constant or a 1/√fan_in scale; or, if the builder's own values are right at every "
        f"size, keep them with roles={{{next(iter(why))!r}: dict(init=False)}} (its rates follow its role)"
    )
