"""Which tests a mutant is run against: measured once a test file, and kept in the cache.

A record belongs to the text of its test file, not to the source's: lines of a source that has changed since
are found again by comparing the two texts, so that an edit does not ask for every test again. What a record
misses costs a mutant that looks alive, never one that looks dead.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trial
from mutants import Mutant

# A test slower than this is used where no other touches the line.
SLOW = 10.0


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_files(root: Path) -> list[str]:
    """Test modules, and the sources that have doctests."""
    found = sorted(p.relative_to(root) for p in (root / "tests").glob("test_*.py"))
    sources = sorted(p.relative_to(root) for p in (root / "src").rglob("*.py"))
    return [str(p) for p in (*found, *(s for s in sources if ">>> " in (root / s).read_text()))]


@dataclass
class Test:
    """What is known of one test: its processor seconds, and the lines of the module that it runs."""

    name: str
    seconds: float
    lines: set[int]

    @property
    def file(self) -> str:
        return self.name.split("::")[0]


@dataclass
class Touched:
    """Every test's lines, from the records in ``cache``."""

    root: Path
    cache: Path
    most: float = 12.0
    """Processor seconds of tests, by what they take unmutated, that a mutant may survive."""
    tests: list[Test] = field(default_factory=list)
    _measured: set[int] = field(default_factory=set)

    def _record(self, file: str) -> Path:
        return self.cache / "touched" / (file.replace("/", "~") + ".json")

    def stale(self, files: Iterable[str]) -> list[str]:
        """Test files whose record is missing or of another text."""
        out = []
        for file in files:
            record = self._record(file)
            known = json.loads(record.read_text())["test"] if record.exists() else ""
            if known != digest((self.root / file).read_text()):
                out.append(file)
        return out

    def measure(self, tree: Path, file: str) -> trial.Outcome:
        """Run one test file in a copy of the repository and keep what it touched."""
        text = tree / "touched.json"
        text.unlink(missing_ok=True)
        outcome = trial.run(tree, {}, files=[file], measured=text)
        tests = json.loads(text.read_text()) if text.exists() else {}
        sources = {}
        for name in {n for t in tests.values() for n in t["lines"]}:
            source = (tree / "src" / "leadline" / f"{name}.py").read_text()
            sources[name] = digest(source)
            kept = self.cache / "sources" / sources[name]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(source)
        record = self._record(file)
        record.parent.mkdir(parents=True, exist_ok=True)
        fresh = record.with_suffix(".new")
        known = {"test": digest((tree / file).read_text()), "sources": sources, "tests": tests}
        fresh.write_text(json.dumps(known))
        fresh.replace(record)
        return outcome

    def read(self, module: str, files: Iterable[str]) -> None:
        """Tests that touch a module, their lines as they are in its present text."""
        now = (self.root / "src" / "leadline" / f"{module}.py").read_text()
        moves: dict[str, dict[int, int]] = {}
        self.tests, self._measured = [], set()
        for file in files:
            record = self._record(file)
            if not record.exists():
                continue
            known: dict[str, Any] = json.loads(record.read_text())
            old = known["sources"].get(module)
            if old is None:
                continue
            if old not in moves:
                moves[old] = _moved((self.cache / "sources" / old).read_text(), now)
                self._measured.update(moves[old].values())
            move = moves[old]
            for name, test in known["tests"].items():
                # A test without a line of its own may read a constant, or a value kept by another.
                lines = test["lines"].get(module, [])
                if test["passed"]:
                    found = {move[n] for a, b in lines for n in range(a, b + 1) if n in move}
                    self.tests.append(Test(name, test["seconds"], found))

    def choose(self, mutant: Mutant, source: str, first: str = "") -> tuple[list[Test], bool]:
        """Tests in the order in which to run them, and whether the bound left some out.

        Those that run the mutated line come first, the quickest before the others (and before all of
        them ``first``, which has killed this mutant or its neighbours); then the others of the same
        files that touch the module: a cached value is computed in one test and used in another.
        """
        near = self._near(mutant, source)
        by_line = [t for t in self.tests if near & t.lines]
        names, files = {t.name for t in by_line}, {t.file for t in by_line}
        other = [t for t in self.tests if t.name not in names]
        other = [t for t in other if mutant.imported or t.file in files]
        by_line.sort(key=lambda t: (t.name != first, t.seconds))
        other.sort(key=lambda t: t.seconds)
        quick = [t for t in by_line if t.seconds <= SLOW]
        rest = [t for t in other if t.seconds <= SLOW]
        chosen, total = [], 0.0
        for test in (quick or by_line[:3]) + rest:
            if chosen and total + test.seconds > self.most:
                continue
            chosen.append(test)
            total += test.seconds
        left = {t.name for t in by_line} - {t.name for t in chosen}
        return chosen, bool(left)

    def _near(self, mutant: Mutant, source: str) -> set[int]:
        """Lines whose tests see the mutant: its own, or where a name that it defines is read."""
        first, last = mutant.lines
        near = set(range(first, last + 1))
        if mutant.imported:
            lines = source.splitlines()
            for line in lines[first - 1 : last]:
                name = re.match(r"\s*([A-Za-z_]\w*)\s*[:=,]", line)
                if name:
                    word = re.compile(rf"\b{name[1]}\b")
                    near |= {i for i, text in enumerate(lines, 1) if word.search(text)}
        elif not near & self._measured:  # newer than every record
            near = set(range(mutant.scope[0], mutant.scope[1] + 1))
        return near


def _moved(old: str, new: str) -> dict[int, int]:
    """Where the lines of an old text are in a new one."""
    match = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    blocks = match.get_matching_blocks()
    return {b.a + i + 1: b.b + i + 1 for b in blocks for i in range(b.size)}


def chunks(tests: Sequence[Test]) -> list[list[Test]]:
    """The same order cut so that each part takes several times as long as those before it."""
    out: list[list[Test]] = [[]]
    total, bound = 0.0, 2.0
    for test in tests:
        if out[-1] and total + test.seconds > bound:
            out.append([])
            total, bound = 0.0, bound * 4
        out[-1].append(test)
        total += test.seconds
    return [part for part in out if part]
