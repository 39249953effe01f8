"""Run the notebooks of examples/notebooks and keep their outputs in them: ./dev bench notebooks [NAME ...]

Figures are kept as pictures too, drawn by headless Chromium, so that a page that runs no scripts shows
them. With LEADLINE_TOY=1 they run at toy size and nothing is written.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"


def execute(path: Path) -> Any:
    """The notebook with the outputs of a run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    book = nbformat.read(path, as_version=4)
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    # Sockets of files: ports may be taken by another program before the kernel binds them.
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    NotebookClient(book, km=manager, timeout=600).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        # Progress is for who waits.
        kept = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
        if cell.cell_type == "code":
            cell.outputs = kept
    book.metadata.pop("language_info", None)
    return book


def with_pictures(book: Any) -> None:
    """A PNG beside every figure."""
    import plotly.io
    from pictures import png

    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                figure = plotly.io.from_json(json.dumps(data[PLOTLY]), skip_invalid=True)
                picture = png(figure, 900, int(figure.layout.height or 400))
                if picture is not None:
                    data["image/png"] = picture


def main(names: list[str]) -> None:
    """Execute, keep, say how long."""
    seconds, shown = {}, {}
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        begun = time.perf_counter()
        book = execute(path)
        seconds[path.stem] = round(time.perf_counter() - begun, 1)
        kinds = [set(o.get("data", {})) for c in book.cells for o in c.get("outputs", [])]
        shown[path.stem] = {k: sum(k in kind for kind in kinds) for k in ("text/html", PLOTLY)}
        if not os.environ.get("LEADLINE_TOY"):
            with_pictures(book)
            nbformat.write(book, path)
    print(json.dumps({"seconds": seconds, "shown": shown}))


if __name__ == "__main__":
    main(sys.argv[1:])
