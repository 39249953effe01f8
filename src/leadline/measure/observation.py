"""What to measure inside the network, and the numbers of one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leadline.errors import LARGEST, check_choice, check_int, check_list, check_real, shown

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 100_000
# Samples or tokens of a module's output that kernels are of, unless told otherwise, and at most.
_ROWS, _MOST_ROWS = 64, 4096
_TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)

QUANTITIES = (
    "feature_kernel",
    "activation_kernel",
    "gradient_kernel",
    "tangent_kernel",
    "movement",
)
MODULE_QUANTITIES = ("feature_kernel", "gradient_kernel", "movement")
"""Those that are known of any module's output."""
# What equal rows may differ by after some layers, in units of the last place.
_ROUNDING = 16


@dataclass(frozen=True)
class Measure:
    """A request: which quantities, where in the network and at which steps, on the training inputs.

    Where is depth times of a ``ResNet``, or modules of a builder's model, whose outputs are rows of
    features: (B, n) as it is, (B, T, n) as B·T tokens, and with more axes (B, C, H, W) one row a sample.

    Args:
        quantities: any of ``QUANTITIES``; the tangent kernel comes in its three parts. Of modules
            "feature_kernel" h·h'/n, "gradient_kernel" z·z'/n with z = n·∂loss/∂h times the number of
            rows (the gradient of one row's loss), and "movement".
        times: depth times t = l/L in [0, 1]; layer round(t·L) is taken.
        steps: training steps; negative ones count from the end (-1 is after the last step).
        particles: record h of this many neurons (the law of h_t); 0 is none.
        modules: names of modules, or patterns such as "blocks.*" (``fnmatch``; * spans dots).
        rows: of modules' outputs, the first so many count. In evaluation mode, on the training samples, or
            on the first of the training batches where these differ.

    >>> Measure(modules="blocks.?", steps=(0, 10, -1)).modules
    ('blocks.?',)
    """

    quantities: tuple[str, ...] = ("feature_kernel", "movement")
    times: tuple[float, ...] = _TIMES
    steps: tuple[int, ...] = (0, -1)
    particles: int = 0
    modules: tuple[str, ...] = ()
    rows: int = _ROWS

    def __post_init__(self) -> None:
        names = (self.quantities,) if isinstance(self.quantities, str) else self.quantities
        if not isinstance(names, tuple) or names:
            names = check_list("quantities", names, 100, what="quantities")
        names = tuple(check_choice("quantities", name, QUANTITIES) for name in names)
        object.__setattr__(self, "quantities", names)
        times = check_list("times", self.times, _MOST, what="depth times in [0, 1]")
        times = tuple(check_real("times", t, 0.0, 1.0) for t in times)
        object.__setattr__(self, "times", times)
        steps = check_list("steps", self.steps, _MOST, what="training steps, such as (0, -1)")
        steps = tuple(check_int("steps", k, -LARGEST) for k in steps)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "particles", check_int("particles", self.particles, 0))
        object.__setattr__(self, "rows", check_int("rows", self.rows, 1, _MOST_ROWS))
        self._check_modules()

    def _check_modules(self) -> None:
        """Refuse what does not go with modules, or only with them."""
        names = (self.modules,) if isinstance(self.modules, str) else self.modules
        if not isinstance(names, tuple) or names:
            names = check_list("modules", names, _MOST, what="names or patterns of modules")
        object.__setattr__(self, "modules", tuple(names))
        for name in names:
            if not isinstance(name, str) or not name:
                raise TypeError(
                    f"modules={shown(name)} is no name: give such as modules=('blocks.*', 'head')"
                )
        if not names:
            if self.rows != _ROWS:
                raise ValueError(f"rows={self.rows} is for modules: give modules=, or leave it out")
            return
        for name in self.quantities:
            if name not in MODULE_QUANTITIES:
                raise ValueError(
                    f"quantities={name!r} is not known of modules: give any of "
                    f"{', '.join(MODULE_QUANTITIES)}"
                )
        for name, usual in (("times", _TIMES), ("particles", 0)):
            if getattr(self, name) != usual:
                raise ValueError(
                    f"{name}={shown(getattr(self, name))} is for a ResNet: leave it out beside modules"
                )

    def at(self, total: int) -> tuple[int, ...]:
        """The steps of the request, in a training of ``total`` steps, sorted."""
        out = set()
        for k in self.steps:
            step = k + total + 1 if k < 0 else k
            if not 0 <= step <= total:
                raise ValueError(
                    f"measure.steps={k} is outside the training: give 0 to {total}, or -1"
                )
            out.add(step)
        return tuple(sorted(out))

    def layers(self, depth: int) -> tuple[int, ...]:
        """Layer index (0 is h_0) of every depth time."""
        return tuple(round(t * depth) for t in self.times)

    @property
    def backward(self) -> bool:
        """Whether backward features are needed."""
        return bool({"gradient_kernel", "tangent_kernel"} & set(self.quantities))

    @property
    def initial(self) -> bool:
        """Whether the features at initialization are needed beside the present ones."""
        return "movement" in self.quantities


class Neurons:
    """Sums over neurons, the last axis, where all of them are here."""

    def gram(self, a: Tensor) -> Tensor:
        """Inner products a·a'/n; see the function ``gram``."""
        return gram(a)

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the last axis."""
        return x.mean(-1)

    def some(self, x: Tensor, count: int) -> Tensor:
        """The first ``count`` neurons."""
        return x[..., :count]


@dataclass
class Snapshot:
    """One network at one step: features by depth time, on P inputs.

    Attributes:
        h: D tensors (P, n), features.
        h_initial: the same before training, where movement is measured.
        z: D tensors (P, C, n), backward features z = n·∂f_c/∂h (mup form), where they are measured.
        tangent: the parts input, hidden, readout of Θ, each (P, P), a mean over outputs.
        neurons: how to sum over them.
    """

    h: Sequence[Tensor]
    h_initial: Sequence[Tensor] | None = None
    z: Sequence[Tensor] | None = None
    tangent: dict[str, Tensor] | None = None
    neurons: Neurons = field(default_factory=Neurons)


def gram(a: Tensor, b: Tensor | None = None) -> Tensor:
    """a·b'/n over neurons: (P, n) -> (P, P); for (P, C, n) the mean over outputs C."""
    b = a if b is None else b
    n = a.shape[-1]
    if a.ndim == 2:
        return a @ b.mT / n
    flat = a.reshape(a.shape[0], -1)
    return flat @ b.reshape(b.shape[0], -1).mT / (n * a.shape[1])


def movement(h: Tensor, initial: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """Root mean square over neurons of rows h (P, n) minus those before training; 0 below rounding."""
    import torch

    moved, size = (mean(x.square()).sqrt() for x in (h - initial, initial))
    return moved.masked_fill(moved <= _ROUNDING * torch.finfo(h.dtype).eps * size, 0.0)


def numbers(
    request: Measure, snapshot: Snapshot, phi: Callable[[Tensor], Tensor]
) -> dict[str, np.ndarray]:
    """The requested arrays of one snapshot (without seed and step axes), float64."""
    import torch

    out: dict[str, Tensor] = {}
    want, over = request.quantities, snapshot.neurons
    if "feature_kernel" in want:
        out["feature_kernel"] = torch.stack([over.gram(h) for h in snapshot.h])
    if "activation_kernel" in want:
        out["activation_kernel"] = torch.stack([over.gram(phi(h)) for h in snapshot.h])
    if "gradient_kernel" in want and snapshot.z is not None:
        out["gradient_kernel"] = torch.stack([over.gram(z) for z in snapshot.z])
    if "tangent_kernel" in want and snapshot.tangent is not None:
        out |= {f"tangent_{role}": part for role, part in snapshot.tangent.items()}
    if "movement" in want and snapshot.h_initial is not None:
        pairs = zip(snapshot.h, snapshot.h_initial, strict=True)
        out["movement"] = torch.stack([movement(h, h0, over.mean) for h, h0 in pairs])
    if request.particles:
        out["particles"] = torch.stack([over.some(h, request.particles) for h in snapshot.h])
    return {k: v.detach().cpu().double().numpy() for k, v in out.items()}
