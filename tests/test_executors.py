"""One suite that every executor passes."""

import pytest

from leadline.sweeps.executors import NAMES, executor
from sweep_models import die, die_once, fail_on_three, square


@pytest.fixture(params=NAMES, scope="module")
def worker(request, tmp_path_factory):
    if request.param == "ray":
        pytest.importorskip("ray", reason="the extra ray is not installed")
    if request.param == "slurm":
        pytest.importorskip("submitit", reason="the extra slurm is not installed")
        from leadline.sweeps.executors.slurm import Slurm

        return Slurm(tmp_path_factory.mktemp("jobs"), workers=2, cluster="local")
    return executor(request.param, None if request.param == "inline" else 2)


def test_every_task_has_one_outcome(worker):
    outcomes = list(worker.run(square, list(range(7))))
    assert sorted((o.index, o.value) for o in outcomes) == [(i, i * i) for i in range(7)]
    assert all(o.error is None for o in outcomes)


def test_an_error_is_an_outcome_and_the_others_go_on(worker):
    outcomes = {o.index: o for o in worker.run(fail_on_three, [1, 3, 5])}
    assert outcomes[1].error == "ValueError: three is not wanted"
    assert [outcomes[i].value for i in (0, 2)] == [1, 5]


def test_no_tasks(worker):
    assert list(worker.run(square, [])) == []


def test_leaving_early_stops(worker):
    for outcome in worker.run(square, list(range(50))):
        assert outcome.error is None
        break


def test_a_task_whose_worker_dies_runs_again(worker, tmp_path):
    if not worker.pickles:
        pytest.skip("in this process nothing survives")
    tasks = [(str(tmp_path / str(i)), i) for i in range(3)]
    (tmp_path / "0").touch()
    (tmp_path / "2").touch()
    outcomes = sorted(worker.run(die_once, tasks), key=lambda o: o.index)
    assert [o.value for o in outcomes] == [0, 1, 2], outcomes


def test_a_task_that_always_dies_is_an_error(worker):
    if not worker.pickles:
        pytest.skip("in this process nothing survives")
    (outcome,) = worker.run(die, [1])
    assert "died" in outcome.error


def test_unknown_executors_and_bad_workers():
    with pytest.raises(ValueError, match="executor='thread' is unknown"):
        executor("thread")
    with pytest.raises(ValueError, match="workers=0 is too small"):
        executor("processes", 0)
