"""The notebooks of examples/notebooks: at toy size they run, and they are committed with their outputs."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import leadline

ROOT = Path(leadline.__file__).parents[2]
BOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def test_notebooks_run():
    """All in one process, beside which each has a kernel: their starts are most of the time."""
    if not find_spec("nbclient"):
        pytest.skip("NO NOTEBOOKS: nbclient is missing")
    paths = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "notebooks.py")],
        capture_output=True, text=True, env=os.environ | {"LEADLINE_TOY": "1", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads(done.stdout.splitlines()[-1])["shown"]
    assert set(shown) == {p.stem for p in BOOKS}
    assert all(min(kinds.values()) >= 1 for kinds in shown.values())


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_with_its_outputs(path):
    cells = [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    pictures = [o["data"] for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert pictures
    assert all("image/png" in data for data in pictures)


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_a_page_of_the_site_with_its_outputs(path):
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    text, pictures = pages.notebook(path)
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    assert text.startswith("".join(cells[0]["source"][:1]))
    assert text.count("```python\n") == len(code)
    data = [o.get("data", {}) for c in code for o in c["outputs"]]
    assert len(pictures) == sum("image/png" in d for d in data) == text.count("<img ")
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    tables = sum("".join(d.get("text/html", "")).count("<table>") for d in data)
    assert text.count("<table>") == tables
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert f"notebooks/{path.stem}.md" in menu
    assert f"../examples/notebooks/{path.name}" in index
    link = f"[it](../examples/notebooks/{path.name}), [code](../examples/nanogpt.py)"

    class Page:
        class file:
            src_uri = "index.md"

    there = f"[it](notebooks/{path.stem}.md), [code](examples.md#nanogptpy)"
    assert pages.on_page_markdown(link, page=Page) == there
