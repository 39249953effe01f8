"""Exponents of any parameter of any model, derived from the one table of schemes.

A scheme speaks of N(0, 1) weights W; a PyTorch weight is w = n^δ W, with δ = -½ for hidden
matrices, -p for the readout and 0 for input weights and vectors. Then

    std ∝ n^δ,      SGD rate ∝ n^(q + 2δ),      gradient ∝ n^g,

with g = 0 for the readout, whose gradient is h, and g = -p for every other weight: ∂f/∂u ∝ n^-p.
An Adam-like step has entries of size lr, so it moves a weight as SGD does if
lr_adam ∝ lr_sgd·|gradient|; ε is compared with the gradient; a decoupled λ keeps lr·λ, a coupled
one keeps λw in proportion to what it is added to. An orthogonalised step of a hidden matrix has n
singular values of size lr where a normalised one has a single one of size n·lr.

A multiplier a that is folded into a weight, w' = a w: rates ×a² (gradient steps), ×a (normalised,
orthogonal), unchanged (relative); ε/a; λ/a² (coupled), λ/a (decoupled), unchanged (relative).
"""

from __future__ import annotations

from dataclasses import dataclass

from leadline.errors import check_choice
from leadline.parametrization.optimizers import Optimizer
from leadline.parametrization.schemes import Scheme

ROLES = ("input", "hidden", "readout", "vector", "finite")
"""By which dimensions grow with width: fan-out; both; fan-in; a vector's only one; none."""


@dataclass(frozen=True, order=True)
class Power:
    """m^width · r^depth, with m and r the target's width and depth over the base's."""

    width: float = 0.0
    depth: float = 0.0

    def __add__(self, other: Power) -> Power:
        return Power(self.width + other.width, self.depth + other.depth)

    def __sub__(self, other: Power) -> Power:
        return self + other * -1.0

    def __mul__(self, k: float) -> Power:
        return Power(self.width * k, self.depth * k)

    def at(self, m: float, r: float) -> float:
        """The factor; exactly 1 at the base."""
        return m**self.width * r**self.depth

    def __str__(self) -> str:
        parts = [f"{s}^{_number(e)}" for s, e in (("m", self.width), ("r", self.depth)) if e]
        return "·".join(parts) or "1"


ONE = Power()
DECAYS = ("per-step", "width")


def _number(x: float) -> str:
    named = {0.5: "½", -0.5: "-½", 1.5: "1½", -1.5: "-1½"}
    return named.get(x, f"{x:g}")


@dataclass(frozen=True)
class Place:
    """Where a parameter stands in the model."""

    role: str
    position: int | None = None
    """Weight layer of its residual branch (0-based) that it is or follows; None outside branches
    that repeat with depth."""
    layers: int | None = None
    """Weight layers of that branch."""
    last: bool = False
    """No weight layer comes after it in the branch."""
    beside: bool = False
    """It repeats with depth outside every branch: a vector behind the sums (post-norm)."""
    shared: bool = False
    """One for all layers, used in the branch of each: a table of relative positions."""

    @property
    def inside(self) -> bool:
        """In a branch that repeats with depth."""
        return self.position is not None


@dataclass(frozen=True)
class Exponents:
    """How a parameter's settings scale with width and depth."""

    init: Power
    """Power of its scale at initialization, any folded multiplier included."""
    lr: Power
    weight_decay: Power
    eps: Power


def deviation(scheme: Scheme, role: str) -> float:
    """Exponent of width in a weight's standard deviation: -½ for hidden matrices, -p for the readout."""
    return {"hidden": -0.5, "readout": scheme.readout}.get(role, 0.0)


def exponents(
    scheme: Scheme | None,
    optimizer: Optimizer,
    place: Place,
    fold: Power = ONE,
    decay: str = "per-step",
) -> Exponents:
    """The table's entry for one parameter.

    Args:
        scheme: None is sp: every factor is 1.
        fold: multiplier that the parameter takes over from the forward pass.
        decay: per-step keeps lr·λ over width and depth; width leaves λ alone over depth, as the
            published CompleteP code does.
    """
    if scheme is None:
        return Exponents(ONE, ONE, ONE, ONE)
    check_choice("role", place.role, ROLES)
    check_choice("decay", decay, DECAYS)
    p, q = -scheme.readout, scheme.rate_width
    finite = place.role == "finite"
    std = deviation(scheme, place.role)
    gradient = 0.0 if finite or place.role == "readout" else -p
    sgd = 0.0 if finite else q + 2 * std
    a = scheme.branch if place.inside else 0.0
    c = (scheme.rate_last if place.last else scheme.rate_internal) if place.inside else 0.0
    init = Power(width=std)
    if place.beside and scheme.branch:
        # What r of them learn adds up in the stream itself, with nothing in front.
        c = -1.0
    if place.shared and scheme.branch:
        # Its gradient is the sum over r layers; its step is to move each of them as one of its own would.
        a, c = a + 1.0, c - 1.0
    rate = Power(width=sgd, depth=c)
    grad = Power(width=gradient, depth=a)

    kind = optimizer.update
    if kind == "gradient":
        lr, folded = rate, fold * 2
    elif kind == "normalised":
        lr, folded = rate + grad, fold
    elif kind == "relative":
        lr, folded = rate + grad - init, ONE
    else:
        # Hidden matrices: a normalised step has spectral norm n·lr, this one lr (or √n·lr).
        lr, folded = rate + grad + Power(width=1.0 if kind == "orthogonal" else 0.5), fold
    if kind == "gradient" or optimizer.decay == "decoupled":
        # λ keeps lr·λ, the decay per step.
        shrink = (lr + folded) * -1.0
    else:
        shrink = grad - init - fold * 2
    if decay == "width":
        shrink = Power(width=shrink.width)
    if optimizer.name == "adafactor":
        # Its ε is the least RMS(weight) that steps are relative to.
        eps, eps_folded = init, fold
    else:
        eps, eps_folded = (grad, fold * -1.0) if optimizer.has_eps else (ONE, ONE)
    return Exponents(init + fold, lr + folded, shrink, eps + eps_folded)


@dataclass(frozen=True)
class BatchFactors:
    """What batch and duration multiply an optimizer's settings by."""

    lr: float
    weight_decay: float
    eps: float
    averages: float
    """Multiplies 1 - β."""


def batch_factors(optimizer: Optimizer, k: float) -> BatchFactors:
    """The rule of batch over duration, k = (batch/base's) / (tokens/base's), for noisy gradients.

    A step of a k times larger batch stands for k steps of the base. Noise has size 1/√k then, so a
    step of normalised size (Adam's, an orthogonalised one) points √k better: with rate·√k both drift
    and diffusion of k steps are kept (2512.22382 for AdamW). A decoupled λ·√k keeps k·lr·λ; a
    coupled λ is added to the gradient and stays, as the drift does. Adam's averages run over as many
    samples, 1 - β times k, and its ε goes as the noise. Muon's momentum, which is orthogonalised as a
    whole, stays: 1 - β times k would undo the smaller noise. Gradient steps take rate·k.

    Raises:
        ValueError: no rule kept the best rate of this optimizer.
    """
    if optimizer.name == "signsgd" and k != 1.0:
        raise ValueError(
            f"batch and duration have no rule for signsgd (batch_ratio/token_ratio={k:g}): none was "
            "measured; keep both ratios equal, or sweep the rate at the target's batch"
        )
    if optimizer.name == "lion" and k != 1.0:
        raise ValueError(
            f"batch and duration have no rule for lion (batch_ratio/token_ratio={k:g}): it takes the sign "
            "of a long average, whose noise is small, and its best rate went as a power of the batch "
            "between ½ and 1; keep both ratios equal, or sweep the rate at the target's batch"
        )
    if optimizer.update == "gradient" or k == 1.0:
        return BatchFactors(k, 1.0, 1.0, 1.0)
    root = k**0.5
    decay = root if optimizer.decay == "decoupled" else 1.0
    if optimizer.averages_gradients:
        return BatchFactors(root, decay, 1 / root, k)
    return BatchFactors(root, decay, 1.0, 1.0)
