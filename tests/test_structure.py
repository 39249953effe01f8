"""The layout: imports in one direction, light imports, examples that run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import leadline

ROOT = Path(leadline.__file__).parent
LAYERS = [
    {"errors", "_version"},
    {"available", "places"},
    {"disk", "identity", "tabular"},
    {"intervals"},
    {"problems", "activations", "parametrization", "schedules"},
    {"recipes"},
    {"dense", "models", "tracing"},
    {"architecture", "tasks"},
    {"describe", "trajectory"},
    {"measure", "planning"},
    {"solving", "kernels"},
    {"matrixfree"},
    {"training", "solver"},
    {"limits"},
    {"reporting"},
    {"executors", "store"},
    {"comparison", "forecasting", "sweeps"},
    {"checking", "transferring"},
    {"claims"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}


MODULES = {
    ".".join(("leadline", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
}


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(path: Path):
    """Modules of leadline that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("leadline"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def test_every_module_has_a_layer():
    found = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in ROOT.rglob("*.py")}
    assert found - {"__init__"} == set(LEVEL)


def test_imports_go_in_one_direction():
    wrong = []
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for module in imports(path):
            there = part(module)
            if here == there or there not in LEVEL:
                continue
            if LEVEL[there] >= LEVEL[here]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_no_module_imports_itself_through_others():
    """Imports for types and inside functions count too."""
    graph = {
        module: {m for m in imports(path) if m in MODULES}
        for module, path in MODULES.items()
        if path != ROOT / "__init__.py"
    }
    while ends := {m for m, others in graph.items() if not others & graph.keys()}:
        graph = {m: others for m, others in graph.items() if m not in ends}
    while starts := graph.keys() - set().union(*graph.values(), set()):
        graph = {m: others for m, others in graph.items() if m not in starts}
    assert sorted(graph) == []


def test_files_are_short():
    long = {p.name: n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 350}
    assert long == {}


def test_a_class_name_has_one_meaning():
    names = [
        node.name
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_module_is_named_like_a_public_verb():
    """``import leadline.x.plan`` would be one slip away from hiding ``leadline.plan``."""
    verbs = {name for name in leadline.__all__ if not name.startswith("_") and name.islower()}
    named = {m for m in MODULES if m.rpartition(".")[2] in verbs}
    assert sorted(named) == []


@pytest.mark.parametrize("heavy", ["torch", "numpy", "scipy", "plotly", "submitit"])
def test_import_is_light(heavy):
    code = f"import sys, leadline; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_starting_takes_no_time(monkeypatch):
    """Processor time, the best of a few: import leadline 0.15 s, leadline --help 0.3 s."""
    monkeypatch.syspath_prepend(str(ROOT.parents[1] / "benchmarks"))
    monkeypatch.setenv("LEADLINE_TOY", "1")
    for name in ("history", "start"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import start

    used = {name: row["processor seconds"] for name, row in start.measure().items()}
    sys.modules.pop("history", None)
    sys.modules.pop("start", None)
    assert used["import leadline (<= 0.15)"] <= 0.15
    assert used["leadline --help (<= 0.3)"] <= 0.3


def test_verbs_are_functions_whatever_was_imported_before():
    """After every submodule, and called without arguments: a module could not be."""
    code = (
        "import importlib, pkgutil, leadline as l;"
        "every = pkgutil.walk_packages(l.__path__, 'leadline.');"
        "[importlib.import_module(m.name) for m in every if not m.name.endswith('__main__')];"
        "assert all(callable(getattr(l, n)) for n in l.__all__ if n != '__version__');"
        "assert not any(isinstance(getattr(l, n), type(l)) for n in l.__all__)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "path", sorted((ROOT.parents[1] / "examples").glob("*.py")), ids=lambda p: p.stem
)
def test_examples_run(path):
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
