"""A pytest session that has collected its tests and waits: each run is a fork of it.

In the fork the code of the module's functions is replaced by the mutant's, in place, so that whoever
has imported one of them has the mutant: nothing is loaded or collected again. What else runs when a module
is imported (public constants, class bodies) needs a run of its own (trial.run).
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import re
import signal
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import touching
import trial

COLLECTING = 900.0
"""Seconds that collecting every test of a module may take."""
_NOT_HERE = 71


class Warm:
    """A waiting session over test files.

    Args:
        tree: copy of the repository. module: such as "forecasting/fit".
    """

    def __init__(self, tree: Path, module: str, files: Sequence[str]) -> None:
        asks, self._ask = os.pipe()
        self._answer, answers = os.pipe()
        self._server = os.fork()
        if self._server == 0:
            try:
                os.close(self._ask)
                os.close(self._answer)
                trial.bound(float("inf"))
                arguments = trial.enter(tree)
                loop = _Loop(tree, module, asks, answers)
                pytest.main([*arguments, *files], plugins=[loop.watch, loop])
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
            finally:
                os._exit(0)
        os.close(asks)
        os.close(answers)
        ready = trial.Followed({}, COLLECTING)
        ready.read(self._answer)
        if ready.code is None:
            self.close()
            raise RuntimeError((tree / "trial.log").read_text()[-2000:])

    def run(self, tests: Mapping[str, float], mutated: bool) -> trial.Outcome | None:
        """Tests in their order up to the first that fails; None if the mutant cannot be put in place."""
        os.write(self._ask, (json.dumps([tests, mutated]) + "\n").encode())
        followed = trial.Followed(tests, trial.STARTING)
        followed.read(self._answer)
        if followed.late and followed.pid:
            with suppress(ProcessLookupError):
                os.killpg(followed.pid, signal.SIGKILL)
            trial_end = trial.Followed({}, trial.STARTING)
            trial_end.read(self._answer)
        if followed.code is None and not followed.late:
            raise RuntimeError("the waiting tests have ended")
        return None if followed.code == _NOT_HERE else followed.outcome(followed.code or 0)

    def close(self) -> None:
        os.close(self._ask)
        os.close(self._answer)
        with suppress(ProcessLookupError):
            os.kill(self._server, signal.SIGKILL)
        os.waitpid(self._server, 0)


class _Loop:
    """The server's plugin: in place of running the tests, forks whenever it is asked."""

    def __init__(self, tree: Path, module: str, asks: int, answers: int) -> None:
        self._tree, self._module, self._asks = tree, module, asks
        self.watch = touching.Watch({}, answers, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        items = {item.nodeid: item for item in session.items}
        name = "leadline." + self._module.replace("/", ".")
        importlib.import_module(name)
        gc.collect()
        gc.freeze()
        self.watch.tell("exit", "", 0)
        with os.fdopen(self._asks) as asks:
            for line in asks:
                tests, mutated = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    self._run(items, tests, name if mutated else None)
                self.watch.tell("pid", "", pid)
                _, ended = os.waitpid(pid, 0)
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self.watch.tell("exit", "", os.waitstatus_to_exitcode(ended))
        return True

    def _run(self, items: dict[str, Any], tests: dict[str, float], name: str | None) -> None:
        code = 1
        try:
            os.setsid()
            trial.bound(trial.STARTING)
            if name and not replaced(sys.modules[name]):
                os._exit(_NOT_HERE)
            self.watch.limits = tests
            chosen = [items[t] for t in tests if t in items]
            for item, following in zip(chosen, [*chosen[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.watch.failed:
                    os._exit(1)
            code = 0
        finally:
            os._exit(code)


def replaced(module: types.ModuleType) -> bool:
    """Whether the module now has functions, defaults or private constants of its file that it had not.

    False too where that cannot be done in place: others hold a public constant, which may be made of a
    private one; a class is made.
    """
    path = str(module.__file__)
    code = compile(Path(path).read_text(), path, "exec")
    made: dict[str, list[types.CodeType]] = {}
    for new in _codes(code):
        made.setdefault(new.co_qualname, []).append(new)
    fresh = types.ModuleType(module.__name__)
    fresh.__file__ = path
    exec(code, vars(fresh))
    defaults = {f.__qualname__: f for f in _functions(vars(fresh).values(), module.__name__, set())}
    changed = False
    for function in _functions(vars(module).values(), module.__name__, set()):
        old, name = function.__code__, function.__qualname__
        new = made.get(old.co_qualname, [])
        if old.co_filename != path or len(new) != 1 or old.co_freevars != new[0].co_freevars:
            continue
        if not _same(old, new[0]):
            function.__code__, changed = new[0], True
        other = defaults.get(name, function)
        for kind in ("__defaults__", "__kwdefaults__"):
            if repr(getattr(function, kind)) != repr(getattr(other, kind)):
                setattr(function, kind, getattr(other, kind))
                changed = True
    constants = {
        k: v for k, v in vars(fresh).items() if isinstance(v, _CONSTANTS) and k[:2] != "__"
    }
    moved = {k: v for k, v in constants.items() if _text(v) != _text(vars(module).get(k))}
    if any(not name.startswith("_") for name in moved):  # made of a private one, or by a function
        return False
    vars(module).update(moved)
    return changed or bool(moved)


_CONSTANTS = (int, float, str, tuple, list, dict, set, frozenset)


def _text(value: Any) -> str:
    """What a constant says of itself: a class that is made again is not equal to what it was."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _same(a: Any, b: Any) -> bool:
    """The same code, wherever its lines are."""
    if type(a) is not type(b):
        return False
    if isinstance(a, types.CodeType):
        names = (a.co_code, a.co_names, a.co_varnames) == (b.co_code, b.co_names, b.co_varnames)
        return names and _same(a.co_consts, b.co_consts)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return repr(a) == repr(b)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Functions of a module and of its classes, not those within functions."""
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            if const.co_flags & 1:  # optimised: a function, not the body of a class
                yield const
            else:
                yield from _codes(const)


def _functions(found: Any, module: str, seen: set[int]) -> Iterator[types.FunctionType]:
    for value in list(found):
        while not isinstance(value, types.FunctionType | type | property):
            inner = getattr(value, "__func__", None) or getattr(value, "__wrapped__", None)
            if inner is None and isinstance(value, functools.cached_property):
                inner = value.func
            if inner is None:
                break
            value = inner
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, property):
            yield from _functions((value.fget, value.fset), module, seen)
        elif isinstance(value, type) and value.__module__ == module:
            yield from _functions(vars(value).values(), module, seen)
        elif isinstance(value, types.FunctionType):
            if hasattr(value, "__wrapped__"):
                yield from _functions((value.__wrapped__,), module, seen)
            yield value
