"""Initialization and the rates of every parameter, as a sweep needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from leadline.parametrization.optimizers import Optimizer, optimizer
from leadline.planning.factors import Factors

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.parametrization.schemes import Scheme
    from leadline.planning.plans import Plan


@dataclass(frozen=True)
class Planned:
    """Rates of one size by the plan of a builder."""

    plan: Plan

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that the rates are for."""
        return self.plan.optimizer_rule

    @property
    def entries(self) -> float:
        """Parameters of the model."""
        total = 0.0
        for kind in self.plan.names.values():
            size = 1.0
            for d in self.plan.kinds[kind].shape_at(self.plan.m, self.plan.r):
                size *= d
            total += size
        return total

    def apply(self, model: nn.Module) -> nn.Module:
        """See ``Plan.apply``."""
        return self.plan.apply(model)

    def factors(self, model: nn.Module) -> dict[str, tuple[Factors, bool]]:
        """By parameter that trains: factors on lr, decay and ε; and does Muon update it?

        Whatever requires a gradient trains; what the plan leaves alone has factors of 1.
        """
        plan, parameters = self.plan, dict(model.named_parameters())
        return {
            n: (plan.kind_factors(k), plan.uses(k).orthogonal)
            for n, k in plan.kind_of(model).items()
            if parameters[n].requires_grad
        }

    def betas(self, betas: tuple[float, float]) -> tuple[float, float]:
        """See ``Plan.betas``."""
        return self.plan.betas(betas)


@dataclass(frozen=True)
class Network:
    """A builder of the project's own network; the seed is that of torch's generator."""

    network: ResNet
    inputs: int
    outputs: int

    def __call__(self, width: int, depth: int) -> nn.Module:
        """The network of run 0 of ``train(..., seed=seed)``."""
        seed = torch.default_generator.initial_seed()
        return self.network.module(width, depth, seed, inputs=self.inputs, outputs=self.outputs)

    def of(self, scheme: str | Scheme) -> Network:
        """This network with another scheme."""
        return replace(self, network=replace(self.network, scheme=scheme))


@dataclass(frozen=True)
class NetworkRates:
    """Rates of a ``ResNet``, in units of its η, which is the same number at every size."""

    build: Network
    width: int
    depth: int

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that the rates are for, SGD."""
        return optimizer("sgd")

    @property
    def entries(self) -> float:
        """Parameters of the model."""
        n, k = self.width, self.build.network.block_layers
        return n * n * self.depth * k + n * (self.build.inputs + self.build.outputs)

    def apply(self, model: nn.Module) -> nn.Module:
        """The model as it is: the builder initializes it."""
        return model

    def factors(self, model: Any) -> dict[str, tuple[Factors, bool]]:
        """Factors as ``module.param_groups(SGD(lr=1, weight_decay=1))`` has them."""
        from leadline.recipes.sgd import SGD

        names = {id(p): n for n, p in model.named_parameters()}
        groups = model.param_groups(SGD(lr=1.0, steps=1, weight_decay=1.0))
        return {
            names[id(p)]: (Factors(1.0, g["lr"], g["weight_decay"], 1.0, 1.0), False)
            for g in groups
            for p in g["params"]
        }

    def betas(self, betas: tuple[float, float]) -> tuple[float, float]:
        """The betas as they are: SGD has none."""
        return betas


Rates = Planned | NetworkRates
"""Initialization and rates of one shape, scheme and optimizer."""
