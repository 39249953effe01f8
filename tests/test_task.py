"""Your own loss and batches: every source gives the same batches again, and every call takes them."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import leadline as ll
from leadline.sweeps.driver import sweep
from leadline.tasks.data import stack
from leadline.tasks.first_call import first_call
from leadline.tasks.task import TaskData, data_of
from task_models import Net, drawn, mse, noisy, rows, squares, words

X, Y = rows(24)


def batches_of(batches, seed, steps=5):
    data = data_of(ll.Task(mse, batches=batches))
    return [data.batch(i, None, seed) for i in range(steps)]


def same(a, b):
    return all(
        torch.equal(u, v) for p, q in zip(a, b, strict=True) for u, v in zip(p, q, strict=True)
    )


def loader(**how):
    return DataLoader(TensorDataset(X, Y), batch_size=8, **how)


SOURCES = {
    "list": lambda: [(X[:8], Y[:8]), (X[8:16], Y[8:16])],
    "loader": loader,
    "shuffled": lambda: loader(shuffle=True),
    "generator of its own": lambda: loader(shuffle=True, generator=torch.Generator()),
    "function": lambda: drawn,
    "global numbers": lambda: noisy,
    "iterator function": lambda: lambda: iter([(X[:8], Y[:8]), (X[8:], Y[8:])]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_gives_the_same_batches_again(name):
    """In any order, in a new object, and whatever the caller's generators are at."""
    make = SOURCES[name]
    torch.manual_seed(1)
    first = batches_of(make(), seed=3, steps=7)
    torch.manual_seed(2)
    data = data_of(ll.Task(mse, batches=make()))
    backwards = [data.batch(i, None, 3) for i in reversed(range(7))][::-1]
    assert same(first, backwards)
    other = data.batch(2, None, 4)
    assert same([first[2]], [data.batch(2, None, 3)])
    assert len(other) == 2


@pytest.mark.parametrize("name", ["shuffled", "generator of its own", "function", "global numbers"])
def test_seeds_have_batches_of_their_own(name):
    make = SOURCES[name]
    assert not same(batches_of(make(), 0), batches_of(make(), 1))


def test_the_callers_random_numbers_go_on_as_if_nothing_had_happened():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches_of(loader(shuffle=True), 0)
    batches_of(noisy, 0)
    assert torch.equal(torch.rand(3), expected)


def test_an_epoch_holds_every_sample_once_and_the_next_has_another_order():
    seen = batches_of(loader(shuffle=True), seed=0, steps=6)
    epochs = [torch.cat([x for x, _ in seen[i : i + 3]]) for i in (0, 3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort(0).values, X.sort(0).values)
    assert not torch.equal(*epochs)


def test_a_loader_trains_as_a_plain_loop_over_it():
    """The last batch of an epoch is smaller: a recorded step holds for one form of batches."""
    x, y = rows(20)
    task = ll.Task(mse, batches=DataLoader(TensorDataset(x, y), batch_size=8), eval_batch=(x, y))
    how = dict(widths=[16], depths=[2], lrs=[1e-2], steps=90, optimizer="sgd", executor="inline")
    (row,) = sweep(task, Net, **how).rows
    torch.manual_seed(0)
    model = Net(16, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    parts = [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    for step in range(90):
        optimizer.zero_grad()
        mse(model, parts[step % 3]).backward()
        optimizer.step()
    with torch.no_grad():
        expected = float(mse(model, (x, y)))
        whole = np.mean([float(mse(model, parts[i % 3])) for i in range(4)])
    assert row["test_loss"] == pytest.approx(expected, rel=1e-4)
    assert row["loss"] == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_sweep_of_drawn_batches(executor):
    task = ll.Task(squares, batches=words, eval_batch=words(0, torch.Generator().manual_seed(0)))
    how = dict(widths=[16], depths=[2], lrs=[1e-3, 1e-2], seeds=2, steps=8, optimizer="sgd")
    done = sweep(task, Net, executor=executor, **how)
    assert done.failed == ()
    assert len(done.rows) == 4
    for row in done.rows:
        torch.manual_seed(row["seed"])
        model = Net(16, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=row["lr"])
        data = TaskData(task)
        for step in range(8):
            optimizer.zero_grad()
            squares(model, data.batch(step, None, row["seed"])).backward()
            optimizer.step()
        with torch.no_grad():
            assert row["test_loss"] == pytest.approx(
                float(squares(model, task.eval_batch)), rel=1e-4
            )


def test_a_store_knows_a_task_by_what_it_does(tmp_path):
    how = dict(widths=[16], depths=[1], lrs=[1e-2], steps=2, executor="inline", store=tmp_path)
    assert sweep(ll.Task(mse, batch=(X, Y)), Net, **how).fresh == 1
    assert sweep(ll.Task(mse, batch=(X.clone(), Y.clone())), Net, **how).fresh == 0
    assert sweep(ll.Task(mse, batch=(X + 1, Y)), Net, **how).fresh == 1
    assert sweep(ll.Task(squares, batch={"x": X, "y": Y}), Net, **how).fresh == 1
    assert sweep(ll.Task(mse, batches=loader(shuffle=True)), Net, **how).fresh == 1
    assert sweep(ll.Task(mse, batches=loader(shuffle=True)), Net, **how).fresh == 0
    assert sweep(ll.Task(mse, batches=loader()), Net, **how).fresh == 1
    assert sweep(ll.Task(mse, batch=(X, Y), name="mine"), Net, **how).fresh == 1
    assert sweep(ll.Task(squares, batch={"x": X, "y": Y}, name="mine"), Net, **how).fresh == 0


def test_a_task_that_cannot_be_told_needs_a_name(tmp_path):
    generator = torch.Generator()
    task = ll.Task(
        lambda m, b: mse(m, b) + 0 * torch.rand(1, generator=generator).sum(), batch=(X, Y)
    )
    how = dict(widths=[16], depths=[1], lrs=[1e-2], steps=2, executor="inline", store=tmp_path)
    with pytest.raises(TypeError, match=r"give the task a name, ll.Task\(..., name='my-task'\)"):
        sweep(task, Net, **how)
    named = ll.Task(task.loss, batch=task.batch, name="noisy")
    assert sweep(named, Net, **how).fresh == 1


def test_tasks_pickle_without_what_they_have_read():
    task = ll.Task(mse, batches=[(X[:8], Y[:8]), (X[8:], Y[8:])])
    data = data_of(task)
    data.batch(1, None, 0)
    again = data_of(pickle.loads(pickle.dumps(task)))
    assert same([again.batch(1, None, 0)], [data.batch(1, None, 0)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ll.Task(3, batch=X), TypeError, "loss=3 cannot be called"),
        (lambda: ll.Task(mse), ValueError, "give batch= .* or batches="),
        (lambda: ll.Task(mse, batch=X, batches=[X]), ValueError, "give one of them"),
        (lambda: ll.Task(mse, batches=iter([X])), TypeError, "can be read only once"),
        (lambda: ll.Task(mse, batches=X), TypeError, "one batch that stays is batch="),
        (lambda: ll.Task(mse, batches=[]), ValueError, "is empty"),
        (lambda: ll.Task(mse, batches=3), TypeError, "cannot be iterated over"),
        (lambda: ll.Task(mse, batches=lambda a, b, c: X), TypeError, "takes 3 arguments"),
        (lambda: ll.Task(mse, batch=X, name=""), ValueError, "is empty: give one"),
        (lambda: data_of(ll.Task(mse, batch=X)).batch(0, 4, 0), ValueError, "batch_size=4"),
        (lambda: data_of(Net), TypeError, "a Problem or a Text first, then the builder"),
    ],
)
def test_bad_tasks(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m, b: m(b[0])[:, 99].sum(), r"failed with IndexError.*test_task.py, line \d+, in"),
        (lambda m, b: m(b[0][:, :3]).sum(), r"failed with RuntimeError.*task_models.py, line \d+"),
        (lambda m, b: m(b[0]), r"returned \(24, 2\): return a scalar"),
        (lambda m, b: m(b[0]).sum().item(), "returned float: return a scalar"),
        (lambda m, b: m(b[0]).detach().sum(), "has no gradient"),
        (lambda m, b: m(b[0]).sum() * torch.nan, "is nan on the first batch"),
    ],
)
def test_errors_of_the_loss_come_first_in_one_line(loss, message, tmp_path):
    task = ll.Task(loss, batch=(X, Y), name="wrong")
    how = dict(widths=[16, 32], depths=[1], lrs=[1e-2], steps=2, executor="inline")
    for call in (
        lambda: sweep(task, Net, **how),
        lambda: ll.transfer(task, Net, **how | dict(lrs=[1e-3, 1e-2, 1e-1])),
        lambda: ll.check(task, Net, widths=(16, 32), depths=(1, 2), progress=False),
    ):
        with pytest.raises(ValueError, match=message) as e:
            call()
        assert "\n" not in str(e.value)


def test_an_empty_loader_is_said():
    data = data_of(ll.Task(mse, batches=DataLoader(TensorDataset(X[:4], Y[:4]), 8, drop_last=True)))
    with pytest.raises(ValueError, match="holds no batch"):
        data.batch(0, None, 0)


def test_check_takes_a_builder_or_a_plan():
    task = ll.Task(mse, batch=(X, Y))
    how = dict(widths=(16, 32), depths=(1, 2), lr=1e-3, seeds=1, steps=2, progress=False)
    plan = ll.plan(Net, dict(width=16, depth=1))
    by_plan, by_builder = ll.check(task, plan, **how), ll.check(task, Net, **how)
    assert by_plan.rows == by_builder.rows
    assert ll.check(task, Net, optimizer="sgd", **how).title.endswith("sgd")
    with pytest.raises(TypeError, match="scheme='mup' beside a plan"):
        ll.check(task, plan, scheme="mup", **how)


def test_check_takes_problems_and_texts():
    problem = ll.digits(classes=(0, 1), samples=16, test_samples=0)
    how = dict(widths=(16, 32), depths=(1, 2), lr=1e-3, seeds=1, steps=1, progress=False)
    assert ll.check(problem, ll.residual_mlp(64, 1), **how).rows
    text = ll.text(context=8, limit_bytes=100_000)
    assert ll.check(text, ll.gpt(context=8, head_size=8), **how).rows


def test_inputs_are_what_the_loss_calls_the_model_with():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)

        def forward(self, x, scale, *, shift=0.0):
            return self.a(x) * scale + shift

    task = ll.Task(lambda m, b: m(b[0], b[1], shift=1.0).mean(), batch=(X, Y[:, :1]))
    taken = first_call(data_of(task), Two())
    assert list(taken) == ["x", "scale", "shift"]
    assert torch.equal(taken["scale"], Y[:, :1])
    task = ll.Task(lambda m, b: m.a(b[0]).mean(), batch=(X, Y))
    assert first_call(data_of(task), Two()) is None


def test_stacks_only_what_is_alike():
    assert stack([{"x": X, "n": 3}, {"x": X, "n": 3}])["x"].shape == (2, *X.shape)
    assert stack([{"x": X, "n": 3}, {"x": X, "n": 4}]) is None
    assert stack([X, X[:3]]) is None
    assert stack([(X, object()), (X, object())]) is None


def test_a_held_out_batch_that_the_loss_cannot_take_is_refused_before_any_training():
    task = ll.Task(mse, batch=(X, Y), eval_batch=(X[:, :3], Y))
    how = dict(widths=[8], depths=[2], lrs=[1e-3], steps=10**6, progress=False)
    with pytest.raises(
        ValueError, match=r"eval_batch: loss\(model, batch\) failed with .*_models.py"
    ):
        ll.sweep(task, Net, **how)
