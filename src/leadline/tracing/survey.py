"""Everything that is read from a builder: kinds of parameters, their places, folds and draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from leadline.parametrization.rules import ONE, Power
from leadline.tracing import unreached
from leadline.tracing.branches import ResidualBranch
from leadline.tracing.builder import (
    Builder,
    Size,
    aliases,
    construct,
    outline,
    shapes,
)
from leadline.tracing.decisions import Still, decide, left_alone
from leadline.tracing.deeper import Streams
from leadline.tracing.derived import DerivedWeight, derived_weights
from leadline.tracing.dots import with_dots
from leadline.tracing.draws import draws
from leadline.tracing.fold import offsets
from leadline.tracing.graph import template
from leadline.tracing.growth import (
    check_entries,
    constant_parts,
    growing,
    joined_with_constant,
    over_depth,
)
from leadline.tracing.kinds import Ambiguous, Kind, Naming, assign, marked
from leadline.tracing.mates import with_first, with_mates
from leadline.tracing.multipliers import Folds, folds_of
from leadline.tracing.operations import check_operations
from leadline.tracing.passes import passes
from leadline.tracing.patterns import gains
from leadline.tracing.places import (
    attached,
    beside_more_often,
    chain_starts,
    conflict,
    find_places,
    from_zero,
    outside_branches,
)
from leadline.tracing.roles import Overrides, uses
from leadline.tracing.shared import for_outputs, shared_over_depth, used_more_often
from leadline.tracing.skips import changed
from leadline.tracing.streams import alike, repeated_branches
from leadline.tracing.sums import check_reductions, sums_of_layers
from leadline.tracing.values import varied_over_depth


@dataclass(frozen=True)
class Survey:
    """What ``survey`` reads at the base."""

    base: Size
    kinds: tuple[Kind, ...]
    names: dict[str, int]
    """Kind of every parameter of the base model."""
    branches: dict[str, int]
    """Templates of the branches that repeat with depth, and their weight layers."""
    naming: Naming
    obstacles: tuple[tuple[str, str], ...] = ()
    """Multipliers that have no place (branch, attention or readout), and the message with the remedy."""
    derived: tuple[DerivedWeight, ...] = ()
    """Weights that are made of parameters."""


def survey(
    build: Builder,
    base: Size,
    inputs: Any = None,
    roles: Mapping[str, Any] | None = None,
    depth: bool = True,
) -> Survey:
    """Build the model at the base, twice as wide and twice as deep, run each once, and read it.

    Args:
        depth: False reads what width needs, and neither branches nor what repeats with depth.

    Raises:
        ValueError: something cannot be decided; the message names it and the remedy.
    """
    overrides = Overrides.read(roles)
    wide, deep = Size(2 * base.width, base.depth), Size(base.width, 2 * base.depth)
    models = {s: construct(build, s) for s in (base, wide, deep)}
    model = models[base]
    overrides.check_used(n for m in models.values() for n in shapes(m))
    constant = constant_parts(
        shapes(model), shapes(models[wide]), base, wide, lambda at: shapes(outline(build, at))
    )
    grows = growing(shapes(model), shapes(models[wide]))
    naming, layered = over_depth(
        shapes(model), shapes(models[deep]), base, deep, lambda at: shapes(outline(build, at))
    )
    graphs = with_dots(passes(build, models, inputs, base, wide), base, wide)
    graph = graphs[base]
    if depth:
        check_entries(graph, graphs[deep], layered)
    check_operations(graph, graphs[wide])
    check_reductions(graph, graphs[wide], graphs[deep] if depth else graph)
    outside = overrides.outside(shapes(model))
    branches: list[ResidualBranch] = []
    deeper: list[ResidualBranch] = []
    if depth:
        branches, deeper = repeated_branches(graph, graphs[deep], overrides.outside, naming)
    used = uses(graph, graphs[wide], grows)
    places = find_places(graph, graphs[deep], branches, naming)
    loose = {n for n in used if n not in places.by_name and naming.repeats(n)}
    places.by_name |= attached(graph, branches, loose - outside, naming)
    often = {n for n in used_more_often(graph, graphs[deep]) if not naming.repeats(n)}
    for name in sorted(often - places.by_name.keys() - outside if branches else ()):
        for n, place in attached(graph, branches, {name}, naming).items():
            places.by_name[n] = place | {"shared": True}
    names_of = aliases(model)
    shifted = offsets(graph)
    still = Still(build, base, model)
    joined = joined_with_constant(graph, graphs[wide])
    unused: dict[str, list[str]] = {}
    rows: dict[str, Kind] = {}
    tied: dict[str, int] = {}
    vectors: dict[str, bool] = {}
    problems: dict[str, str] = {}
    for name, p in model.named_parameters():
        pattern = naming.template(name)
        try:
            kind_role, reason, readout, drawn_as = decide(
                name,
                p,
                pattern,
                grows[name],
                used.get(name, []),
                overrides.match(name),
                still,
                model,
            )
        except ValueError as e:
            problems[name] = str(e)
            if name in used or not p.requires_grad:
                continue
            # What it is like may say what it is.
            kind_role, reason, readout, drawn_as = "", "", False, ""
        place = {} if name in outside else places.by_name.get(name, {})
        ways = {u.how for u in used.get(name, [])}
        if place and kind_role != "frozen" and name in places.conflicts:
            problems[name] = conflict(name, kind_role)
        if kind_role in ("finite", "frozen") or ways <= {"elementwise", "embedding"}:
            vectors[name] = bool(ways) and "embedding" not in ways and still(name)
        if kind_role == "hidden" and name in joined and overrides.match(name).role is None:
            problems[name] = joined[name]
        if readout:
            tied[name] = next(u.node for u in used[name] if u.how == "matrix")
        beside = (
            depth
            and naming.repeats(name)
            and not place
            and name not in outside
            and (ways == {"elementwise"} or (kind_role == "finite" and bool(ways) and still(name)))
        )
        rows[name] = Kind(
            pattern,
            tuple(p.shape),
            grows[name],
            kind_role,
            reason,
            **place,
            beside=beside,
            tied=tuple(dict.fromkeys(template(n) for n in names_of.get(name, ()))),
            constant=constant.get(name, ()),
            layered=layered.get(name, ()),
            offset=shifted.get(name, 0.0),
            drawn_as=drawn_as,
        )
    first = from_zero(graph, branches, places.by_name, naming)
    starts = chain_starts(graph, branches, places.by_name, naming)
    first |= {n: like for n, like in starts.items() if rows[n].grows == rows[like].grows}
    for name in [n for n in rows if n not in used or n in first]:
        like = [first[name]] if name in first else unreached.models_of(name, rows, used, naming)
        if like:
            unused[name] = like
            row, word = rows[name], overrides.match(name).role
            rows[name] = unreached.placed(row, rows[like[0]], like[0])
            if word is not None:
                rows[name] = replace(rows[name], role=word, reason=row.reason)
            problems.pop(name, None)
    if problems:
        raise ValueError("cannot decide:\n  " + "\n  ".join(_for_all(problems, naming)))
    folds = folds_of(graph, graphs[wide], graphs[deep], branches, tied, naming)
    folds.obstacles += unreached.obstacles(rows, {*used, *outside}, unused, folds.takes, naming)
    for name, like in unused.items():
        folds.takes[name] = folds.takes.get(like[0], {})
    for name, (direction, terms) in gains(graph, graphs[wide]).items():
        # |v| of what its role makes of v; where that is constant there is nothing to take.
        made_of = rows[direction].role
        rows[name] = replace(rows[name], gain_of=made_of)
        if (made_of, terms) not in (("hidden", 1.0), ("input", 0.0)):
            folds.takes[name]["norm"] = Power(width=-terms / 2)
    rows = {
        name: replace(_with_folds(name, k, folds), ends=name in folds.ends)
        for name, k in rows.items()
    }
    rows = with_first(with_mates(rows, naming), naming, graphs[deep], deeper)
    more = alike(graphs[deep], deeper, graph, branches, naming)
    both = (graph, branches), (graphs[deep], more)
    unscaled = set(used) - outside
    roles_of = {n: rows[n].role for n in unscaled}
    shared, in_stream = shared_over_depth(*both, naming, roles_of, vectors)
    rows |= {n: replace(rows[n], beside=True, shared=True) for n in in_stream}
    kinds = list(dict.fromkeys(rows.values()))
    names = {name: kinds.index(k) for name, k in rows.items()}
    try:
        there = _deep(build, models[deep], kinds, naming, deep)
    except Ambiguous as e:
        lines = [line for what, line in _once(shared) if what == "branch"]
        if not lines or not depth:
            sums = sums_of_layers(both[0], (graphs[deep], deeper)) if depth else None
            raise sums or e from None
        # Layers that lead to a module used by all of them are no repetitions of each other.
        raise ValueError("cannot decide:\n  " + "\n  ".join(lines)) from None
    alone = {names[n] for n in unscaled if rows[n].position is None and naming.repeats(n)}
    heads = {k for k in alone if branches and for_outputs(*both, names, there, k)}
    kinds = beside_more_often(kinds, names, there, heads)
    rows = {name: kinds[k] for name, k in names.items()}
    which = {
        base: names,
        wide: assign(kinds, naming, shapes(models[wide]), 2.0, 1.0, names),
        deep: there,
    }
    if depth and not (often or layered or any(map(any, naming.free.values()))):
        folds.obstacles.append(("branch", _same_parameters(base, deep)))
    if branches:
        looked = Streams(build, base, inputs, naming, overrides.outside)
        folds.obstacles += looked.fading(models, (graph, branches), (graphs[deep], deeper))
        if changed(graphs[deep], deeper):
            folds.obstacles += looked.skips(kinds)
        folds.obstacles += outside_branches(rows, names, there, unscaled, heads)
        folds.obstacles += shared
        values = [dict(m.named_parameters()) for m in (model, models[deep])]
        folds.obstacles += varied_over_depth(rows, *values, still)
    kinds = draws(build, models, kinds, which, overrides.kept(shapes(model)))
    return Survey(
        base,
        marked(left_alone(kinds, base)),
        names,
        {p["branch"]: p["layers"] for p in places.by_name.values()},
        naming,
        tuple(_once(folds.obstacles)),
        derived_weights(graph, graphs[wide], grows),
    )


def _same_parameters(at: Size, deep: Size) -> str:
    return (
        f"the model has the same parameters at {at} and at {deep}: build ignores depth, or shares its "
        "modules over depth; give every layer parameters of its own, named by an index, or "
        "scheme='mup', which scales with width alone"
    )


def _for_all(problems: dict[str, str], naming: Naming) -> Iterable[str]:
    """One line for a layer and all its repetitions, with a remedy for all of them."""
    out: dict[str, str] = {}
    for name, line in problems.items():
        pattern = naming.template(name)
        line = line.replace(f"roles={{{name!r}:", f"roles={{{pattern!r}:")
        out.setdefault(line.replace(repr(name), repr(pattern)), line)
    return out.values()


def _once(obstacles: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """One line for all the layers that share it."""
    out: dict[tuple[str, str], tuple[str, str]] = {}
    for what, line in obstacles:
        out.setdefault((what, template(line)), (what, line))
    return list(out.values())


def _with_folds(name: str, k: Kind, folds: Folds) -> Kind:
    takes = tuple(sorted(folds.takes.get(name, {}).items()))
    if k.role == "frozen":
        for what, _ in takes:
            line = (
                f"parameter {name!r} would have to take the {what}'s multiplier and is frozen: "
                f"multiply by it in the forward pass, or train {name!r}"
            )
            folds.obstacles.append((what, line))
        return k
    return replace(k, takes=takes, present=folds.present.get(name, ONE))


def _deep(
    build: Builder, model: nn.Module, kinds: list[Kind], naming: Naming, deep: Size
) -> dict[str, int]:
    """The kinds at twice the depth."""
    sizes = shapes(model)
    try:
        try:
            return assign(kinds, naming, sizes, 1.0, 2.0)
        except Ambiguous:
            wide = Size(2 * deep.width, deep.depth)
            grows = growing(sizes, shapes(outline(build, wide)))
            return assign(kinds, naming, sizes, 1.0, 2.0, grows=grows)
    except Ambiguous:
        raise
    except ValueError as e:
        raise ValueError(
            f"the model at {deep} is no repetition of the layers at half that depth "
            f"({str(e).split(':')[0]}): layers that depth adds need the shapes of those that are there"
        ) from None
