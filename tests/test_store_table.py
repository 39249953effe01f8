"""The store as tables, exports and on the command line."""

import contextlib
import csv
import json
import math
import re
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from leadline.store.store import Store


@pytest.fixture
def filled(tmp_path):
    with Store(tmp_path / "store") as store:
        for k in range(3):
            store.put(
                {"width": 64 * 2**k, "opt": {"name": "adam", "lr": 0.1}, "id": k, "seed": 0},
                {"loss": 1 / 3**k, "seed": 7, "shape": [1, 2], "time": {"s": k}, "text": 'a,"\n='},
                {"loss": np.linspace(1, 0.5, 4)},
            )
        store.put({"width": 8, "grid": [1, [2]]}, {"loss": math.inf})
        yield store


def test_table_and_where(filled):
    table = filled.table()
    columns = "id width opt.name opt.lr spec.id seed grid loss result.seed time.s text".split()
    assert all(list(row) == columns for row in table)
    assert table[3]["grid"] == (1, (2,))
    assert table[3]["seed"] is None
    assert [r.spec["width"] for r in filled.records({"width": 64.0})] == [64]
    assert [r.spec["width"] for r in filled.records({"loss": lambda x: x < 0.2})] == [256]
    assert len(filled.records({"opt.lr": 0.1, "result.seed": 7})) == 3
    assert len(filled.records({"loss": math.inf})) == 1
    assert filled.records({"width": 5}) == []
    with pytest.raises(ValueError, match="where='widht' is unknown: did you mean 'width'"):
        filled.records({"widht": 5})


def test_csv_and_pandas(filled, tmp_path):
    path = filled.to_csv(tmp_path / "runs.csv")
    with open(path, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in read] == [1.0, 1 / 3, 1 / 9, math.inf]
    assert read[0]["text"] == 'a,"\n='
    assert read[3]["grid"] == "[1,[2]]"
    frame = filled.to_pandas()
    assert list(frame.columns) == list(filled.table()[0])
    assert frame.loc[frame.width == 128, "loss"].item() == 1 / 3


def test_pandas_is_optional(filled, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"leadline\[pandas\]"):
        filled.to_pandas()


def test_tensorboard_is_optional(filled, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"leadline\[tensorboard\]"):
        filled.export_tensorboard(tmp_path / "board")


def test_tensorboard(filled, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    out = filled.export_tensorboard(tmp_path / "board")
    assert len(list(out.glob("*/events*"))) == 4


def test_others_can_read_the_file(filled):
    pandas = pytest.importorskip("pandas")
    filled.put({"width": 8, "grid": [1, [2]]}, {"loss": 0.25})
    filled.close()
    names = "json_extract(spec, '$.width') AS width, json_extract(result, '$.loss') AS loss"
    with contextlib.closing(sqlite3.connect(filled.path / "runs.sqlite")) as db:
        frame = pandas.read_sql(f"SELECT {names} FROM latest", db)
    assert frame.width.tolist() == [64, 128, 256, 8]
    assert frame.loss.tolist() == [1, 1 / 3, 1 / 9, 0.25]


# The command


def cli(*arguments):
    from click.testing import CliRunner

    from leadline.cli.program import main

    return CliRunner().invoke(main, ["runs", *map(str, arguments)])


def test_command(filled, tmp_path):
    done = cli(filled.path)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("4 runs\n")
    assert 'a,"\\n=' in done.stdout
    done = cli(filled.path, "--where", "opt.name=adam", "--where", "width=128")
    assert done.stdout.startswith("1 of 4 runs\n")
    done = cli(filled.path, "--where", "opt.name=adam", "--columns", "width,loss", "--json")
    want = [{"width": 64 * 2**k, "loss": 1 / 3**k} for k in range(3)]
    assert json.loads(done.stdout) == want
    assert json.loads(cli(filled.path, "--json").stdout)[3]["loss"] == "inf"
    assert "same" not in cli(filled.path, "--where", "width=9").stdout
    done = cli(filled.path, "--csv", tmp_path / "out.csv", "--columns", "loss")
    assert (tmp_path / "out.csv").read_text().split() == [
        "loss",
        "1.0",
        *map(str, (1 / 3, 1 / 9, "inf")),
    ]
    for wrong, match in [
        (["--where", "width"], "KEY=VALUE"),
        (["--where", "widht=1"], "did you mean 'width'"),
        (["--columns", "lss"], "did you mean 'loss'"),
    ]:
        done = cli(filled.path, *wrong)
        assert done.exit_code == 2
        assert match in done.stderr
    done = cli(tmp_path / "nothing")
    assert done.exit_code == 2
    assert "no store" in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_command_checks_and_rescues(filled, tmp_path):
    filled.close()
    with contextlib.closing(
        sqlite3.connect(filled.path / "runs.sqlite", isolation_level=None)
    ) as db:
        db.execute("UPDATE curves SET data = zeroblob(99) WHERE seq = 1")
        db.execute("DELETE FROM curves WHERE seq = 2")
    assert not cli(filled.path).stderr
    said = cli(filled.path, "--check").stderr.splitlines()
    assert [("damaged" in line, "missing" in line) for line in said] == [
        (True, False),
        (False, True),
    ]
    with contextlib.closing(
        sqlite3.connect(filled.path / "runs.sqlite", isolation_level=None)
    ) as db:
        db.execute("UPDATE runs SET record = replace(record, '256', '257') WHERE seq = 3")
    refused = cli(filled.path)
    assert refused.exit_code == 2
    (remedy,) = re.findall(r"leadline (runs .* --rescue) NEW", refused.stderr)
    done = cli(*remedy.split()[1:], tmp_path / "new")
    assert done.exit_code == 0
    assert done.stdout.startswith("3 runs\n")
    assert done.stderr.count("Warning") == 3
    assert "run 3 is lost" in done.stderr
    assert not cli(tmp_path / "new", "--check").stderr
    again = cli(filled.path, "--rescue", tmp_path / "new")
    assert again.exit_code == 2
    assert "has runs already: give a new folder" in again.stderr


def test_command_in_a_process(filled):
    done = subprocess.run(
        [sys.executable, "-m", "leadline", "runs", filled.path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
