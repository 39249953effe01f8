"""Training a builder's models: against plain torch loops, in full and mini-batches, with each recipe."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, Model, mse
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.problems.losses import loss_value
from leadline.tracing.builder import seed_of_passes
from leadline.training.trainer import train_task

BASE, SIZE = dict(width=16, depth=2), dict(width=32, depth=4)
HOW = dict(base=BASE, **SIZE)
COURSE = (1.0, 0.5, 2.0, 0.25, 1.0)


def streams(step, generator):
    """Batches of 8 that differ from step to step."""
    x = torch.randn(8, 8, generator=generator)
    return x, torch.sin(x @ torch.ones(8, 4))


TASK = ll.Task(mse, batches=streams, eval_batch=BATCH)
RECIPES = (
    ll.SGD(lr=0.1, momentum=0.9, weight_decay=0.05),
    ll.Adam(lr=5e-3, weight_decay=0.05),
    ll.AdamW(lr=5e-3, weight_decay=0.05, eps=1e-5, betas=(0.8, 0.9)),
    ll.Lion(lr=2e-3, weight_decay=0.05),
    ll.SignSGD(lr=2e-3, momentum=0.5, weight_decay=0.05),
    ll.Muon(lr=0.05, weight_decay=0.05, adamw=dict(lr=5e-3)),
    ll.Muon(lr=0.05, adjust="match-rms"),
)


def groups_by_hand(plan, model, recipe):
    """Every parameter alone, at the base's settings times the plan's factors."""
    for name, p in model.named_parameters():
        f = plan.factors(model)[name]
        yield name, p, recipe.lr * f.lr, recipe.weight_decay * f.weight_decay, f.eps


def optimizers_by_hand(plan, model, recipe):
    out = []
    for name, p, lr, decay, eps in groups_by_hand(plan, model, recipe):
        how = dict(lr=lr, weight_decay=decay)
        if isinstance(recipe, ll.SGD):
            out.append(torch.optim.SGD([p], momentum=recipe.momentum, **how))
        elif isinstance(recipe, ll.AdamW | ll.Adam):
            kind = getattr(torch.optim, type(recipe).__name__)
            out.append(kind([p], eps=recipe.eps * eps, betas=recipe.betas, **how))
        elif name.startswith("blocks") and p.ndim == 2:
            continue
        else:
            (rest,) = [g for n, *g in groups_by_hand(plan, model, recipe.rest) if n == name]
            p, lr, decay, eps = rest
            out.append(torch.optim.AdamW([p], lr=lr, weight_decay=decay, eps=1e-8 * eps))
    return out


def polar(g, steps=5):
    """Newton–Schulz by singular values."""
    u, s, v = torch.linalg.svd(g, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


def step_by_hand(plan, model, recipe, multiplier, kept):
    """Lion, SignSGD and Muon's matrices, written out."""
    with torch.no_grad():
        for name, p, lr, decay, _ in groups_by_hand(plan, model, recipe):
            g, m, lr = p.grad, kept.setdefault(name, torch.zeros_like(p)), lr * multiplier
            if isinstance(recipe, ll.Lion):
                b1, b2 = recipe.betas
                update = torch.sign(b1 * m + (1 - b1) * g)
                kept[name] = b2 * m + (1 - b2) * g
            elif isinstance(recipe, ll.SignSGD):
                kept[name] = recipe.momentum * m + (1 - recipe.momentum) * g
                update = torch.sign(kept[name])
            elif name.startswith("blocks") and p.ndim == 2:
                kept[name] = 0.95 * m + 0.05 * g
                update = polar(0.05 * g + 0.95 * kept[name])
                if recipe.adjust == "match-rms":
                    update *= 0.2 * math.sqrt(max(p.shape))
            else:
                continue
            p.copy_(p * (1 - lr * decay) - lr * update)


def loop(plan, recipe, dtype, seed=0, width=32, depth=4):
    """Losses by a plain loop; the model is drawn and scaled as by hand."""
    torch.manual_seed(seed)
    model = plan.apply(Model(width, depth)).to(dtype)
    written_out = isinstance(recipe, ll.Lion | ll.SignSGD | ll.Muon)
    made = [] if isinstance(recipe, ll.Lion | ll.SignSGD) else None
    made = optimizers_by_hand(plan, model, recipe) if made is None else made
    rates = [o.param_groups[0]["lr"] for o in made]
    kept, losses, tests = {}, [], []
    for k in range(recipe.steps + 1):
        number = int(
            np.random.SeedSequence([0, k, 3]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        )
        batch = [t.to(dtype) for t in streams(k, torch.Generator().manual_seed(number))]
        loss = mse(model, batch)
        losses.append(loss.item())
        tests.append(mse(model, [t.to(dtype) for t in BATCH]).item())
        if k == recipe.steps:
            break
        model.zero_grad()
        loss.backward()
        if recipe.clip is not None:
            folds = {n: f.fold for n, f in plan.factors(model).items()}
            norm = sum(
                float((p.grad * folds[n]).square().sum()) for n, p in model.named_parameters()
            )
            for p in model.parameters():
                p.grad *= min(1.0, recipe.clip / (norm**0.5 + 1e-6))
        for o, lr in zip(made, rates, strict=True):
            o.param_groups[0]["lr"] = lr * recipe.multiplier(k)
            o.step()
        if written_out:
            step_by_hand(plan, model, recipe, recipe.multiplier(k), kept)
    return losses, tests


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.optimizer)
def test_each_recipe_is_a_plain_loop(recipe, dtype):
    """Schedule, clipping that acts, mini-batches of a stream; float32 rounds, and signs then differ."""
    recipe = replace(recipe, steps=5, schedule=COURSE, clip=0.5)
    c = TaskConfiguration(TASK, Model, recipe, dtype=dtype, **HOW)
    losses, tests = loop(c.plan, recipe, dtype)
    ours = train_task(c)
    assert ours.train_outputs is None
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(ours.train_loss[0], losses, rtol=tolerance)
    np.testing.assert_allclose(ours.test_loss[0], tests, rtol=tolerance)
    unclipped = train_task(replace(c, recipe=replace(recipe, clip=None), plan=c.plan))
    signs = isinstance(recipe, ll.Lion | ll.SignSGD)
    assert signs or abs(unclipped.train_loss[0, -1] / losses[-1] - 1) > 1e-6


PROBLEM = ll.digits(classes=(0, 1), samples=12, test_samples=6)


class Normed(nn.Module):
    """With batch norm and dropout: modes, buffers and random numbers matter."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed, self.norm = nn.Linear(64, width), nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.readout, self.drop = nn.Linear(width, 1), nn.Dropout(0.3)

    def forward(self, x):
        h = self.norm(self.embed(x))
        for block in self.blocks:
            h = h + self.drop(torch.tanh(block(h)))
        return self.readout(h)


@pytest.mark.parametrize("size", [None, 5])
def test_outputs_of_a_problem_are_the_models(size):
    """Full batch: of the training pass, dropout and batch statistics in it; else of evaluation mode."""
    recipe = ll.SGD(lr=0.2, steps=3, batch_size=size)
    c = TaskConfiguration(PROBLEM, Normed, recipe, dtype="float64", scheme="mup", seed=3, **HOW)
    ours = train_task(c)
    model = c.model(0)
    torch.manual_seed(seed_of_passes(3))
    optimizer = torch.optim.SGD(c.plan.param_groups(model, lr=0.2))
    x, y = (torch.tensor(a) for a in (PROBLEM.x, PROBLEM.y))
    x_test = torch.tensor(PROBLEM.x_test)
    for k in range(4):
        model.eval()
        test, plain = model(x_test).detach().numpy(), model(x).detach()
        model.train()
        batch = c.data.batch(k, size, 3)
        f = model(batch[0])
        np.testing.assert_allclose(ours.test_outputs[0, k], test, rtol=1e-12, atol=1e-14)
        recorded = f.detach() if size is None else plain
        np.testing.assert_allclose(ours.train_outputs[0, k], recorded.numpy(), rtol=1e-12)
        loss = float(loss_value(PROBLEM.loss, recorded, y))
        assert ours.train_loss[0, k] == pytest.approx(loss, rel=1e-12)
        optimizer.zero_grad()
        loss_value(PROBLEM.loss, f, batch[1]).backward()
        optimizer.step()
    assert ours.train_accuracy.shape == (1, 4)


def test_run_0_is_that_of_a_sweep():
    """Dropout included: the same draws of the model, of the batches and while it trains."""
    recipe = ll.AdamW(lr=0.01, steps=5, batch_size=4, weight_decay=0.1, clip=0.5)
    ours = ll.train(PROBLEM, Normed, recipe, scheme="mup", seed=2, seeds=2, **HOW)
    swept = ll.sweep(
        PROBLEM, Normed, widths=[32], depths=[4], lrs=[0.01], seeds=[2], steps=5, batch_size=4,
        scheme="mup", weight_decay=0.1, clip=0.5, base=BASE, executor="inline",
    )  # fmt: skip
    assert ours.test_loss[0, -1] == pytest.approx(swept.rows[0]["test_loss"], rel=1e-5)
    assert abs(ours.test_loss[1, -1] / ours.test_loss[0, -1] - 1) > 1e-3


def test_accumulated_batches_are_one():
    """Two batches of four samples are the step of all eight, to rounding."""
    problem = ll.digits(classes=(0, 1), samples=8, test_samples=4)
    build = ll.residual_mlp(problem.dimension, problem.outputs)
    how = dict(dtype="float64", **HOW)
    whole = ll.train(problem, build, ll.SGD(lr=0.3, steps=1), **how)
    parts = ll.train(problem, build, ll.SGD(lr=0.3, steps=1, batch_size=4), accumulation=2, **how)
    np.testing.assert_allclose(parts.train_outputs, whole.train_outputs, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parts.test_loss, whole.test_loss, rtol=1e-12)


def gpt_loss(model, batch):
    """The user's own, of token ids (B, T + 1)."""
    logits = model(batch[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def test_a_gpt_with_its_own_loss():
    """A list of batches, read from its beginning again; every second step is recorded, and the last."""
    tokens = torch.randint(0, 20, (4, 4, 9), generator=torch.Generator().manual_seed(0))
    task = ll.Task(gpt_loss, batches=list(tokens), eval_batch=tokens[0])
    seen = []
    base, build = dict(width=32, depth=2), ll.gpt(20, 8)
    recipe = ll.AdamW(lr=3e-3, steps=5, weight_decay=0.1)
    how = dict(width=64, depth=2, dtype="float64", record_every=2)
    ours = ll.train(task, build, recipe, base=base, progress=lambda **kw: seen.append(kw), **how)
    assert ours.steps.tolist() == [0, 2, 4, 5]
    assert [kw["step"] for kw in seen] == [1, 2, 3, 4, 5]
    assert (seen[0]["steps"], seen[0]["seeds"]) == (5, range(1))
    plan = ll.plan(build, base, dict(width=64, depth=2), inputs=tokens[0][:, :-1])
    torch.manual_seed(0)
    model = plan.apply(build(64, 2)).double()
    optimizer = plan.optimizer(model, lr=3e-3, weight_decay=0.1)
    losses = []
    for k in range(6):
        loss = gpt_loss(model, tokens[k % 4])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(ours.train_loss[0], np.array(losses)[[0, 2, 4, 5]], rtol=1e-12)
    assert seen[2]["loss"] == pytest.approx(losses[2], rel=1e-12)


def test_a_run_that_diverges_is_nan_from_there_on():
    recipe = ll.SGD(lr=1e4, steps=8)
    ours = ll.train(ll.Task(mse, batch=BATCH), Model, recipe, seeds=2, **HOW)
    at = ours.diverged[0]
    assert 0 < at < 8
    assert np.isnan(ours.train_loss[0, at:]).all()
    assert np.isfinite(ours.train_loss[0, :at]).all()
    assert "DIVERGED in 2 of 2" in repr(ours)
    outputs = ll.train(
        PROBLEM, ll.residual_mlp(64, 1), ll.SGD(lr=1e30, steps=3, batch_size=5), **HOW
    )
    assert outputs.diverged[0] >= 1
    assert np.isnan(outputs.train_outputs[0, -1]).all()


def test_a_trajectory_of_losses_is_kept_shown_and_read(tmp_path):
    from leadline.reporting.page import render
    from leadline.reporting.results import result_page

    ours = ll.train(TASK, Model, ll.Lion(lr=1e-3, steps=2), seeds=2, **HOW)
    again = ll.Trajectory.load(ours.save(tmp_path / "t"))
    assert again.train_outputs is None
    assert np.array_equal(again.test_loss, ours.test_loss)
    assert again.info == ours.info
    assert ours.to_json()["train_outputs"] is None
    assert repr(ours).startswith("Trajectory(train: width=32, depth=4, coupling=reused, seeds=2)")
    assert len(ours.to_pandas()) == 6
    page = render(result_page(ours, "leadline train"))
    assert "optimizer lion" in page
    assert "build Model" in page


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        (dict(coupling="independent"), ValueError, "coupling='independent' cannot be trained"),
        (dict(measure=ll.Measure()), ValueError, "measure.modules is missing"),
        (dict(memory=1000), MemoryError, "a model of width=32 and depth=4 needs"),
        (dict(build=ll.ResNet(), base=BASE), TypeError, "base=.* is for a builder"),
        (dict(build=ll.ResNet(), base=None, scheme="mup"), TypeError, "scheme='mup' is for a builder"),
        (dict(build=ll.ResNet(), base=None, accumulation=2), TypeError, "accumulation=2 is for a"),
        (dict(build=ll.ResNet(), base=None), TypeError, "is not a Problem"),
    ],
)  # fmt: skip
def test_refusals(how, error, words):
    how = HOW | how
    with pytest.raises(error, match=words):
        ll.train(TASK, how.pop("build", Model), ll.SGD(), **how)


class Elsewhere:
    """One weight that torch's optimizer does not hold, with plain gradient steps at the plan's rate."""

    def __init__(self, p, lr, fold):
        self.p, self.lr, self.fold = p, lr, fold

    def zero_grad(self):
        self.p.grad = None

    def grad_norm(self):
        return float(self.p.elsewhere.norm()) * self.fold

    def scale_grad(self, factor):
        self.p.elsewhere.mul_(factor)

    def step(self, multiplier):
        with torch.no_grad():
            self.p.sub_(self.lr * multiplier * self.p.elsewhere)

    def gradients(self):
        return nullcontext()

    def evaluation(self):
        return nullcontext()


def test_weights_that_are_trained_elsewhere_share_clipping_and_schedule():
    """The same losses as if torch's optimizer held them."""
    recipe = ll.SGD(lr=0.1, steps=4, clip=0.3, schedule=COURSE)
    c = TaskConfiguration(TASK, Model, recipe, dtype="float64", **HOW)
    model, name = c.model(0), "blocks.1.up.weight"
    p, f = model.get_parameter(name), c.plan.factors(model)[name]

    def take(q):
        q.elsewhere, q.grad = q.grad.clone(), None

    p.register_post_accumulate_grad_hook(take)
    work = TaskTraining(c, 0, model, c.optimizers(model, {name}), Elsewhere(p, 0.1 * f.lr, f.fold))
    work.run()
    due = train_task(c)
    np.testing.assert_allclose(work.record.arrays["train_loss"], due.train_loss[0], rtol=1e-12)


def test_a_text():
    """Sequences of the text's own; no outputs."""
    data = ll.text(__file__, context=8)
    build = ll.gpt(context=8, vocabulary=data.vocabulary)
    how = dict(width=32, depth=2, base=dict(width=32, depth=2))
    ours = ll.train(data, build, ll.AdamW(lr=3e-3, steps=2, batch_size=4), **how)
    assert ours.train_loss[0, 0] == pytest.approx(math.log(data.vocabulary), rel=0.05)
    assert ours.info["problem"]["loss"] == "cross_entropy"
    assert ours.test_loss[0, -1] < ours.test_loss[0, 0]
