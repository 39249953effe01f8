"""The table of optimizers: how the update of each scales, and its class in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from leadline.errors import check_choice

if TYPE_CHECKING:
    import torch

BETAS = (0.9, 0.999)
LION_BETAS = (0.9, 0.99)
EPS = 1e-8
MUON_MOMENTUM = 0.95


@dataclass(frozen=True)
class Optimizer:
    """An optimizer as a scaling rule sees it: its update, not its name, decides the exponents."""

    name: str
    update: str
    """gradient: proportional to it; normalised: entries of size lr; relative: entries of size
    lr·RMS(weight); orthogonal: singular values of size lr; orthogonal-rms: of size
    lr·√max(shape) (both for matrices only)."""
    decay: str
    """coupled: λw is added to the gradient; decoupled: w loses lr·λ·w a step."""
    has_eps: bool
    torch_class: str = ""
    """Its class in torch.optim; "" where torch has none."""
    written_out: str = ""
    """Its class in ``parametrization.updates``, where torch has none."""
    adjust_lr: str = ""
    """Muon's ``adjust_lr_fn``."""
    stacks: bool = False
    """Does ``sweeps.optimizers`` have its formulas for stacks of runs?"""

    @property
    def orthogonal(self) -> bool:
        """Does it update hidden matrices only, and leave other parameters to AdamW?"""
        return self.update.startswith("orthogonal")

    @property
    def averages_gradients(self) -> bool:
        """Does it average the gradient and its square, each with a β, as Adam does?"""
        return self.update == "normalised" and self.has_eps

    @property
    def betas(self) -> tuple[float, float] | None:
        """The usual β₁, β₂; None where it has none."""
        if self.averages_gradients:
            return BETAS
        return LION_BETAS if self.name == "lion" else None

    @property
    def takes_momentum(self) -> bool:
        """Has it a momentum that is the user's to set?"""
        return self.name in ("sgd", "signsgd")

    def torch_kind(self, remedy: str) -> Callable[..., torch.optim.Optimizer]:
        """The class that makes its updates: torch's, or the one of ``parametrization.updates``.

        Raises:
            ValueError: this torch has none; the message ends with the remedy.
        """
        import torch

        if self.written_out:
            from leadline.parametrization import updates

            return getattr(updates, self.written_out)
        kind = getattr(torch.optim, self.torch_class, None)
        if kind is None:
            raise ValueError(
                f"torch {torch.__version__} has no {self.torch_class}: install torch >= 2.9, or {remedy}"
            )
        return kind

    def make(
        self,
        groups: Sequence[dict[str, Any]],
        matrices: Sequence[dict[str, Any]] = (),
        settings: Mapping[str, Any] = MappingProxyType({}),
        of_matrices: Mapping[str, Any] = MappingProxyType({"momentum": MUON_MOMENTUM}),
        exact: bool = False,
    ) -> list[torch.optim.Optimizer]:
        """The optimizers of these parameter groups, which have their rates and decays.

        Args:
            matrices: groups of the hidden matrices, for Muon; ``groups`` has the rest.
            settings, of_matrices: of the constructors for ``groups`` and for ``matrices``.
            exact: let Muon orthogonalise in the parameters' precision, where torch's rounds to bfloat16.

        Raises:
            ValueError: this torch has no such optimizer.
        """
        from leadline.parametrization import updates

        made: list[torch.optim.Optimizer] = []
        if matrices:
            how: dict[str, Any] = {"adjust_lr_fn": self.adjust_lr, **of_matrices}
            if exact:
                made.append(updates.ExactMuon(matrices, **how))
            else:
                remedy = "take the exact one, leadline.Muon(bfloat16=False)"
                made.append(self.torch_kind(remedy)(matrices, **how))
        if groups:
            kind = OPTIMIZERS["adamw"] if self.orthogonal else self
            remedy = "give optimizer=, a callable (model, plan, lr) that makes yours"
            made.append(kind.torch_kind(remedy)(groups, **settings))
        return made


_TABLE = (
    Optimizer("sgd", "gradient", "coupled", has_eps=False, torch_class="SGD", stacks=True),
    Optimizer("adam", "normalised", "coupled", has_eps=True, torch_class="Adam", stacks=True),
    Optimizer("adamw", "normalised", "decoupled", has_eps=True, torch_class="AdamW", stacks=True),
    Optimizer("lion", "normalised", "decoupled", has_eps=False, written_out="LionUpdates",
              stacks=True),
    Optimizer("signsgd", "normalised", "decoupled", has_eps=False, written_out="SignUpdates",
              stacks=True),
    Optimizer("adafactor", "relative", "decoupled", has_eps=True, torch_class="Adafactor"),
    Optimizer("muon", "orthogonal", "decoupled", has_eps=False, torch_class="Muon",
              adjust_lr="original", stacks=True),
    Optimizer("muon-match-rms", "orthogonal-rms", "decoupled", has_eps=False, torch_class="Muon",
              adjust_lr="match_rms_adamw", stacks=True),
)  # fmt: skip
OPTIMIZERS: dict[str, Optimizer] = {o.name: o for o in _TABLE}


def optimizer(name: str | Optimizer) -> Optimizer:
    """The optimizer called ``name``.

    Raises:
        ValueError: no rule for it; the message names the nearest that has one.
    """
    if isinstance(name, Optimizer):
        return name
    return OPTIMIZERS[check_choice("optimizer", name, OPTIMIZERS)]


def default_eps(rule: Optimizer) -> float:
    """Torch's own ε: what is added to √v; of Adafactor the least RMS(weight)."""
    return 1e-3 if rule.name == "adafactor" else EPS
