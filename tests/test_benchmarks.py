"""Every benchmark runs at toy size; what they measure is kept with machine and versions."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import pytest

import leadline

FOLDER = Path(leadline.__file__).parents[2] / "benchmarks"
PEERS = FOLDER / "peers"
# Arguments that leave out what takes several seconds even so: other processes, large libraries.
ARGUMENTS = {
    "speed": ["dense", "width", "steps", "products"],
    "plan_cost": ["step"],
    "exponents": ["completep"],
    "transfer": ["resnet"],
    "memory": ["test inputs", "spill", "records, refused", "train, momentum"],
    "store": ["put", "sweep"],
    "damage": ["flips", "lengths", "store"],
    "seconds": ["small", "tests", "evaluation", "limit", "wide"],
}
# sweeps and shards start processes of their own, which is most of their time; gpu needs a GPU;
# readme_study measures nothing, it writes what a finished study says; README and notebooks have
# tests of their own.
SLOW = ("sweeps", "shards", "gpu", "readme_study", "readme_quickstarts", "notebooks")
HELPERS = (
    *("history", "roofline", "fuzz_cases", "calibration_problems", "pictures"),
    *(
        "families_coordinates",
        "families_panel",
        "families_configs",
        "families_edits",
        "families_more",
        "wide_models",
    ),
    *(
        f"families_{what}"
        for what in "decoders encoders further hybrids latest others pictures seen".split()
    ),
    *("gpu_verbs", "map_blocks", "map_cells", "map_rules", "map_runs", "map_tables"),
)
SCRIPTS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in HELPERS)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script in this process, as a command would, at toy size: what it printed."""
    monkeypatch.setenv("LEADLINE_TOY", "1")
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in HELPERS:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def call(path, *arguments):
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    yield call
    for name in HELPERS:
        sys.modules.pop(name, None)


@pytest.fixture
def history(monkeypatch):
    monkeypatch.delenv("LEADLINE_TOY", raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "history", raising=False)
    yield importlib.import_module("history")
    sys.modules.pop("history", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in SCRIPTS if n not in SLOW])
def test_runs_at_toy_size(name, run):
    before = {p: p.read_bytes() for p in (FOLDER / "results").rglob("*.*")}
    assert run(FOLDER / f"{name}.py", *ARGUMENTS.get(name, [])).strip()
    after = {p: p.read_bytes() for p in (FOLDER / "results").rglob("*.*")}
    assert after == before, "toy numbers mean nothing and must not be kept"


@pytest.mark.filterwarnings("ignore")
def test_what_a_gpu_is_asked_of_verbs_runs_small(run):
    printed = run(FOLDER / "gpu.py", "--device", "cpu", "runs", "seeds", "wide")
    # Here both sides of a comparison are the same processor.
    assert printed.count("largest relative difference 0;") == 5
    assert "8 seeds, 64x8" in printed
    assert "GPT-2, width 64, fast" in printed


def test_a_rule_that_plan_refuses_is_measured_too(run):
    printed = run(FOLDER / "batch_duration.py", "lion/quadratic")
    assert [l.split()[:5] for l in printed.splitlines()[1:]] == [
        ["quadratic", "lion", "yes", *"11"],
        ["quadratic", "lion", "yes", *"21"],
    ]


def test_the_hand_written_loop_trains_as_train_does(run):
    printed = run(PEERS / "against_loop.py")
    (line,) = (l for l in printed.splitlines() if "same weights" in l)
    assert float(line.rsplit(":", 1)[1]) < 1e-5


def test_results_and_history_are_kept(history, tmp_path):
    history.keep("one", {"a": {"seconds": 1.5}, "b": {"seconds": 2.0}}, results=tmp_path)
    history.keep("one", {"a": {"seconds": 1.0}}, results=tmp_path)
    latest = json.loads((tmp_path / "one.json").read_text())
    assert latest["a"]["seconds"] == 1.0
    assert latest["b"]["seconds"] == 2.0
    lines = [json.loads(l) for l in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [l["numbers"]["a"]["seconds"] for l in lines] == [1.5, 1.0]
    for line in lines:
        assert set(line) == {"name", "date", "machine", "versions", "numbers"}
        assert line["machine"]["cores"] >= 1
        assert {"python", "torch", "leadline"} <= set(line["versions"])


def test_the_committed_history_is_readable():
    path = FOLDER / "results" / "history.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        entry = json.loads(line)
        assert {"name", "date", "machine", "versions", "numbers"} <= set(entry)


def test_products_are_counted_as_a_hand_does(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    roofline = importlib.import_module("roofline")
    import torch

    a, b = torch.ones(2, 3), torch.ones(3, 5)
    stack = torch.ones(4, 2, 3), torch.ones(4, 3, 5)
    with roofline.Noted() as noted:
        _ = a @ b
        _ = torch.addmm(torch.ones(2, 5), a, b)
        _ = torch.bmm(*stack)
    products = list(noted.products)
    assert [p.flops for p in products] == [2 * 30, 2 * 30, 2 * 4 * 30]
    assert [p.bytes for p in products] == [4 * 31, 4 * 41, 4 * 4 * 31]
    best = roofline.Peaks({torch.float32: 60.0}, {"copy": 1e9, "read": 2e9})
    assert best.floor(noted.products) == pytest.approx(1 + 1 + 4)
    slow = roofline.Peaks({torch.float32: 1e12}, {"copy": 4.0})
    assert slow.floor(noted.products) == pytest.approx(31 + 41 + 4 * 31)


def test_a_clock_counts_every_second_once():
    sys.path.insert(0, str(FOLDER))
    try:
        roofline = importlib.import_module("roofline")
    finally:
        sys.path.remove(str(FOLDER))
    now = [0.0]

    class Work:
        def outer(self):
            now[0] += 1
            self.inner()
            now[0] += 2

        def inner(self):
            now[0] += 4

    clock = roofline.Clock()
    roofline.time, kept = type("Time", (), {"perf_counter": staticmethod(lambda: now[0])}), roofline
    try:
        with clock.on(Work, "outer", "a"), clock.on(Work, "inner", "b"):
            Work().outer()
    finally:
        kept.time = importlib.import_module("time")
    assert clock.seconds == {"a": 3, "b": 4}
    Work().outer()
    assert clock.seconds == {"a": 3, "b": 4}
