"""Run the two quickstarts of README.md, write what they print beneath them, and draw docs/overview.svg.

    ./dev bench readme_quickstarts

A quickstart is a block of Python, the command that follows it if there is one, and the block of text that
they print. tests/test_documents.py runs them too and compares.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pictures import write_svg

ROOT = Path(__file__).resolve().parents[1]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "overview.svg"
_INSIDE = r"((?:(?!```).)*)"
_BLOCK = re.compile(f"```python\n{_INSIDE}```\n{_INSIDE}```text\n{_INSIDE}```", re.S)
BLUES, ORANGE = ("#9cc4e4", "#4a94cc", "#1f6fb4"), "#d9730d"


@dataclass(frozen=True)
class Quickstart:
    """Code, the command after it (or ""), and what stands beneath."""

    code: str
    command: str
    printed: str


def quickstarts(text: str) -> list[Quickstart]:
    """Those of a README, in order."""
    out = []
    for code, between, printed in _BLOCK.findall(text):
        lines = [line.strip() for line in between.splitlines() if line.startswith("    leadline ")]
        out.append(Quickstart(code, lines[0] if lines else "", printed))
    return out


def by_command(one: Quickstart, folder: Path, *more: str) -> str:
    """What the command prints about the file that the code is."""
    (folder / "model.py").write_text(one.code, "utf-8")
    words = one.command.split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "leadline", *words, "--quiet", *more],
        cwd=folder, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"},
    )  # fmt: skip
    if done.returncode not in (0, 1, 3):
        sys.exit(done.stderr)
    return done.stdout


def by_python(one: Quickstart) -> tuple[str, dict[str, Any]]:
    """What the code prints, and its names."""
    said, names = io.StringIO(), {}
    with contextlib.redirect_stdout(said):
        exec(compile(one.code, "README.md", "exec"), names)
    return said.getvalue(), names


def picture(rows: list[dict[str, Any]], comparison: Any) -> Any:
    """Left the losses of the first quickstart, right those of the second."""
    import numpy as np
    from plotly.subplots import make_subplots

    titles = (
        "The best rate hardly moves with width",
        "Real networks approach the limit as they grow",
    )
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    widths, least = sorted({r["width"] for r in rows}), min(r["depth"] for r in rows)
    for i, width in enumerate(widths):
        lrs = sorted({r["lr"] for r in rows})
        of = [r for r in rows if (r["width"], r["depth"]) == (width, least)]
        losses = [np.mean([r["test_loss"] for r in of if r["lr"] == lr]) for lr in lrs]
        best = int(np.argmin(losses))
        color = BLUES[-len(widths) :][i]
        figure.add_scatter(
            x=lrs, y=losses, mode="lines+markers", line={"color": color, "width": 3},
            name=f"GPT of width {width}", row=1, col=1, legend="legend",
        )  # fmt: skip
        figure.add_scatter(
            x=[lrs[best]], y=[losses[best]], mode="markers", showlegend=False, row=1, col=1,
            marker={"size": 15, "symbol": "circle-open", "color": ORANGE, "line": {"width": 3}},
        )  # fmt: skip
    rates = [0.005, 0.01, 0.02, 0.05]
    figure.update_xaxes(
        type="log", title="learning rate, as given for width 16", row=1, col=1,
        tickvals=rates, ticktext=[f"{v:g}" for v in rates],
    )  # fmt: skip
    figure.update_yaxes(title="held-out loss", row=1, col=1)
    limit = comparison["limit-reused"].result
    low, high = (limit.train_loss + s * limit.train_loss_error for s in (-1, 1))
    finite = [b for b in comparison.branches if b.role == "finite"]
    for i, b in enumerate(finite):
        figure.add_scatter(
            x=b.result.steps, y=b.loss(), mode="lines+markers", row=1, col=2, legend="legend2",
            line={"color": BLUES[-len(finite) :][i], "width": 3},
            error_y={"array": b.error(), "thickness": 1},
            name=f"real networks of width {b.width}, depth {b.depth}",
        )  # fmt: skip
    figure.add_scatter(
        x=[*limit.steps, *limit.steps[::-1]], y=[*high, *low[::-1]], fill="toself", mode="none",
        fillcolor="rgba(217, 115, 13, .25)", name="its error bar", row=1, col=2, legend="legend2",
    )  # fmt: skip
    figure.add_scatter(
        x=limit.steps, y=limit.train_loss, mode="lines", line={"color": ORANGE, "width": 3},
        name="limit of infinite width and depth", row=1, col=2, legend="legend2",
    )  # fmt: skip
    figure.update_xaxes(title="training step", row=1, col=2)
    marks = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
    figure.update_yaxes(
        type="log", title="training loss", row=1, col=2,
        tickvals=marks, ticktext=[f"{v:g}" for v in marks],
    )  # fmt: skip
    inside = {"yanchor": "top", "y": 0.98, "bgcolor": "rgba(255,255,255,.7)"}
    figure.update_layout(
        template="plotly_white", font={"size": 14}, margin={"t": 50, "b": 60, "l": 70, "r": 20},
        legend=inside | {"x": 0.43, "xanchor": "right"},
        legend2=inside | {"x": 0.99, "xanchor": "right"},
    )  # fmt: skip
    return figure


def write_beneath(one: Quickstart, new: str) -> None:
    """Put what was printed into the README."""
    text = README.read_text("utf-8")
    old, more = (f"{one.code}```\n", f"```text\n{one.printed}```")
    at = text.index(more, text.index(old))
    README.write_text(f"{text[:at]}```text\n{new}```{text[at + len(more) :]}", "utf-8")


def main() -> None:
    """Measure, write, draw."""
    first, second = quickstarts(README.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder, begun = Path(name), time.perf_counter()
        said = by_command(first, folder, "--out", "out")
        seconds = {"transfer": time.perf_counter() - begun}
        rows = json.loads((folder / "out" / "transfer.json").read_text("utf-8"))["runs"]
    write_beneath(first, said)
    begun = time.perf_counter()
    printed, names = by_python(second)
    seconds["limit"] = time.perf_counter() - begun
    write_beneath(second, printed)
    drawn = write_svg(picture(rows, names["result"]), PICTURE, 1100, 400)
    print(json.dumps({"seconds": seconds, "picture": drawn}))


if __name__ == "__main__":
    main()
