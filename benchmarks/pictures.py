"""A plotly figure as an SVG file, drawn by headless Chromium."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"


def write_svg(figure: Any, path: Path, width: int, height: int) -> bool:
    """Write the picture; False without a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        return False
    from playwright import sync_api

    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as p:
        page = Path(folder) / "figure.html"
        figure.write_html(page, include_plotlyjs=True)
        made = p.chromium.launch(executable_path=browser, args=FLAGS.split())
        tab = made.new_page()
        tab.goto(page.as_uri())
        tab.wait_for_selector(".main-svg", state="attached")
        image = f"{{format: 'svg', width: {width}, height: {height}}}"
        uri = tab.evaluate(f"Plotly.toImage(document.querySelector('.js-plotly-plot'), {image})")
        made.close()
    path.write_text(unquote(uri.partition(",")[2]) + "\n", "utf-8")
    return True
