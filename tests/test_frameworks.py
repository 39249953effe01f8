"""Recipes of docs/recipes.md with the libraries themselves: Accelerate, Lightning, schedule-free and 8-bit
optimizers, adapters, quantisation-aware training, torch.compile. What is not installed is skipped;
./dev frameworks installs all and runs these."""

import copy

import pytest
import torch

import leadline as ll
from check_models import BATCH, TOKENS, Model, gpt2, mse, next_token

BASE, TARGET = dict(width=32, depth=2), dict(width=64, depth=4)
WIDE = dict(width=64, depth=2)
pytestmark = pytest.mark.filterwarnings("ignore")


def library(name):
    return pytest.importorskip(
        name, reason=f"{name} is not installed: ./dev frameworks installs it and runs this"
    )


@pytest.fixture(scope="module")
def plan():
    return ll.plan(Model, BASE, TARGET)


def fresh(plan):
    torch.manual_seed(0)
    return plan.apply(Model(64, 4))


def adamw(plan, model, **how):
    return plan.optimizer(model, lr=3e-3, weight_decay=0.1, **how)


def warmup(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 4))


def train(model, optimizer, steps=12, loss_fn=mse, batch=BATCH):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def batches(rows=4):
    return [tuple(t[i : i + rows] for t in BATCH) for i in range(0, 16, rows)]


def by_hand(plan, parts, epochs):
    """A plain loop: warm-up, clipping, accumulation over ``parts`` batches."""
    model = fresh(plan)
    optimizer = adamw(plan, model)
    schedule = warmup(optimizer)
    for _ in range(epochs):
        for i, batch in enumerate(batches()):
            (mse(model, batch) / parts).backward()
            if (i + 1) % parts == 0:
                plan.clip_grad_norm_(model, 0.5)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    return model, optimizer


def close(model, other):
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_accelerate_is_a_plain_loop(plan, tmp_path):
    accelerate = library("accelerate")

    def start():
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = fresh(plan)
        optimizer = adamw(plan, model)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*BATCH), batch_size=4)
        ready = accelerator.prepare(model, optimizer, loader, warmup(optimizer))
        return accelerator, *ready

    def run(accelerator, model, optimizer, loader, schedule, epochs):
        for _ in range(epochs):
            for batch in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(mse(model, batch))
                    if accelerator.sync_gradients:
                        accelerator.unscale_gradients()
                        plan.clip_grad_norm_(model, 0.5)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()

    whole = start()
    run(*whole, epochs=4)
    expected, optimizer = by_hand(plan, 2, 4)
    close(whole[1], expected)
    assert [g["lr"] for g in whole[2].param_groups] == [g["lr"] for g in optimizer.param_groups]
    # A state saved by it goes on where it was.
    half = start()
    run(*half, epochs=2)
    half[0].save_state(str(tmp_path / "state"))
    again = start()
    again[0].load_state(str(tmp_path / "state"))
    run(*again, epochs=2)
    close(again[1], expected)


def test_lightning_is_a_plain_loop(plan, tmp_path):
    lightning = library("lightning")

    class Lit(lightning.LightningModule):
        def __init__(self, width, depth):
            super().__init__()
            self.model = Model(width, depth)

        def training_step(self, batch, index):
            loss = mse(self.model, batch)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            optimizer = adamw(plan, self)
            schedule = dict(scheduler=warmup(optimizer), interval="step")
            return dict(optimizer=optimizer, lr_scheduler=schedule)

        def configure_gradient_clipping(self, optimizer, **_):
            plan.clip_grad_norm_(self, 0.5)

    def start(epochs):
        torch.manual_seed(0)
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", accumulate_grad_batches=2, logger=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        return trainer, plan.apply(Lit(64, 4))

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*BATCH), batch_size=4)
    expected, optimizer = by_hand(plan, 2, 4)
    trainer, lit = start(2)
    trainer.fit(lit, loader)
    path = trainer.checkpoint_callback.best_model_path
    # The second half from the checkpoint.
    trainer, lit = start(4)
    trainer.fit(lit, loader, ckpt_path=path)
    close(lit.model, expected)
    now = [g["lr"] for g in trainer.optimizers[0].param_groups]
    assert now == [g["lr"] for g in optimizer.param_groups]
    # A plan of the module itself, which has a training_step and no forward.
    whole = ll.plan(Lit, BASE, TARGET, inputs=BATCH)
    assert whole.factors() == {f"model.{n}": f for n, f in plan.factors().items()}


def test_schedule_free_keeps_the_factors(plan):
    schedulefree = library("schedulefree")
    model = fresh(plan)
    optimizer = adamw(plan, model, factory=schedulefree.AdamWScheduleFree, warmup_steps=4)
    full = [g["lr"] for g in adamw(plan, fresh(plan)).param_groups]
    optimizer.train()
    seen = []
    optimizer.register_step_post_hook(
        lambda o, *_: seen.append([g["scheduled_lr"] for g in o.param_groups])
    )
    losses = train(model, optimizer)
    for step, rates in enumerate(seen):
        assert rates == pytest.approx([r * min(1.0, (step + 1) / 4) for r in full], rel=1e-12)
    assert losses[-1] < 0.8 * losses[0]
    optimizer.eval()
    assert float(mse(model, BATCH).detach()) < losses[0]
    with pytest.raises(ValueError, match="SGDScheduleFree makes other updates"):
        plan.optimizer(model, lr=0.1, factory=schedulefree.SGDScheduleFree)
    sgd = ll.plan(Model, BASE, TARGET, optimizer="sgd")
    assert sgd.optimizer(model, lr=0.1, factory=schedulefree.SGDScheduleFree).param_groups


def test_eight_bit_adamw_trains_as_adamw(plan):
    bitsandbytes = library("bitsandbytes")
    model, other = fresh(plan), fresh(plan)
    optimizer = adamw(plan, model, factory=bitsandbytes.optim.AdamW8bit)
    plain = adamw(plan, other)
    settings = ("lr", "weight_decay", "eps")
    rows = [[[g[k] for k in settings] for g in o.param_groups] for o in (optimizer, plain)]
    assert rows[0] == rows[1]
    eight, full = train(model, optimizer), train(other, plain)
    assert optimizer.state[model.blocks[0].up.weight]["state1"].dtype is torch.uint8
    # Moments of 8 bits are right to a few per cent of a block's largest.
    assert eight == pytest.approx(full, rel=1e-2)
    assert full[-1] < 0.8 * full[0]
    with pytest.raises(ValueError, match="SGD8bit makes other updates"):
        plan.optimizer(model, lr=0.1, factory=bitsandbytes.optim.SGD8bit, momentum=0.9)


def test_adapters_get_their_own_rates():
    peft = library("peft")
    targets = ["c_attn", "c_proj", "c_fc"]
    settings = peft.LoraConfig(r=4, target_modules=targets, fan_in_fan_out=True)

    def build(width, depth):
        return peft.get_peft_model(gpt2(width, depth), copy.deepcopy(settings))

    frozen = dict.fromkeys(("*base_layer*", "*wte*", "*wpe*", "*ln_*"), "frozen")
    keep = {"*lora_A*": dict(init=False)}
    adapted = ll.plan(build, BASE, WIDE, scheme="mup", roles=frozen | keep)
    for name, f in adapted.factors().items():
        due = {"lora_A": (1.0, 0.5), "lora_B": (1.0, 1.0)}
        for part, factors in due.items():
            if part in name:
                assert (f.init, f.lr) == factors
    model = adapted.apply(build(64, 2), init=False)
    optimizer = adapted.optimizer(model, lr=1e-2)
    trained = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}
    losses = train(model, optimizer, loss_fn=next_token, batch=TOKENS)
    assert losses[-1] < losses[0]
    # A branch's multiplier has no place where nothing trains: the remedy is width alone.
    with pytest.raises(ValueError, match="is frozen: multiply by it in the forward pass"):
        ll.plan(build, BASE, TARGET, roles=frozen | keep)


def test_training_aware_of_quantisation(plan):
    library("torchao")
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup
    from torchao.quantization.qat import QATConfig

    model = fresh(plan)
    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4, weight_granularity=PerGroup(32)
    )

    def inside(module, name):
        return isinstance(module, torch.nn.Linear) and name.startswith("blocks")

    quantize_(model, QATConfig(config, step="prepare"), filter_fn=inside)
    optimizer = adamw(plan, model)
    plain = adamw(plan, fresh(plan))
    assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in plain.param_groups]
    losses = train(model, optimizer)
    assert losses[-1] < 0.8 * losses[0]
    quantize_(model, QATConfig(config, step="convert"), filter_fn=inside)
    assert float(mse(model, BATCH).detach()) == pytest.approx(losses[-1], rel=0.1)


@pytest.mark.parametrize("whole", [True, False])
def test_a_compiled_model_trains_as_it_is(plan, whole):
    """Compiled as a whole, or block by block in place."""
    expected = train(other := fresh(plan), adamw(plan, other))
    model = fresh(plan)
    if whole:
        compiled = torch.compile(model, backend="eager")
    else:
        compiled = model
        for block in model.blocks:
            block.compile(backend="eager")
    assert plan.factors(compiled).keys() == {n for n, _ in compiled.named_parameters()}
    losses = train(compiled, adamw(plan, compiled))
    assert losses == pytest.approx(expected, rel=1e-5)
    # Not applied twice: the mark is the model's.
    assert plan.apply(compiled) is compiled
    close(model, other)
