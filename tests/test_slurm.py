"""SLURM jobs beyond the suite of all executors: refusals, ends of jobs, what they leave behind.

Jobs run as submitit's local ones, processes of their own.
"""

import os
import signal
import threading
import time

import psutil
import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli import main
from leadline.executors import executor
from leadline.executors.slurm import Slurm
from leadline.store.store import Store
from leadline.sweeps.driver import sweep
from sweep_models import Model, leave_a_mark_and_stay, refuse_to_load, square

pytest.importorskip("submitit", reason="the extra slurm is not installed")


@pytest.fixture
def no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_sbatch_nothing_begins(no_slurm, tmp_path):
    data = ll.digits(classes=(0, 1), samples=16, test_samples=16)
    how = dict(widths=[16], depths=[2], lrs=[1e-3], store=tmp_path / "s", executor="slurm")
    with pytest.raises(ValueError, match=r"executor='slurm' needs sbatch.*login node"):
        sweep(data, Model, **how)
    assert not (tmp_path / "s").exists()


def test_the_command_refuses_in_one_line(no_slurm, tmp_path):
    arguments = ["sweep", "mlp", "--executor", "slurm", "--store", str(tmp_path / "s"), "--quiet"]
    done = CliRunner().invoke(main, [*arguments, "--slurm", "partition=long"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "sbatch" in done.stderr
    done = CliRunner().invoke(main, [*arguments, "--slurm", "partition="])
    assert "slurm='partition=' is not KEY=VALUE" in done.stderr


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="needs a folder that all nodes see: give a store"):
        executor("slurm")
    with pytest.raises(ValueError, match="give executor='slurm'"):
        executor("inline", slurm={"time": 5})
    with pytest.raises(ValueError, match="slurm=array=0-3 is not open: leave array out"):
        Slurm(tmp_path, {"array": "0-3"}, cluster="local")
    with pytest.raises(ValueError, match="cluster='lokal' is unknown"):
        Slurm(tmp_path, cluster="lokal")


def test_a_sweep_is_that_of_this_process_and_only_logs_are_left(tmp_path):
    data = ll.digits(classes=(0, 1), samples=16, test_samples=16)
    how = dict(widths=[16], depths=[2], lrs=[1e-3, 1e-2], steps=5)
    store = tmp_path / "s"
    jobs = Slurm(store / "slurm", workers=2, cluster="local")
    found = sweep(data, Model, store=store, executor=jobs, **how)
    inline = sweep(data, Model, executor="inline", **how)
    assert not found.failed
    assert [r["loss"] for r in found.rows] == [r["loss"] for r in inline.rows]
    with Store(store) as kept:
        assert len(kept.table()) == 2
        assert kept.check() == ()
    left = {p.suffix for p in (store / "slurm").iterdir()}
    assert left == {".out", ".err"}


def test_a_job_that_outlives_its_time_runs_again_and_is_an_error(tmp_path):
    seconds = 2.5
    jobs = Slurm(tmp_path / "jobs", {"time": seconds / 60}, workers=1, cluster="local")
    (outcome,) = jobs.run(leave_a_mark_and_stay, [str(tmp_path)])
    assert "died, as one before it" in outcome.error
    assert "more time" in outcome.error
    assert len(list((tmp_path / "jobs").glob("*.err"))) == 2


def test_a_task_that_cannot_be_loaded_is_an_error_at_once(tmp_path):
    jobs = Slurm(tmp_path, workers=1, cluster="local")
    (outcome,) = jobs.run(square, [refuse_to_load()])
    assert "failed: RuntimeError: not on this node" in outcome.error
    assert len(list(tmp_path.glob("*.err"))) == 1


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_interrupt_ends_the_jobs(tmp_path):
    jobs = Slurm(tmp_path / "jobs", workers=2, cluster="local")
    marks = tmp_path / "marks"
    marks.mkdir()

    def interrupt():
        while len(list(marks.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    # Programs that nohup or a shell's & started ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            list(jobs.run(leave_a_mark_and_stay, [str(marks)] * 3))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list(marks.iterdir())) == 2
    deadline = time.monotonic() + 30
    # A job that was told to end may take a moment to do so.
    while any(runs(int(p.name)) for p in marks.iterdir()):
        assert time.monotonic() < deadline, "a job outlived the interrupt"
        time.sleep(0.05)
