"""What streams do that shows in deeper networks than the base and its double."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from leadline.tracing.branches import ResidualBranch
from leadline.tracing.builder import Builder, Size, construct, example, seeded, shapes
from leadline.tracing.fading import between, faded, fading
from leadline.tracing.graph import Graph
from leadline.tracing.kinds import Kind, Naming, assign
from leadline.tracing.recording import recorded
from leadline.tracing.skips import skips
from leadline.tracing.streams import repeated_branches

_ENOUGH = 4
"""Layers that show what is done in every one: two may be the two ends of a network."""
_Values = Mapping[int, Tensor]


@dataclass(frozen=True)
class Streams:
    """How the streams of a builder's models are looked at."""

    build: Builder
    base: Size
    inputs: Any
    naming: Naming
    outside: Callable[[Iterable[str]], frozenset[str]]
    """Picks those parameters that the user counts as the stream's."""

    def fading(
        self,
        models: Mapping[Size, nn.Module],
        here: tuple[Graph, list[ResidualBranch]],
        there: tuple[Graph, list[ResidualBranch]],
    ) -> list[tuple[str, str]]:
        """What ``fading`` finds at the base and its double or, if these are shallow, at more layers.

        Args:
            models: of both sizes.
            here, there: their passes and branches.
        """
        out: list[tuple[str, str]] = []
        if faded(here, there):
            out = self._fading([models[s] for s in self._sizes(1)], 1)
        times = 2
        while (
            not out
            and times // 2 * self.base.depth < _ENOUGH
            and (between(*here) or between(*there))
        ):
            out = self._fading([construct(self.build, s) for s in self._sizes(times)], times)
            times *= 2
        return out

    def skips(self, kinds: list[Kind]) -> list[tuple[str, str]]:
        """What ``skips`` finds at four layers or more, where layers do what they do more than twice, and
        finds again at twice as many (norms take some layers to bring a very small stream to size)."""
        out: list[tuple[str, str]] = []
        for times in (2, 4) if self.base.depth > 1 else (4, 8):
            at, further = self._sizes(times)
            model, deeper = (construct(self.build, s) for s in (at, further))
            which = assign(kinds, self.naming, shapes(model), 1.0, times)
            twice = self._recorded(deeper, further)[0]

            def run(m: nn.Module, at: Size = at) -> tuple[Graph, _Values]:
                return self._recorded(m, at)

            def branches(graph: Graph, more: Graph = twice) -> list[ResidualBranch]:
                return self._branches(graph, more)[0]

            out = skips(model, {name: kinds[k] for name, k in which.items()}, run, branches)
            if not out:
                break
        return out

    def _sizes(self, times: int) -> list[Size]:
        return [Size(self.base.width, k * times * self.base.depth) for k in (1, 2)]

    def _recorded(self, model: nn.Module, at: Size) -> tuple[Graph, _Values]:
        with seeded(0):
            return recorded(model, example(model, self.inputs, at))

    def _branches(
        self, graph: Graph, more: Graph
    ) -> tuple[list[ResidualBranch], list[ResidualBranch]]:
        return repeated_branches(graph, more, self.outside, self.naming)

    def _fading(self, models: Sequence[nn.Module], times: int) -> list[tuple[str, str]]:
        """What is found at ``times`` the base's depth and twice that."""
        sizes = self._sizes(times)
        (here, values), (there, more) = map(self._recorded, models, sizes)
        # Branches of these very passes: another pass may lack what an earlier one has kept.
        few, many = self._branches(here, there)
        if not faded((here, few), (there, many)):
            return []
        return fading((here, few), values, (there, many), more)
