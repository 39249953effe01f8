"""Everything that is read from a builder: kinds of parameters, their places, folds and draws.

A *kind* is a set of parameters that repeat with depth (equal names but for list indices, equal shapes
and places): one entry of the plan serves them all, at any depth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from leadline.parametrization.rules import ONE, Place, Power
from leadline.tracing import multipliers, roles
from leadline.tracing.branches import Branch, branches, is_weight_layer
from leadline.tracing.builder import Builder, Size, aliases, construct, example, shapes
from leadline.tracing.graph import Graph, record
from leadline.tracing.initialization import Dims, Rule, Scale, Undecided, fans, snap
from leadline.tracing.naming import Naming

# Models are small at the base: more draws cost little, and decide rules of parameters with few entries.
_DRAWS = 1000
_SECONDS = 20.0


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
    """Multipliers folded into it (branch, attention, readout), with what is present of each."""
    present: Power = ONE
    """Other multipliers that the forward pass applies to it and that vary with size."""
    tied: tuple[str, ...] = ()
    rule: Rule = field(default_factory=Rule)
    scale: float = 0.0
    """Root mean square of the builder's draw at the base."""

    @property
    def place(self) -> Place:
        """What the rules need to know."""
        return Place(self.role, self.position, self.layers, self.last)

    def shape_at(self, m: float) -> tuple[float, ...]:
        """Its shape when the width is m times the base's."""
        return tuple(d * m if g else d for d, g in zip(self.shape, self.grows, strict=True))

    def dims(self, at: Size, base: Size) -> Dims:
        """What its initialization rule can depend on."""
        m = at.width / base.width
        into, out = fans(tuple(round(d) for d in self.shape_at(m)))
        return Dims(into, out, at.width, at.depth)


@dataclass(frozen=True)
class Survey:
    """What ``survey`` found at the base."""

    base: Size
    kinds: tuple[Kind, ...]
    names: dict[str, int]
    """Kind of every parameter of the base model."""
    branches: dict[str, int]
    """Templates of the branches that repeat with depth, and their weight layers."""
    naming: Naming
    obstacles: tuple[tuple[str, str], ...] = ()


def survey(
    build: Builder, base: Size, inputs: Any = None, given: Mapping[str, Any] | None = None
) -> Survey:
    """Build the model at the base, twice as wide and twice as deep, run each once, and read it.

    Raises:
        ValueError: something cannot be decided; the message names it and the remedy.
    """
    overrides = roles.given(given)
    wide, deep = Size(2 * base.width, base.depth), Size(base.width, 2 * base.depth)
    models = {s: construct(build, s) for s in (base, wide, deep)}
    model = models[base]
    grows = growth(shapes(model), shapes(models[wide]), base, wide)
    naming = _naming(shapes(model), shapes(models[deep]), base, deep)
    graphs = {s: _run(m, example(m, inputs, s), s) for s, m in models.items()}
    graph = graphs[base]
    if [n.op for n in graph.nodes] != [n.op for n in graphs[wide].nodes]:
        raise ValueError(
            f"the model at {base} and at {wide} runs different operations: what changes with width "
            "beside sizes cannot be parametrized"
        )
    found = [b for b in branches(graph) if _in_repeat(graph, b, naming)]
    folds = multipliers.Folds()
    for b in found:
        multipliers.fold_branch(graph, b, folds)
    logits = multipliers.fold_attention(graph, graphs[wide], folds)
    multipliers.size_multipliers(graph, graphs[wide], graphs[deep], logits, folds)
    places, conflicts = _places(graph, found, naming)
    uses = roles.uses(graph, graphs[wide], grows)
    tied = aliases(model)

    rows: dict[str, Kind] = {}
    problems = []
    for name, p in model.named_parameters():
        chosen = roles.match(overrides, name)
        try:
            role, reason, readout = _decide(name, p, grows[name], uses.get(name, []), chosen)
        except ValueError as e:
            problems.append(str(e))
            continue
        outside = chosen is not None and chosen.get("branch") is False
        if name in conflicts and not outside:
            problems.append(conflicts[name])
            continue
        if readout:
            node = next(u.node for u in uses[name] if u.how == "matrix")
            multipliers.fold_readout(graph, name, node, folds)
        rows[name] = Kind(
            naming.template(name),
            tuple(p.shape),
            grows[name],
            role,
            reason,
            **({} if outside else places.get(name, {})),
            tied=tuple(tied.get(name, ())),
        )
    if problems:
        raise ValueError("cannot decide:\n  " + "\n  ".join(problems))
    rows = {
        name: replace(
            k,
            takes=tuple(sorted(folds.takes[name].items())),
            present=folds.present.get(name, ONE),
        )
        for name, k in rows.items()
    }
    kinds = list(dict.fromkeys(rows.values()))
    names = {name: kinds.index(k) for name, k in rows.items()}
    ruled = _draws(build, models, kinds, names, base, naming)
    return Survey(
        base,
        tuple(ruled),
        names,
        {p["branch"]: p["layers"] for p in places.values()},
        naming,
        tuple(dict.fromkeys(folds.obstacles)),
    )


def assign(
    kinds: Sequence[Kind],
    naming: Naming,
    found: dict[str, tuple[int, ...]],
    m: float,
    known: Mapping[str, int] | None = None,
    grows: Mapping[str, tuple[bool, ...]] | None = None,
) -> dict[str, int]:
    """The kind of every parameter of a model of any size, by name template and shape.

    Args:
        found: shapes by name. m: width over the base's.
        known: kinds of the parameters of a model whose names mostly agree, to break ties.
        grows: which dimensions grow, to break ties.

    Raises:
        ValueError: a parameter fits no kind, or several.
    """
    out = {}
    by_template: dict[str, list[int]] = {}
    for k, kind in enumerate(kinds):
        by_template.setdefault(kind.template, []).append(k)
    for name, shape in found.items():
        fits = [
            k for k in by_template.get(naming.template(name), ()) if kinds[k].shape_at(m) == shape
        ]
        if not fits:
            candidates = [kinds[k].shape_at(m) for k in by_template.get(naming.template(name), ())]
            due = f"has shape {shape}, the plan expects {_list(candidates)}" if candidates else (
                "is unknown to the plan")  # fmt: skip
            raise ValueError(
                f"parameter {name!r} {due}: build the model with the plan's width and depth, or take "
                "plan.at(width=..., depth=...)"
            )
        if len(fits) > 1 and grows is not None:
            fits = [k for k in fits if kinds[k].grows == grows[name]] or fits
        if len(fits) > 1 and known is not None and known.get(name) in fits:
            fits = [known[name]]
        if len({_essence(kinds[k]) for k in fits}) > 1:
            raise Ambiguous(
                f"parameter {name!r} could be any of {len(fits)} parameters of the base model: give its "
                "layer a name of its own"
            )
        out[name] = fits[0]
    return out


class Ambiguous(ValueError):
    """Names and shapes do not say which of the base's parameters this one repeats."""


def _essence(k: Kind) -> tuple[Any, ...]:
    return (k.grows, k.place, k.takes, k.present, k.rule)


def _list(shapes: list[tuple[float, ...]]) -> str:
    return " or ".join(str(tuple(int(d) if d == int(d) else d for d in s)) for s in shapes)


def growth(
    here: dict[str, tuple[int, ...]], there: dict[str, tuple[int, ...]], at: Size, wide: Size
) -> dict[str, tuple[bool, ...]]:
    """Which dimensions of every parameter are proportional to width.

    Raises:
        ValueError: names differ, a dimension is neither constant nor proportional, or none grows.
    """
    if set(here) != set(there):
        names = sorted(set(here) ^ set(there))[:3]
        raise ValueError(f"{', '.join(names)} exist at one width only ({at}; {wide})")
    k = wide.width // at.width
    out = {}
    for name, a in here.items():
        b = there[name]
        if len(a) != len(b) or any(y not in (x, k * x) for x, y in zip(a, b, strict=True)):
            raise ValueError(
                f"parameter {name!r} has shape {a} at {at} and {b} at {wide}: every dimension must be "
                "constant or proportional to width"
            )
        out[name] = tuple(y == k * x for x, y in zip(a, b, strict=True))
    if not any(any(g) for g in out.values()):
        raise ValueError(f"no parameter grows from {at} to {wide}: build ignores width")
    return out


def _naming(
    here: dict[str, tuple[int, ...]], there: dict[str, tuple[int, ...]], at: Size, deep: Size
) -> Naming:
    """Which indices count layers."""
    naming = Naming.of(here, there)
    if not any(any(f) for f in naming.free.values()):
        raise ValueError(
            f"the model has the same parameters at {at} and at {deep}: build ignores depth, or shares "
            "its modules over depth; every layer needs parameters of its own, named by an index"
        )
    a, b = {naming.template(n) for n in here}, {naming.template(n) for n in there}
    if a != b:
        raise ValueError(
            f"parameters {', '.join(sorted(a ^ b)[:3])} exist at one depth only ({at}; {deep}): name "
            "layers by an index of their own (ModuleList, Sequential)"
        )
    return naming


def _run(model: nn.Module, inputs: Any, at: Size) -> Graph:
    try:
        return record(model, inputs)
    except Exception as e:
        raise ValueError(
            f"the forward pass at {at} failed with {type(e).__name__}: {e}; give inputs= (a tensor, a "
            "tuple of arguments, a dict of keywords, or a callable of width and depth)"
        ) from e


def _in_repeat(graph: Graph, b: Branch, naming: Naming) -> bool:
    """Does the branch repeat with depth? Its weights' names say so."""
    for i in b.region:
        if is_weight_layer(graph, i):
            for j in graph.nodes[i].inputs:
                if not graph.is_act(j):
                    return any("*" in naming.template(n) for n in graph.leaves(j))
    return False


def _places(
    graph: Graph, found: list[Branch], naming: Naming
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Branch and position of every parameter inside one, innermost branch first; and conflicts."""
    places: dict[str, dict[str, Any]] = {}
    owner: dict[str, Branch] = {}
    conflicts: dict[str, str] = {}
    for b in sorted(found, key=lambda b: len(b.region)):
        held = {
            i: {n for j in graph.nodes[i].inputs if not graph.is_act(j) for n in graph.leaves(j)}
            for i in sorted(b.region)
        }
        inside = [n for names in held.values() for n in names if n.startswith(b.name)]
        label = naming.module(b.name, inside[0]) if inside else b.name
        for i, names in held.items():
            for name in names:
                place = {
                    "branch": label,
                    "position": max(b.levels[i] - 1, 0),
                    "layers": b.layers,
                    "last": i in b.final or b.layers == 1,
                }
                first = owner.setdefault(name, b)
                if first is not b and b.region > first.region:
                    continue
                if places.setdefault(name, place) != place or first is not b:
                    conflicts[name] = (
                        f"parameter {name!r} is used at several places of residual branches: give "
                        f"each place its own, or roles={{{name!r}: dict(role=..., branch=False)}}"
                    )
    return places, conflicts


def _decide(
    name: str, p: Any, grows: tuple[bool, ...], found: list[roles.Use], chosen: Any
) -> tuple[str, str, bool]:
    if not p.requires_grad and (chosen is None or chosen["role"] != "frozen"):
        raise ValueError(
            f"parameter {name!r} is frozen (requires_grad=False): give roles={{{name!r}: 'frozen'}} to "
            "leave it alone, or train it"
        )
    if chosen is not None:
        return chosen["role"], "given by roles=", False
    return roles.role(name, grows, found)


def _draws(
    build: Builder,
    models: dict[Size, nn.Module],
    kinds: list[Kind],
    names: dict[str, int],
    base: Size,
    naming: Naming,
) -> list[Kind]:
    """Find every kind's initialization rule, drawing more models until all are decided."""
    sizes = list(models)
    sizes = list(models)
    scales = {s: [Scale() for _ in kinds] for s in sizes}
    out = list(kinds)
    open_ = set(range(len(kinds)))
    last: dict[int, str] = {}
    started = time.monotonic()
    which = {
        s: assign(kinds, naming, shapes(models[s]), s.width / base.width, names) for s in sizes
    }
    for seed in range(_DRAWS):
        if seed > 1 and time.monotonic() - started > _SECONDS:
            break
        for s in sizes:
            model = models[s] if seed == 0 else construct(build, s, seed)
            for name, p in model.named_parameters():
                k = which[s][name]
                if k in open_:
                    scales[s][k].add(p)
        for k in sorted(open_):
            here = [scales[s][k] for s in sizes]
            at = [kinds[k].dims(s, base) for s in sizes]
            try:
                rule = snap(*here, at[0], at[1])
            except Undecided as e:
                last[k] = str(e)
                continue
            out[k] = replace(kinds[k], rule=rule, scale=here[0].rms)
            open_.discard(k)
        if not open_:
            return out
    lines = [
        f"{kinds[k].template}: its scale at initialization follows no known rule over width and depth "
        f"({last[k]})"
        for k in sorted(open_)
    ]
    raise ValueError(
        "cannot decide:\n  "
        + "\n  ".join(lines)
        + "\n  give it a constant or a 1/√fan_in scale, or initialize it yourself and apply with init=False"
    )
