"""Does anything grow at initialization under the plan? Measured where modules read and make numbers, and
where what a layer's weights make is added to something.

Under any scheme features keep their size over width, and over depth where branches have a multiplier; what
readouts make may fall. Something that grows was not read: a sum that is written in another way, a second
stream. What falls, and what learning does, is not seen here; ``check`` trains.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from leadline.planning.factors import Scaling, rescale_, resolve
from leadline.tracing.branches import is_weight_layer, joined, layer_weights
from leadline.tracing.builder import Builder, Size, construct, example, seed_of_passes, seeded
from leadline.tracing.graph import ATTENTION, MATRIX, SCALINGS, VIEWS, Graph, template
from leadline.tracing.kinds import Naming
from leadline.tracing.recording import as_call, recorded

_GROWTH = 0.3
"""The exponent that counts as growth: sums of independent terms have 1/2, a logarithm less than this."""
_SEEDS, _SIGMAS = 6, 2.0
_GOES_ON = 0.7
"""The part of the first exponent that the second has at least."""
_MOST = {"width": 2.2, "depth": 1.25}
"""Sums over layers grow as their number, at most; what grows faster comes from next to nothing."""
_PASSED = VIEWS | SCALINGS | MATRIX | ATTENTION
"""What lies between a layer and a sum that holds what it makes."""
_LOOKED = ((1, 0.12), (2, 0.2), (3, 0.25))
"""Draws, and the mean exponent of what is looked at in more of them."""


def keeps_values(roles: Mapping[str, Any] | None) -> bool:
    """Does the user want values as the builder makes them? What grows by them is the user's word."""
    return any(
        how == "frozen"
        or (isinstance(how, Mapping) and (how.get("role") == "frozen" or how.get("init") is False))
        for how in (roles or {}).values()
    )


def check_magnitudes(plan: Scaling, build: Builder, inputs: Any) -> None:
    """Refuse a plan under which the numbers that a module makes (over depth: or reads) grow.

    Where a draw at twice the width or depth looks so, more draws decide, and those of four times that. An
    axis along which the plan does not know the larger models is not looked at.

    Raises:
        ValueError: names the module, its sizes and the remedy.
    """
    if resolve(plan.scheme, None) is None:
        return
    schemes = (resolve(plan.scheme, n) for n in plan.branches.values())
    depth = any(s is not None and s.branch for s in schemes) and not plan.width_alone
    drawn = _Draws(plan, build, inputs, sums=depth)
    for axis in ("width", "depth") if depth else ("width",):
        if not drawn.are_known(axis):
            continue
        once = drawn.growing(axis, 1)
        # A sum goes on as it begins; what a small stream grows to in its first layers ends.
        twice = drawn.growing(axis, 2, once) if once else {}
        grown = {
            k: v
            for k, v in twice.items()
            if v > _GOES_ON * once[k] and (once[k] < _MOST[axis] or v > once[k])
        }
        if grown:
            place = max(grown, key=lambda k: grown[k])
            raise ValueError(_message(axis, place, [drawn.size(axis, k, place) for k in (1, 2, 4)]))


def _message(axis: str, place: tuple[str, str], sizes: list[float]) -> str:
    name, what = place
    remedy = (
        "take the mean over layers, or give scheme='mup', which scales with width alone"
        if axis == "depth"
        else "take the mean of what is added up, or multiply by a weight"
    )
    numbers = ", ".join(f"{x:.3g}" for x in sizes)
    return (
        f"{name or 'the model'} {what} numbers that grow with {axis} at initialization under this plan "
        f"(root mean squares {numbers} at 1, 2 and 4 times the base's {axis}), so something that adds up "
        f"was not read: {remedy}"
    )


class _Draws:
    """Sizes of what modules read and make under a plan, by axis, multiple of the base, and seed."""

    def __init__(self, plan: Scaling, build: Builder, inputs: Any, sums: bool) -> None:
        self.plan, self.build, self.inputs, self.sums = plan, build, inputs, sums
        self.known: dict[tuple[Size, int], dict[tuple[str, str], float]] = {}
        self.namings: dict[str, Naming] = {}

    def at(self, axis: str, times: int) -> Size:
        """The base, so many times as large along an axis."""
        base = self.plan.base
        wide = axis == "width"
        return Size(base.width * (times if wide else 1), base.depth * (1 if wide else times))

    def are_known(self, axis: str) -> bool:
        """Does the plan know the parameters of the larger models? Names may not say which is which, and a
        builder may stop growing."""
        try:
            for k in (1, 2, 4):
                self.plan.at(*astuple(self.at(axis, k)))
        except ValueError:
            return False
        return True

    def growing(
        self, axis: str, times: int, among: Collection[tuple[str, str]] | None = None
    ) -> dict[tuple[str, str], float]:
        """What grows from so many times the base to twice that, with its exponent.

        Args:
            among: the places that are looked at; all if None.
        """
        places = among
        for seeds, least in _LOOKED:
            exponents = self.exponents(axis, times, seeds, places)
            places = [k for k, values in exponents.items() if sum(values) / seeds > least]
            if not places:
                return {}
        out = {}
        for place, values in self.exponents(axis, times, _SEEDS, places).items():
            mean = sum(values) / len(values)
            spread = sum((x - mean) ** 2 for x in values) / max(len(values) - 1, 1)
            if mean - _SIGMAS * math.sqrt(spread / len(values)) > _GROWTH:
                out[place] = mean
        return out

    def exponents(
        self, axis: str, times: int, seeds: int, places: Collection[tuple[str, str]] | None
    ) -> dict[tuple[str, str], list[float]]:
        """The exponents of every draw from so many times the base to twice that."""
        skipped = self.compensated if axis == "width" else set()
        logs: dict[tuple[str, str], list[float]] = defaultdict(list)
        for seed in range(seeds):
            here, there = (self.sizes(axis, k, seed) for k in (times, 2 * times))
            for place, size in here.items():
                known = size > 0 and there.get(place, 0.0) > 0 and place not in skipped
                if known and (places is None or place in places):
                    logs[place].append(math.log2(there[place] / size) / 2)
        return {place: values for place, values in logs.items() if len(values) == seeds}

    @property
    def compensated(self) -> set[tuple[str, str]]:
        """What may grow with width: a number beside it makes up for that, or a weight for the number."""
        naming, names = self.naming("width"), {n for n, _ in self.measured(self.plan.base, 0)}
        held = {
            name.rpartition(".")[0]
            for name, k in self.plan.at(*astuple(self.plan.base)).names.items()
            if self.plan.kinds[k].present.width
        }
        out = {(naming.template(n), "makes") for n in names if n in held}
        return out | {(naming.template(n), "reads") for n in names}

    def size(self, axis: str, times: int, place: tuple[str, str]) -> float:
        """A root mean square over all draws."""
        squares = [self.sizes(axis, times, seed)[place] for seed in range(_SEEDS)]
        return math.sqrt(sum(squares) / len(squares))

    def sizes(self, axis: str, times: int, seed: int) -> dict[tuple[str, str], float]:
        """Mean squares; of modules that repeat with depth, the largest."""
        naming = self.naming(axis)
        out: dict[tuple[str, str], float] = {}
        for (name, what), square in self.measured(self.at(axis, times), seed).items():
            place = naming.template(name), what
            out[place] = max(out.get(place, 0.0), square)
        return out

    def naming(self, axis: str) -> Naming:
        """How names of modules repeat over depth."""
        if axis not in self.namings:
            names = [[n for n, _ in self.measured(self.at(axis, k), 0)] for k in (1, 2)]
            self.namings[axis] = Naming.of(*names)
        return self.namings[axis]

    def measured(self, at: Size, seed: int) -> Mapping[tuple[str, str], float]:
        """Mean squares by module, of what it reads and of what it makes."""
        if (at, seed) not in self.known:
            plan = self.plan.at(at.width, at.depth)
            model = construct(self.build, at, seed)
            kinds = plan.kind_of(model)
            with torch.no_grad():
                for name, p in model.named_parameters():
                    rescale_(p, kinds[name], plan.kind_factors(kinds[name]).init)
            with seeded(seed_of_passes(seed)):
                squares = _mean_squares(model, example(model, self.inputs, at))
            if self.sums and at.width == self.plan.base.width:
                with seeded(seed_of_passes(seed)):
                    squares |= _sums(*recorded(model, example(model, self.inputs, at)))
            self.known[at, seed] = squares
        return self.known[at, seed]


def _mean_squares(model: nn.Module, inputs: Any) -> dict[tuple[str, str], float]:
    out: dict[tuple[str, str], float] = {}

    def keep(name: str, what: str, values: Any) -> None:
        for x in tree_flatten(values)[0]:
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                square = float(x.detach().double().square().mean())
                if math.isfinite(square):
                    out[name, what] = max(out.get((name, what), 0.0), square)

    handles = []
    for name, m in model.named_modules():

        def read(_m: Any, a: Any, k: Any, name: str = name) -> None:
            keep(name, "reads", (a, k))

        def made(_m: Any, _a: Any, values: Any, name: str = name) -> None:
            keep(name, "makes", values)

        handles.append(m.register_forward_pre_hook(read, with_kwargs=True))
        handles.append(m.register_forward_hook(made))
    args, kwargs = as_call(inputs)
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    finally:
        for h in handles:
            h.remove()
    return out


def _sums(graph: Graph, values: Mapping[int, Tensor]) -> dict[tuple[str, str], float]:
    """Mean squares of sums of two tensors of data, by the weights that have made one of them: of the last
    of a chain of sums, and times the numbers that it is multiplied by next (a mean)."""
    made_by: dict[int, set[str]] = {}
    for node in graph.nodes:
        for i in joined(graph, node.index) or ():
            while not is_weight_layer(graph, i):
                made = [j for j in graph.nodes[i].inputs if graph.is_act(j)]
                if not made or graph.nodes[i].op not in _PASSED:
                    break
                i = made[0]
            if is_weight_layer(graph, i):
                made_by.setdefault(node.index, set()).add(min(layer_weights(graph, i), default=""))
    out: dict[tuple[str, str], float] = {}
    for i, names in made_by.items():
        further = set().union(*(made_by.get(c, set()) for c in graph.consumers[i]))
        end = i
        while len(graph.consumers[end]) == 1 and _is_number(graph, graph.consumers[end][0]):
            end = graph.consumers[end][0]
        followed = set(map(template, further))
        for name in names:
            if template(name) not in followed and values[end].is_floating_point():
                place = name, "makes a part of sums of"
                square = float(values[end].detach().double().square().mean())
                out[place] = max(out.get(place, 0.0), square)
    return out


def _is_number(graph: Graph, i: int) -> bool:
    """Does an operation rearrange one tensor, or multiply it by a number?"""
    node = graph.nodes[i]
    return node.op in VIEWS or (node.op in SCALINGS and len(node.numbers) == len(node.inputs) == 1)
