"""What the bases take: fewer digits, files, and a budget that is kept."""

import numpy as np
import pytest
import torch

import leadline as ll
from leadline.solving.configuration import Configuration
from leadline.solving.growing import Rows
from leadline.solving.memory import predict

PROBLEM = ll.digits(classes=(0, 1), samples=16, test_samples=20)
SGD = ll.SGD(lr=0.3, steps=8)
SIZE = dict(width=1024, depth=4, tol=0.005, variance_reduction="balanced")


def test_bases_in_files_change_nothing(tmp_path):
    inside = ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE)
    filed = ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE, spill=tmp_path)
    assert np.array_equal(inside.train_loss, filed.train_loss)
    assert np.array_equal(inside.test_outputs, filed.test_outputs)
    assert not list(tmp_path.iterdir())


def test_rows_in_a_file_are_the_rows(tmp_path):
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 300, generator=rng)
    spilled = Rows(300, torch.float32, torch.device("cpu"), spill=str(tmp_path))
    for part in rows.split(7):
        spilled.append(part)
    assert torch.equal(spilled.view, rows)


def test_half_the_digits_cost_less_than_seeds_do():
    """Rounding to 8 bits is far below what other seeds change; ranks stay what they are."""
    full = ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE, seeds=4)
    half = ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE, seeds=4, storage="bfloat16")
    spread = full.train_loss.std(0, ddof=1)[1:]
    assert (np.abs(half.train_loss - full.train_loss)[:, 1:] < spread / 3).all()
    # Rounded, the rank of one seed scatters by an eighth: the mean over eight seeds by 5 %.
    half_rank, full_rank = (
        sum(
            ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE, seed=s, storage=how).info["largest_rank"]
            for s in range(8)
        )
        for how in ("bfloat16", None)
    )
    assert abs(half_rank / full_rank - 1) < 0.15
    bytes_ = [
        predict(Configuration(PROBLEM, ll.ResNet(), SGD, 1024, 4, tol=SIZE["tol"], storage=s)).row
        for s in ("bfloat16", None)
    ]
    assert bytes_[0] < 0.8 * bytes_[1]


def test_half_the_digits_resume_from_a_checkpoint(tmp_path):
    path = tmp_path / "saved"
    how = SIZE | dict(storage="bfloat16")
    whole = ll.solve(PROBLEM, ll.ResNet(), SGD, **how)

    def stop(step, **_):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ll.solve(
            PROBLEM, ll.ResNet(), SGD, **how, checkpoint=path, checkpoint_every=0.0, progress=stop
        )
    again = ll.solve(PROBLEM, ll.ResNet(), SGD, **how, checkpoint=path)
    assert np.array_equal(whole.train_loss, again.train_loss)


def test_files_let_a_small_budget_do(tmp_path):
    """One weight's bases in memory at a time, instead of all four's."""
    task = (PROBLEM, ll.ResNet(), SGD, 1024, 4)
    budget = predict(Configuration(*task, spill=tmp_path)).at_most
    assert budget > predict(Configuration(*task)).first_step
    with pytest.raises(ll.MemoryBudgetError, match="the next step may need") as stopped:
        ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE, memory=budget, checkpoint=tmp_path / "c")
    assert stopped.value.checkpoint is not None
    ll.solve(PROBLEM, ll.ResNet(), SGD, **SIZE, memory=budget, spill=tmp_path)


@pytest.mark.parametrize(
    ("how", "part"),
    [
        (dict(seeds=10**15), "records"),
        (dict(width=10**15), "passes|weights"),
        (dict(depth=10**15), "layers"),
    ],
)
@pytest.mark.parametrize("verb", [ll.solve, ll.train])
def test_what_cannot_fit_is_refused_before_work_with_what_would_do(verb, how, part):
    with pytest.raises(MemoryError, match=f"needs [0-9,]+ bytes .*({part}|weights) ") as refused:
        verb(PROBLEM, ll.ResNet(), SGD, **(dict(width=64, depth=2) | how), memory=10**9)
    assert "memory= of at least" in str(refused.value)


@pytest.mark.parametrize("verb", [ll.solve, ll.train])
def test_the_budget_that_a_refusal_names_is_enough(verb):
    """Of a training whose rank cannot grow any more."""
    problem = ll.teacher(samples=300, dimension=2)
    how = dict(width=32, depth=1, seeds=2)
    sgd = ll.SGD(lr=0.1, steps=20)
    with pytest.raises(MemoryError) as refused:
        verb(problem, ll.ResNet(), sgd, **how, memory=10**6)
    least = int(str(refused.value).rsplit("at least ", 1)[1].replace(",", ""))
    with pytest.raises(MemoryError):
        verb(problem, ll.ResNet(), sgd, **how, memory=least - 1)
    verb(problem, ll.ResNet(), sgd, **how, memory=least)


def test_long_trainings_are_refused_for_their_records_alone():
    problem, network = ll.teacher(samples=4, dimension=2), ll.ResNet()
    sgd = ll.SGD(lr=1e-3, steps=10**12)
    for verb in (ll.solve, ll.train, ll.lazy):
        how = {} if verb is ll.lazy else dict(width=8, depth=1)
        with pytest.raises(MemoryError, match=r"records .*larger record_every="):
            verb(problem, network, sgd, **how)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(storage="int4"), "storage='int4' is unknown"),
        (dict(storage="bfloat16", tol=1e-3), "give tol >= 0.004"),
        (dict(spill="/nowhere/at/all"), "is not a folder"),
    ],
)
def test_mistakes_are_refused_before_work(wrong, message):
    with pytest.raises((ValueError, OSError), match=message):
        ll.solve(PROBLEM, ll.ResNet(), SGD, **(SIZE | wrong))
