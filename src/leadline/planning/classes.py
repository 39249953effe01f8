"""Which classes of optimizers suit a plan's groups.

A plan's factors are right for one kind of update. SGD would train groups for AdamW too, at rates of no
rule; so the parameters of a group refuse an optimizer that is known to make another update. They can,
because every ``torch.optim.Optimizer`` reads them in ``add_param_group``, and keeps a plain list of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from leadline.parametrization.optimizers import OPTIMIZERS, Optimizer

_TORCH = {
    "SGD": "gradient", "ASGD": "gradient",
    "Adam": "normalised", "AdamW": "normalised", "NAdam": "normalised", "RAdam": "normalised",
    "Adamax": "normalised", "SparseAdam": "normalised", "RMSprop": "normalised", "Rprop": "normalised",
    "Adagrad": "normalised", "Adafactor": "relative", "Muon": "orthogonal",
    "Adadelta": "of its own size", "LBFGS": "of its own size",
    "LionUpdates": "normalised", "SignUpdates": "normalised", "ExactMuon": "orthogonal",
}  # fmt: skip
"""Update of torch's classes and of ours, ``Optimizer.update`` but for how Muon's size is adjusted."""
_KNOWN_MODULES = ("torch.optim", "leadline.parametrization")
_WORDS = {
    "sgd": "gradient", "adam": "normalised", "signum": "normalised", "lion": "normalised",
    "adafactor": "relative", "muon": "orthogonal", "lamb": "of its own size", "lars": "of its own size",
}  # fmt: skip
"""Update of other libraries' classes by what their name says (AdamW8bit, SGDScheduleFree)."""
_RECORDS = {"gradient": "sgd", "normalised": "adamw", "relative": "adafactor", "orthogonal": "muon"}


def updates(kind: type) -> set[str]:
    """The updates that a class is known to make; empty where nothing is known."""
    for c in kind.__mro__:
        if c.__module__.startswith(_KNOWN_MODULES) and c.__name__ in _TORCH:
            return {_TORCH[c.__name__]}
    name = kind.__name__.lower().replace("signsgd", "signum")
    return {update for word, update in _WORDS.items() if word in name}


def check_class(rule: Optimizer, optimizer: TorchOptimizer, decays: bool) -> None:
    """Refuse an optimizer that makes another update than the rule's.

    Args:
        decays: the group has weight decay.

    Raises:
        ValueError: names the class and what to take.
    """
    kind = type(optimizer)
    expected = "orthogonal" if rule.orthogonal else rule.update
    known = updates(kind)
    name = f"{kind.__module__.split('.')[0]}'s {kind.__name__}"
    if known and expected not in known:
        other = _RECORDS.get(min(known))
        remedy = f", or plan with optimizer={other!r}" if other else ""
        raise ValueError(
            f"these parameter groups are for {rule.name} and {name} makes other updates, for which their "
            f"rates are not scaled: take plan.optimizer(model, lr=...){remedy}"
        )
    if not kind.__module__.startswith(_KNOWN_MODULES):
        return
    if rule.orthogonal:
        adjusted = optimizer.defaults.get("adjust_lr_fn") or "original"
        if adjusted != rule.adjust_lr:
            right = next(o.name for o in OPTIMIZERS.values() if o.adjust_lr == adjusted)
            raise ValueError(
                f"these parameter groups are for {rule.name}, with adjust_lr_fn={rule.adjust_lr!r} and not "
                f"{adjusted!r}: take plan.optimizer(model, lr=...), or plan with optimizer={right!r}"
            )
    elif decays and rule.update == "normalised":
        decoupled = kind.__name__ in (
            "AdamW",
            "LionUpdates",
            "SignUpdates",
        ) or optimizer.defaults.get("decoupled_weight_decay")
        if bool(decoupled) != (rule.decay == "decoupled"):
            right = "adamw" if decoupled else "adam"
            raise ValueError(
                f"these parameter groups are for {rule.name}, whose weight decay is {rule.decay}, and that "
                f"of {name} is not: take plan.optimizer(model, lr=...), or plan with optimizer={right!r}"
            )


class GroupParameters(list[nn.Parameter]):
    """The parameters of a group, which no optimizer of another kind takes."""

    def __init__(self, parameters: Iterable[nn.Parameter], rule: Optimizer, decays: bool) -> None:
        super().__init__(parameters)
        self.rule, self.decays = rule, decays

    def __iter__(self) -> Iterator[nn.Parameter]:
        reader = sys._getframe(1)
        if reader.f_code.co_name == "add_param_group":
            optimizer = reader.f_locals.get("self")
            if isinstance(optimizer, TorchOptimizer):
                check_class(self.rule, optimizer, self.decays)
        return super().__iter__()
