"""``leadline forecast`` as a user runs it, and every mistake in one line."""

import csv
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli.program import main


def rows(noise=0.01):
    r = np.random.default_rng(0)
    return [
        dict(width=n, depth=l, seed=s,
             loss=(0.2 + 16 / n + 0.8 / l) * math.exp(noise * r.standard_normal()))
        for n in (32, 64, 128, 256) for l in (2, 4, 8, 16) for s in range(2)
    ]  # fmt: skip


def write(path, data):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, data[0].keys())
        writer.writeheader()
        writer.writerows(data)
    return str(path)


def run(*arguments):
    return CliRunner().invoke(main, ["forecast", *arguments])


def test_json_is_all_there_is_on_stdout(tmp_path):
    data = rows()
    data[4]["loss"] = "nan"
    path, out = write(tmp_path / "runs.csv", data), tmp_path / "out"
    done = run(
        *(path, "--json", "--draws", "100", "--out", str(out), "--target", "1024x32"),
        *("--target", "2048x64", "--budget", "1e7", "--gain", "2", "--limit", "0.2,0.01"),
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert set(result["floor"]) == {"value", "low", "high"}
    assert result["floor"]["low"] <= 0.2 <= result["floor"]["high"]
    assert result["diverged"] == 1
    assert result["diminishing"]["gain_percent"] == 2
    assert result["target"]["1024x32"]["value"] == pytest.approx(0.2 + 1 / 64 + 1 / 40, rel=0.05)
    assert result["best"]["size"]["width"] > 100
    assert result["limit"]["agrees"] is True
    assert json.loads((out / "forecast.json").read_text()) == result
    assert "plotly" in (out / "forecast.html").read_text()


def test_text(tmp_path):
    path = write(tmp_path / "runs.csv", rows())
    done = run(path, "--draws", "100", "--target", "1024x32", "--budget", "1e7", "--quiet")
    assert done.exit_code == 0, done.output
    assert "floor E" in done.stdout
    assert "Loss at 1024x32: 0.2" in done.stdout
    assert "Best for 1e+07 (cost width²·depth): " in done.stdout


def test_columns_and_axes_by_letters(tmp_path):
    data = [{"size": r["width"], "data": r["depth"], "loss": r["loss"]} for r in rows()]
    path = write(tmp_path / "runs.csv", data)
    done = run(
        *(path, "--columns", "N=size,D=data", "--axes", "N,D", "--draws", "50", "--quiet"),
        *("--at", "N=512,D=32"),
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("parameters from 'size', tokens from 'data', loss: 32 runs")
    assert "Loss at N=512,D=32: " in done.stdout


def test_pages_of_several_forecasts_go_to_a_folder(tmp_path):
    path = write(tmp_path / "runs.csv", [r | {"data": k} for r in rows() for k in "ab"])
    done = run(path, "--by", "data", "--html", str(tmp_path / "report.html"))
    assert done.exit_code == 2
    assert "--by makes a page for each value: give --out FOLDER" in done.output
    done = run(path, "--by", "data", "--draws", "50", "--quiet", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    pages = {p.name for p in (tmp_path / "out").glob("*.html")}
    assert pages == {"forecast-a.html", "forecast-b.html"}


def changed(**change):
    """The rows with cells of the fourth run (line 5 of the file) replaced."""
    data = rows()
    data[3] |= change
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(width=""), "column 'width' has no finite number in line 5: fill it in"),
        (changed(depth="nan"), "column 'depth' has no finite number in line 5"),
        (changed(width="wide"), "column 'width' is 'wide' in line 5: give a number"),
        (changed(loss="low"), "column 'loss' is 'low' in line 5: give a number"),
        (changed(loss=-0.5), "column 'loss' is -0.5 in line 5: a law of sizes needs losses > 0"),
        (changed(depth=0), "column 'depth' is 0 in line 5: give a size > 0"),
        ([{"rank": 8, "loss": 1.0}], "has no column of a size (it has rank, loss)"),
        ([{"width": 8, "depth": 2, "error": 1.0}], "has no column 'loss'"),
        ([r | {"loss": "nan"} for r in rows()], "all 32 runs diverged"),
        ([r for r in rows() if r["width"] == 32 and r["depth"] == 2], "has only one size"),
        ([r for r in rows() if r["width"] == 32 and r["depth"] < 5], "has only two sizes"),
    ],
)
def test_mistakes_in_the_data(tmp_path, data, message):
    done = run(write(tmp_path / "runs.csv", data))
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("width,depth,loss\n", "has no rows"),
        ("width;depth;loss\n8;2;1\n", "is not separated by commas"),
        ("width,width,loss\n8;2;1\n", "names a column twice"),
        ("width,depth,loss\n8,2,1,7\n", "more cells than columns in line 2"),
        ("width,depth,loss\n8,2,1\n16\n", "has 1 cells for 3 columns in line 3: complete the line"),
        ("width,depth\n8,2\n", "has no column 'loss' (it has width, depth)"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    done = run(str(path))
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "1024"], "target='1024' is not WIDTHxDEPTH"),
        (["--limit", "0.2"], "limit='0.2' is not VALUE,ERROR"),
        (["--gain", "0"], "gain=0.0 is out of range"),
        (["--confidence", "2"], "confidence=2.0 is out of range"),
        (["--exponents", "fre"], "did you mean 'free'"),
        (["--loss", "test_loss"], "loss='test_loss' is no column of"),
        (["--draws", "3"], "draws=3 is too small"),
        (["--budget", "0.5"], "budget=0.5 is less than"),
    ],
)
def test_mistakes_in_the_flags(tmp_path, arguments, message):
    done = run(write(tmp_path / "runs.csv", rows()), "--quiet", *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_no_such_file():
    done = run("nowhere.csv")
    assert done.exit_code == 2
    assert "data='nowhere.csv' does not exist" in done.output


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, TypeError, "data=int cannot be read"),
        ([1, 2], TypeError, r"data\[0\]=1 is no dict"),
        ({"width": 3}, TypeError, r"data\['width'\]=3 is no column"),
        ({"width": [1, 2], "depth": [1], "loss": [1]}, ValueError, "different lengths"),
        ([], ValueError, "has no rows"),
        ([dict(width=8, depth=2, loss=1.0), dict(width=8, loss=1.0)], ValueError, "in row 1"),
    ],
)
def test_mistakes_in_python(data, error, message):
    with pytest.raises(error, match=message):
        ll.forecast(data)


def test_mistakes_in_questions():
    f = ll.forecast(rows(), draws=50)
    with pytest.raises(ValueError, match="axis='height' is unknown"):
        f.diminishing("height")
    with pytest.raises(ValueError, match="width=-1"):
        f.predict(-1)
    with pytest.raises(ValueError, match="does not grow with width and depth"):
        f.best(1e6, lambda width, depth, samples, steps: 1.0)
    with pytest.raises(ValueError, match="does not grow with every size"):
        f.best(1e6, lambda width, depth, samples, steps: width)
    with pytest.raises(TypeError, match="neither a Limit nor"):
        ll.forecast(rows(), limit=3)
