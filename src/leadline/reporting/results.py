"""One result of training or of a limit, and kernels: curves, figure and page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.reporting.page import Drawing, Page, Section, Table, facts, settings
from leadline.reporting.panels import Panels
from leadline.reporting.series import Series, curves_csv, draw, in_words, series
from leadline.reporting.tables import matrix_csv
from leadline.trajectory import Trajectory, standard_error

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from leadline.kernels.kernels import InitialKernels
    from leadline.limits.extrapolation import Limit


def result_curves(result: Trajectory | Limit) -> list[Series]:
    """Training and test loss of one result, with its error."""
    out: list[Series] = []
    for part in ("train", "test"):
        value = getattr(result, f"{part}_loss")
        if value is None:
            continue
        if isinstance(result, Trajectory):
            loss = value.mean(0)
            error = 2 * standard_error(value) if result.seeds > 1 else None
        else:
            loss, error = value, getattr(result, f"{part}_loss_error")
        out.append(series(f"{part} loss", "loss", "result", part, 1.0, result.steps, loss, error))
    return out


def result_figure(result: Trajectory | Limit) -> go.Figure:
    """Loss over steps of one result."""
    panels = Panels([""], row_height=450)
    draw(panels, 0, result_curves(result))
    panels.title(_title(result))
    return panels.figure


def kernels_figure(kernels: InitialKernels) -> go.Figure:
    """Feature and tangent kernel as heat maps, one row a training sample."""
    import plotly.graph_objects as go

    panels = Panels(["Features K", "Tangent kernel Θ, units of η"], row_height=490)
    for i, (matrix, x) in enumerate(((kernels.features, 0.44), (kernels.tangent, 1.0))):
        panels.panel(i, "sample", "sample")
        bar = {"x": x, "len": 0.9, "thickness": 12}
        heat = go.Heatmap(z=matrix, colorscale="RdBu", zmid=0, colorbar=bar)
        panels.figure.add_trace(heat, **panels.at)
        panels.figure.update_xaxes(domain=[0.58 * i, x - 0.03], **panels.at)
        panels.figure.update_yaxes(autorange="reversed", **panels.at)
    depth = "∞" if kernels.depth is None else kernels.depth
    panels.title(f"Kernels at initialization, width ∞, depth {depth}")
    return panels.figure


def result_page(result: Trajectory | Limit, command: str = "") -> Page:
    """One run, or one limit."""
    info, curves = result.info, result_curves(result)
    bands = "; bands about 95 %" if any(c["error"] is not None for c in curves) else ""
    drawing = Drawing(
        result_figure(result),
        f"Loss over steps, {info['seeds']} {'seed' if info['seeds'] == 1 else 'seeds'}{bands}",
        "Loss over steps. " + in_words(curves),
    )
    section = Section(
        title="Loss",
        anchor="loss",
        figures=(drawing,),
        tables=(_ends(curves),),
        paragraphs=_course(result),
        command=command,
        downloads=(("losses.csv", curves_csv(curves)),),
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
        facts(command, settings(info)),
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


def _title(result: Trajectory | Limit) -> str:
    info = result.info
    what = [str(info["kind"]), str(info["problem"]["name"])]
    for key, letter in (("width", "n"), ("depth", "L")):
        if info.get(key) is not None:
            what.append(f"{letter}={info[key]}")
    if info.get("coupling"):
        what.append(str(info["coupling"]))
    if info["seeds"] > 1:
        what.append(f"{info['seeds']} seeds; bands about 95 %")
    return ", ".join(what)
