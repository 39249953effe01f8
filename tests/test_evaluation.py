"""Test inputs at fewer steps than training inputs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import leadline as ll
from leadline.cli import main
from leadline.measure.evaluation import check_test_every

SGD = ll.SGD(lr=0.3, steps=7)


def problem(tests: int) -> ll.Problem:
    """Digits with so many test inputs."""
    return ll.digits(classes=(0, 1), samples=6, test_samples=tests)


@pytest.mark.parametrize(
    ("steps", "rows", "tests", "every"),
    [
        (20, 32, 325, 20),  # one and a bit evaluations: the ends
        (100, 32, 325, 13),  # 9.8 evaluations: 0, 13, …, 91, 100
        (100, 32, 320, 12),  # ten
        (20, 32, 32, 1),
        (20, 32, 20, 1),
        (20, 32, 64, 3),  # ten: 0, 3, …, 18, 20
        (1, 1, 1000, 1),
        (20, None, 325, 1),
        (20, 32, 0, 1),
    ],
)
def test_automatic_interval(steps: int, rows: int | None, tests: int, every: int) -> None:
    assert check_test_every("auto", ll.SGD(steps=steps), 1, rows, tests) == every


@given(st.integers(1, 500), st.integers(1, 100), st.integers(1, 2000), st.integers(1, 40))
def test_automatic_interval_bounds_the_work(steps: int, rows: int, tests: int, every: int) -> None:
    interval = check_test_every("auto", ll.SGD(steps=steps), every, rows, tests)
    assert interval % every == 0
    evaluations = math.ceil(steps / interval) + 1
    # As many test inputs as are trained on, and the two ends in any case.
    assert evaluations <= max(2, (steps + 1) * rows / tests) or interval == 1 == every
    # No sparser than it has to be: the next smaller interval would be too much.
    smaller = interval - every
    if smaller and evaluations > 2:
        assert (
            math.ceil(steps / smaller) + 1 > math.floor((steps + 1) * rows / tests) or tests <= rows
        )


@pytest.mark.parametrize("size", [dict(width=24, depth=2), dict(width=24, depth=2, seeds=3)])
@pytest.mark.parametrize(("every", "steps"), [(3, [0, 3, 6, 7]), (7, [0, 7]), (50, [0, 7])])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_training_is_the_same_and_tests_are_those_of_their_steps(
    size: dict, every: int, steps: list[int], batch_size: int | None
) -> None:
    data, sgd = problem(9), ll.SGD(lr=0.3, steps=7, batch_size=batch_size)
    # Nothing is drawn for test inputs by this ensemble: their outputs are the same, not only in law.
    how = dict(**size, ensemble="fast", dtype="float64")
    whole = ll.solve(data, ll.ResNet(), sgd, **how, test_every=1)
    few = ll.solve(data, ll.ResNet(), sgd, **how, test_every=every)
    np.testing.assert_array_equal(whole.test_steps, whole.steps)
    np.testing.assert_array_equal(few.test_steps, steps)
    np.testing.assert_array_equal(few.steps, np.arange(8))
    # Rows that are multiplied beside others round otherwise.
    np.testing.assert_allclose(few.train_outputs, whole.train_outputs, rtol=0, atol=1e-12)
    for name in ("test_loss", "test_outputs", "test_accuracy"):
        wanted = getattr(whole, name)[:, steps]
        np.testing.assert_allclose(getattr(few, name), wanted, rtol=0, atol=1e-12)


def test_training_of_the_gaussian_ensemble_is_the_same() -> None:
    how = dict(width=24, depth=2, seeds=3, dtype="float64")
    whole = ll.solve(problem(9), ll.ResNet(), SGD, **how, test_every=1)
    few = ll.solve(problem(9), ll.ResNet(), SGD, **how, test_every=4)
    np.testing.assert_array_equal(few.train_outputs, whole.train_outputs)
    np.testing.assert_array_equal(few.test_outputs[:, 0], whole.test_outputs[:, 0])
    assert few.test_loss.shape == (3, 3)


def test_recorded_steps_are_where_tests_are() -> None:
    how = dict(width=16, depth=2, record_every=2)
    few = ll.solve(problem(9), ll.ResNet(), SGD, **how, test_every=4)
    np.testing.assert_array_equal(few.steps, [0, 2, 4, 6, 7])
    np.testing.assert_array_equal(few.test_steps, [0, 4, 7])
    with pytest.raises(ValueError, match=r"test_every=3 is no multiple of record_every=2.*=4"):
        ll.solve(problem(9), ll.ResNet(), SGD, **how, test_every=3)


def test_a_solve_says_where_it_has_tests_and_files_keep_it(tmp_path) -> None:
    s = ll.solve(problem(300), ll.ResNet(), SGD, width=16, depth=2, seeds=2)
    np.testing.assert_array_equal(s.test_steps, [0, 7])
    assert s.info["test_every"] == 7
    assert "at 2 of 8 recorded steps: test_every" in repr(s)
    again = ll.Trajectory.load(s.save(tmp_path / "s"))
    np.testing.assert_array_equal(again.test_steps, [0, 7])
    np.testing.assert_array_equal(again.test_outputs, s.test_outputs)
    assert json.loads(json.dumps(s.to_json()))["test_steps"] == [0, 7]
    table = s.to_pandas()
    assert table["test_loss"].notna().to_numpy().nonzero()[0].tolist() == [0, 7, 8, 15]
    np.testing.assert_array_equal(table["test_loss"].dropna(), s.test_loss.reshape(-1))


def test_a_diverged_run_keeps_its_first_evaluation() -> None:
    sgd = ll.SGD(lr=1e9, steps=7)
    s = ll.solve(problem(9), ll.ResNet("relu"), sgd, width=16, depth=2, seeds=2, test_every=7)
    assert (s.diverged >= 0).all()
    assert np.isfinite(s.test_loss[:, 0]).all()
    assert np.isnan(s.test_loss[:, 1]).all()


@pytest.mark.parametrize("value", [0, -3, 1.5, "often", True])
def test_bad_intervals_are_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError), match="test_every"):
        ll.solve(problem(9), ll.ResNet(), SGD, width=16, depth=2, test_every=value)


def test_a_builder_and_a_task() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(4, 5), torch.randn(4, 3)

    def loss(model, batch):
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    held_out = (torch.randn(50, 5), torch.randn(50, 3))
    build = ll.residual_mlp(5, 3)
    how = dict(base=dict(width=16, depth=2), width=32, depth=2, dtype="float64")
    recipe = ll.AdamW(lr=1e-3, steps=6)
    task = ll.Task(loss, batch=(x, y), eval_batch=held_out)
    whole = ll.solve(task, build, recipe, **how, ensemble="fast", test_every=1)
    few = ll.solve(task, build, recipe, **how, ensemble="fast")
    np.testing.assert_array_equal(few.test_steps, [0, 6])
    np.testing.assert_allclose(few.test_loss, whole.test_loss[:, [0, 6]], rtol=1e-12)
    np.testing.assert_allclose(few.train_loss, whole.train_loss, rtol=1e-12)
    few = ll.solve(problem(60), ll.residual_mlp(64, 1), recipe, **how, ensemble="fast")
    np.testing.assert_array_equal(few.test_steps, [0, 6])


def test_command() -> None:
    command = ["solve", "--problem", "digits:0,1?samples=4,test_samples=30", "--width", "16"]
    command += ["--depth", "2", "--steps", "6", "--json", "--quiet"]
    for every, steps in (("3", [0, 3, 6]), ("auto", [0, 6])):
        done = CliRunner().invoke(main, [*command, "--test-every", every], catch_exceptions=False)
        assert done.exit_code == 0
        assert json.loads(done.stdout)["test_steps"] == steps
    refused = CliRunner().invoke(main, [*command, "--test-every", "often"])
    assert refused.exit_code == 2
    assert "'often' is not a number of steps" in refused.output
