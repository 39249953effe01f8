"""Commands and their files: tried before the work, written after the result is printed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import leadline as ll
from disks import disk, read_only
from leadline.cli import lifecycle, main
from leadline.store.store import Store

PROBLEM = ("--problem", "teacher?samples=6,dimension=4")
SIZE = ("--width", "16", "--depth", "1")
RUN = ("--steps", "1", "--quiet")
COMMANDS = {
    "solve": (*PROBLEM, *SIZE, *RUN),
    "train": (*PROBLEM, *SIZE, *RUN),
    "limit": (*PROBLEM, *SIZE, *RUN, "--seeds", "2", "--rtol", "0.9"),
    "lazy": (*PROBLEM, *RUN),
    "compare": (*PROBLEM, *RUN, "--sizes", "16x1", "--seeds", "2", "--rtol", "0.9"),
    "kernels": PROBLEM,
}


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def table(tmp_path):
    rows = [f"{n},{l},{1 + 8 / n + 1 / l}" for n in (8, 16, 32, 64) for l in (1, 2, 4, 8)]
    (tmp_path / "runs.csv").write_text("width,depth,loss\n" + "\n".join(rows))
    return (tmp_path / "runs.csv", "--draws", "100", "--quiet")


def program(tmp_path):
    text = "from torch import nn\n\ndef build(width, depth):\n"
    text += "    import leadline\n    return leadline.residual_mlp(4, 2)(width, depth)\n"
    (tmp_path / "model.py").write_text(text)
    return f"{tmp_path / 'model.py'}:build"


@pytest.mark.parametrize("flag", ["--html", "--out", "--checkpoint", "--spill"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_work_begins_that_could_not_be_written(command, flag, tmp_path, monkeypatch):
    if flag in ("--checkpoint", "--spill") and command != "solve":
        return
    for name in (*COMMANDS, "initial_kernels"):
        monkeypatch.setattr(ll, name, None, raising=False)
    with disk(tmp_path / "disk", "64k") as small:
        paths = ["/proc/x", small / "new"]
        read_only(small)
        if flag == "--spill":
            paths = [small]
            monkeypatch.undo()
        if flag == "--checkpoint":
            monkeypatch.undo()
        for path in paths:
            done = call(command, *COMMANDS[command], flag, path)
            assert done.exit_code == 2, done.output
            assert done.stdout == ""
            (line,) = done.stderr.splitlines()
            assert f"{flag[2:]}={str(path)!r} cannot be written" in line


def test_other_commands_try_their_files_too(tmp_path):
    with Store(tmp_path / "store") as store:
        store.put({"k": 1}, {"loss": 1.0})
    model = program(tmp_path)
    commands = [
        ("forecast", *table(tmp_path), "--html", "/proc/x"),
        ("forecast", *table(tmp_path), "--out", "/proc/x"),
        ("plan", model, "--out", "/proc/x"),
        ("check", model, "--html", "/proc/x"),
        ("check", model, "--out", "/proc/x"),
        ("transfer", "mlp", "--html", "/proc/x"),
        ("transfer", "mlp", "--out", "/proc/x"),
        ("runs", tmp_path / "store", "--csv", "/proc/x"),
        ("study", "--claims", "4", "--preset", "quick", "--out", "/proc/x"),
    ]
    for command in commands:
        done = call(*command)
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        (line,) = done.stderr.splitlines()
        assert "='/proc/x' cannot be written: No such file" in line


def test_a_store_on_a_read_only_disk_is_refused_before_training(tmp_path):
    with disk(tmp_path / "disk", "4m") as small:
        with Store(small / "store") as store:
            store.put({"k": 1}, {"loss": 1.0})
        read_only(small)
        sizes = (
            "--widths",
            "8,16",
            "--depths",
            "2",
            "--seeds",
            "1",
            "--steps",
            "1",
            "--lrs",
            "1e-3",
        )
        done = call("sweep", "mlp", *sizes, "--store", small / "store", "--quiet")
        assert done.exit_code == 2
        assert done.stdout == ""
        assert (
            f"store={str(small / 'store')!r} cannot be written: the disk is read-only"
            in done.stderr
        )


@pytest.mark.parametrize("command", ["solve", "limit", "compare", "kernels"])
def test_a_disk_that_fills_up_costs_no_result(command, tmp_path):
    with disk(tmp_path / "disk", "64k") as small:
        # The page, megabytes of it, never fits; what is tried at the start does.
        where = ("--out", small / "out", "--html", small / "report.html")
        done = call(command, *COMMANDS[command], "--json", *where)
        assert done.exit_code == 1
        assert {"tangent", "train_loss", "rows"} & json.loads(done.stdout).keys()
        assert "Traceback" not in done.stderr
        for name in ("figure.html" if command != "compare" else "compare.html", "report.html"):
            said = [l for l in done.stderr.splitlines() if f"{name}' cannot be written" in l]
            assert "the disk is full: free space, or give a path elsewhere" in said[0]
        assert not list(small.rglob("*-part"))


def test_plan_table_and_forecast_are_printed_on_a_full_disk(tmp_path):
    with Store(tmp_path / "store") as store:
        store.put({"k": 1}, {"loss": 1.0})
    for command in (
        ("plan", program(tmp_path), "--out", "/dev/full"),
        ("runs", tmp_path / "store", "--csv", "/dev/full"),
        ("forecast", *table(tmp_path), "--html", "/dev/full"),
    ):
        done = call(*command)
        assert done.exit_code == 1
        assert done.stdout
        assert "='/dev/full' cannot be written: the disk is full" in done.stderr


def test_what_was_written_is_named_and_what_failed_is_not(tmp_path):
    with disk(tmp_path / "disk", "8k") as small:
        done = call("kernels", *PROBLEM, "--out", tmp_path / "out", "--html", small / "r.html")
        assert done.exit_code == 1
        assert f"wrote {tmp_path / 'out' / 'result.json'}" in done.stderr
        assert f"wrote {small}" not in done.stderr
        assert f", {small}" not in done.stderr


def test_a_full_spill_names_the_checkpoint_only_if_there_is_one(tmp_path):
    solve = ("solve", *PROBLEM, "--width", "2048", "--depth", "4", "--steps", "9", "--quiet")
    with disk(tmp_path / "disk", "300k") as small:
        done = call(*solve, "--spill", small, "--checkpoint", tmp_path / "c")
        assert done.exit_code == 2
        assert "spill=" in done.stderr
        assert "the disk is full" in done.stderr
        assert "resumes" not in done.stderr


# Streams and signals, of real processes


def run(command, redirect):
    command = f"{sys.executable} -m leadline {command} --json {redirect}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True)


def test_streams_that_are_closed_or_full():
    done = run(f"lazy {PROBLEM[0]} '{PROBLEM[1]}' --steps 1", "2>&-")
    assert done.returncode == 0
    assert "train_loss" in json.loads(done.stdout)
    done = run("explain mup", ">/dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "Warning: stdout cannot be written: No space left on device; direct it to a disk with room\n"
    )


def test_a_closed_stdout_is_refused(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        main(["kernels", *PROBLEM])
    assert ended.value.code == 2
    assert capfd.readouterr().err == "Error: stdout is closed: give a file, or /dev/null\n"


def test_a_stderr_that_fails_is_forgiven():
    class Broken:
        encoding = "utf-8"

        def write(self, *_):
            raise OSError(28, "full")

        flush = write

        def isatty(self):
            return True

    forgiving = lifecycle._Forgiving(Broken())
    assert forgiving.write("abc") == 3
    forgiving.flush()
    assert forgiving.isatty()


def interrupted(script, *signals):
    """A process of ours that says when it is ready, and gets signals."""
    # Ignored signals are inherited: tests may run in the background.
    code = "import signal, time, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from leadline.cli import lifecycle\n" + script
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for pause in signals:
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


READY = "    print('ready', flush=True)\n    time.sleep(60)\n"
STUBBORN = (
    "import gc\n"
    "class Slow:\n"
    "    def __del__(self):\n"
    "        print('ready', flush=True)\n"
    "        time.sleep(60)\n"
)


@pytest.mark.parametrize(
    ("script", "signals", "said"),
    [
        # In the work, once: in order. Twice, while the first is worked on: at once, and said as well.
        (
            f"with lifecycle._signals(), lifecycle.one_line([]):\n{READY}",
            [0.0],
            "nothing was written",
        ),
        (
            "with lifecycle._signals(), lifecycle.one_line([]):\n    try:\n"
            + READY.replace("    ", "        ")
            + "    finally:\n        time.sleep(60)\n",
            [0.3, 0.0],
            "nothing was written",
        ),
        # Where nobody catches: before and after the work, and in a destructor within it.
        (f"with lifecycle._signals():\n{READY}", [0.0], None),
        (
            STUBBORN
            + "with lifecycle._signals(), lifecycle.one_line([]):\n    Slow()\n    time.sleep(60)\n",
            [0.0],
            "nothing was written",
        ),
        # Libraries that raise other things when they are interrupted.
        (
            "with lifecycle._signals(), lifecycle.one_line([]):\n    try:\n"
            + READY.replace("    ", "        ")
            + "    except KeyboardInterrupt:\n        raise ImportError('half loaded') from None\n",
            [0.0],
            "nothing was written",
        ),
    ],
    ids=["once", "twice", "outside", "destructor", "import"],
)
def test_interruptions_are_a_line_and_never_a_traceback(script, signals, said):
    code, err = interrupted(script, *signals)
    assert code == 130
    assert err == ("" if said is None else f"Interrupted: {said}\n")


def test_a_background_job_that_ignores_signals_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with lifecycle._signals():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
