"""Parameter groups for ``torch.optim.SGD``: every width and depth factor of the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leadline.dense.forward import Architecture, Weights

if TYPE_CHECKING:
    from leadline.recipe import SGD


def param_groups(
    network: Architecture, sgd: SGD, weights: Weights, depth: int
) -> list[dict[str, Any]]:
    """One group for each of the roles in ``sgd.train``, one per position in a block for hidden.

    Each has params, lr = η·n^q·c, weight_decay = λ·η/lr (a step multiplies the weight by 1 − ηλ),
    momentum, and ``role``. The schedule is left to the caller: it multiplies lr.
    """
    n, k = weights.readout.shape[-2], network.block_layers
    rate = network.rate(n)

    def group(role: str, params: list[Any], factor: float) -> dict[str, Any]:
        return {
            "params": params,
            "lr": sgd.lr * rate * factor,
            "weight_decay": sgd.weight_decay / (rate * factor),
            "momentum": sgd.momentum,
            "role": role,
        }

    groups = []
    if "input" in sgd.train:
        groups.append(group("input", [weights.input], 1.0))
    if "hidden" in sgd.train:
        for position in range(k):
            params = [*weights.hidden[position::k], *(weights.backward or ())[position::k]]
            groups.append(group("hidden", params, network.rate_factor(position, depth)))
    if "readout" in sgd.train:
        groups.append(group("readout", [weights.readout], 1.0))
    return groups
