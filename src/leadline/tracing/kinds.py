"""Kinds of parameters, and which kind a parameter of a model of any size is.

A *kind* is a set of parameters that repeat with depth (equal names but for list indices, equal shapes
and places): one entry of the plan serves them all, at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.parametrization.rules import ONE, Place, Power
from leadline.tracing.builder import Size
from leadline.tracing.graph import template
from leadline.tracing.initialization import Dims, Rule, fans


def _indices(name: str) -> list[str]:
    return re.findall(r"\d+", name)


@dataclass(frozen=True)
class Naming:
    """Turns the indices that grow with depth into ``*``; others (stage 0, fc1) stay.

    Attributes:
        free: for every name with all its numbers replaced, which of them grow with depth.
        stacked: parameters that hold an entry for every layer.
    """

    free: Mapping[str, tuple[bool, ...]]
    stacked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, base: Iterable[str], deep: Iterable[str]) -> Naming:
        """Compare the names at two depths."""
        seen: tuple[dict[str, list[set[str]]], ...] = ({}, {})
        for names, out in zip((base, deep), seen, strict=True):
            for name in names:
                at = _indices(name)
                sets = out.setdefault(template(name), [set() for _ in at])
                for s, index in zip(sets, at, strict=True):
                    s.add(index)
        free = {}
        for pattern, sets in seen[1].items():
            before = seen[0].get(pattern, [set() for _ in sets])
            free[pattern] = tuple(bool(s - b) for s, b in zip(sets, before, strict=True))
        return cls(free)

    def template(self, name: str) -> str:
        """The name that all repetitions over depth share."""
        free = iter(self.free.get(template(name), ()))
        return re.sub(r"\d+", lambda number: "*" if next(free, False) else number.group(), name)

    def layer(self, name: str) -> str:
        """The name with the numbers that count layers alone: equal for all experts of one."""
        free = iter(self.free.get(template(name), ()))
        return re.sub(r"\d+", lambda number: number.group() if next(free, False) else "*", name)

    def repeats(self, name: str) -> bool:
        """Is there more of it in a deeper network?"""
        return "*" in self.template(name) or name in self.stacked

    def module(self, module: str, parameter: str) -> str:
        """The template of the module that begins a parameter's name."""
        return ".".join(self.template(parameter).split(".")[: len(module.split("."))])


@dataclass(frozen=True)
class Kind:
    """Parameters that repeat with depth and share their place."""

    template: str
    shape: tuple[int, ...]
    """At the base."""
    grows: tuple[bool, ...]
    """Which dimensions are proportional to width."""
    role: str
    reason: str
    branch: str | None = None
    """Template of the residual branch that repeats with depth, if it is in one."""
    position: int | None = None
    layers: int | None = None
    last: bool = False
    takes: tuple[tuple[str, Power], ...] = ()
    """Multipliers folded into it (branch, attention, readout; norm: the size of what weight norm
    divides by), with what is present of each."""
    present: Power = ONE
    """Other multipliers that the forward pass applies to it and that vary with size."""
    tied: tuple[str, ...] = ()
    rule: Rule = field(default_factory=Rule)
    scale: float = 0.0
    """Root mean square of the builder's draw at the base."""
    gain_of: str | None = None
    """Role of the matrix whose norm it stands for (weight norm)."""
    offset: float = 0.0
    """The number that the forward pass adds to it, and to it alone: what scales is 1 + w."""
    beside: bool = False
    """It repeats with depth and is in no residual branch: a norm behind the sum."""
    constant: tuple[int, ...] = ()
    """The parts of its dimensions that stay as width grows (fused projections); empty for none."""
    layered: tuple[int, ...] = ()
    """What its dimensions grow by when the base's depth is added (an entry for each layer); empty for
    none."""
    shared: bool = False
    """One parameter that every layer uses in its branch."""
    ends: bool = False
    """The last layer's alone."""
    begins: bool = False
    """The first layer's alone."""
    mate: str = ""
    """Where layers of several kinds call a parameter alike: what its layers hold and theirs do not."""
    drawn_as: str = ""
    """The role that a frozen parameter would have, by whose rule its draw is looked at."""
    factors: int = 1
    """In how many factors of one product of data it takes part (keys and values of one matrix: 2)."""
    mark: str = ""
    """What tells it from another kind of its template: first and last layers in one list with the rest."""

    @property
    def label(self) -> str:
        """Its template, with what tells it from others of that."""
        return self.template + self.mark

    @property
    def holder(self) -> str:
        """The same for the module that holds it; the model's own parameters have none."""
        module = self.template.rpartition(".")[0]
        return module + self.mark if module else ""

    @property
    def place(self) -> Place:
        """What the rules need to know."""
        return Place(self.role, self.position, self.layers, self.last, self.beside, self.shared)

    def shape_at(self, m: float, r: float = 1.0) -> tuple[float, ...]:
        """The parameter's shape when width and depth are m and r times the base's."""
        stays = self.constant or (0,) * len(self.shape)
        layers = self.layered or (0,) * len(self.shape)
        wide = [
            (d - c) * m + c if g else d
            for d, g, c in zip(self.shape, self.grows, stays, strict=True)
        ]
        return tuple(
            d + (more * m if g else more) * (r - 1)
            for d, g, more in zip(wide, self.grows, layers, strict=True)
        )

    def dims(self, at: Size, base: Size) -> Dims:
        """What its initialization rule can depend on."""
        shape = self.shape_at(at.width / base.width, at.depth / base.depth)
        # Of what holds all layers, one entry; what grows with width, too, is a fan as it stands.
        layers = self.layered or (0,) * len(shape)
        held = zip(shape, layers, self.grows, strict=True)
        into, out = fans(tuple(round(d) for d, more, g in held if g or not more))
        return Dims(into, out, at.width, at.depth)

    def init_ratio(self, at: Size, base: Size) -> float:
        """How the builder's own scale changes from the base to another size."""
        return self.rule.ratio(self.dims(at, base), self.dims(base, base))


def marked(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    """The same kinds, with marks for those that share a template and no place."""
    by_template: dict[str, dict[tuple[Any, ...], str]] = {}
    kinds = tuple(kinds)
    for k in kinds:
        by_template.setdefault(k.template, {})[_stands(k)] = k.role
    out = []
    for k in kinds:
        stand = by_template[k.template]
        alike = [s for s, role in stand.items() if role == k.role]
        number = f" {alike.index(_stands(k)) + 1}" if len(alike) > 1 else ""
        out.append(replace(k, mark=f" ({k.role}{number})" if len(stand) > 1 else ""))
    return tuple(out)


def _stands(k: Kind) -> tuple[Any, ...]:
    return k.role, k.branch, k.last, k.beside, k.takes, k.offset, k.ends


def assign(
    kinds: Sequence[Kind],
    naming: Naming,
    sizes: dict[str, tuple[int, ...]],
    m: float,
    r: float,
    known: Mapping[str, int] | None = None,
    grows: Mapping[str, tuple[bool, ...]] | None = None,
    among: Iterable[str] = (),
) -> dict[str, int]:
    """The kind of every parameter of a model of any size, by name template and shape.

    Args:
        sizes: shapes by name. m, r: width and depth over the base's.
        known: kinds of the parameters of a model whose names mostly agree, to break ties.
        grows: which dimensions grow, to break ties.
        among: names of the model's other parameters.

    Raises:
        ValueError: a parameter fits no kind, or several.
    """
    out = {}
    by_template: dict[str, list[int]] = {}
    for k, kind in enumerate(kinds):
        by_template.setdefault(kind.template, []).append(k)
    last = {naming.template(name): name for name in sizes}
    first = first_of(sizes, naming)
    layers: dict[str, set[str]] | None = None
    for name, shape in sizes.items():
        called = by_template.get(naming.template(name), ())
        if any(kinds[k].ends for k in called):
            ends = name == last[naming.template(name)]
            called = [k for k in called if kinds[k].ends == ends]
        fits = [k for k in called if kinds[k].shape_at(m, r) == shape]
        if any(kinds[k].begins for k in fits):
            begins = name == first[naming.template(name), shape]
            fits = [k for k in fits if kinds[k].begins == begins] or fits
        if not fits:
            candidates = [kinds[k].shape_at(m, r) for k in called]
            what = f"has shape {shape}, the plan expects {_list(candidates)}" if candidates else (
                "is unknown to the plan")  # fmt: skip
            raise ValueError(
                f"parameter {name!r} {what}: build the model with the plan's width and depth, or take "
                "plan.at(width=..., depth=...)"
            )
        if len(fits) > 1 and grows is not None:
            fits = [k for k in fits if kinds[k].grows == grows[name]] or fits
        if len(fits) > 1 and known is not None and known.get(name) in fits:
            fits = [known[name]]
        if len(fits) > 1 and any(kinds[k].mate for k in fits):
            layers = layers or layers_of([*sizes, *among], naming)
            beside = layers[layer_of(name, naming)]
            fits = [k for k in fits if kinds[k].mate in beside] or [
                k for k in fits if not kinds[k].mate
            ] or fits  # fmt: skip
        if len({essence(kinds[k]) for k in fits}) > 1:
            raise Ambiguous(
                f"parameter {name!r} could be any of {len(fits)} parameters of the base model that have "
                "different places in it: give its layer a name of its own (not a number in one "
                "Sequential with the others), or use all layers of one name alike (what adds up outputs "
                "of several layers does not: take torch.stack(...).mean(0))"
                + (_WIDTH_ALONE if alike_in_width(kinds[k] for k in fits) else "")
            )
        out[name] = fits[0]
    return out


def layer_of(name: str, naming: Naming) -> str:
    """The name up to the first number that counts layers."""
    pattern = naming.template(name).split(".")
    end = next((k + 1 for k, part in enumerate(pattern) if "*" in part), 0)
    return ".".join(name.split(".")[:end])


def layers_of(names: Iterable[str], naming: Naming) -> dict[str, set[str]]:
    """What every layer holds, as templates; what one layer alone holds (its shortcut) is in that."""
    out: dict[str, set[str]] = {}
    alone = []
    for name in names:
        layer = layer_of(name, naming)
        out.setdefault(layer, set()).add(naming.template(name))
        alone += [] if layer else [name]
    for name in alone:
        parts = name.split(".")
        for k in range(1, len(parts)):
            held = out.get(".".join(parts[:k]))
            if held is not None:
                held.add(naming.template(name))
    return out


def first_of(
    sizes: Mapping[str, tuple[int, ...]], naming: Naming
) -> dict[tuple[str, tuple[int, ...]], str]:
    """The first name of every template and shape."""
    out: dict[tuple[str, tuple[int, ...]], str] = {}
    for name, shape in sizes.items():
        out.setdefault((naming.template(name), shape), name)
    return out


_WIDTH_ALONE = ", or give scheme='mup', which scales with width alone"


def alike_in_width(kinds: Iterable[Kind]) -> bool:
    """Do kinds differ in nothing but their place among the layers?"""
    return len({
        essence(replace(
            k, branch=None, position=None, layers=None, last=False, beside=False, shared=False,
            takes=tuple(t for t in k.takes if t[0] != "branch"),
        ))
        for k in kinds
    }) == 1  # fmt: skip


class Ambiguous(ValueError):
    """Names and shapes do not say which of the base's parameters this one repeats."""


def same(a: Kind, b: Kind) -> bool:
    """Do two kinds differ in nothing that matters?"""
    return (a.template, a.shape, essence(a)) == (b.template, b.shape, essence(b))


def essence(k: Kind) -> tuple[Any, ...]:
    # Which layer of a branch of several it is, and of how many, makes no difference to any rule.
    layers = k.layers is not None and min(k.layers, 2)
    return (
        k.grows,
        k.constant,
        k.layered,
        replace(k.place, position=k.position and 0, layers=layers),
        k.takes,
        k.present,
        k.rule,
        k.gain_of,
        k.offset,
        k.ends,
    )


def _list(shapes: list[tuple[float, ...]]) -> str:
    return " or ".join(str(tuple(int(d) if d == int(d) else d for d in s)) for s in shapes)
