"""``plan``: how every parameter of a model scales from a small, shallow base to the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from leadline.errors import check_choice, check_int, check_real
from leadline.parametrization.optimizers import OPTIMIZERS, Optimizer
from leadline.parametrization.optimizers import optimizer as named_optimizer
from leadline.parametrization.rules import DECAYS, ONE, Exponents, Power, deviation, exponents
from leadline.parametrization.schemes import Scheme
from leadline.planning.schemes import check_scheme, resolve
from leadline.tracing.builder import Builder, Size, outline, shapes, size
from leadline.tracing.naming import Naming
from leadline.tracing.survey import Ambiguous, Kind, assign, growth, survey

if TYPE_CHECKING:
    import os

    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer

    from leadline.planning.scheduler import PlanScheduler


@dataclass(frozen=True)
class Factors:
    """What one parameter's settings are multiplied by, base to target."""

    init: float
    """Of the builder's own draw at the target."""
    lr: float
    weight_decay: float
    eps: float
    fold: float
    """The part of ``init`` that is a multiplier of the forward pass, folded in."""


@dataclass(frozen=True)
class Plan:
    """Exponents keyed by parameter name; ``plan`` makes it.

    Attributes:
        scheme: a name, or a ``Scheme`` of the user's.
        base, target: sizes in the builder's units.
        kinds: parameters that repeat with depth share one.
        names: kind of every parameter at the target; empty where the builder is not at hand.
        branches: residual branches that repeat with depth, and their weight layers.
        batch_ratio, token_ratio: batch and training tokens over the base's.
        decay: "per-step" keeps lr·λ at every size, "width" leaves λ alone over depth.
    """

    scheme: str | Scheme
    optimizer: Optimizer
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

    @property
    def m(self) -> float:
        """Width over the base's."""
        return self.target.width / self.base.width

    @property
    def r(self) -> float:
        """Depth over the base's."""
        return self.target.depth / self.base.depth

    def at(self, width: int, depth: int) -> Plan:
        """The same exponents for another target."""
        target = Size(check_int("width", width, 1), check_int("depth", depth, 1))
        if target == self.target:
            return self
        names = {} if self.build is None else _names(
            self.build, self.kinds, self.naming, self.base, target)  # fmt: skip
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
        if not self.optimizer.orthogonal:
            return self.optimizer
        matrix = kind.role == "hidden" and len(kind.shape) == 2
        return self.optimizer if matrix else OPTIMIZERS["adamw"]

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
        b, d = self.batch_ratio, self.token_ratio
        if self.uses(kind).update == "gradient":
            lr *= b / d
        elif (b, d) != (1.0, 1.0):
            lr, weight_decay = lr * (b / d) ** 0.5, weight_decay * (b / d) ** 0.5
            eps *= (d / b) ** 0.5
        init = 1.0
        if kind.role != "frozen" and resolve(self.scheme, kind.layers) is not None:
            actual = kind.rule.ratio(
                kind.dims(self.target, self.base), kind.dims(self.base, self.base)
            )
            # Values of the builder's own choice are what is due; what is folded comes on top.
            init = (self.fold(kind) if kind.rule.fixed else e.init).at(m, r) / actual
        return Factors(init, lr, weight_decay, eps, self.fold(kind).at(m, r))

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
        own = self._own_names(list(shapes(model)))
        found = {own[n]: s for n, s in shapes(model).items()}
        known = {
            n: k for n, k in self.names.items()
            if n in found and self.kinds[k].shape_at(self.m) == found[n]
        }  # fmt: skip
        rest = {n: s for n, s in found.items() if n not in known}
        known |= assign(self.kinds, self.naming, rest, self.m)
        return {n: self.kinds[known[own[n]]] for n in own}

    def _own_names(self, names: list[str]) -> dict[str, str]:
        """The builder's names of a model's parameters, without what wrappers put before or into them.

        Decided for all at once: a model that holds both ``weight`` and ``module.weight`` stays one.
        """
        templates = {k.template for k in self.kinds}
        bare = [".".join(p for p in n.split(".") if p not in _WRAPPERS) for n in names]
        for candidates in (names, bare):
            while True:
                known = all(self.naming.template(n) in templates for n in candidates)
                if known and len(set(candidates)) == len(names):
                    return dict(zip(names, candidates, strict=True))
                if not all(n.startswith("module.") for n in candidates):
                    break
                # DDP and AveragedModel.
                candidates = [n.removeprefix("module.") for n in candidates]
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

    def apply(self, model: nn.Module, init: bool = True) -> nn.Module:
        """Rescale the model's own initialization, once, in place; the forward code stays as it is.

        Args:
            init: False leaves the values alone: loaded or pretrained weights.

        Returns:
            The model.

        Raises:
            ValueError: another size than the target's, another plan was applied before, or the
                values are not the builder's draw.
        """
        from leadline.planning.apply import apply

        return apply(self, model, init)

    def param_groups(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        betas: tuple[float, float] | None = None,
        *,
        no_decay: str | Iterable[str] = (),
        part: str | None = None,
        **settings: Any,
    ) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer; equal ones are merged.

        Args:
            lr, weight_decay, eps, betas: the base's.
            no_decay: roles ("vector", "finite") or name patterns without weight decay.
            part: for Muon: "muon" (hidden matrices) or "adamw" (the rest), each with its own lr.
            settings: copied into every group (momentum, nesterov, …).

        Raises:
            ValueError: a parameter that the plan does not know, or a missing ``part``.
        """
        from leadline.planning.groups import param_groups

        without = (no_decay,) if isinstance(no_decay, str) else tuple(no_decay)
        return param_groups(self, model, lr, weight_decay, eps, betas, without, part, settings)

    def scheduler(
        self, factory: Any, optimizer: TorchOptimizer, lr: float, **settings: Any
    ) -> PlanScheduler:
        """A learning-rate scheduler that keeps the groups' ratios, absolute ones included.

        Args:
            factory: a torch scheduler class, called as factory(optimizer, **settings) on the base.
            lr: the base's learning rate, as given to ``param_groups``.
        """
        from leadline.planning.scheduler import PlanScheduler

        return PlanScheduler(optimizer, factory, lr, settings)

    def clip_grad_norm_(self, model: nn.Module, max_norm: float) -> Tensor:
        """Clip by the norm that the gradients had before multipliers were folded into weights."""
        from leadline.planning.groups import clip_grad_norm_

        return clip_grad_norm_(self, model, max_norm)

    def __str__(self) -> str:
        from leadline.planning.show import plan_text

        return plan_text(self)

    def to_json(self) -> str:
        """All but the builder."""
        from leadline.planning.store import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str) -> Plan:
        """What ``to_json`` wrote."""
        from leadline.planning.store import from_json

        return from_json(text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``to_json`` to a file."""
        from leadline.planning.store import save

        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Read a file of ``save``."""
        from leadline.planning.store import load

        return load(path)

    def to_code(self) -> str:
        """Plain PyTorch that does the same without leadline."""
        from leadline.planning.code import to_code

        return to_code(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "build": None}


# What torch.compile, activation checkpointing and FSDP put into names.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def plan(
    build: Builder,
    base: Mapping[str, int] | Size,
    target: Mapping[str, int] | Size | None = None,
    scheme: str | Scheme = "auto",
    optimizer: str | Optimizer = "adamw",
    batch_ratio: float = 1.0,
    token_ratio: float = 1.0,
    *,
    inputs: Any = None,
    roles: Mapping[str, Any] | None = None,
    decay: str = "per-step",
) -> Plan:
    """Read a model and decide how each parameter scales from base to target.

    The builder is called at the base, at twice its width, at twice its depth and at the target (there
    without memory, on the meta device, where it can). One forward pass at each of the small sizes shows
    the residual branches, which dimensions grow, and the builder's own initialization rule.

    Args:
        build: callable (width, depth) -> unmodified nn.Module.
        base, target: dict(width=, depth=), in the builder's units; the target defaults to the base.
        scheme: sp, ntk, mup, depth-mup, depth-mup-corrected, completep, spectral, auto, or a Scheme.
        optimizer: sgd, adam, adamw, lion, adafactor, muon or muon-match-rms.
        batch_ratio, token_ratio: the target's batch and training tokens over the base's.
        inputs: for one forward pass: a tensor, a tuple, a dict of keywords, or a callable of
            (width, depth); by default the model's dummy_inputs or what its first layer takes.
        roles: overrides by name pattern: "input", "hidden", "readout", "vector", "finite", "frozen"
            (for what does not train), dict(role=..., branch=False) or dict(init=False), which keeps
            the builder's own values at every size.
        decay: "per-step" or "width".

    Raises:
        ValueError, TypeError: a bad argument, a builder that fails, or something that cannot be
            decided; the message names it and the remedy.
    """
    at, to = size("base", base), size("target", base if target is None else target)
    check_scheme(scheme)
    o = named_optimizer(optimizer)
    check_choice("decay", decay, DECAYS)
    for name, value in (("batch_ratio", batch_ratio), ("token_ratio", token_ratio)):
        check_real(name, value, 0.0, open_minimum=True)
        if value != 1 and o.name not in ("sgd", "adamw"):
            raise ValueError(
                f"{name}={value:g} with optimizer={o.name!r}: batch and duration have a rule for sgd and "
                "adamw only; keep both ratios 1"
            )
    found = survey(build, at, inputs, roles)
    _refuse_obstacles(scheme, found.obstacles, found.branches)
    names = _names(build, found.kinds, found.naming, at, to)
    s = resolve(scheme, None)
    if not found.branches and s is not None and s.branch != 0:
        raise ValueError(
            f"no residual branch repeats with depth: scheme={s.name!r} scales branches of residual "
            "networks; give scheme='mup', which scales with width alone, or build a model with skip "
            "connections"
        )
    out = Plan(
        scheme,
        o,
        at,
        to,
        found.kinds,
        names,
        found.naming,
        found.branches,
        float(batch_ratio),
        float(token_ratio),
        decay,
        build,
    )
    from leadline.planning.guard import check_made

    check_made(out, build, found.made, inputs)
    return out


def _refuse_obstacles(
    scheme: str | Scheme, obstacles: Iterable[tuple[str, str]], layers: Mapping[str, int]
) -> None:
    s = resolve(scheme, max(layers.values(), default=2))
    if s is None:
        return
    needed = {"branch": s.branch != 0, "readout": s.readout != 0, "attention": s.rate_width != 0}
    wrong = [message for what, message in obstacles if needed[what]]
    if wrong:
        raise ValueError("cannot fold:\n  " + "\n  ".join(wrong))


def _names(
    build: Builder, kinds: tuple[Kind, ...], naming: Naming, base: Size, target: Size
) -> dict[str, int]:
    """The kind of every parameter at the target, from its names and shapes alone."""
    m = target.width / base.width
    there = shapes(outline(build, target))
    try:
        return assign(kinds, naming, there, m)
    except Ambiguous:
        # A dimension that happens to equal the width: twice the width tells.
        wide = Size(2 * target.width, target.depth)
        grows = growth(there, shapes(outline(build, wide)), target, wide)
        return assign(kinds, naming, there, m, grows=grows)
