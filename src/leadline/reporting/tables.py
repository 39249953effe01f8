"""Plain text tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadline.comparison import Comparison


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns aligned by spaces; the first ``left`` ones to the left, the rest to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    out = []
    for line in lines:
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(out)


def number(x: float | None, digits: int = 3) -> str:
    """A short number; an en dash for none."""
    if x is None:
        return "–"
    return f"{x:.{digits}g}" if math.isfinite(x) else "diverged"


def with_error(x: float | None, error: float | None) -> str:
    """``value ± error``, the value to the error's last digit.

    >>> with_error(0.019812, 0.00034)
    '0.01981 ± 0.00034'
    """
    if x is None or error is None or not math.isfinite(x) or not math.isfinite(error):
        return number(x, 4)
    if error <= 0 or error < 1e-12 * abs(x):
        return f"{x:.4g}"
    places = 1 - math.floor(math.log10(error))
    if not 0 <= places <= 8:
        return f"{x:.4g} ± {error:.2g}"
    return f"{x:.{places}f} ± {error:.{places}f}"


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The header and the rows."""
    rows = comparison.rows
    has = {k: any(row[k] is not None for row in rows) for k in rows[0]}
    header = ["", "width", "depth", "coupling", "train loss"]
    header += ["test loss"] if has["test_loss"] else []
    header += ["train acc."] if has["train_accuracy"] else []
    header += ["test acc."] if has["test_accuracy"] else []
    header += ["gap to limit", "seconds"]
    return header, [_cells(row, has) for row in rows]


def comparison_table(comparison: Comparison) -> str:
    """The rows, and below them what they mean."""
    text = text_table(*comparison_cells(comparison))
    samples = comparison.info["problem"]
    return "\n".join(
        [
            f"{samples['name']} ({samples['loss']}, {comparison.info['seeds']} seeds, "
            f"{comparison.info['sgd']['steps']} steps)",
            "",
            text,
            "",
            "Losses of the last step ± about 95 %; gap: RMS over steps of the mean training loss",
            "minus that of the same coupling's limit.",
            *summary(comparison),
            *[f"Note: {note}" for note in comparison.notes],
        ]
    )


def _cells(row: Mapping[str, Any], has: Mapping[str, bool]) -> list[str]:
    infinite = "∞"
    cells = [
        str(row["name"]).split("-")[0],
        infinite if row["width"] is None else str(row["width"]),
        infinite if row["depth"] is None else str(row["depth"]),
        row["coupling"] or "–",
        with_error(row["train_loss"], row["train_loss_error"]),
    ]
    if has["test_loss"]:
        cells.append(with_error(row["test_loss"], row["test_loss_error"]))
    for key in ("train_accuracy", "test_accuracy"):
        if has[key]:
            cells.append(number(row[key]))
    return [*cells, number(row["gap"]), f"{row['seconds']:.1f}"]


def summary(comparison: Comparison) -> list[str]:
    """Differences between the limits, in words."""
    ends = {b.coupling: b for b in comparison.branches if b.role in ("limit", "reference")}
    lazy = next(b for b in comparison.branches if b.role == "lazy")
    lines = []
    if len(ends) == 2:
        distance = number(ends["independent"].gap(ends["reused"]))
        lines.append(f"Between the couplings' limits: {distance} (RMS over steps).")
    for coupling, branch in ends.items():
        lines.append(f"Feature learning ({coupling} against lazy): {number(lazy.gap(branch))}.")
    return lines
