"""Plans and schemes as text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from leadline.reporting.tables import text_table

if TYPE_CHECKING:
    from leadline.planning.plan import Plan


def rows(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """The plan's table: header and cells."""
    header = [
        *("parameter", "count", "role", "branch", "layer"),
        *("init", "lr", "decay", "eps", "folds", "draw", "reason"),
    ]
    counts = Counter(plan.names.values())
    out = []
    for i, k in enumerate(plan.kinds):
        f = plan.kind_factors(k)
        where = (
            "" if k.position is None else f"{k.position + 1}/{k.layers}" + ("*" if k.last else "")
        )
        out.append(
            [
                k.template,
                str(counts.get(i, "")),
                k.role,
                k.branch or "",
                where,
                *(f"{x:.4g}" for x in (f.init, f.lr, f.weight_decay, f.eps)),
                " ".join(what for what, _ in k.takes),
                str(k.rule),
                k.reason,
            ]
        )
    return header, out


def plan_text(plan: Plan) -> str:
    """What ``print(plan)`` shows."""
    scheme = plan.scheme if isinstance(plan.scheme, str) else plan.scheme.name
    title = f"plan: {scheme}, {plan.optimizer.name}, ({plan.base}) → ({plan.target})"
    table = text_table(*rows(plan), left=99)
    return "\n".join([title, table, "* last weight layer of its branch"])
