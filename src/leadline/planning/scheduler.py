"""Schedulers that keep the ratios between groups."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leadline.errors import LARGEST_RATE, check_real


class PlanScheduler(LRScheduler):
    """Runs a scheduler on one group with the base's learning rate, and hands its course to all.

    Schedulers that set absolute rates (OneCycleLR's max_lr, CosineAnnealingLR's eta_min) would make all
    groups equal; here each group keeps its ratio to the base, whatever the scheduler does.
    """

    def __init__(
        self, optimizer: Optimizer, factory: Any, lr: float, settings: dict[str, Any]
    ) -> None:
        check_real("lr", lr, 0.0, LARGEST_RATE, open_minimum=True)
        self.optimizer = optimizer
        self.lr = lr
        self.ratios = [g.get("initial_lr", g["lr"]) / lr for g in optimizer.param_groups]
        self._base = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
        try:
            self.inner = factory(self._base, **settings)
        except TypeError as e:
            raise TypeError(f"factory={factory!r} cannot be made from {settings!r}: {e}") from None
        self.last_epoch = getattr(self.inner, "last_epoch", 0)
        self._hand_out()

    def _hand_out(self) -> None:
        now = self._base.param_groups[0]["lr"]
        for g, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            g["lr"] = now * ratio
        self._last_lr = [g["lr"] for g in self.optimizer.param_groups]

    def step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the scheduler."""
        # The inner optimizer never steps: tell torch that it did, in the right order.
        self._base._opt_called = True  # ty: ignore[missing-attribute]
        self.inner.step(*args, **kwargs)
        self.last_epoch = getattr(self.inner, "last_epoch", 0)
        self._hand_out()

    def get_lr(self) -> list[float | torch.Tensor]:
        """Rates of the groups now."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {
            "inner": self.inner.state_dict(),
            "lr": self._base.param_groups[0]["lr"],
            "ratios": list(self.ratios),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.inner.load_state_dict(state_dict["inner"])
        self._base.param_groups[0]["lr"] = state_dict["lr"]
        self.ratios = list(state_dict["ratios"])
        self.last_epoch = getattr(self.inner, "last_epoch", 0)
        self._hand_out()
