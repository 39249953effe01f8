"""One run of the solver: a network that exists only as revealed operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from leadline.activations import value_and_slope
from leadline.architecture import ResNet
from leadline.dynamics.counter import Counter
from leadline.dynamics.noise import Noise
from leadline.dynamics.operator import Operator, Settings
from leadline.dynamics.pieces import State
from leadline.dynamics.shards import Shards
from leadline.measure.observation import Measure, Snapshot
from leadline.recipe import SGD

_TRAINING, _SCRATCH, _INPUT, _READOUT = range(4)

VARIANCE_REDUCTIONS = ("none", "ends", "balanced")
"""none: the law of a dense network; ends: the columns of [U v] orthogonal with norm √n; balanced:
also every fresh noise orthogonal to the earlier answers, h_0, h_{l-1} and v, with fixed norm."""


@dataclass
class Pass:
    """What a forward pass leaves behind for the backward pass and for measurement."""

    x: Tensor
    outputs: Tensor
    top: Tensor
    slopes: list[list[Tensor | None]] = field(default_factory=list)
    asked: list[list[Tensor]] = field(default_factory=list)
    features: dict[int, Tensor] = field(default_factory=dict)
    inner: list[list[Tensor]] = field(default_factory=list)


@dataclass
class Explicit:
    """A weight that is stored: U or v, with its momentum buffer."""

    value: Tensor
    buffer: Tensor | None = None

    def update(self, gradient: Tensor, rate: float, momentum: float, decay: float) -> None:
        """torch.optim.SGD's step."""
        if decay:
            gradient = gradient.add(self.value, alpha=decay)
        if momentum:
            self.buffer = gradient if self.buffer is None else momentum * self.buffer + gradient
            gradient = self.buffer
        self.value = self.value.add(gradient, alpha=-rate)


class Run:
    """State of one seed's training; ``forward``, ``backward`` and ``step`` read like the equations.

    Args:
        d, outputs: input dimension and C.
        s: the run's number: it draws from child s of ``SeedSequence(seed)``.
    """

    def __init__(
        self,
        network: ResNet,
        sgd: SGD,
        *,
        d: int,
        outputs: int,
        width: int,
        depth: int,
        settings: Settings,
        seed: int,
        s: int,
        variance_reduction: str = "none",
    ) -> None:
        self.network, self.sgd, self.settings = network, sgd, settings
        self.n, self.depth = width, depth
        self.phi = value_and_slope(network.activation)
        self.alpha = network.branch(depth)
        self.kappa = network.rate(width) * network.readout(width)
        self.balanced = variance_reduction == "balanced"
        self.shards = settings.shards
        k = network.block_layers

        def noise(*key: int) -> Noise | Counter:
            kind = Counter if settings.counter else Noise
            return kind(seed, (s, *key), width, self.shards.blocks)

        u = noise(_INPUT).draw(d, settings.dtype, settings.device).mT.contiguous()
        v = noise(_READOUT).draw(outputs, settings.dtype, settings.device).mT.contiguous()
        if variance_reduction != "none":
            u, v = _orthogonal_ends(u, v, self.shards)
        self.u, self.v = Explicit(u), Explicit(v)
        self.u_initial = u
        self.operators = [
            [Operator(settings, noise(_TRAINING, l, j), noise(_SCRATCH, l, j)) for j in range(k)]
            for l in range(depth)
        ]

    def forward(
        self,
        x: Tensor,
        *,
        backward: bool = True,
        forget: bool = False,
        keep: Sequence[int] = (),
        initial: Tensor | None = None,
        inner: bool = False,
    ) -> Pass:
        """Ask the network about inputs x (B, d).

        Args:
            backward: keep slopes and coefficients; otherwise, with ``forget``, nothing is
                even remembered for a moment.
            forget: evaluate: draw from the scratch stream (the caller rolls back if ``backward``).
            keep: layers whose features are kept (0 is h_0).
            initial: (B,) bool, rows that pass through the network at initialization.
            inner: keep the inputs of every weight, for the tangent kernel.
        """
        net, n, gain = self.network, self.n, self.network.gain
        d = x.shape[1]
        h = x @ self.u.value.mT / math.sqrt(d)
        if initial is not None and self.u_initial is not self.u.value:
            h = torch.where(initial[:, None], x @ self.u_initial.mT / math.sqrt(d), h)
        out = Pass(x, h, h)
        avoid = self.avoid(h) if self.balanced else None
        if 0 in keep:
            out.features[0] = h
        for l, operators in enumerate(self.operators, start=1):
            slopes: list[Tensor | None] = []
            asked: list[Tensor] = []
            inputs: list[Tensor] = []
            if avoid is not None:
                avoid[: len(h)] = h
            a = h
            for j, operator in enumerate(operators):
                slope = None
                if j > 0 or len(operators) == 1:
                    a, slope = self.phi(a)
                if inner:
                    inputs.append(a)
                if forget and not backward:
                    a = operator.glance(a, initial=initial, avoid=avoid)
                else:
                    a, c = operator.ask(a, forget=forget, initial=initial, avoid=avoid)
                    slopes.append(slope)
                    asked.append(c)
                operator.rest()
                if gain != 1.0:
                    a = gain * a
            h = torch.add(h, a, alpha=self.alpha) if net.skip else a
            if backward:
                out.slopes.append(slopes)
                out.asked.append(asked)
                out.inner.append(inputs)
            if l in keep:
                out.features[l] = h
        out.top = h
        out.outputs = self.shards.inner((h, self.v.value.mT))[0] * net.readout(n)
        return out

    def avoid(self, h: Tensor) -> Tensor:
        """Rows that balanced noise is orthogonal to: the present features, h_0, and v."""
        return torch.cat([h, h, self.v.value.mT])

    def backward(
        self,
        done: Pass,
        g: Tensor,
        *,
        rate: float | None = None,
        forget: bool = False,
        keep: Sequence[int] = (),
        visit: list[list[Tensor]] | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Backpropagate g (B', n) = n·∂loss/∂h_L in mup form, with B' a multiple of the pass's B.

        Args:
            rate: η of this step: also update the hidden weights; None only propagates.
            visit: receives the gradients at every weight's output, by layer from the top.

        Returns:
            g at h_0 and, by layer, at the layers in ``keep``.
        """
        net, sgd, gain = self.network, self.sgd, self.network.gain
        batch = len(done.x)
        repeat = len(g) // batch
        kept = {self.depth: g} if self.depth in keep else {}
        base = self.avoid(g) if self.balanced else None
        for l in range(self.depth, 0, -1):
            # The gradient at a weight's output is a·b: factors wait for the last of the passes over g.
            a, b, slope = self.alpha, g, None
            if base is not None:
                base[: len(g)] = g
            seen = []
            for j in range(net.block_layers - 1, -1, -1):
                operator = self.operators[l - 1][j]
                if slope is not None:
                    b = b * slope
                if visit is not None:
                    seen.append(a * b)
                y, cz = operator.ask_transposed(
                    b, forget=forget, together=rate is not None, avoid=base
                )
                if rate is not None and "hidden" in sgd.train:
                    c = net.rate_factor(j, self.depth) * self.kappa * gain / (self.n * batch)
                    operator.update(
                        c * a * cz,
                        done.asked[l - 1][j],
                        rate=rate,
                        momentum=sgd.momentum,
                        decay=sgd.weight_decay,
                    )
                operator.rest()
                a, b, slope = gain * a, y, done.slopes[l - 1][j]
                if slope is not None and repeat > 1:
                    slope = slope.repeat(repeat, 1)
            below = g if net.skip else g.new_zeros(())
            if slope is None:
                g = torch.add(below, b, alpha=a)
            else:
                g = torch.addcmul(below, b, slope, value=a)
            if visit is not None:
                visit.append(seen[::-1])
            if l - 1 in keep:
                kept[l - 1] = g
        return g, kept

    def step(self, done: Pass, chi: Tensor, rate: float) -> None:
        """One SGD step from a training pass and χ = ∂loss_i/∂f_i (B, C)."""
        sgd, d, batch = self.sgd, done.x.shape[1], len(done.x)
        trained = sgd.train
        below = {"input", "hidden"} & set(trained)
        g = chi @ self.v.value.mT
        if below:
            g, _ = self.backward(done, g, rate=rate)
        how = (rate, sgd.momentum, sgd.weight_decay)
        scale = self.kappa / batch
        if "readout" in trained:
            self.v.update(scale * (done.top.mT @ chi), *how)
        if "input" in trained:
            self.u.update(scale / math.sqrt(d) * (g.mT @ done.x), *how)

    def center(self, top: Tensor) -> None:
        """v ← v − H(HᵀH)⁺Hᵀv with the training features at initialization, H = topᵀ (n, P)."""
        h, v = top.double(), self.v.value.double()
        (gram,) = self.shards.inner((h, h))
        inverse = torch.linalg.pinv(gram, rtol=1e-13, hermitian=True)
        for _ in range(2):  # a Gram matrix squares the condition: what is left over goes again
            v = v - h.mT @ (inverse @ self.shards.inner((h, v.mT))[0])
        self.v = Explicit(v.to(self.v.value))

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, C) on inputs asked together and forgotten."""
        return self.forward(x, backward=False, forget=True).outputs

    def snapshot(self, x: Tensor, request: Measure) -> Snapshot:
        """What ``request`` needs on inputs x (P, d), asked and forgotten."""
        p, layers = len(x), request.layers(self.depth)
        tangent = "tangent_kernel" in request.quantities
        marks = [[o.mark() for o in block] for block in self.operators]
        initial = None
        rows = x
        if request.initial:
            rows = torch.cat([x, x])
            initial = torch.arange(2 * p, device=x.device) >= p
        done = self.forward(rows, forget=True, keep=layers, initial=initial, inner=tangent)
        shot = Snapshot(h=[done.features[l][:p] for l in layers], neurons=self.shards)
        if request.initial:
            shot.h_initial = [done.features[l][p:] for l in layers]
        if request.backward:
            done = _first(done, p)
            c = self.v.value.shape[1]
            z = self.v.value.mT.repeat_interleave(p, dim=0)
            visit: list[list[Tensor]] | None = [] if tangent else None
            z0, kept = self.backward(done, z, forget=True, keep=layers, visit=visit)

            def by_sample(rows: Tensor) -> Tensor:
                return rows.reshape(c, p, self.shards.width).transpose(0, 1)

            shot.z = [by_sample(kept[l]) for l in layers]
            if visit is not None:
                hidden = x.new_zeros((p, p))
                gain, gram = self.network.gain, self.shards.gram
                for inputs, gradients in zip(done.inner, visit[::-1], strict=True):
                    for j, (a, b) in enumerate(zip(inputs, gradients, strict=True)):
                        factor = self.network.rate_factor(j, self.depth) * gain**2
                        hidden += factor * gram(by_sample(b)) * gram(a)
                shot.tangent = {
                    "input": gram(by_sample(z0)) * (x @ x.mT) / x.shape[1],
                    "hidden": hidden,
                    "readout": gram(done.top),
                }
        for block, block_marks in zip(self.operators, marks, strict=True):
            for operator, mark in zip(block, block_marks, strict=True):
                operator.rollback(mark)
        return shot

    def rest(self) -> None:
        """Bases in files leave memory."""
        for block in self.operators:
            for operator in block:
                operator.rest()

    @property
    def ranks(self) -> np.ndarray:
        """(L, k, 2): q and r of every operator."""
        return np.array([[o.ranks for o in block] for block in self.operators])

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a checkpoint."""
        out = {"u": self.u.value, "v": self.v.value, "u_initial": self.u_initial.clone()}
        out |= {
            f"{name}_buffer": w.buffer
            for name, w in (("u", self.u), ("v", self.v))
            if w.buffer is not None
        }
        for l, block in enumerate(self.operators):
            for j, operator in enumerate(block):
                out |= {f"{l}.{j}.{key}": t for key, t in operator.tensors().items()}
        return out

    def restore(self, state: State) -> None:
        """Continue from ``tensors()``."""
        # Copies, not views into a file: a product rounds by how its factors are aligned.
        here = {
            k: state[k].to(self.settings.device, copy=True)
            for k in ("u", "v", "u_buffer", "v_buffer", "u_initial")
            if k in state
        }
        self.u = Explicit(here["u"], here.get("u_buffer"))
        self.v = Explicit(here["v"], here.get("v_buffer"))
        self.u_initial = here["u_initial"]
        for l, block in enumerate(self.operators):
            for j, operator in enumerate(block):
                operator.restore(state.under(f"{l}.{j}."))
                operator.rest()


def _first(done: Pass, p: int) -> Pass:
    """A pass restricted to its first p inputs."""
    return Pass(
        done.x[:p],
        done.outputs[:p],
        done.top[:p],
        [[None if s is None else s[:p] for s in block] for block in done.slopes],
        [[c[:p] for c in block] for block in done.asked],
        inner=[[a[:p] for a in block] for block in done.inner],
    )


def _orthogonal_ends(u: Tensor, v: Tensor, shards: Shards) -> tuple[Tensor, Tensor]:
    """The columns of [U v] made orthogonal, with norm √n; as they are if they do not fit."""
    n, d = shards.n, u.shape[1]
    q = torch.cat([u, v], dim=1).double().mT
    if len(q) > n // 2:
        return u, v
    for _ in range(2):
        factor = torch.linalg.cholesky(shards.inner((q, q))[0])
        q = torch.linalg.solve_triangular(factor, q, upper=False)
    q = q.mT * math.sqrt(n)
    return q[:, :d].to(u).contiguous(), q[:, d:].to(v).contiguous()
