"""The notebooks of examples/notebooks: at toy size they run, and they are committed with their outputs."""

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
