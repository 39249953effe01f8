"""A pytest plugin that measures which lines each test runs, and puts chosen tests in their order."""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

IMPORTED = "import"


def processor() -> float:
    """Seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


class Watch:
    """A pytest plugin: keeps and orders the tests asked for, tells the parent, measures lines.

    What a fixture shared by several tests runs is counted for each test that uses it.

    Args:
        tests: node ids in order, with the processor seconds that each may take; empty is all.
        pipe: where one line is written a test that starts, ends or fails.
        measured: copy of the repository whose lines are measured; None is none.
    """

    def __init__(self, tests: Mapping[str, float], pipe: int, measured: Path | None) -> None:
        self._order = {t: i for i, t in enumerate(tests)}
        self.limits = tests
        self._pipe, self._root = pipe, measured
        self._uses: dict[str, list[str]] = {}
        self._seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self._coverage: Any = None
        self._now = IMPORTED
        if measured is not None:
            import coverage

            self._coverage = coverage.Coverage(
                data_file=None, config_file=False, include=[f"{measured}/src/leadline/*"]
            )
            self._coverage.start()
            self._coverage.switch_context(IMPORTED)

    def tell(self, word: str, test: str, value: float = 0.0) -> None:
        os.write(self._pipe, (json.dumps([word, test, value]) + "\n").encode())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self._order:
            items[:] = [i for i in items if i.nodeid in self._order]
            items.sort(key=lambda i: self._order[i.nodeid])
        self._uses = {i.nodeid: list(getattr(i, "fixturenames", ())) for i in items}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
            self.tell("failed", report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any) -> None:
        self.tell("start", item.nodeid)
        self._seconds[item.nodeid] = processor()
        if item.nodeid in self.limits:
            # Processor time, not the clock's: other work on the machine kills no mutant.
            last = math.ceil(time.process_time() + self.limits[item.nodeid])
            resource.setrlimit(resource.RLIMIT_CPU, (last, resource.RLIM_INFINITY))
        self._context(item.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._seconds[nodeid] = took = processor() - self._seconds[nodeid]
        self.tell("end", nodeid, took)

    def _context(self, name: str) -> None:
        self._now = name
        if self._coverage is not None:
            self._coverage.switch_context(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        before = self._now
        if fixturedef.scope != "function":
            self._context(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self._context(before)

    def result(self) -> dict[str, Any]:
        """{test: {"seconds", "passed", "lines": {source: [...]}}}, lines as (first, last) runs."""
        self._coverage.stop()
        data = self._coverage.get_data()
        touched: dict[str, dict[str, set[int]]] = {}
        # What is compiled from a template has the name of no source.
        for path in (p for p in data.measured_files() if p.endswith(".py") and os.path.exists(p)):
            name = str(Path(path).relative_to(self._root / "src" / "leadline").with_suffix(""))
            for line, contexts in data.contexts_by_lineno(path).items():
                for context in contexts:
                    touched.setdefault(context, {}).setdefault(name, set()).add(line)
        out = {}
        for test, uses in self._uses.items():
            if test not in self._seconds:
                continue
            lines: dict[str, set[int]] = {}
            for context in (test, *(f"fixture {name}" for name in uses)):
                for name, numbers in touched.get(context, {}).items():
                    lines.setdefault(name, set()).update(numbers)
            out[test] = {
                "seconds": round(self._seconds[test], 3),
                "passed": test not in self.failed,
                "lines": {name: _runs(numbers) for name, numbers in lines.items()},
            }
        return out


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    out: list[list[int]] = []
    for n in sorted(numbers):
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return out
