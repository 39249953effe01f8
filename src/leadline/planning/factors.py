"""A plan's exponents, and the factors that follow: what each parameter's settings are multiplied by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor, nn

from leadline.errors import check_choice, check_int
from leadline.parametrization.optimizers import OPTIMIZERS, Optimizer
from leadline.parametrization.rules import (
    ONE,
    Exponents,
    Power,
    batch_factors,
    deviation,
    exponents,
)
from leadline.parametrization.schemes import SCHEMES, Scheme
from leadline.parametrization.schemes import scheme as by_layers
from leadline.tracing.builder import Builder, Size, outline, shapes
from leadline.tracing.growth import growing
from leadline.tracing.kinds import Ambiguous, Kind, Naming, assign

NAMES = ("sp", *SCHEMES, "spectral", "auto")
# What torch.compile, activation checkpointing and FSDP put into names.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


# Published rules that are not here: what they need, and what there is.
_NOT_HERE = {
    "gqa-mup": "2605.15290: rates for key and value heads that are repeated. Only its abstract could be "
    "read, so its exponents are not here; scheme='auto' goes by which of their dimensions grow",
    "mssp": "2605.14200: rates where the number, width or sparsity of experts grows. Its tables could not "
    "be read and are not here; scheme='auto' is for a constant number of experts and of active ones",
    "hyperp": "2603.28743: Muon on weights of fixed norm, and rates by tokens. The norm is kept by an "
    "optimizer that torch does not have; optimizer='muon' with scheme='depth-mup' has its depth rule",
    "complete-dp": "2512.22382: scheme='completep' with batch_ratio= and token_ratio=",
}


def check_scheme(scheme: str | Scheme) -> str | Scheme:
    """Refuse an unknown name, and a known rule that is not here; a user's own ``Scheme`` passes."""
    if isinstance(scheme, str) and scheme.lower() in _NOT_HERE:
        raise ValueError(f"scheme={scheme!r} is not implemented ({_NOT_HERE[scheme.lower()]})")
    return scheme if isinstance(scheme, Scheme) else check_choice("scheme", scheme, NAMES)


def resolve(scheme: str | Scheme, layers: int | None) -> Scheme | None:
    """The scheme of a parameter in a branch of ``layers`` weight layers (None outside); None is sp.

    ``spectral`` is the rule that the spectral condition gives (2603.00541), which is that of ``auto``.

    >>> resolve("auto", 1).name, resolve("spectral", 3).name, resolve("sp", 2)
    ('depth-mup', 'completep', None)
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme == "sp":
        return None
    if scheme in ("auto", "spectral"):
        return by_layers("auto", 2 if layers is None else layers)
    return SCHEMES[scheme]


@dataclass(frozen=True)
class Factors:
    """What one parameter's settings are multiplied by, base to target."""

    init: float
    """Multiplies the builder's own draw at the target."""
    lr: float
    weight_decay: float
    eps: float
    fold: float
    """The part of ``init`` that is a multiplier of the forward pass, folded in."""


@dataclass(frozen=True)
class Scaling:
    """The numbers of a ``Plan``, which lists the attributes; it adds what is done with them."""

    scheme: str | Scheme
    optimizer_rule: Optimizer
    base: Size
    target: Size
    kinds: tuple[Kind, ...]
    names: Mapping[str, int]
    naming: Naming
    branches: Mapping[str, int]
    batch_ratio: float = 1.0
    token_ratio: float = 1.0
    decay: str = "per-step"
    build: Builder | None = field(default=None, compare=False, repr=False)
    width_alone: str = ""

    @property
    def m(self) -> float:
        """Width over the base's."""
        return self.target.width / self.base.width

    @property
    def r(self) -> float:
        """Depth over the base's."""
        return self.target.depth / self.base.depth

    @property
    def scheme_name(self) -> str:
        """The scheme's name."""
        return self.scheme if isinstance(self.scheme, str) else self.scheme.name

    def at(self, width: int, depth: int) -> Self:
        """The same exponents for another target.

        Raises:
            ValueError: another depth than that of a plan that was read for width alone.
        """
        target = Size(check_int("width", width, 1), check_int("depth", depth, 1))
        if self.width_alone and depth != self.base.depth:
            raise ValueError(
                f"depth={depth}: this plan is for depth={self.base.depth} alone, that of its base and of "
                f"its target ({self.width_alone}); plan from the base to that depth to see what it takes"
            )
        if target == self.target:
            return self
        names = {}
        if self.build is not None:
            names = kinds_by_name(self.build, self.kinds, self.naming, self.base, target)
        return replace(self, target=target, names=names)

    def fold(self, kind: Kind, norms: bool = True) -> Power:
        """Multipliers of the forward pass that a kind takes over.

        Args:
            norms: the size of what weight norm divides by counts as one; its layer's output does not
                see it.
        """
        s = resolve(self.scheme, kind.layers)
        if s is None or kind.role == "frozen":
            return ONE
        total = kind.present * -1.0
        for what, present in kind.takes:
            if what == "branch":
                total += Power(depth=s.branch) - present
            elif what == "readout":
                total += Power(width=s.readout) - present
            elif what == "norm":
                if norms:
                    total += Power(width=deviation(s, kind.gain_of or "")) - present
            else:
                # Aligned queries and keys need 1/d; the lazy scheme keeps PyTorch's 1/√d.
                total += Power(width=-1.0 if s.rate_width else -0.5) - present
        return total

    def uses(self, kind: Kind) -> Optimizer:
        """The optimizer of a kind: Muon leaves all but hidden matrices to AdamW."""
        if self.optimizer_rule.orthogonal and not (kind.role == "hidden" and len(kind.shape) == 2):
            return OPTIMIZERS["adamw"]
        return self.optimizer_rule

    def exponents(self, kind: Kind) -> Exponents:
        """The table's entry, without batch and duration."""
        if kind.role == "frozen":
            return Exponents(ONE, ONE, ONE, ONE)
        s = resolve(self.scheme, kind.layers)
        return exponents(s, self.uses(kind), kind.place, self.fold(kind), self.decay)

    def kind_factors(self, kind: Kind) -> Factors:
        """The factors of a kind at the target."""
        e, m, r = self.exponents(kind), self.m, self.r
        lr, weight_decay, eps = (p.at(m, r) for p in (e.lr, e.weight_decay, e.eps))
        batch = batch_factors(self.uses(kind), self.batch_ratio / self.token_ratio)
        lr, weight_decay, eps = lr * batch.lr, weight_decay * batch.weight_decay, eps * batch.eps
        init, s = 1.0, resolve(self.scheme, kind.layers)
        if kind.role == "frozen" and kind.drawn_as and not kind.rule.fixed and s is not None:
            wanted = Power(width=deviation(s, kind.drawn_as))
            init = wanted.at(m, r) / kind.init_ratio(self.target, self.base)
        elif kind.role != "frozen" and s is not None:
            # Values of the builder's own choice have the right size; what is folded comes on top.
            wanted = self.fold(kind) if kind.rule.fixed else e.init
            init = wanted.at(m, r) / kind.init_ratio(self.target, self.base)
        fold = self.fold(kind).at(m, r)
        if kind.offset and fold != 1.0:
            # Decay would pull 1 + w to 1, the base's size.
            weight_decay = 0.0
        return Factors(init, lr, weight_decay, eps, fold)

    def betas(self, betas: tuple[float, float]) -> tuple[float, float]:
        """Adam's β at the target's batch and duration: 1 - β scales as batch over tokens."""
        k = self.batch_ratio / self.token_ratio
        first, second = (1 - (1 - b) * k if k != 1 else b for b in betas)
        if min(first, second) <= 0:
            raise ValueError(
                f"betas={betas} with batch_ratio={self.batch_ratio:g} and token_ratio="
                f"{self.token_ratio:g} would become {(first, second)}: the batch is too large for this "
                "rule; take a smaller batch_ratio"
            )
        return first, second

    def kind_of(self, model: nn.Module) -> dict[str, Kind]:
        """The kind of every parameter of a model of the target's size, by name.

        Raises:
            TypeError: it is no module.
            ValueError: the model has another size, or parameters that the plan does not know.
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is {type(model).__name__}: give a torch.nn.Module")
        built = self._builder_names(list(shapes(model)))
        sizes = {built[n]: s for n, s in shapes(model).items()}
        known = {
            n: k
            for n, k in self.names.items()
            if n in sizes and self.kinds[k].shape_at(self.m, self.r) == sizes[n]
        }
        rest = {n: s for n, s in sizes.items() if n not in known}
        known |= assign(self.kinds, self.naming, rest, self.m, self.r, among=sizes)
        return {n: self.kinds[known[built[n]]] for n in built}

    def _builder_names(self, names: list[str]) -> dict[str, str]:
        """The builder's names of a model's parameters, without what wrappers put before or into them.

        Decided for all at once: a model that holds both ``weight`` and ``module.weight`` stays one.
        """
        templates = {k.template for k in self.kinds}
        wrappers = _common([t.split(".")[:-1] for t in templates])
        bare = [".".join(p for p in n.split(".") if p not in _WRAPPERS) for n in names]
        for candidates in (names, bare):
            for renamed in _renamings(candidates, wrappers):
                known = all(self.naming.template(n) in templates for n in renamed)
                if known and len(set(renamed)) == len(names):
                    return dict(zip(names, renamed, strict=True))
        return {n: n for n in names}

    def factors(self, model: nn.Module | None = None) -> dict[str, Factors]:
        """Factors by parameter name, at the target (or of a model of the target's size).

        Raises:
            ValueError: the plan was read from a file and has no builder, and no model is given.
        """
        if model is not None:
            return {n: self.kind_factors(k) for n, k in self.kind_of(model).items()}
        if not self.names:
            raise ValueError(
                "this plan has no builder (files do not keep it): give factors(model) a model"
            )
        cached = [self.kind_factors(k) for k in self.kinds]
        return {n: cached[k] for n, k in self.names.items()}


def _common(names: list[list[str]]) -> list[str]:
    """What all of these begin with."""
    same = [len(set(parts)) == 1 for parts in zip(*names, strict=False)]
    return names[0][: [*same, False].index(False)] if names else []


def _renamings(names: list[str], wrappers: list[str]) -> Iterator[list[str]]:
    """Names without what all of them begin with (a training harness that holds the model), and with what
    all of the plan's begin with (a plan of such a harness, applied to the model in it)."""
    parts = [n.split(".") for n in names]
    common = len(_common([p[:-1] for p in parts]))
    for drop in range(common + 1):
        for add in range(len(wrappers) + 1):
            before = wrappers[len(wrappers) - add :]
            yield [".".join([*before, *p[drop:]]) for p in parts]


def rescale_(p: Tensor, kind: Kind, factor: float) -> None:
    """Multiply what the forward pass makes of a parameter: w, or c + w where it adds a number."""
    if kind.offset:
        p.add_(kind.offset).mul_(factor).sub_(kind.offset)
    elif kind.scale:
        p.mul_(factor)


def kinds_by_name(
    build: Builder, kinds: tuple[Kind, ...], naming: Naming, base: Size, target: Size
) -> dict[str, int]:
    """The kind of every parameter at the target, from its names and shapes alone."""
    m, r = target.width / base.width, target.depth / base.depth
    there = shapes(outline(build, target))
    try:
        return assign(kinds, naming, there, m, r)
    except Ambiguous:
        # A dimension that happens to equal the width: twice the width tells.
        wide = Size(2 * target.width, target.depth)
        grows = growing(there, shapes(outline(build, wide)))
        return assign(kinds, naming, there, m, r, grows=grows)
