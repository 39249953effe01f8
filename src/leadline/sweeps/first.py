"""Models at initialization with their own first step, which a stack of them must reproduce.

A stack trains what its functions read through parameters and buffers. A model may read more: a tensor kept
as a plain attribute, a view of a parameter, a cache, a counter. So every seed's model takes its first step
by itself, as a user would. A stack whose losses and gradients differ from it, or a model that holds more
than a stack can replace, is not trained as a stack at all.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leadline.sweeps.data import Samples, Tokens
from leadline.sweeps.rates import Rates
from leadline.tracing.builder import construct, seeded
from leadline.tracing.held import Entangled, alike, entangled, registered, rest


class NotBatched(Exception):
    """The model cannot be mapped over a stack of parameters."""


@dataclass
class First:
    """By seed: the state at initialization, and the model's own first loss and gradients.

    Attributes:
        model: one of them, whose parameters and buffers a stack replaces.
        trained: names of the parameters that train.
    """

    model: nn.Module
    trained: tuple[str, ...]
    states: dict[int, dict[str, Tensor]]
    losses: dict[int, Tensor]
    gradients: dict[int, list[Tensor]]

    def compare(self, seeds: Sequence[int], gradients: Sequence[Tensor], losses: Tensor) -> None:
        """Compare with a stack's first step, in the order of its members' seeds.

        Raises:
            NotBatched: it is another one.
        """
        for seed, own in self.losses.items():
            if seed not in seeds:
                continue
            row = list(seeds).index(seed)
            found = [g[row] for g in gradients]
            if not alike([losses[row]], [own]) or not alike(found, self.gradients[seed]):
                raise NotBatched(
                    f"the stack's first step differs from the model's own, seed={seed}"
                )


def begin(
    build: Any,
    rates: Rates,
    data: Samples | Tokens,
    at: Any,
    size: int | None,
    seeds: Sequence[int],
    device: torch.device,
) -> First:
    """Draw a model for every seed and take its first step, without moving it.

    Args:
        at: width and depth.
        size: of the batch.

    Raises:
        NotBatched: a model holds more than a stack can replace.
    """
    out: First | None = None
    expected: tuple[bytes, list[str]] | None = None
    for seed in dict.fromkeys(seeds):
        model = rates.apply(construct(build, at, seed)).to(device)
        pair = entangled(model)
        if pair is not None:
            raise NotBatched(f"{pair[0]!r} and {pair[1]!r} lie on the same memory")
        state = {n: t.clone() for n, t in registered(model).items()}
        trained = tuple(rates.factors(model))
        with seeded(seed):
            loss, gradients = _step(model, trained, data, size, seed)
        held = _rest(model), list(state)
        if out is None:
            # Once more: caches are filled now, and whatever still changes is a state of its own.
            with seeded(seed):
                _step(model, trained, data, size, seed)
            if _rest(model) != held[0]:
                raise NotBatched("the model keeps a state that is no parameter or buffer")
            out, expected = First(model, trained, {}, {}, {}), held
        if held != expected:
            raise NotBatched("models differ by seed in more than parameters and buffers")
        out.states[seed], out.losses[seed], out.gradients[seed] = state, loss, gradients
    assert out is not None
    return out


def _rest(model: nn.Module) -> bytes:
    try:
        return rest(model)
    except Entangled as e:
        raise NotBatched(str(e)) from None


def _step(
    model: nn.Module, trained: Sequence[str], data: Samples | Tokens, size: int | None, seed: int
) -> tuple[Tensor, list[Tensor]]:
    """The model's own loss and gradients.

    Raises:
        NotBatched: it draws random numbers, or replaces parameters, buffers or its inputs.
    """
    before = dict((*model.named_parameters(), *model.named_buffers()))
    numbers = _generators()
    x, y = data.batch(0, size, seed)
    given = x.clone()
    with torch.enable_grad():
        loss = data.loss(output(model(given)), y)
        p = [before[n] for n in trained]
        found = torch.autograd.grad(loss, p, materialize_grads=True)
    if _generators() != numbers:
        raise NotBatched("the model draws random numbers")
    if not torch.equal(given, x):
        raise NotBatched("the model changes its inputs in place")
    after = dict((*model.named_parameters(), *model.named_buffers()))
    replaced = [n for n in before.keys() | after.keys() if before.get(n) is not after.get(n)]
    if replaced:
        raise NotBatched(f"the model replaces {sorted(replaced)[0]!r}")
    return loss.detach(), list(found)


def _generators() -> tuple[Any, ...]:
    """States of the global random generators."""
    state: tuple[Any, ...] = (random.getstate(), pickle.dumps(np.random.get_state()))  # noqa: NPY002
    state += (torch.get_rng_state().numpy().tobytes(),)
    if torch.cuda.is_initialized():
        state += tuple(s.numpy().tobytes() for s in torch.cuda.get_rng_state_all())
    return state


def output(result: Any) -> Tensor:
    """The tensor of what a model returns."""
    return result if isinstance(result, Tensor) else result.logits
