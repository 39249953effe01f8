"""Commands that would run for hours, or whose arguments no machine holds: refused at once, or told."""

import json
import re

import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli import main

SMALL = ["--problem", "teacher?samples=4,dimension=2", "--width", "8", "--depth", "1"]
TRANSFER = ["transfer", "mlp", "--executor", "inline", "--dry-run"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solve", *SMALL, "--steps", 10**12], "(records .*record_every=.*--record-every)"),
        (["train", *SMALL, "--steps", 10**12], "(records .*record_every=.*--record-every)"),
        (["solve", *SMALL, "--memory", "1e999"], "'1e999' is not a size: give bytes"),
        (["solve", *SMALL, "--horizon", "1e308"], r"horizon=1e\+308 is out of range: .*<= 1e\+15"),
        (["solve", *SMALL, "--gain", "1e200"], r"gain=1e\+200 is out of range"),
        (["solve", *SMALL, "--momentum", "-0.1"], "momentum=-0.1 .* >= 0 and < 1"),
        (["solve", *SMALL, "--tol", "nan"], "tol=nan .* >= 0 and < 1"),
        (["limit", *SMALL, "--rtol", "0"], "rtol=0.0 .* > 0 and < 1"),
        (["limit", *SMALL, "--rtol", "1"], "rtol=1.0 .* > 0 and < 1"),
        (
            ["solve", *SMALL, "--block-layers", 10**6],
            "block_layers=1000000 is too large: .* <= 1000",
        ),
        (["solve", *SMALL, "--seeds", 10**15], "records .*fewer steps, seeds"),
        (
            ["solve", *SMALL, "--width", 10**15],
            "width=1000000000000000, depth=1 (needs|.* need) [0-9,]+ bytes",
        ),
        (["solve", "--problem", "teacher?samples=10²¹"], "samples='10²¹' .* give an integer"),
        (
            ["solve", "--problem", "teacher?samples=" + "1" + "0" * 21],
            "samples=1000000000000000000000 is",
        ),
        (["solve", "--problem", "teacher?samples=10000000000"], "samples .* need .* are available"),
        (
            [*TRANSFER, "--lrs", "1e-300:1e300:1.0000001"],
            "would be [0-9,]+ values: give a larger FACTOR",
        ),
        ([*TRANSFER, "--lrs", "1e-3:inf:2"], "is not a list of numbers"),
        ([*TRANSFER, "--widths", "²,3"], "widths=.* is not a list of numbers"),
        ([*TRANSFER, "--seeds", 10**9], "seeds=1000000000 is too large: .* <= 1000000"),
        ([*TRANSFER, "--extend", 10**9], "extend=1000000000 is too large"),
        (["sweep", "mlp", "--lrs", "1e-9:1e9:1.1", "--seeds", 10**5], "the sweep would be .* runs"),
        (["study", "--claims", "1-99999999999", "--dry-run"], "claims=.* are no numbers"),
        (["forecast", "/nonexistent\n.csv"], "does not exist"),
    ],
)
def test_refused_at_once(arguments, words):
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert re.search(words, lines[0]), lines[0]


def test_a_dry_run_of_long_work_says_how_long():
    long = ["--steps", 10**9, "--record-every", 10**8, "--block-layers", 300]
    cost = json.loads(call("solve", *SMALL, *long, "--dry-run", "--json").stdout)
    short = json.loads(call("solve", *SMALL, "--steps", 10, "--dry-run", "--json").stdout)
    # Ten times fewer than what steps and layers say: the first steps of a short run are its slowest.
    assert cost["seconds"] > 10**8 * short["seconds"] > 0
    assert (
        "days" in call("solve", *SMALL, *long, "--dry-run").stdout or cost["seconds"] > 2 * 31557600
    )


def test_json_is_the_result(tmp_path):
    problem = "teacher?samples=60,dimension=2,outputs=80"
    arguments = ["solve", "--problem", problem, "--width", 8, "--depth", 1, "--steps", 1]
    result = call(*arguments, "--json", "--out", tmp_path)
    solved = ll.solve(ll.parse(problem), ll.ResNet(), ll.SGD(lr=0.3, steps=1), width=8, depth=1)
    for text in (result.stdout, (tmp_path / "result.json").read_text()):
        found = json.loads(text)
        assert found["train_outputs"] == solved.train_outputs.tolist()
        assert found["info"]["network"] == solved.info["network"]


@pytest.mark.parametrize(
    "place", [["forecast", "runs.csv", "X"], ["X"], ["solve", "--X"], ["solve", "--steps", "X"]]
)
def test_what_is_not_understood_is_not_repeated_in_full(place):
    result = call(*[word.replace("X", "x" * 5000) for word in place])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "xxx…" in line
    assert len(line) < 300
