"""A plan as plain PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leadline.planning.plan import Plan


def to_code(plan: Plan) -> str:
    """Source text: a table of factors by parameter name, and two functions."""
    return ""
