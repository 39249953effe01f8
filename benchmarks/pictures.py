"""Plotly figures as pictures, drawn by headless Chromium."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"


def _drawn(figure: Any, kind: str, width: int, height: int) -> str | None:
    """The picture as a data address; None without a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        return None
    from playwright import sync_api

    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as p:
        page = Path(folder) / "figure.html"
        figure.write_html(page, include_plotlyjs=True)
        made = p.chromium.launch(executable_path=browser, args=FLAGS.split())
        tab = made.new_page()
        tab.goto(page.as_uri())
        tab.wait_for_selector(".main-svg", state="attached")
        image = f"{{format: '{kind}', width: {width}, height: {height}}}"
        uri = tab.evaluate(f"Plotly.toImage(document.querySelector('.js-plotly-plot'), {image})")
        made.close()
    return uri


def write_svg(figure: Any, path: Path, width: int, height: int) -> bool:
    """Write the picture; False without a browser."""
    uri = _drawn(figure, "svg", width, height)
    if uri is None:
        return False
    path.write_text(unquote(uri.partition(",")[2]) + "\n", "utf-8")
    return True


def png(figure: Any, width: int, height: int) -> str | None:
    """The picture in base 64; None without a browser."""
    uri = _drawn(figure, "png", width, height)
    return None if uri is None else uri.partition(",")[2]
