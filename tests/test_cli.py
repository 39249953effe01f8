"""The program: what goes where, what is refused and how, what survives being killed."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open

import leadline as ll
from leadline.cli import main
from leadline.cli.flags import FLAGS, named
from leadline.cli.lifecycle import message, one_line
from leadline.cli.values import Bytes

PROBLEM = "teacher?samples=6,dimension=4,test_samples=3"
SMALL = ["--problem", PROBLEM, "--steps", "2"]
SIZE = ["--width", "32", "--depth", "2"]
COMMANDS = ("solve", "train", "limit", "lazy", "compare", "kernels")


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    """The one line on stderr of a call that exits with 2."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def program(*arguments):
    return [sys.executable, "-m", "leadline", *arguments]


def test_json_of_solve_and_train_is_all_there_is_on_stdout():
    for command in ("solve", "train"):
        result = call(command, *SMALL, *SIZE, "--seeds", 2, "--json")
        assert result.exit_code == 0
        data = json.loads(result.stdout)
        run = getattr(ll, command)(
            ll.parse(PROBLEM), ll.ResNet(), ll.SGD(lr=0.3, steps=2), width=32, depth=2, seeds=2
        )
        assert data["train_loss"] == run.train_loss.tolist()
        assert np.shape(data["test_loss"]) == (2, 3)
        assert np.shape(data["train_outputs"]) == (2, 3, 6, 1)


def test_json_of_limit_lazy_compare_and_kernels():
    options = [*SMALL, "--json"]
    limit = json.loads(call("limit", *options, *SIZE, "--rtol", 0.9, "--seeds", 2).stdout)
    assert len(limit["train_loss"]) == len(limit["train_loss_error"]) == 3
    lazy = json.loads(call("lazy", *options, "--depth", 2).stdout)
    assert np.shape(lazy["train_loss"]) == (1, 3)
    options += ["--sizes", "16x1,32x2", "--rtol", 0.9, "--seeds", 2]
    compared = json.loads(call("compare", *options).stdout)
    assert [row["width"] for row in compared["rows"][-2:]] == [16, 32]
    kernels = json.loads(call("kernels", "--problem", PROBLEM, "--json").stdout)
    assert np.shape(kernels["tangent"]) == (6, 6)
    assert kernels["depth"] is None


def test_without_json_the_result_is_printed():
    assert call("train", *SMALL, *SIZE).stdout.startswith("Trajectory(train: width=32, depth=2")
    assert "tangent_hidden" in call("kernels", "--problem", PROBLEM).stdout


def test_every_flag_arrives():
    arguments = [
        "train", "--problem", "teacher?samples=6,dimension=4,outputs=2", "--loss", "cross_entropy",
        "--width", "16", "--depth", "3", "--coupling", "independent", "--steps", "4",
        "--lr", "0.01", "--batch-size", "3", "--momentum", "0.5", "--weight-decay", "0.1",
        "--train", "hidden,readout", "--activation", "relu", "--block-layers", "2", "--no-skip",
        "--gain", "1.5", "--horizon", "2", "--scheme", "mup", "--seeds", "2", "--seed", "7",
        "--record-every", "2", "--dtype", "float64", "--device", "cpu", "--memory", "1GiB",
        "--json", "--quiet",
    ]  # fmt: skip
    info = json.loads(call(*arguments).stdout)["info"]
    expected = ll.train(
        ll.teacher(samples=6, dimension=4, outputs=2, loss="cross_entropy"),
        ll.ResNet("relu", block_layers=2, skip=False, gain=1.5, horizon=2.0, scheme="mup"),
        ll.SGD(0.01, 4, 3, 0.5, ("hidden", "readout"), weight_decay=0.1),
        width=16,
        depth=3,
        coupling="independent",
        seeds=2,
        seed=7,
        record_every=2,
        dtype="float64",
    ).info
    for key in set(expected) - {"seconds", "draw_seconds"}:
        assert info[key] == expected[key], key
    info = json.loads(
        call("solve", *SMALL, *SIZE, "--center", "--tol", 0.1, "--variance-reduction", "ends",
             "--json").stdout
    )["info"]  # fmt: skip
    assert info["sgd"]["center"] is True
    assert (info["tol"], info["variance_reduction"]) == (0.1, "ends")


def test_out_holds_the_results_and_a_figure(tmp_path):
    out = tmp_path / "new" / "folder"
    result = call("solve", *SMALL, *SIZE, "--out", out, "--json")
    names = {
        "trajectory.safetensors",
        "result.json",
        "figure.html",
        "page.json",
        "checkpoint.safetensors",
    }
    assert {p.name for p in out.iterdir()} == names
    assert json.loads((out / "result.json").read_text()) == json.loads(result.stdout)
    loaded = ll.Trajectory.load(out / "trajectory.safetensors")
    assert loaded.train_loss.tolist() == json.loads(result.stdout)["train_loss"]
    assert "wrote" in result.stderr
    call("limit", *SMALL, *SIZE, "--rtol", 0.9, "--seeds", 2, "--out", tmp_path / "l")
    assert {p.name for p in (tmp_path / "l").iterdir()} == {
        "result.json",
        "figure.html",
        "page.json",
        "sizes",
    }
    call("kernels", "--problem", PROBLEM, "--out", tmp_path / "k")
    assert {p.name for p in (tmp_path / "k").iterdir()} == {
        "result.json",
        "figure.html",
        "page.json",
    }
    call("compare", *SMALL, "--sizes", "16x1", "--scheme", "ntk", "--out", tmp_path / "c")
    assert {p.name for p in (tmp_path / "c").iterdir()} == {
        "compare.json",
        "compare.html",
        "page.json",
        "lazy.safetensors",
        "train-16x1-reused.safetensors",
        "train-16x1-independent.safetensors",
    }


@pytest.mark.parametrize("command", ["solve", "train", "limit", "compare"])
def test_dry_run_predicts_and_writes_nothing(command, tmp_path):
    result = call(command, *SMALL, "--dry-run", "--out", tmp_path / "none")
    assert result.exit_code == 0
    assert "for the first step, at most" in result.stdout
    assert "rough estimate" in result.stdout
    assert not (tmp_path / "none").exists()
    data = json.loads(call(command, *SMALL, "--dry-run", "--json").stdout)
    assert 0 < data["first_step_bytes"] <= data["at_most_bytes"]
    assert 0 < data["seconds"] < 3600


def test_dry_run_refuses_what_a_run_would():
    line = refused("solve", *SMALL, "--memory", "1KiB", "--dry-run")
    assert "budget memory=1,024" in line
    line = refused("train", *SMALL, "--memory", "1KiB", "--dry-run")
    assert "budget memory=1,024" in line
    assert "no infinite-depth limit" in refused("limit", *SMALL, "--no-skip", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--problem", "npz:missing.npz"], ["missing.npz", "does not exist"]),
        (["--problem", "digit:0,1"], ["did you mean 'digits'"]),
        (["--problem", "digits:0,1?samples=1"], ["samples=1", "(in --problem)"]),
        (["--scheme", "depth-nup"], ["did you mean 'depth-mup'"]),
        (["--activation", "rellu"], ["did you mean 'relu'"]),
        (["--batch-size", "7"], ["batch_size=7", "6 samples", "(--batch-size)"]),
        (["--block-layers", "0"], ["block_layers=0", "(--block-layers)"]),
        (["--width", "-1"], ["width=-1 is too small"]),
        (["--depth", "0"], ["depth=0"]),
        (["--lr", "nan"], ["lr=nan"]),
        (["--train", "hiden"], ["did you mean 'hidden'"]),
        (["--train", ""], ["train=() is empty"]),
        (["--coupling", "both"], ["coupling='both'"]),
        (["--seeds", "0"], ["seeds=0"]),
        (["--dtype", "float16"], ["dtype='float16'"]),
        (["--memory", "1000"], ["memory=1,000"]),
        (["--loss", "mae"], ["loss='mae'"]),
        (["--tol", "1"], ["tol=1.0"]),
        (["--record-every", "0"], ["(--record-every)"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words):
    line = refused("solve", *SMALL, *SIZE, *arguments)
    for word in words:
        assert word in line


def test_what_nobody_expected_is_one_line_too(capsys, monkeypatch, tmp_path):
    """Its class, its words, what is kept, and how to see more; a traceback where that is asked for."""
    monkeypatch.delenv("LEADLINE_TRACEBACK", raising=False)
    (tmp_path / "a.checkpoint").write_text("kept")
    kept = [(tmp_path, "*.checkpoint", "a.checkpoint holds what was done")]
    with pytest.raises(SystemExit) as ended, one_line(kept):
        raise RuntimeError("no such\nkernel")
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "Error: unexpected RuntimeError: no such kernel; a.checkpoint holds what was done; "
        "LEADLINE_TRACEBACK=1 in the environment shows where\n"
    )
    monkeypatch.setenv("LEADLINE_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="no such"), one_line([]):
        raise RuntimeError("no such kernel")


def test_damaged_files_are_one_line_and_exit_code_2(tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, x=np.eye(4), y=np.ones(4))
    data.write_bytes(data.read_bytes()[:100])
    assert str(data) in refused("train", "--problem", f"npz:{data}")
    saved = tmp_path / "checkpoint"
    assert call("solve", *SMALL, *SIZE, "--checkpoint", saved).exit_code == 0
    assert "another computation" in refused("solve", *SMALL, "--checkpoint", saved)
    saved.write_bytes(saved.read_bytes()[:-10])
    assert "not a whole checkpoint" in refused("solve", *SMALL, *SIZE, "--checkpoint", saved)
    for command in COMMANDS:
        assert "is a file" in refused(command, "--out", data)


def test_other_commands_refuse_in_the_same_way():
    assert "skip=False" in refused("limit", *SMALL, "--no-skip")
    assert "(--no-skip)" in refused("limit", *SMALL, "--no-skip")
    assert "weight_decay" in refused("lazy", *SMALL, "--scheme", "ntk", "--weight-decay", "1")
    assert "seeds=1" in refused("compare", *SMALL, "--seeds", "1")
    assert "scheme" in refused("kernels", "--problem", PROBLEM, "--scheme", "mup")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["slove"], "slove"),
        (["solve", "--widht", "3"], "--width"),
        (["solve", "--width", "x"], "not a valid integer"),
        (["compare", "--sizes", "64,4"], "64x4,128x8"),
        (["solve", "--memory", "4 apples"], "4GiB"),
    ],
)
def test_what_click_refuses(arguments, words):
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("123", 123),
        ("1e9", 10**9),
        ("4GiB", 2**32),
        ("4 gib", 2**32),
        ("4G", 2**32),
        ("2KB", 2000),
        ("1.5MB", 1_500_000),
        ("1TiB", 2**40),
        ("7B", 7),
    ],
)
def test_memory_units(text, count):
    assert Bytes().convert(text, None, None) == count


def test_key_errors_are_unquoted_and_flags_named_only_where_they_differ():
    assert message(KeyError("x='a' is unknown")) == "x='a' is unknown"
    assert named("width=3 and scheme='a'") == "width=3 and scheme='a'"
    assert named("weight_decay=3").endswith("(--weight-decay)")


def test_divergence_is_a_result_with_a_warning():
    options = ["--scheme", "mup", "--activation", "relu", "--lr", "1e6", "--steps", "6"]
    for command in ("solve", "train"):
        result = call(command, "--problem", PROBLEM, *SIZE, *options, "--json")
        assert result.exit_code == 0
        assert "Warning: diverged at step " in result.stderr
        loss = json.loads(result.stdout)["train_loss"][0]
        assert loss[0] is not None
        assert loss[-1] is None


def test_an_interruption_says_what_is_kept(tmp_path, monkeypatch):
    saved = []

    def interrupted(*_, **__):
        for path in saved:
            path.write_text("here")
        raise KeyboardInterrupt

    monkeypatch.setattr(ll, "solve", interrupted)
    monkeypatch.setattr(ll, "compare", interrupted)
    for command in ("solve", "compare"):
        result = call(command, *SMALL, "--out", tmp_path)
        assert result.stderr == "Interrupted: nothing was written\n"
    saved.append(tmp_path / "checkpoint.safetensors")
    result = call("solve", *SMALL, "--out", tmp_path)
    assert result.exit_code == 130
    assert "resumes from" in result.stderr
    assert str(tmp_path / "checkpoint.safetensors") in result.stderr
    result = call("compare", *SMALL, "--out", tmp_path)
    assert "finished branches are in" in result.stderr
    assert "nothing was written" in call("solve", *SMALL).stderr


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\n"
        "from leadline.cli import main\n"
        "for a in (['--help'], ['solve', '--help'], ['--version']):\n"
        "    try: main(a)\n"
        "    except SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'numpy', 'plotly', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"leadline, version {ll.__version__}" in done.stdout


def test_module_is_the_program():
    done = subprocess.run(program("--help"), capture_output=True, text=True)
    assert done.stdout.startswith("Usage: leadline [OPTIONS]")
    for command in COMMANDS:
        assert f"  {command} " in done.stdout


def test_every_command_has_its_flags():
    shared = {"--problem", "--scheme", "--json", "--out"}
    for command in COMMANDS:
        mine = {f.name for f in FLAGS if command in f.commands.split()}
        assert shared <= mine
        text = call(command, "--help").stdout
        assert all(name in text for name in mine)


def test_a_real_run_keeps_stdout_clean():
    done = subprocess.run(
        program("solve", *SMALL, *SIZE, "--json"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert np.shape(json.loads(done.stdout)["train_loss"]) == (1, 3)


def test_a_killed_solve_resumes_to_the_same_numbers(tmp_path):
    options = ["solve", "--problem", "teacher?samples=16,dimension=8", "--width", "256"]
    options += ["--depth", "6", "--steps", "60", "--seeds", "2", "--json", "--quiet"]
    kept = ["--out", str(tmp_path), "--checkpoint-every", "0.05"]
    saved = tmp_path / "checkpoint.safetensors"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        program(*options, *kept),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        for _ in range(3000):
            if saved.exists() or running.poll() is not None:
                break
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    with safe_open(saved, framework="numpy") as f:
        header = json.loads(f.metadata()["leadline"])
    assert header["finished"] == 0
    assert 0 < header["step"] < 60
    assert not (tmp_path / "result.json").exists()
    resumed = json.loads(call(*options, *kept).stdout)
    # Without a checkpoint the seeds are one program: the same numbers up to rounding.
    whole = json.loads(call(*options, "--out", str(tmp_path / "whole")).stdout)
    assert resumed["train_loss"] == whole["train_loss"]
    assert resumed["info"]["largest_rank"] == whole["info"]["largest_rank"]
