"""A network of width n and depth L that exists only as revealed operators: one seed of a solve."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import activations
from leadline.dense.weights import centred
from leadline.errors import CheckpointError
from leadline.solving.checkpoint_tensors import State
from leadline.solving.completion import CompleteOperator, pays
from leadline.solving.configuration import Configuration
from leadline.solving.fast import FastOperator
from leadline.solving.noise import Draws, HashedNoise, Noise
from leadline.solving.operator import Operator
from leadline.solving.passes import UNOBSERVED, Pass, PassObserver
from leadline.solving.updates import Step, StoredWeight
from leadline.solving.variance_reduction import Avoided, orthogonal_ends

TRAINING, SCRATCH, _INPUT, _READOUT, _FAST = range(5)

AnyOperator = Operator | FastOperator | CompleteOperator


Mark = list[list[tuple[Any, ...]]]


class RevealedNetwork:
    """State of one seed's training; its methods read like the equations.

    Args:
        s: the run's number: it draws from child s of ``SeedSequence(seed)``.
    """

    def __init__(self, configuration: Configuration, s: int) -> None:
        self.configuration = configuration
        self.network, self.sgd = configuration.network, configuration.sgd
        self.settings, self.shards = configuration.settings, configuration.shards
        self.n, depth = configuration.width, configuration.depth
        self.depth = depth
        self._prepare()
        self.phi = activations.find(self.network.activation).value_and_slope
        self.alpha = self.network.branch(depth)
        self.kappa = self.network.rate(self.n) * self.network.readout(self.n)

        self.s = s
        u, v = self._ends(s)
        self.u, self.v = StoredWeight(u), StoredWeight(v)
        self.u_initial = u
        self.operators: list[list[AnyOperator]] = [
            [self._operator(l, j) for j in range(self.network.block_layers)] for l in range(depth)
        ]

    def _prepare(self) -> None:
        """Before any weight is drawn."""

    def _noise(self, s: int, *key: int) -> Draws:
        """Draws of run s."""
        kind = HashedNoise if self.settings.counter else Noise
        return kind(self.configuration.seed, (s, *key), self.n, self.shards.blocks)

    def _ends(self, s: int) -> tuple[Tensor, Tensor]:
        """U (n, d) and v (n, C) of run s."""
        c, settings = self.configuration, self.settings

        def columns(key: int, count: int) -> Tensor:
            draws = self._noise(s, key).draw(count, settings.dtype, settings.device)
            return draws.mT.contiguous()

        u, v = columns(_INPUT, c.problem.dimension), columns(_READOUT, c.problem.outputs)
        if c.variance_reduction != "none":
            u, v = orthogonal_ends(u, v, c.shards)
        return u, v

    def _operator(self, l: int, j: int) -> Operator | FastOperator:
        """The operator of weight j of block l."""
        if self.configuration.ensemble == "fast":
            key = (self.s, _FAST, l, j)
            sequence = np.random.SeedSequence(self.configuration.seed, spawn_key=key)
            return FastOperator(self.settings, sequence)
        noise, scratch = (self._noise(self.s, kind, l, j) for kind in (TRAINING, SCRATCH))
        return Operator(self.settings, noise, scratch)

    def complete(self, k: int) -> None:
        """Draw every W(0) whole before step k, where that pays."""
        c = self.configuration
        rows = c.sgd.batch_size or c.problem.samples
        if not c.may_complete or not pays(self.n, rows, k, c.sgd.steps - k):
            return
        for block in self.operators:
            for j, o in enumerate(block):
                if isinstance(o, Operator):
                    block[j] = CompleteOperator.of(o)

    def forward(self, x: Tensor, observer: PassObserver = UNOBSERVED) -> Pass:
        """Query the network about inputs x (B, d), for a step of training."""
        return self._remembered(x, observer)

    def observe(self, x: Tensor, observer: PassObserver, initial: Tensor | None = None) -> Pass:
        """``forward`` with draws from the scratch stream, for the caller to roll back.

        Args:
            initial: (B,) bool, rows that pass through the network at initialization.
        """
        return self._remembered(x, observer, initial, forget=True)

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs (B, C) on inputs queried together, with nothing remembered."""

        def answer(
            operator: AnyOperator, a: Tensor, slope: Tensor | None, avoid: Avoided | None
        ) -> Tensor:
            return operator.sample(a, avoid=avoid)

        return self._through(x, self._input(x), answer).outputs

    def _remembered(
        self,
        x: Tensor,
        observer: PassObserver,
        initial: Tensor | None = None,
        *,
        forget: bool = False,
    ) -> Pass:
        """Slopes and coefficients of every query are kept for the backward pass."""
        slopes: list[Tensor | None] = []
        coefficients: list[Tensor] = []

        def answer(
            operator: AnyOperator, a: Tensor, slope: Tensor | None, avoid: Avoided | None
        ) -> Tensor:
            observer.weight(a)
            a, c = operator.query(a, forget=forget, initial=initial, avoid=avoid)
            slopes.append(slope)
            coefficients.append(c)
            return a

        h = self._input(x)
        if initial is not None and self.u_initial is not self.u.value:
            h = torch.where(initial[:, None], x @ self.u_initial.mT / math.sqrt(x.shape[1]), h)
        out = self._through(x, h, answer, observer)
        k = self.network.block_layers
        out.slopes = [slopes[i : i + k] for i in range(0, len(slopes), k)]
        out.coefficients = [coefficients[i : i + k] for i in range(0, len(coefficients), k)]
        return out

    def _input(self, x: Tensor) -> Tensor:
        return x @ self.u.value.mT / math.sqrt(x.shape[1])

    def _through(
        self,
        x: Tensor,
        h: Tensor,
        answer: Callable[[AnyOperator, Tensor, Tensor | None, Avoided | None], Tensor],
        observer: PassObserver = UNOBSERVED,
    ) -> Pass:
        """The forward pass from h_0 to the outputs.

        Args:
            answer: (operator, its input a, φ' there, rows that noise avoids) -> (W/√n) a.
        """
        net, gain = self.network, self.network.gain
        avoid = self._avoid(h)
        observer.stream(0, h)
        for l, operators in enumerate(self.operators, start=1):
            if avoid is not None:
                avoid.at(h)
            a = h
            for j, operator in enumerate(operators):
                slope = None
                if j > 0 or len(operators) == 1:
                    a, slope = self.phi(a)
                a = answer(operator, a, slope, avoid)
                operator.rest()
                if gain != 1.0:
                    a = gain * a
            h = torch.add(h, a, alpha=self.alpha) if net.skip else a
            observer.stream(l, h)
        outputs = self.shards.inner((h, self.v.value.mT))[0] * net.readout(self.n)
        return Pass(x, outputs, h)

    def _avoid(self, first: Tensor) -> Avoided | None:
        """Rows that balanced noise is orthogonal to: a pass's first features, v, and the present ones."""
        if not self.settings.balanced:
            return None
        return Avoided(torch.cat([first, self.v.value.mT], dim=-2), self.shards)

    def backward(self, done: Pass, g: Tensor, observer: PassObserver) -> Tensor:
        """Backpropagate g (B', n) = n·∂loss/∂h_L in mup form to h_0, drawing from the scratch stream.

        Args:
            g: for B' a multiple of the pass's B.
        """

        def answer(l: int, j: int, a: float, b: Tensor, avoid: Avoided | None) -> Tensor:
            observer.weight(a * b)
            return self.operators[l][j].query_transposed(b, forget=True, avoid=avoid)[0]

        return self._back(done, g, answer, observer)

    def step(self, done: Pass, chi: Tensor, lr: float) -> None:
        """One step of the recipe from a training pass and χ = ∂loss_i/∂f_i (B, C)."""
        sgd, d, batch = self.sgd, done.x.shape[1], len(done.x)
        step = Step(lr, sgd.momentum, sgd.weight_decay)
        g = chi @ self.v.value.mT
        if "hidden" in sgd.train or "input" in sgd.train:
            g = self._back(done, g, self._learning(done, step))
        scale = self.kappa / batch
        if "readout" in sgd.train:
            self.v.update(scale * (done.top.mT @ chi), step)
        if "input" in sgd.train:
            self.u.update(scale / math.sqrt(d) * (g.mT @ done.x), step)

    def _learning(self, done: Pass, step: Step) -> Callable[..., Tensor]:
        """Answers of a backward pass in which every hidden weight takes its step, if it is trained."""
        net, batch = self.network, len(done.x)

        def answer(l: int, j: int, a: float, b: Tensor, avoid: Avoided | None) -> Tensor:
            operator = self.operators[l][j]
            y, cz = operator.query_transposed(b, together=True, avoid=avoid)
            if "hidden" in self.sgd.train:
                c = net.rate_factor(j, self.depth) * self.kappa * net.gain / (self.n * batch)
                operator.update(c * a * cz, done.coefficients[l][j], step)
            return y

        return answer

    def _back(
        self,
        done: Pass,
        g: Tensor,
        answer: Callable[[int, int, float, Tensor, Avoided | None], Tensor],
        observer: PassObserver = UNOBSERVED,
    ) -> Tensor:
        """The backward pass from g at h_L to g at h_0.

        Args:
            answer: (block, position, a, b, rows that noise avoids) -> (W/√n)ᵀ b, where a·b is the
                gradient at the weight's output: factors wait for the last of the passes over b.
        """
        net, gain = self.network, self.network.gain
        repeat = g.shape[-2] // len(done.x)
        avoid = self._avoid(g)
        observer.stream(self.depth, g)
        for l in range(self.depth - 1, -1, -1):
            a, b, slope = self.alpha, g, None
            if avoid is not None:
                avoid.at(g)
            for j in range(net.block_layers - 1, -1, -1):
                if slope is not None:
                    b = b * slope
                y = answer(l, j, a, b, avoid)
                self.operators[l][j].rest()
                a, b, slope = gain * a, y, done.slopes[l][j]
                if slope is not None and repeat > 1:
                    slope = slope.repeat(repeat, 1)
            below = g if net.skip else g.new_zeros(())
            if slope is None:
                g = torch.add(below, b, alpha=a)
            else:
                g = torch.addcmul(below, b, slope, value=a)
            observer.stream(l, g)
        return g

    def center(self, x: Tensor) -> None:
        """Take v off the span of the features of x (P, d) at initialization."""
        inner = self.shards.inner
        v = centred(self.v.value, self.forward(x).top, lambda a, b: inner((a, b))[0])
        self.v = StoredWeight(v)

    def mark(self) -> Mark:
        """A point to return to with ``rollback``."""
        return [[operator.mark() for operator in block] for block in self.operators]

    def rollback(self, marks: Mark) -> None:
        """Forget every query since ``mark``."""
        for block, block_marks in zip(self.operators, marks, strict=True):
            for operator, mark in zip(block, block_marks, strict=True):
                operator.rollback(mark)

    def rest(self) -> None:
        """Bases in files leave memory."""
        for block in self.operators:
            for operator in block:
                operator.rest()

    @property
    def whole_bytes(self) -> int:
        """Bytes of the matrices that were drawn whole."""
        every = (o for block in self.operators for o in block if isinstance(o, CompleteOperator))
        return sum(t.nbytes for o in every for t in o.tensors().values())

    @property
    def directions(self) -> int:
        """All rows that the operators' two sides remember."""
        every = (o for block in self.operators for o in block)
        return sum(sum(o.ranks) for o in every if not isinstance(o, CompleteOperator))

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
        self.u = StoredWeight(here["u"], here.get("u_buffer"))
        self.v = StoredWeight(here["v"], here.get("v_buffer"))
        self.u_initial = here["u_initial"]
        for l, block in enumerate(self.operators):
            for j, operator in enumerate(block):
                there = state.under(f"{l}.{j}.")
                if "whole0" in there and not self.shards.alone:
                    raise CheckpointError(
                        "the checkpoint has matrices that one process drew whole (width up to 512): go on "
                        "with one process, without group="
                    )
                if "whole0" in there:
                    block[j] = CompleteOperator.restored(self.settings, there)
                elif not isinstance(operator, CompleteOperator):
                    operator.restore(there)
                    operator.rest()
