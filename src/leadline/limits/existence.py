"""Which networks have a limit, in width and depth or in width alone; all others are refused by name."""

from __future__ import annotations

from leadline.architecture import ResNet
from leadline.errors import check_choice, shown
from leadline.parametrization.schemes import Scheme
from leadline.planning.factors import resolve
from leadline.planning.plans import Plan

OVER = ("both", "width")


def check_over(over: str) -> str:
    """Refuse what no limit is over."""
    return check_choice("over", over, OVER)


def check_has_limit(network: ResNet | Plan, over: str = "both") -> None:
    """Refuse a network, or a plan of a builder's, without a feature-learning limit.

    Args:
        over: "both": in width and depth; "width": at a given depth.

    Raises:
        ValueError: naming the scheme, why, and what has a limit.
    """
    if isinstance(network, ResNet):
        _check_network(network, over)
    else:
        _check_plan(network, over)


def _check_network(network: ResNet, over: str) -> None:
    table, k = network.table, network.block_layers
    if not network.skip and over == "both":
        raise ValueError(
            "skip=False has no infinite-depth limit: give skip=True or over='width', or use solve"
        )
    if table.rate_width == 0.0:
        raise ValueError(
            f"scheme={shown(network.scheme)} is lazy in the limit: use leadline.lazy, or "
            "scheme='depth-mup' or 'auto'"
        )
    grows = _growth(table, k)
    if grows > 0 and over == "both":
        raise ValueError(
            f"scheme={shown(network.scheme)} with block_layers={k} has no infinite-depth limit (its "
            f"updates grow like L^{grows:g}): use scheme='auto', or solve at a given depth "
            "(over='width')"
        )


def _check_plan(plan: Plan, over: str) -> None:
    name = shown(plan.scheme)
    general = resolve(plan.scheme, None)
    if general is None:
        raise ValueError(
            f"scheme={name} scales nothing with width, so that training has no infinite-width limit: give "
            "scheme='auto', or 'mup' with over='width'"
        )
    if general.rate_width == 0.0:
        raise ValueError(
            f"scheme={name} is lazy in the limit, where features do not move: give scheme='auto', or use "
            "solve at a given size"
        )
    if over == "width":
        return
    if not plan.branches:
        raise ValueError(
            "no residual branch repeats with depth, so that there is no infinite-depth limit: give "
            "over='width' and a depth"
        )
    for branch, layers in plan.branches.items():
        scheme = resolve(plan.scheme, layers)
        assert scheme is not None
        grows = _growth(scheme, layers)
        if grows > 0:
            raise ValueError(
                f"scheme={name} has no infinite-depth limit for branch {branch!r} of {layers} weight "
                f"layers (its updates grow like L^{grows:g}): give scheme='auto', or over='width' and a "
                "depth"
            )


def _growth(scheme: Scheme, layers: int) -> float:
    """Exponent of L with which the stream, or what moves it, grows; not above 0 where there is a limit."""
    return max(scheme.noise, *(scheme.drift(j, layers) for j in range(max(layers, 1))))
