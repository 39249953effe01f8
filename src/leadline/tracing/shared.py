"""What all layers share (a deeper network uses it more often, and has no more of it), and what each has
for outputs of its own.

Used in the branch of every layer, a shared parameter moves all branches at once, each behind its
multiplier: r steps of 1/r add up to one, whatever they have in common (ALBERT, a block used in every layer,
what makes the positions that every layer reads). Used behind every layer for an output of its own (the norm
of intermediate outputs, auxiliary heads, early exits), it acts on each output once, as what each layer has
for that does. A vector used in the stream itself adds up there. A matrix there, or what makes one output
that all layers add to, changes with depth as nothing can say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from leadline.tracing.branches import ResidualBranch
from leadline.tracing.graph import MATRIX, NORMS, SCALINGS, SUMS, VIEWS, Graph, bits
from leadline.tracing.kinds import Naming

Passed = tuple[Graph, list[ResidualBranch]]
"""A pass, and its residual branches."""
_JOINED = frozenset({"cat", "stack"})
_SUMMED = frozenset(
    "mean sum grid_sampler_2d grid_sampler_3d avg_pool1d avg_pool2d _adaptive_avg_pool2d "
    "adaptive_avg_pool1d unfold".split()
)
"""Views that put several entries into one."""
_ENTRYWISE = frozenset(
    "sigmoid sigmoid_ tanh tanh_ relu relu_ gelu silu exp log clamp clamp_ clamp_min clamp_max".split()
)


def used_more_often(graph: Graph, deep: Graph) -> set[str]:
    """Parameters that take part in more operations in a deeper model."""
    here, there = _times(graph), _times(deep)
    return {name for name in here if there[name] > here[name]}


def shared_over_depth(
    here: Passed,
    there: Passed,
    naming: Naming,
    names: Mapping[str, str],
    vectors: Mapping[str, bool],
) -> tuple[list[tuple[str, str]], set[str]]:
    """Obstacles of these parameters, and those that stand in the stream itself.

    An obstacle is "branch" where effects add up under any scheme of depth, "shared" where they do unless
    branches are multiplied by 1/depth.

    Args:
        here, there: passes at one depth and at twice that.
        names: those that count, and their roles.
        vectors: those that act entry by entry, as rows of a table, or do not grow, and whether they may be
            in the stream. Branches that end in one and the same matrix are alike at initialization, where
            1/√depth is for independent branches.
    """
    times = [_times(graph) for graph, _ in (here, there)]
    out, beside = [], set()
    for name in sorted(set(names) & used_more_often(here[0], there[0])):
        if naming.repeats(name):
            continue
        one, two = (_Uses.of(*each, {name}) for each in (here, there))
        more = {w for w in one.leads | two.leads if len(one.behind(w)) != len(two.behind(w))}
        grow, ways = frozenset().union(*more), frozenset().union(*one.leads, *two.leads)
        merges = [_merges(g, [x for w in more for x in uses.behind(w)])
                  for (g, _), uses in ((here, one), (there, two))]  # fmt: skip
        alike = (one.most, one.together) == (two.most, two.together)
        bounded = alike and merges[0] == merges[1] < math.inf
        used = f"{times[0][name]} times at one depth and {times[1][name]} times at twice that"
        words = {"name": repr(name), "used": used, "role": repr(names[name])}
        if bounded and "stream" in grow and ways <= {"stream", "output"} and vectors.get(name):
            beside.add(name)
        elif not bounded or grow & {"stream", "loss"}:
            out.append(("branch", _ADDS_UP.format_map(words)))
        elif "branch" in ways and (len(ways) > 1 or name not in vectors):
            out.append(("shared", _SHARED.format_map(words)))
    return out, beside


_ADDS_UP = (
    "parameter {name} is used {used}, so its effects add up and nothing says how it scales with depth: "
    "give every layer its own, or count it as unscaled with "
    "roles={{{name}: dict(role={role}, branch=False)}}"
)
_SHARED = (
    "parameter {name} is used {used}, in the branches of all layers, whose effects add up unless each is "
    "multiplied by 1/depth: give scheme='completep', which does that, or give every layer its own"
)


def for_outputs(
    here: Passed, there: Passed, names: Mapping[str, int], deep: Mapping[str, int], kind: int
) -> bool:
    """Does every parameter of a kind make outputs of its own layer, and nothing that another reads?

    Args:
        names, deep: the kinds of all parameters, at one depth and at twice that.
    """
    merges = []
    for (graph, branches), kinds in ((here, names), (there, deep)):
        uses = _Uses.of(graph, branches, {n for n, k in kinds.items() if k == kind})
        if uses.leads != {_OUTPUT}:
            return False
        merges.append(_merges(graph, uses.behind(_OUTPUT)))
    return merges[0] == merges[1] < math.inf


_Leads = frozenset[str]
"""What a use leads to: a branch, an output, the stream, or a loss that is not returned."""


@dataclass(frozen=True)
class _Uses:
    """Where a parameter is used."""

    outside: list[tuple[_Leads, set[int]]]
    """Uses in no branch, each with what is made of it up to branches and the stream's sums; those that one
    branch reads together."""
    inside: int
    most: int
    """The most that one branch holds."""
    together: int
    """The most that the same branches read together."""

    @classmethod
    def of(cls, graph: Graph, branches: list[ResidualBranch], names: set[str]) -> _Uses:
        """The uses of some parameters in one pass."""
        inner: dict[int, ResidualBranch] = {}
        for b in sorted(branches, key=lambda b: -len(b.region)):
            inner |= dict.fromkeys(b.region, b)
        sums = {b.join for b in branches} - inner.keys()
        # Where it is not known what is returned, all that nothing else reads.
        ends = {*graph.outputs} or {n.index for n in graph.nodes if not graph.consumers[n.index]}
        by_branch: Counter[int] = Counter()
        outside: dict[object, tuple[_Leads, set[int]]] = {}
        together: Counter[object] = Counter()
        for i in _uses(graph, names):
            if i in inner:
                by_branch[inner[i].join] += 1
                continue
            nodes = _behind(graph, i, {*inner, *sums})
            read = any(graph.read >> i & 1 for i in nodes)
            stops = (sums, inner.keys(), ends)
            words = [
                w for w, at in zip(("stream", "branch", "output"), stops, strict=True) if nodes & at
            ]
            leads = frozenset({"stream"} if "stream" in words else words) if read else _LOSS
            by = frozenset(inner[j].join for j in nodes & inner.keys()) or i
            before = outside.get((leads, by), (leads, set()))[1]
            outside[leads, by] = leads, before | (nodes - inner.keys() - sums)
            together[by] += 1
        most, more = (max(count.values(), default=0) for count in (by_branch, together))
        return cls([*outside.values()], by_branch.total(), most, more)

    @property
    def leads(self) -> set[_Leads]:
        """All that occur."""
        return {leads for leads, _ in self.outside} | ({_INSIDE} if self.inside else set())

    def behind(self, leads: _Leads) -> list[set[int]]:
        """What is made of the uses that lead there; nothing is looked at in a branch."""
        inside = self.inside if leads == _INSIDE else 0
        return [nodes for each, nodes in self.outside if each == leads] + [set()] * inside


_INSIDE, _OUTPUT, _LOSS = (frozenset({word}) for word in ("branch", "output", "loss"))


def _uses(graph: Graph, names: set[str]) -> list[int]:
    """The operations on data that they take part in, of those that make the output if any does."""
    used = [i for i in sorted(bits(graph.acts)) if not names.isdisjoint(graph.weights(i))]
    return [i for i in used if graph.read >> i & 1] or used


def _behind(graph: Graph, start: int, ends: set[int]) -> set[int]:
    """A use and all that is made of it, up to these."""
    queue, seen = [start], {start}
    while queue:
        i = queue.pop()
        if i not in ends:
            new = {c for c in graph.consumers[i] if graph.read >> c & 1} - seen
            seen |= new
            queue.extend(new)
    return seen


def _merges(graph: Graph, uses: list[set[int]]) -> float:
    """How many operations merge what several of these uses make, other than side by side; infinite where
    one may do so with all that stand side by side."""
    held = Counter(i for nodes in uses for i in nodes)
    count = 0
    # The last dimension, where it holds what one use makes: a layer may sum over that.
    widths: dict[int, int | None] = {
        i: graph.nodes[i].shape[-1] if graph.nodes[i].shape else None for i in held
    }
    for i in sorted(i for i, n in held.items() if n > 1):
        node = graph.nodes[i]
        several = {j for j in node.inputs if j in held}
        before = {widths[j] for j in several}
        if node.op in _JOINED:
            widths[i] = before.pop() if before == {widths[i]} else None
            continue
        count += len(several) > 1
        known = all(graph.nodes[j].shape[-1:] == (widths[j],) for j in several)
        if node.op in MATRIX:
            if not known or not several <= {graph.operands(i)[0]}:
                return math.inf
        elif node.op in NORMS:
            if not known:
                return math.inf
        elif node.op in SUMS | SCALINGS | _ENTRYWISE or node.op in VIEWS - _SUMMED:
            widths[i] = before.pop() if len(before) == 1 else None
        else:
            return math.inf
    return count


def _times(graph: Graph) -> Counter[str]:
    """In how many operations on data every parameter takes part, of those that make the output."""
    out: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    for node in graph.nodes:
        if graph.is_act(node.index):
            count = out if graph.read >> node.index & 1 else unread
            count.update(graph.weights(node.index))
    # What makes no output anywhere may make a loss of its own.
    return out + Counter({name: n for name, n in unread.items() if name not in out})
