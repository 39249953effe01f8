"""Pages of a comparison, of one run or limit, and of kernels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.reporting.figures import comparison_figure, kernels_figure, result_figure
from leadline.reporting.page import Drawing, Page, Section, Table
from leadline.reporting.page_facts import facts
from leadline.reporting.series import Series, loss_curves, result_curves
from leadline.reporting.tables import comparison_cells, summary
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    from leadline.comparison import Comparison
    from leadline.kernels.kernels import InitialKernels
    from leadline.limits.extrapolation import Limit


_LONG = ("name", "fingerprint")


def comparison_page(comparison: Comparison, command: str = "") -> Page:
    """Losses of limits and networks, and how the networks approach the limits."""
    info = comparison.info
    name, seeds = str(info["problem"]["name"]), info["seeds"]
    curves = loss_curves(comparison)
    head, rows = comparison_cells(comparison)
    drawing = Drawing(
        comparison_figure(comparison),
        f"Losses of limits and finite networks, {seeds} seeds; bars and bands about 95 %",
        "Loss over steps, and final loss and gap to the limit over width. " + _said(curves),
    )
    section = Section(
        title="Limits and networks",
        anchor="losses",
        figures=(drawing,),
        paragraphs=(
            "Losses are means over seeds; errors are two standard errors of the mean, about 95 %, and "
            "for a limit the error bar of its extrapolation. The gap is the root mean square over "
            "steps of the mean training loss minus that of the same coupling’s limit.",
            *comparison.notes,
        ),
        tables=(Table(head, rows, "Losses at the last step ± about 95 %"),),
        command=command,
        downloads=(("losses.csv", _csv(curves)), ("rows.csv", table_csv(comparison.rows))),
    )
    seconds = {"Seconds": f"{info['seconds']:.1f}"}
    return Page(
        "Networks and their limits",
        (f"{name}.", " ".join(summary(comparison))),
        (section,),
        facts(command, _settings(info) | seconds),
    )


def result_page(result: Trajectory | Limit, command: str = "") -> Page:
    """One run, or one limit."""
    info, curves = result.info, result_curves(result)
    bands = "; bands about 95 %" if any(c["error"] is not None for c in curves) else ""
    drawing = Drawing(
        result_figure(result),
        f"Loss over steps, {info['seeds']} {'seed' if info['seeds'] == 1 else 'seeds'}{bands}",
        "Loss over steps. " + _said(curves),
    )
    section = Section(
        title="Loss",
        anchor="loss",
        figures=(drawing,),
        tables=(_ends(curves),),
        paragraphs=_course(result),
        command=command,
        downloads=(("losses.csv", _csv(curves)),),
    )
    what = {
        "train": "Dense networks",
        "solve": "Solved network",
        "limit": "Limit",
        "lazy": "Lazy limit",
    }
    heading = what.get(str(info["kind"]), str(info["kind"]))
    return Page(
        heading,
        (f"{info['problem']['name']}: {_size(info)}",),
        (section,),
        facts(command, _settings(info)),
    )


def kernels_page(kernels: InitialKernels, command: str = "") -> Page:
    """Heat maps of two kernels; all of them as data."""
    depth = "∞" if kernels.depth is None else str(kernels.depth)
    names = (
        "features",
        "gradients",
        "tangent",
        "tangent_input",
        "tangent_hidden",
        "tangent_readout",
    )
    parts = [n for n in names if getattr(kernels, n, None) is not None]
    rows = []
    for name in parts:
        k = np.asarray(getattr(kernels, name))
        off = (k.sum() - np.trace(k)) / max(len(k) * (len(k) - 1), 1)
        values = np.linalg.eigvalsh((k + k.T) / 2)
        numbers = (np.trace(k) / len(k), off, values[-1], values[0])
        rows.append((name.replace("_", " "), *(f"{v:.4g}" for v in numbers)))
    drawing = Drawing(
        kernels_figure(kernels),
        "Kernels between samples",
        f"Two heat maps of {len(kernels.features)} by {len(kernels.features)} samples: the feature kernel "
        "and the tangent kernel. The table below has their means and extreme eigenvalues.",
    )
    head = ("kernel", "mean K(x,x)", "mean K(x,x′)", "largest eigenvalue", "smallest eigenvalue")
    section = Section(
        title="Kernels",
        anchor="kernels",
        figures=(drawing,),
        paragraphs=(
            "Tangent kernels are in units of the learning rate η. The largest relative error that was "
            f"measured is {max(kernels.accuracy, 1e-15):.0e}.",
        ),
        tables=(Table(head, rows, "Diagonal, off-diagonal and spectrum"),),
        command=command,
        downloads=tuple((f"{n}.csv", matrix_csv(getattr(kernels, n))) for n in parts),
    )
    return Page(
        f"Kernels at initialization, width ∞, depth {depth}", (), (section,), facts(command)
    )


def matrix_csv(matrix: Any) -> str:
    """A matrix, one row a line."""
    return "".join(",".join(f"{v:.9g}" for v in row) + "\n" for row in np.asarray(matrix))


def table_csv(rows: Sequence[Any]) -> str:
    """Dicts with the same keys."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _csv(curves: Iterable[Series]) -> str:
    """Every point of every curve."""
    rows = [
        dict(panel=c["panel"], curve=c["name"], coupling=c["coupling"], x=x, y=y, error=e)
        for c in curves
        for x, y, e in zip(c["x"], c["y"], c["error"] or [None] * len(c["x"]), strict=True)
    ]
    return table_csv(rows)


def _said(curves: Sequence[Series]) -> str:
    """The ends of the loss curves, in words."""
    out = []
    for c in curves:
        if c["panel"] in ("train", "test", "loss") and c["y"]:
            name = c["name"] if c["panel"] == "loss" else f"{c['panel']} loss, {c['name']}"
            if c["coupling"] in ("reused", "independent") and c["coupling"] not in name:
                name += f" ({c['coupling']})"
            out.append(f"{name}: from {c['y'][0]:.3g} to {c['y'][-1]:.3g}")
    return "; ".join(out) + "."


def _ends(curves: Sequence[Series]) -> Table:
    """First and last loss with errors."""
    rows = []
    for c in curves:
        cells = []
        for k in (0, -1):
            e = None if c["error"] is None else c["error"][k]
            cells.append(f"{c['y'][k]:.4g}" + ("" if e is None or e != e else f" ± {e:.2g}"))
        rows.append((c["name"], *cells))
    return Table(
        ("", "first step", "last step"), rows, "Losses, ± about 95 % where there are seeds"
    )


def _size(info: Any) -> str:
    """Width, depth, coupling and seeds, where a result has them."""
    shown = [f"{k} {info[k]}" for k in ("width", "depth", "coupling") if info.get(k) is not None]
    return ", ".join([*shown, f"{info['seeds']} seeds" if info["seeds"] != 1 else "one seed"]) + "."


def _course(result: Trajectory | Limit) -> tuple[str, ...]:
    """What a reader has to know about how it went."""
    if isinstance(result, Trajectory):
        at = result.diverged[result.diverged >= 0] if result.diverged is not None else ()
        if not len(at):
            return ()
        return (f"{len(at)} of {result.seeds} seeds diverged, the first at step {min(at)}.",)
    sources = ", ".join(f"{k} {v:.2g}" for k, v in result.contributions.items())
    sizes = ", ".join(f"{c['width']}×{c['depth']}" for c in result.sizes)
    verdict = "Converged" if result.converged else "Not converged"
    p = result.p_value
    tested = f"p = {p:.2g}" if p == p else "nothing to test yet"
    return (
        f"{verdict}: {result.message}.",
        f"Do the sizes follow a series in 1/n and 1/L? {tested} (below 0.01 they do not).",
        f"Sources of the error bar of the training loss: {sources}.",
        f"Sizes solved, width × depth: {sizes}.",
    )


def _settings(info: Any) -> dict[str, object]:
    """Problem, network and recipe, as far as a result knows them."""
    out: dict[str, object] = {}
    for key, name in (("problem", "Problem"), ("network", "Network"), ("sgd", "Recipe")):
        given = info.get(key)
        if isinstance(given, dict):
            out[name] = ", ".join(
                f"{k} {v}" for k, v in given.items() if v is not None and k not in _LONG
            )
    return out
