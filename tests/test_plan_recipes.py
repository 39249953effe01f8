"""Recipes of docs/recipes.md: Hugging Face's Trainer, clipping, warm-up, accumulation, mixed precision."""

import copy

import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, Model, gpt2, mse

BASE, TARGET = dict(width=16, depth=2), dict(width=64, depth=8)


@pytest.fixture(scope="module")
def plan():
    return ll.plan(Model, BASE, TARGET)


def fresh(plan, dtype=torch.float32):
    torch.manual_seed(0)
    return plan.apply(Model(64, 8)).to(dtype)


def adamw(plan, model, lr=3e-3):
    return torch.optim.AdamW(plan.param_groups(model, lr=lr, weight_decay=0.1))


def sgd(plan, model):
    return torch.optim.SGD(plan.param_groups(model, lr=0.3, weight_decay=1e-3), momentum=0.9)


def rates(optimizer):
    return torch.tensor([g["lr"] for g in optimizer.param_groups], dtype=torch.float64)


class Texts(torch.utils.data.Dataset):
    def __init__(self, rows=32):
        self.tokens = torch.randint(0, 64, (rows, 12), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


@pytest.fixture
def trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    def make(name="adamw", **how):
        plan = ll.plan(gpt2, BASE, dict(width=32, depth=4), optimizer=name)
        torch.manual_seed(0)
        model = plan.apply(gpt2(32, 4)).double()
        optimizer = adamw(plan, model) if name == "adamw" else sgd(plan, model)
        scheduler = transformers.get_cosine_schedule_with_warmup(optimizer, 3, 12)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=12, per_device_train_batch_size=8,
            report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True, seed=0, **how,
        )  # fmt: skip
        return plan, transformers.Trainer(
            model, arguments, train_dataset=Texts(), optimizers=(optimizer, scheduler)
        )

    return make


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_of_transformers(trainer):
    plan, run = trainer(logging_steps=1)
    optimizer, before = run.optimizer, rates(run.optimizer)
    start = copy.deepcopy(run.model.state_dict())
    # Warm-up starts at 0: ratios are those of the groups as they were made.
    factors = torch.tensor([g["initial_lr"] for g in optimizer.param_groups], dtype=torch.float64)
    assert float(before.max()) == 0.0
    seen = []

    class Watch(type(run.callback_handler.callbacks[0])):
        def on_optimizer_step(self, args, state, control, **kwargs):
            seen.append(rates(optimizer))

    run.add_callback(Watch)
    run.train()
    assert len(seen) == 12
    for now in seen:
        torch.testing.assert_close(now, factors * (now[0] / factors[0]), rtol=1e-12, atol=0)
    assert any(float(now[0]) == pytest.approx(3e-3) for now in seen)
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    # Every group was trained by what the Trainer made of the optimizer.
    assert all(not torch.equal(v, start[k]) for k, v in run.model.state_dict().items())
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert trained == {id(p) for p in run.model.parameters()}
    assert plan.apply(run.model) is run.model


@pytest.mark.filterwarnings("ignore")
def test_the_trainer_is_a_plain_loop(trainer):
    """The same steps by hand: the Trainer adds nothing to the plan's groups."""
    plan, run = trainer("sgd", max_grad_norm=0.0, dataloader_drop_last=True)
    by_hand = copy.deepcopy(run.model)
    order = []
    inner = run.compute_loss

    def keep(model, inputs, *args, **kwargs):
        # The Trainer divides the summed loss by the labels it counts, shifted ones included.
        items = kwargs["num_items_in_batch"]
        order.append({k: v.clone() for k, v in inputs.items()} | {"num_items_in_batch": items})
        return inner(model, inputs, *args, **kwargs)

    run.compute_loss = keep
    run.train()
    optimizer = sgd(plan, by_hand)
    from transformers import get_cosine_schedule_with_warmup

    scheduler = get_cosine_schedule_with_warmup(optimizer, 3, 12)
    by_hand.train()
    for batch in order:
        optimizer.zero_grad()
        by_hand(**batch).loss.backward()
        optimizer.step()
        scheduler.step()
    for a, b in zip(by_hand.parameters(), run.model.parameters(), strict=True):
        # transformers makes its loss in single precision, and sums it in another order.
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("course", ["cosine", "cosine_with_min_lr", "polynomial"])
def test_a_trainer_that_makes_the_plans_optimizer(tmp_path, course):
    """Rate, decay and schedule from its arguments, absolute last rates too; and it resumes."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    plan = ll.plan(gpt2, BASE, dict(width=32, depth=4), optimizer="muon")
    end = {"cosine_with_min_lr": dict(min_lr=1e-3), "polynomial": dict(lr_end=1e-3)}.get(course, {})

    class Trainer(transformers.Trainer):
        def create_optimizer(self, model=None):
            if self.optimizer is None:
                rate, decay = self.args.learning_rate, self.args.weight_decay
                self.optimizer = plan.optimizer(self.model, lr=rate, weight_decay=decay)
            return self.optimizer

    def start(**how):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=12, per_device_train_batch_size=8,
            learning_rate=2e-2, weight_decay=0.1, warmup_steps=3, lr_scheduler_type=course,
            lr_scheduler_kwargs=end, save_steps=6, report_to=[], disable_tqdm=True, use_cpu=True,
            seed=0, max_grad_norm=0.0, save_strategy="steps",
        )  # fmt: skip
        torch.manual_seed(0)
        return Trainer(plan.apply(gpt2(32, 4)), arguments, train_dataset=Texts())

    run, seen = start(), []

    class Watch(transformers.TrainerCallback):
        def on_optimizer_step(self, args, state, control, **kwargs):
            seen.append(rates(run.optimizer))

    run.add_callback(Watch())
    run.train()
    factors = torch.tensor([g["initial_lr"] for g in run.optimizer.param_groups]).double() / 2e-2
    assert len(set(factors.tolist())) > 1
    for now in seen:
        torch.testing.assert_close(now, factors * (now[0] / factors[0]), rtol=1e-6, atol=0)
    assert float((seen[3] / factors).max()) == pytest.approx(2e-2)
    last = rates(run.optimizer) / factors
    assert float(last.max()) == pytest.approx(1e-3 if end else 0.0, abs=1e-9)
    # The second half again, from what was saved in the middle.
    again = start()
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-6"))
    for a, b in zip(run.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_clipping_in_the_trainer(trainer):
    from transformers import TrainerCallback

    plan, run = trainer(max_grad_norm=0.0)
    norms = []

    class Clip(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            plan.clip_grad_norm_(model, max_norm=1e-2)
            norms.append(float(plan.clip_grad_norm_(model, max_norm=1.0)))

    run.add_callback(Clip())
    run.train()
    assert norms == pytest.approx([1e-2] * 12, rel=1e-3)


def test_clipping_is_that_of_the_network_with_multipliers(plan):
    """Clipped steps train as those of a network whose branches are multiplied in the forward pass."""

    class Multiplied(Model):
        def forward(self, x):
            h = self.embed(x)
            for b in self.blocks:
                h = h + b.down(torch.relu(b.up(h))) * self.multiplier
            return self.readout(h)

    here = ll.plan(Model, BASE, dict(width=16, depth=8), optimizer="sgd", scheme="completep")
    torch.manual_seed(0)
    explicit = Multiplied(16, 8).double()
    explicit.multiplier = 1 / 4
    folded = Model(16, 8).double()
    folded.load_state_dict(explicit.state_dict())
    here.apply(folded)
    ours = torch.optim.SGD(here.param_groups(folded, lr=0.05))
    # Outside the branch completep's rate is 1, inside r = 4 for every layer.
    groups = {"blocks": 0.05 * 4, "": 0.05}
    theirs = torch.optim.SGD(
        [
            {"params": [p], "lr": groups["blocks" if n.startswith("blocks") else ""]}
            for n, p in explicit.named_parameters()
        ]
    )
    batch = tuple(t.double() for t in BATCH)
    for _ in range(5):
        for model, optimizer in ((folded, ours), (explicit, theirs)):
            optimizer.zero_grad()
            (100 * mse(model, batch)).backward()
        norm = here.clip_grad_norm_(folded, 1.0)
        due = nn.utils.clip_grad_norm_(explicit.parameters(), 1.0)
        torch.testing.assert_close(norm, due, rtol=1e-10, atol=0)
        assert float(norm) > 10
        ours.step()
        theirs.step()
        torch.testing.assert_close(folded(batch[0]), explicit(batch[0]), rtol=1e-9, atol=1e-9)


def test_accumulated_gradients_are_those_of_the_whole_batch(plan):
    models = [fresh(plan, torch.float64) for _ in range(2)]
    optimizers = [adamw(plan, m) for m in models]
    x, y = (t.double() for t in BATCH)
    for _ in range(4):
        for model, optimizer, parts in zip(models, optimizers, (1, 4), strict=True):
            optimizer.zero_grad()
            for k in range(parts):
                (mse(model, (x[k::parts], y[k::parts])) / parts).backward()
            plan.clip_grad_norm_(model, 1.0)
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_warm_up_by_lambda_or_linear(plan):
    factories = (
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, (step + 1) / 4)),
        lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.25, total_iters=3),
    )
    for make in factories:
        optimizer = adamw(plan, fresh(plan))
        full = rates(optimizer)
        scheduler = make(optimizer)
        for step in range(6):
            due = full * min(1.0, (step + 1) / 4)
            torch.testing.assert_close(rates(optimizer), due, rtol=1e-12, atol=0)
            optimizer.step()
            scheduler.step()


def test_mixed_precision_with_a_scaler(plan):
    """A scaler multiplies the loss: unscaled and clipped, the steps are those without it."""
    plain, scaled = fresh(plan), fresh(plan)
    optimizers = [adamw(plan, m) for m in (plain, scaled)]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(4):
        for model, optimizer in zip((plain, scaled), optimizers, strict=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = mse(model, BATCH)
            (loss if model is plain else scaler.scale(loss)).backward()
        plan.clip_grad_norm_(plain, 0.5)
        optimizers[0].step()
        scaler.unscale_(optimizers[1])
        plan.clip_grad_norm_(scaled, 0.5)
        scaler.step(optimizers[1])
        scaler.update()
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
