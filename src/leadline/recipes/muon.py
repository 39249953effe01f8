"""Muon for hidden matrices, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from leadline.errors import check_bool, check_choice, check_int, check_type
from leadline.parametrization.optimizers import MUON_MOMENTUM
from leadline.recipes.base import GroupMaker, Recipe, check_momentum
from leadline.recipes.elementwise import AdamW

_ADJUST = {"original": "muon", "match-rms": "muon-match-rms"}
_REST = ("lr", "weight_decay", "betas", "eps")
_MOST = 20


@dataclass(frozen=True)
class Muon(Recipe):
    """Muon (Jordan et al., 2024; torch.optim.Muon): a hidden matrix's step has singular values near lr.

    The averaged gradient is orthogonalised by Newton–Schulz steps in the precision of the training, so
    that float64 trains in float64. Weight decay is AdamW's. What is no hidden matrix is AdamW's.

    Args:
        lr, steps, batch_size, weight_decay, schedule, clip: as of ``Recipe``, at the base.
        momentum: μ in [0, 1) of the gradient's average.
        nesterov: does the gradient count once more beside its average?
        ns_steps: Newton–Schulz steps, 1 to 20.
        adjust: "original" multiplies lr by √max(1, rows/columns), "match-rms" by 0.2·√max(rows, columns),
            so that entries move as AdamW's (2502.16982).
        bfloat16: orthogonalise in bfloat16, as torch.optim.Muon, which is then used (torch 2.9 has it).
        adamw: settings of AdamW, where they differ: any of lr, weight_decay, betas, eps. lr and
            weight_decay are otherwise Muon's.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.

    >>> Muon(lr=0.02, adamw=dict(lr=3e-3)).rest.lr
    0.003
    """

    lr: float = 0.02
    momentum: float = MUON_MOMENTUM
    nesterov: bool = True
    ns_steps: int = 5
    adjust: str = "original"
    bfloat16: bool = False
    adamw: Mapping[str, Any] | None = field(default=None, hash=False)

    def _check_settings(self) -> None:
        self._keep("momentum", check_momentum(self.momentum))
        self._keep("nesterov", check_bool("nesterov", self.nesterov))
        self._keep("ns_steps", check_int("ns_steps", self.ns_steps, 1, _MOST))
        self._keep("adjust", check_choice("adjust", self.adjust, _ADJUST))
        self._keep("bfloat16", check_bool("bfloat16", self.bfloat16))
        if self.adamw is None:
            return
        check_type("adamw", self.adamw, Mapping, "give a dict such as dict(lr=3e-3), or None")
        for name in self.adamw:
            check_choice("adamw", name, _REST)
        try:
            rest = self.rest
        except (ValueError, TypeError) as e:
            raise type(e)(f"adamw: {e}") from None
        self._keep("adamw", {name: getattr(rest, name) for name in self.adamw})

    @property
    def optimizer(self) -> str:
        """muon, or muon-match-rms."""
        return _ADJUST[self.adjust]

    @property
    def rest(self) -> AdamW:
        """The recipe of what is no hidden matrix."""
        how: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay} | dict(
            self.adamw or {}
        )
        return AdamW(steps=self.steps, batch_size=self.batch_size, no_decay=self.no_decay, **how)

    def _make(self, plan: GroupMaker, model: Any, skip: Collection[str]) -> list[Any]:
        rest = self.rest
        return plan.optimizer_rule.make(
            rest._groups(plan, model, skip, part="adamw", eps=rest.eps, betas=rest.betas),
            self._groups(plan, model, skip, part="muon"),
            of_matrices=dict(
                momentum=self.momentum, nesterov=self.nesterov, ns_steps=self.ns_steps
            ),
            exact=not self.bfloat16,
        )
