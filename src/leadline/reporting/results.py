"""Curves of losses as plain data, their panels, CSV and words; pages of one result, and of kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from leadline.intervals import half_width
from leadline.reporting.commands import longer
from leadline.reporting.measures import measures_table
from leadline.reporting.page import Drawing, Page, Section, Table, facts, settings
from leadline.reporting.panels import BLUE, GREY, ORANGE, Panels, ramp, ticks
from leadline.tabular.tables import matrix_csv, table_csv, with_error
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from leadline.kernels.kernels import InitialKernels
    from leadline.limits.result import Limit


_COLORS = {"reused": BLUE, "independent": ORANGE, "train": BLUE, "test": ORANGE}
_SYMBOLS = {"reused": "circle", "independent": "diamond"}


class Series(TypedDict):
    """One curve.

    panel: "train" and "test" (loss over step), "size" (final loss over width), "gap" (to the limit,
    over width). role: "limit", "reference", "lazy", "finite" or "result". shade: 0 (smallest size)
    to 1 (largest, and limits). error: half-widths of about 95 %, or None.
    """

    name: str
    panel: str
    role: str
    coupling: str | None
    shade: float
    x: list[float]
    y: list[float]
    error: list[float] | None


def series(
    name: str,
    x: Iterable[float],
    y: Iterable[float],
    error: Iterable[float] | None,
    *,
    panel: str,
    role: str,
    coupling: str | None,
    shade: float = 1.0,
) -> Series:
    """One curve, None as NaN."""
    return Series(
        name=name,
        panel=panel,
        role=role,
        coupling=coupling,
        shade=shade,
        x=_list(x),
        y=_list(y),
        error=None if error is None else _list(error),
    )


def _list(x: Iterable[Any]) -> list[float]:
    return [float(v) for v in np.asarray([np.nan if v is None else v for v in x], dtype=float)]


def draw(panels: Panels, index: int, curves: Sequence[Series]) -> None:
    """The curves in one panel; its vertical axis is logarithmic where everything is positive."""
    panel = curves[0]["panel"] if curves else "train"
    y = np.array([v for s in curves for v in s["y"]])
    y = y[np.isfinite(y)]
    log = bool(y.size and (y > 0).all())
    label = "RMS loss difference" if panel == "gap" else "loss, mean over samples"
    widths = sorted({v for s in curves for v in s["x"]}) if panel in ("size", "gap") else None
    panels.panel(
        index, "step" if widths is None else "width n, neurons", label, sizes=widths, log_y=log
    )
    if log:
        panels.figure.update_yaxes(**ticks(float(np.log10(y.max() / y.min()))), **panels.at)
    for s in curves:
        _curve(panels, s)


def _curve(panels: Panels, s: Series) -> None:
    group = s["coupling"] or "lazy"
    how: dict[str, Any]
    color = GREY
    if s["coupling"] is not None:
        shade = s["shade"] * (0.75 if s["role"] == "finite" else 1.0)
        color = ramp(_COLORS.get(s["coupling"], BLUE), shade)
    if s["role"] == "finite":
        error = s["error"] if s["panel"] == "size" else None
        how = {"symbol": _SYMBOLS[group], "error": error, "width": 1}
    else:
        _band(panels, s, color, group)
        dash = {"lazy": "dot", "reference": "dash"}.get(s["role"], "solid")
        how = {"dash": dash, "mode": "lines", "width": 2.5}
    panels.line(s["x"], s["y"], s["name"], color, group=group, **how)
    title = None if s["role"] in ("lazy", "result") else group
    panels.figure.data[-1].legendgrouptitle = {"text": title}


def _band(panels: Panels, s: Series, color: str, group: str) -> None:
    """The error band; on a logarithmic axis it must stay above 0."""
    if s["error"] is None:
        return
    x, y, e = (np.array(v) for v in (s["x"], s["y"], s["error"]))
    ok = np.isfinite(y) & np.isfinite(e)
    if not ok.any() or not e[ok].any():
        return
    x, y, e = x[ok], y[ok], e[ok]
    low = np.maximum(y - e, 0.02 * y) if (y > 0).all() else y - e
    panels.band(x, low, y + e, color, group, s["name"])


def curves_csv(curves: Iterable[Series]) -> str:
    """Every point of every curve."""
    return table_csv(
        [
            dict(panel=c["panel"], curve=c["name"], coupling=c["coupling"], x=x, y=y, error=e)
            for c in curves
            for x, y, e in zip(c["x"], c["y"], c["error"] or [None] * len(c["x"]), strict=True)
        ]
    )


def in_words(curves: Sequence[Series]) -> str:
    """The ends of the loss curves."""
    out = []
    for c in curves:
        if c["panel"] in ("train", "test", "loss") and c["y"]:
            name = c["name"] if c["panel"] == "loss" else f"{c['panel']} loss, {c['name']}"
            if c["coupling"] in ("reused", "independent") and c["coupling"] not in name:
                name += f" ({c['coupling']})"
            out.append(f"{name}: from {c['y'][0]:.3g} to {c['y'][-1]:.3g}")
    return "; ".join(out) + "."


def result_curves(result: Trajectory | Limit) -> list[Series]:
    """Training and test loss of one result, with its error."""
    out: list[Series] = []
    for part in ("train", "test"):
        value = getattr(result, f"{part}_loss")
        if value is None:
            continue
        if isinstance(result, Trajectory):
            loss = value.mean(0)
            error = half_width(value) if result.seeds > 1 else None
        else:
            loss, error = value, getattr(result, f"{part}_loss_error")
        # A limit has both at every recorded step.
        steps = getattr(result, f"{part}_steps", None)
        steps = result.steps if steps is None else steps
        drawn: dict[str, Any] = dict(panel="loss", role="result", coupling=part)
        out.append(series(f"{part} loss", steps, loss, error, **drawn))
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


def result_page(
    result: Trajectory | Limit, command: str = "", targets: np.ndarray | None = None
) -> Page:
    """One run, or one limit, and what was measured in it.

    Args:
        targets: (P, C) of the problem, with which kernels are aligned.
    """
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
        f"{heading}: {info['problem']['name']}",
        (_size(info)[:1].upper() + _size(info)[1:],),
        (section, *_measured(result, targets)),
        facts(command, settings(info)),
        answer=(_answer(result, curves),),
        commands=() if isinstance(result, Trajectory) else longer(command, [result.message]),
    )


def _answer(result: Trajectory | Limit, curves: Sequence[Series]) -> str:
    """Where the losses end, or that it is not known."""
    ends = []
    for c in curves:
        error = None if c["error"] is None else c["error"][-1]
        ends.append(f"{c['name']} {with_error(c['y'][-1], error)}")
    out = f"After {result.steps[-1]} steps: {', '.join(ends)}."
    if not isinstance(result, Trajectory) and not result.converged:
        return f"Undecided: {result.message}. {out}"
    return out


def _measured(result: Trajectory | Limit, targets: np.ndarray | None) -> tuple[Section, ...]:
    """A section with what was measured, if anything was."""
    table = measures_table(result, targets)
    if table is None:
        return ()
    head, rows = table
    caption = "Mean over samples at each measured step; half-widths about 95 %"
    return (Section(title="Measures", anchor="measures", tables=(Table(head, rows, caption),)),)


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
        f"Do the sizes follow a series in {result.series}? {tested} (below 0.01 they do not).",
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
