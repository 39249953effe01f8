"""``plan``: how every parameter of a model scales from a small, shallow base to the target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from leadline.disk.write import write_atomic
from leadline.errors import check_choice, check_real, cut
from leadline.parametrization.optimizers import Optimizer, default_eps
from leadline.parametrization.optimizers import optimizer as named_optimizer
from leadline.parametrization.rules import DECAYS, batch_factors
from leadline.parametrization.schemes import Scheme
from leadline.planning import application, formats, joint
from leadline.planning.factors import Scaling, check_scheme, kinds_by_name, resolve
from leadline.planning.guard import check_derived
from leadline.planning.magnitudes import check_magnitudes, keeps_values
from leadline.planning.remedies import with_remedies
from leadline.tabular.notebook import Shown
from leadline.tracing.builder import Builder, Size, size
from leadline.tracing.survey import Survey, survey

if TYPE_CHECKING:
    import os

    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer

_REMEDY = re.compile(r"[;:,] (?:or )?give ")


@dataclass(frozen=True)
class Plan(Scaling, Shown):
    """Exponents keyed by parameter name; ``plan`` makes it.

    Attributes:
        scheme: a name, or a ``Scheme`` of the user's.
        optimizer_rule: how the updates of its optimizer scale.
        base, target: sizes in the builder's units.
        kinds: parameters that repeat with depth share one.
        names: kind of every parameter at the target; empty where the builder is not at hand.
        branches: residual branches that repeat with depth, and their weight layers.
        batch_ratio, token_ratio: batch and training tokens over the base's.
        decay: "per-step" keeps lr·λ at every size, "width" leaves λ alone over depth.
        width_alone: why nothing is said of other depths; empty where they were read.
    """

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
        return application.apply(self, model, init)

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
        base = application.BaseSettings(lr, weight_decay, eps, betas, settings)
        without = (no_decay,) if isinstance(no_decay, str) else tuple(no_decay)
        return application.param_groups(self, model, base, without, part)

    def optimizer(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float = 0.0,
        eps: float | None = None,
        betas: tuple[float, float] | None = None,
        *,
        no_decay: str | Iterable[str] = (),
        adamw: Mapping[str, Any] | None = None,
        factory: joint.Factory | None = None,
        **settings: Any,
    ) -> TorchOptimizer:
        """The optimizer of a model: torch's own class on ``param_groups``; for Muon, AdamW is in it.

        >>> from leadline.models import residual_mlp
        >>> build = residual_mlp(8, 2)
        >>> p = plan(build, dict(width=16, depth=2), dict(width=64, depth=2))
        >>> type(p.optimizer(p.apply(build(64, 2)), lr=3e-3, weight_decay=0.1))
        <class 'torch.optim.adamw.AdamW'>

        Args:
            lr, weight_decay, eps, betas: the base's; eps and betas are torch's own if None.
            no_decay: roles ("vector", "finite") or name patterns without weight decay.
            adamw: for Muon: settings of AdamW, which trains what is no hidden matrix, where they differ
                (lr, weight_decay, fused, …).
            factory: another library's class, or a callable (groups, lr=..., **settings).
            settings: of the class (momentum, nesterov, fused, …).

        Raises:
            ValueError, TypeError: torch has no such class, or the factory's makes other updates than
                the plan's, or does not take the settings.
        """
        eps = default_eps(self.optimizer_rule) if eps is None else eps
        base = application.BaseSettings(lr, weight_decay, eps, betas, {})
        without = (no_decay,) if isinstance(no_decay, str) else tuple(no_decay)
        return joint.optimizer(self, model, base, without, adamw, factory, settings)

    def scheduler(
        self, factory: Any, optimizer: TorchOptimizer, lr: float, **settings: Any
    ) -> application.PlanScheduler:
        """A learning-rate scheduler that keeps the groups' ratios, absolute ones included.

        Args:
            factory: a torch scheduler class, called as factory(optimizer, **settings) on the base.
            lr: the base's learning rate, as given to ``param_groups``.
        """
        return application.PlanScheduler(optimizer, factory, lr, settings)

    def clip_grad_norm_(self, model: nn.Module, max_norm: float) -> Tensor:
        """Clip by the norm that the gradients had before multipliers were folded into weights."""
        return application.clip_grad_norm_(self, model, max_norm)

    def __str__(self) -> str:
        return formats.table(self)

    def to_json(self) -> str:
        """All but the builder."""
        return formats.to_json(self)

    @staticmethod
    def from_json(text: str) -> Plan:
        """What ``to_json`` wrote."""
        return Plan(**formats.from_json(text))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``to_json`` to a file."""
        write_atomic(path, self.to_json().encode())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Read a file of ``save``."""
        return Plan(**formats.load(path))

    def to_code(self) -> str:
        """Plain PyTorch that does the same without leadline."""
        return formats.to_code(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "build": None}


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
    the residual branches, which dimensions grow, and the builder's own initialization rule. Passes of
    models that the plan was applied to are compared: one under which something grows is refused.

    Args:
        build: callable (width, depth) -> unmodified nn.Module.
        base, target: dict(width=, depth=), in the builder's units; the target defaults to the base. Where
            both are given with one depth, what depth alone leaves undecided is no matter: the plan is
            for that depth.
        scheme: sp, ntk, mup, depth-mup, depth-mup-corrected, completep, spectral, auto, or a Scheme.
        optimizer: sgd, adam, adamw, lion, signsgd, adafactor, muon or muon-match-rms.
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
    batch_factors(o, batch_ratio / token_ratio)

    def read(scheme: str | Scheme, roles: Mapping[str, Any] | None, alone: str = "") -> Plan:
        surveyed = _read_model(build, at, inputs, roles, scheme, bool(alone))
        _refuse_obstacles(scheme, surveyed.obstacles, surveyed.branches, bool(alone))
        names = kinds_by_name(build, surveyed.kinds, surveyed.naming, at, to)
        if not alone:
            _refuse_branches(scheme, surveyed.branches)
        result = Plan(
            scheme=scheme,
            optimizer_rule=o,
            base=at,
            target=to,
            kinds=surveyed.kinds,
            names=names,
            naming=surveyed.naming,
            branches=surveyed.branches,
            batch_ratio=float(batch_ratio),
            token_ratio=float(token_ratio),
            decay=decay,
            build=build,
            width_alone=alone,
        )
        check_derived(result, build, surveyed.derived, inputs)
        if not keeps_values(roles):
            check_magnitudes(result, build, inputs)
        return result

    def of_one_depth(scheme: str | Scheme, roles: Mapping[str, Any] | None) -> Plan:
        """The same; where depth alone is in the way, for this one."""
        try:
            return read(scheme, roles)
        except ValueError as e:
            first, *more = [line.strip() for line in str(e).splitlines()]
            # What it is, without the remedy.
            why = _REMEDY.split(more[0] if first.startswith("cannot") else first)[0]
            try:
                return read(scheme, roles, cut(why, 200))
            except ValueError:
                raise e from None

    if target is not None and at.depth == to.depth:
        return with_remedies(of_one_depth, scheme, roles)
    return with_remedies(read, scheme, roles)


def _read_model(
    build: Builder,
    at: Size,
    inputs: Any,
    roles: Mapping[str, Any] | None,
    scheme: str | Scheme,
    alone: bool = False,
) -> Survey:
    """What the model is; under a scheme of width alone, what depth makes undecided is left out.

    Args:
        alone: read what width needs alone.
    """
    try:
        return survey(build, at, inputs, roles, depth=not alone)
    except ValueError:
        s = resolve(scheme, None)
        if s is not None and any((s.branch, s.rate_internal, s.rate_last)):
            raise
        return survey(build, at, inputs, roles, depth=False)


def _refuse_branches(scheme: str | Scheme, branches: Mapping[str, int]) -> None:
    s = resolve(scheme, None)
    if not branches and s is not None and s.branch != 0:
        raise ValueError(
            f"no residual branch repeats with depth: scheme={s.name!r} scales branches of residual "
            "networks; give scheme='mup', which scales with width alone, or build a model with skip "
            "connections around layers that each have parameters of their own"
        )


def _refuse_obstacles(
    scheme: str | Scheme,
    obstacles: Iterable[tuple[str, str]],
    layers: Mapping[str, int],
    alone: bool = False,
) -> None:
    s = resolve(scheme, max(layers.values(), default=2))
    if s is None:
        return
    depths = {x.branch for n in layers.values() if (x := resolve(scheme, n)) is not None}
    needed = {
        "branch": s.branch != 0 and not alone,
        "shared": not depths <= {0.0, -1.0} and not alone,
        "readout": s.readout != 0,
        "attention": s.rate_width != 0,
    }
    wrong = [message for what, message in obstacles if needed[what]]
    if wrong:
        raise ValueError("cannot fold:\n  " + "\n  ".join(wrong))
