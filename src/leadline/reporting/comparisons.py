"""A comparison: what ``compare`` returns, with its curves, figure, tables and page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.disk.plain import plain
from leadline.disk.write import write_atomic
from leadline.reporting.commands import longer
from leadline.reporting.computations import (
    Computation,
    answer,
    differences,
    label,
    size_of,
    summary,
)
from leadline.reporting.json_text import write as write_json
from leadline.reporting.page import Drawing, Page, Section, Table, facts, settings
from leadline.reporting.page import write as write_page
from leadline.reporting.page_figures import with_ticks
from leadline.reporting.panels import Panels
from leadline.reporting.results import Series, curves_csv, draw, in_words, series
from leadline.tabular.notebook import Plotted
from leadline.tabular.tables import number, table_csv, text_table, with_error

if TYPE_CHECKING:
    import plotly.graph_objects

_PANELS = {
    "train": "Training loss",
    "test": "Test loss",
    "size": "Training loss at the last step",
    "gap": "Gap to the limit",
}
COLUMNS = (
    "name",
    "width",
    "depth",
    "coupling",
    "train_loss",
    "train_loss_error",
    "test_loss",
    "test_loss_error",
    "train_accuracy",
    "test_accuracy",
    "gap",
    "seconds",
)


@dataclass(frozen=True, repr=False)
class Comparison(Plotted):
    """Limits, lazy limit and finite networks of one problem, network and recipe.

    Attributes:
        rows: one dict a branch with the keys ``COLUMNS``. Losses and accuracies are of the last
            step, errors about 95 %; ``gap`` is the RMS over recorded steps of mean training loss
            minus that of the limit (or reference, or lazy for ntk) of the same coupling.
        branches: the computations themselves, in the same order.
        notes: what was replaced or left open, in words.
        info: arguments and versions.
    """

    rows: tuple[Mapping[str, Any], ...]
    branches: tuple[Computation, ...]
    notes: tuple[str, ...]
    info: Mapping[str, Any]

    def __getitem__(self, name: str) -> Computation:
        for branch in self.branches:
            if branch.name == name:
                return branch
        raise KeyError(f"{name!r} is no branch: choose from {[b.name for b in self.branches]}")

    def __repr__(self) -> str:
        return comparison_table(self)

    def to_json(self, lists: bool = True) -> dict[str, Any]:
        """Everything as plain lists and numbers, NaN as None; as it is, arrays too, without ``lists``."""
        data = {
            "info": dict(self.info),
            "notes": list(self.notes),
            "rows": [dict(row) for row in self.rows],
            "branches": {b.name: b.result.to_json(lists) for b in self.branches},
        }
        return plain(data) if lists else data

    def figure(self) -> plotly.graph_objects.Figure:
        """Losses over steps and their convergence with size."""
        return comparison_figure(self)

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write compare.json and the report compare.html; returns their paths."""
        root, content = Path(folder), self.to_json(lists=False)
        data = write_atomic(root / "compare.json", lambda file: write_json(file, content))
        return data, write_page(comparison_page(self), root / "compare.html")


def loss_curves(comparison: Comparison) -> list[Series]:
    """The series of all panels of a comparison, limits first."""
    branches = comparison.branches
    networks = [b for b in branches if b.role == "finite"]
    sizes = sorted({size_of(b) for b in networks})
    out: list[Series] = []
    for part in ("train", "test"):
        for branch in branches:
            loss, error = branch.loss(part), branch.error(part)
            if loss is None:
                continue
            shade = 1.0
            if branch.role == "finite" and len(sizes) > 1:
                shade = sizes.index(size_of(branch)) / (len(sizes) - 1)
            steps = branch.result.steps
            out.append(_curve(branch, part, label(branch), steps, loss, error, shade))
    out += _over_width(comparison, networks)
    return out


def _over_width(comparison: Comparison, networks: list[Computation]) -> list[Series]:
    """Final loss and gap of the finite networks over width, and the limits as horizontal lines."""
    rows = {row["name"]: row for row in comparison.rows}
    out: list[Series] = []
    widths = sorted({float(b.width or 0) for b in networks})
    for branch in comparison.branches:
        if branch.role != "finite":
            row = rows[branch.name]
            loss, error = ([row[k]] * len(widths) for k in ("train_loss", "train_loss_error"))
            out.append(_curve(branch, "size", label(branch), widths, loss, error))
    for coupling in dict.fromkeys(b.coupling for b in networks):
        group = sorted((b for b in networks if b.coupling == coupling), key=size_of)
        n = [float(b.width or 0) for b in group]
        name = f"networks, {coupling}"
        values = {
            k: [rows[b.name][k] for b in group] for k in ("train_loss", "train_loss_error", "gap")
        }
        loss, error = values["train_loss"], values["train_loss_error"]
        out.append(_curve(group[-1], "size", name, n, loss, error))
        out.append(_curve(group[-1], "gap", name, n, values["gap"], None))
    return out


def _curve(
    branch: Computation, panel: str, name: str, x: Any, y: Any, error: Any, shade: float = 1.0
) -> Series:
    drawn: dict[str, Any] = dict(panel=panel, role=branch.role, coupling=branch.coupling)
    return series(name, x, y, error, shade=shade, **drawn)


def comparison_figure(comparison: Comparison) -> plotly.graph_objects.Figure:
    """Losses over steps, final loss and gap to the limit over width."""
    curves = loss_curves(comparison)
    tested = any(s["panel"] == "test" for s in curves)
    names = [name for name in _PANELS if name != "test" or tested]
    titles = [_PANELS[name] for name in names]
    if any(s["role"] == "reference" for s in curves):
        titles[-1] = "Gap to the large solve"
    panels = Panels(titles, wide=not tested)
    for i, name in enumerate(names):
        draw(panels, i, [s for s in curves if s["panel"] == name])
    info = comparison.info
    panels.title(f"{info['problem']['name']}, {info['seeds']} seeds; bars and bands about 95 %")
    legend = dict(orientation="v", x=1.02, y=1, groupclick="toggleitem", tracegroupgap=14)
    return with_ticks(panels.figure.update_layout(legend=legend))


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The header and the rows."""
    rows = comparison.rows
    has = {k: any(row[k] is not None for row in rows) for k in rows[0]}
    header = ["", "width", "depth", "coupling", "train loss"]
    header += ["test loss"] if has["test_loss"] else []
    # One accuracy, so that a table has room in a terminal's 100 columns; the JSON has both.
    header += ["test acc."] if has["test_accuracy"] else []
    header += ["train acc."] if has["train_accuracy"] and not has["test_accuracy"] else []
    header += ["gap to limit", "seconds"]
    return header, [_cells(row, has) for row in rows]


def comparison_table(comparison: Comparison) -> str:
    """The rows, and below them what they mean."""
    text = text_table(*comparison_cells(comparison))
    samples = comparison.info["problem"]
    return "\n".join(
        [
            f"{samples['name']} ({samples['loss']}, {comparison.info['seeds']} seeds, "
            f"{(comparison.info.get('sgd') or comparison.info['recipe'])['steps']} steps)",
            "",
            text,
            "",
            "Losses: of the last step; ± is an interval of about 95 %. Gap: how far a network's training",
            "loss, a mean over seeds, is from the limit of the same coupling (root mean square over steps,",
            "as all distances here).",
            *summary(comparison.branches),
            *differences(comparison.branches),
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
    key = "test_accuracy" if has["test_accuracy"] else "train_accuracy"
    if has[key]:
        cells.append(number(row[key]))
    return [*cells, number(row["gap"]), f"{row['seconds']:.1f}"]


def comparison_page(comparison: Comparison, command: str = "") -> Page:
    """Losses of limits and networks, and how the networks approach the limits."""
    info = comparison.info
    name, seeds = str(info["problem"]["name"]), info["seeds"]
    curves = loss_curves(comparison)
    head, rows = comparison_cells(comparison)
    drawing = Drawing(
        comparison_figure(comparison),
        f"Losses of limits and finite networks, {seeds} seeds; bars and bands about 95 %",
        "Loss over steps, and final loss and gap to the limit over width. " + in_words(curves),
    )
    section = Section(
        title="Limits and networks",
        anchor="losses",
        figures=(drawing,),
        paragraphs=(
            "Losses are means over seeds; errors are their 95 % intervals (Student's t), and "
            "for a limit the error bar of its extrapolation. The gap is the root mean square over "
            "steps of the mean training loss minus that of the same coupling’s limit.",
            *comparison.notes,
        ),
        tables=(Table(head, rows, "Losses at the last step ± about 95 %"),),
        command=command,
        downloads=(("losses.csv", curves_csv(curves)), ("rows.csv", table_csv(comparison.rows))),
    )
    seconds = {"Seconds": f"{info['seconds']:.1f}"}
    return Page(
        f"Networks and their limits: {name}",
        tuple(filter(None, (" ".join(summary(comparison.branches)),))),
        (section,),
        facts(command, settings(info) | seconds),
        answer=answer(comparison.branches),
        commands=longer(command, comparison.notes),
    )
