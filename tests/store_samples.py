"""Stores that the tests of faults fill, and what they hold them to."""

import contextlib
import sqlite3
import subprocess
import sys

from leadline.store.store import Store, run_id


def file_of(folder):
    return folder / "runs.sqlite"


def fill(folder, count=3, **spec):
    with Store(folder) as store:
        return [store.put({"k": k} | spec, {"loss": 1 / (k + 1)}) for k in range(count)]


def execute(folder, *statements):
    """Change a store's file as no store would."""
    with contextlib.closing(sqlite3.connect(file_of(folder), isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def whole(store):
    """Every record is what its specification says, each once; returns the ids."""
    records = store.records()
    ids = [r.id for r in records]
    assert len(set(ids)) == len(ids)
    assert ids == store.ids() == [row["id"] for row in store.table()]
    assert all(run_id(r.spec) == r.id for r in records)
    return set(ids)


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
