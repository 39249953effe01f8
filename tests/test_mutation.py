"""The mutation tool on a toy repository whose mutants are known."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import leadline

FOLDER = Path(leadline.__file__).parents[2] / "benchmarks" / "mutation"
SOURCE = '''"""A toy."""

LIMIT = 3


def clipped(x: int) -> int:
    """At most so much."""
    if x > LIMIT:
        return LIMIT
    return x


def waits(n: list) -> list:
    while n:
        n.pop()
    return n


def untested(x: int) -> int:
    return x
'''
TESTS = """
import pytest

from leadline.toy import clipped, waits


@pytest.fixture(scope="module")
def five():
    return clipped(5)


def test_clips(five):
    assert five == 3


def test_other():
    assert clipped(2) == 2


def test_waits():
    assert waits([3]) == []


def test_fails_anyway():
    assert clipped(0) == 1
"""


@pytest.fixture
def tool(monkeypatch):
    """A module of the tool by its name."""
    names = ("changes", "mutants", "touching", "trial", "warm", "choosing", "scores")
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def toy(tmp_path):
    """A repository with one source and one test file."""
    root = tmp_path / "toy"
    for name, text in {
        "src/leadline/__init__.py": "",
        "src/leadline/toy.py": SOURCE,
        "tests/test_toy.py": TESTS,
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def changes(tool, source):
    return {(m.before, m.after) for m in tool("mutants").mutants(source, "toy")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {("a < b", "(a <= b)"), ("a < b", "(a >= b)")}),
        ("x = 3", {("3", "(4)"), ("3", "(2)"), ("3", "(6)"), ("3", "(-3)")}),
        ("x = 1e-12", {("1e-12", f"({v!r})") for v in (1 + 1e-12, 1e-12 - 1, 1e-9, -1e-12)}),
        ("x = 1e9", {("1e9", f"({v!r})") for v in (1e12, 1e6, -1e9)}),
        ("x = a - b", {("a - b", "(a + b)"), ("a - b", "(b - a)")}),
        ("x = a and b", {("a and b", f"({t})") for t in ("a or b", "a", "b")}),
        ("x = a if b else c", {("a if b else c", "(a)"), ("a if b else c", "(c)")}),
        ("x = f(a, k=b)", {("f(a, k=b)", "(f(a))")}),
        ("x = f(a, b)", {("f(a, b)", "(f(b, a))")}),
        ("x = min(a, b)", {("min(a, b)", "(max(a, b))")}),
        ("x = sqrt(a)", {("sqrt(a)", "(a)")}),
        ("x = a.sum(-1)", {("a.sum(-1)", "(a.mean(-1))"), ("1", "(2)"), ("1", "(0)")}),
        ("x = f(a, axis=1)", {("f(a, axis=1)", "(f(a))"), ("1", "(2)"), ("1", "(0)")}),
        ("x = a.shape[1]", {("1", "(2)"), ("1", "(0)")}),
        ("x = a[i:]", {("i:", ":")}),
        ("x = not a", {("not a", "(a)")}),
        ("x = 'word'", {("'word'", "('word_')")}),
        ("if a:\n    x = f", {("a", "True"), ("a", "False")}),
        ("x += a", {("x += a", t) for t in ("pass", "x = a", "x -= a")}),
        ("for i in a:\n    break", {("break", "pass"), ("break", "continue")}),
        ("def f():\n    return a", {("return a", "return None")}),
        ("raise E('some words', 3)", {("raise E('some words', 3)", "pass")}),
        ("'''Words.'''", set()),
        ("x: 'str'", set()),
        ("x = 'some words'", set()),
        ("x = f'{a + 1}'", set()),
        ("if TYPE_CHECKING:\n    x = 1", set()),
        ("@d(1)\nclass A:\n    x: int", set()),
        ("import a", set()),
    ],
)
def test_changes(tool, source, expected):
    assert changes(tool, source + "\n") == expected


def test_a_mutant_is_the_source_but_for_one_place(tool):
    source = "# µ, two bytes\nµ = a * 2 if a else 0  # ½\nb = 3\n"
    made = {m.apply(source).splitlines()[1] for m in tool("mutants").mutants(source, "toy")}
    assert "µ = (a / 2) if a else 0  # ½" in made
    assert all(
        m.apply(source).endswith("b = 3\n") or m.lines == (3, 3)
        for m in tool("mutants").mutants(source, "toy")
    )


def test_the_sample_does_not_move_with_other_code(tool):
    m = tool("mutants")
    before = m.mutants(SOURCE, "toy")
    after = m.mutants("X = 5\n" + SOURCE, "toy")
    assert len({x.key for x in before}) == len(before)
    assert {x.key for x in before} < {x.key for x in after}
    drawn = m.sample(before, 5, seed=0)
    assert {x.key for x in drawn} != {x.key for x in m.sample(before, 5, seed=1)}
    assert {x.key for x in drawn} <= {x.key for x in m.sample(after, 9, seed=0)}


def test_intervals(tool):
    """Clopper and Pearson's: the tails of the binomial are 2.5 %."""
    from scipy.stats import binom

    low, high = tool("scores").interval(130, 150)
    assert binom.sf(129, 150, low) == pytest.approx(0.025)
    assert binom.cdf(130, 150, high) == pytest.approx(0.025)
    assert tool("scores").interval(4, 4)[1] == 1
    assert tool("scores").interval(0, 4)[0] == 0


def test_equivalent_mutants_need_a_reason(tool, tmp_path):
    scores, m = tool("scores"), tool("mutants").mutants("x = 3\n", "toy")
    path = tmp_path / "equivalent.toml"
    entry = '[[mutant]]\nmodule="toy"\nfunction=""\ntext="x = 3"\nbefore="3"\nafter="(4)"\n'
    path.write_text(entry)
    with pytest.raises(ValueError, match="why"):
        scores.equivalent(path)
    path.write_text(entry + 'why="x is not read"\n')
    assert [x.after for x in m if scores.is_equivalent(x, scores.equivalent(path))] == ["(4)"]


def test_functions_are_replaced_in_place(tool, tmp_path, monkeypatch):
    """Whoever holds a function has the mutant: methods, properties, defaults, wrapped ones, and private
    constants; classes and public constants are not replaced, and that is said."""
    source = """
from dataclasses import dataclass
from functools import cache

_PRIVATE = 2
PUBLIC = 3
_PARTS = (1, 2)
MADE = {x: x for x in _PARTS}


def plain(x, by=5):
    return x * _PRIVATE + by


@cache
def cached():
    return 7


@dataclass
class A:
    x: int = 11

    @property
    def half(self):
        return self.x / 13

    @staticmethod
    def fixed():
        return 17
"""
    path = tmp_path / "replaced_toy.py"
    path.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("replaced_toy")
    plain, a = module.plain, module.A()
    for before, after, now in (
        ("_PRIVATE = 2", "_PRIVATE = 4", lambda: plain(1) == 9),
        ("by=5", "by=6", lambda: plain(1) == 8),
        ("x * _PRIVATE", "x / _PRIVATE", lambda: plain(1) == 5.5),
        ("return 7", "return 8", lambda: module.cached() == 8),
        ("/ 13", "/ 1", lambda: a.half == 11),
        ("return 17", "return 18", lambda: a.fixed() == 18),
    ):
        path.write_text(source.replace(before, after))
        assert tool("warm").replaced(module)
        assert now()
        path.write_text(source)
        assert tool("warm").replaced(module)
    module.cached.cache_clear()
    assert (plain(1), module.cached(), a.half, a.fixed()) == (7, 7, 11 / 13, 17)
    for before, after in (
        ("PUBLIC = 3", "PUBLIC = 4"),
        ("(1, 2)", "(1, 3)"),  # a public constant is made of it
        ("int = 11", "int = 12"),
        ("\n\n\n", "\n"),
    ):
        assert before in source
        path.write_text(source.replace(before, after))
        assert not tool("warm").replaced(module)


def test_a_toy_repository(tool, toy, tmp_path):
    """Its score is known: what clips and waits is tested, what adds one is not."""
    code = f"""
import runpy, sys
sys.path.insert(0, {str(FOLDER)!r})
import trial
trial.LIBRARIES = "numpy hypothesis _hypothesis_pytestplugin"
runpy.run_path({str(FOLDER)!r}, run_name="__main__")
"""
    cache = tmp_path / "cache"
    options = ["--root", str(toy), "--cache", str(cache), "--patience", "1"]

    def run():
        done = subprocess.run(
            [sys.executable, "-c", code, "toy", *options],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done

    first = run()
    statuses = {}
    for row in tool("scores").Results(cache, "toy").rows.values():
        statuses[row["function"], row["before"], row["after"]] = row["status"]
        assert "fails_anyway" not in row["killer"]
    assert statuses["clipped", "x > LIMIT", "(x <= LIMIT)"] == "killed"
    assert statuses["clipped", "x > LIMIT", "(x >= LIMIT)"] == "survived"
    assert statuses["", "3", "(4)"] == "killed"
    assert statuses["waits", "n.pop()", "pass"] == "timeout"
    assert statuses["untested", "return x", "return None"] == "untouched"
    assert "(x >= LIMIT)" in first.stdout
    again = run()
    assert again.stdout == first.stdout
    assert "killed" not in again.stderr
