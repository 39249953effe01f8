"""Factors live in the plan: nothing that is done to a model can lose them."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import leadline as ll
from check_models import BATCH, Model, gpt2, mse

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def plan():
    return ll.plan(Model, dict(width=16, depth=2), dict(width=32, depth=4))


def fresh(seed=0):
    torch.manual_seed(seed)
    return Model(32, 4)


def settings(plan, model):
    """lr, λ and ε by parameter name."""
    wrappers = ("_orig_mod.", "module.")
    names = {}
    for n, p in model.named_parameters():
        for w in wrappers:
            n = n.removeprefix(w)
        names[id(p)] = n
    return {
        names[id(p)]: (g["lr"], g["weight_decay"], g["eps"])
        for g in plan.param_groups(model, lr=1e-3, weight_decay=0.1)
        for p in g["params"]
    }


@pytest.fixture(scope="module")
def expected(plan):
    return settings(plan, plan.apply(fresh()))


def test_deepcopy_and_ema(plan, expected):
    model = plan.apply(fresh())
    copied = copy.deepcopy(model)
    assert settings(plan, copied) == expected
    assert plan.apply(copied) is copied
    assert all(
        torch.equal(a, b) for a, b in zip(copied.parameters(), model.parameters(), strict=True)
    )
    ema = torch.optim.swa_utils.AveragedModel(model)
    assert settings(plan, ema) == expected


def test_state_dict_round_trip_and_assign(plan, expected):
    model = plan.apply(fresh())
    other = fresh(1)
    other.load_state_dict(model.state_dict())
    assert settings(plan, other) == expected
    with pytest.raises(ValueError, match="no fresh values of the builder"):
        plan.apply(other)
    plan.apply(other, init=False)
    assert all(
        torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True)
    )
    assigned = fresh(2)
    assigned.load_state_dict(model.state_dict(), assign=True)
    assert settings(plan, assigned) == expected


def test_meta_to_empty_and_own_initialization(plan, expected):
    with torch.device("meta"):
        model = Model(32, 4)
    assert settings(plan, model) == expected
    with pytest.raises(ValueError, match="on the meta device: materialise"):
        plan.apply(model)
    model = model.to_empty(device="cpu")
    torch.manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.Linear):
            m.reset_parameters()
    plan.apply(model)
    assert settings(plan, model) == expected


def test_compile_and_export(plan, expected):
    model = plan.apply(fresh())
    compiled = torch.compile(model, backend="eager")
    assert settings(plan, compiled) == expected
    assert plan.apply(compiled) is compiled
    torch.testing.assert_close(compiled(BATCH[0]), model(BATCH[0]))
    exported = torch.export.export(model, (BATCH[0],))
    torch.testing.assert_close(exported.module()(BATCH[0]), model(BATCH[0]))


def test_pickle_json_and_files(plan, expected, tmp_path):
    model = plan.apply(fresh())
    again, loaded = pickle.loads(pickle.dumps((plan, model)))
    assert again == plan
    assert again.build is None
    assert settings(again, loaded) == expected
    plan.save(tmp_path / "plan.json")
    read = ll.Plan.load(tmp_path / "plan.json")
    assert read == plan
    assert settings(read, model) == expected
    with pytest.raises(ValueError, match="text is no plan"):
        ll.Plan.from_json('{"leadline_plan": 1}')


def test_another_size_and_another_plan(plan):
    model = plan.apply(fresh())
    assert plan.apply(model) is model
    other = ll.plan(Model, dict(width=16, depth=2), dict(width=32, depth=4), optimizer="sgd")
    with pytest.raises(ValueError, match="another plan was applied"):
        other.apply(model)
    with pytest.raises(ValueError, match=r"has shape \(64, 8\), the plan expects"):
        plan.param_groups(Model(64, 4), lr=1e-3)
    wider = plan.at(64, 8)
    assert settings(wider, wider.apply(Model(64, 8)))
    # Without the builder templates and shapes do.
    bare = ll.Plan.from_json(plan.to_json())
    deeper = bare.at(64, 8)
    assert settings(deeper, Model(64, 8)) == settings(wider, Model(64, 8))
    with pytest.raises(ValueError, match="is unknown to the plan"):
        plan.param_groups(nn.Linear(4, 4), lr=1e-3)


class Wrapped(nn.Module):
    """A user's submodule that is itself called module."""

    def __init__(self, width, depth):
        super().__init__()
        self.module = Model(width, depth)
        self.extra_module = nn.Linear(4, 4)

    def forward(self, x):
        return self.extra_module(self.module(x))


def test_a_submodule_called_module():
    plan = ll.plan(Wrapped, dict(width=16, depth=2), dict(width=32, depth=2))
    assert "module.embed.weight" in plan.names
    assert "extra_module.weight" in plan.names
    model = plan.apply(Wrapped(32, 2))
    groups = plan.param_groups(model, 1e-3)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    twice = torch.optim.swa_utils.AveragedModel(model)
    assert len(plan.param_groups(twice, 1e-3)) == len(groups)


class Twice(nn.Module):
    """Names that hold ``module.`` twice, words that begin with it, and the same name inside and outside."""

    def __init__(self, width, depth):
        super().__init__()
        self.module = nn.Module()
        self.module.module = Model(width, depth)
        self.module.decoder = nn.Linear(4, 5)
        self.embed = nn.Linear(8, 8)
        self.module.embed = nn.Linear(8, 8)

    def forward(self, x):
        return self.module.decoder(self.module.module(self.module.embed(self.embed(x))))


def test_names_that_hold_module_twice():
    plan = ll.plan(
        Twice, dict(width=16, depth=2), dict(width=32, depth=2), inputs=torch.randn(2, 8)
    )
    assert {n for n, _ in Twice(32, 2).named_parameters()} == set(plan.names)
    model = plan.apply(Twice(32, 2))
    kinds = {n: k.template for n, k in plan.kind_of(model).items()}
    assert kinds["module.decoder.weight"] == "module.decoder.weight"
    assert kinds["embed.weight"] == "embed.weight"
    assert kinds["module.embed.weight"] == "module.embed.weight"
    assert kinds["module.module.embed.weight"] == "module.module.embed.weight"
    # Wrapped, every name begins with module. once more, and is none of the names that do so anyway.
    wrapped = torch.optim.swa_utils.AveragedModel(model)
    assert {n: k.template for n, k in plan.kind_of(wrapped).items()} == {
        f"module.{n}": t for n, t in kinds.items()
    }


def test_base_is_the_identity_for_every_scheme_and_optimizer():
    from leadline.parametrization.optimizers import OPTIMIZERS
    from leadline.planning.factors import NAMES

    for build in (Model, gpt2):
        for scheme in NAMES:
            for optimizer in OPTIMIZERS:
                plan = ll.plan(build, dict(width=16, depth=2), scheme=scheme, optimizer=optimizer)
                for f in plan.factors().values():
                    assert (f.init, f.lr, f.weight_decay, f.eps, f.fold) == (
                        1.0,
                        1.0,
                        1.0,
                        1.0,
                        1.0,
                    )
                torch.manual_seed(0)
                model = build(16, 2)
                before = copy.deepcopy(model.state_dict())
                plan.apply(model)
                assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
            if build is gpt2:
                break


@pytest.mark.parametrize("scheme", ["mup", "depth-mup", "depth-mup-corrected", "completep", "ntk"])
def test_factors_compose(scheme):
    """base → mid → target is base → target, for what is a pure power of the sizes."""
    for optimizer in ("sgd", "adamw"):
        how = dict(scheme=scheme, optimizer=optimizer)
        start = ll.plan(Model, dict(width=16, depth=2), **how)
        middle = ll.plan(Model, dict(width=32, depth=4), **how)
        ends = start.at(32, 4).factors(), middle.at(64, 16).factors(), start.at(64, 16).factors()
        for name, whole in ends[2].items():
            template = start.naming.template(name)
            first, second = (
                next(f for n, f in e.items() if start.naming.template(n) == template)
                for e in ends[:2]
            )
            for what in ("init", "lr", "weight_decay", "eps", "fold"):
                product = getattr(first, what) * getattr(second, what)
                assert product == pytest.approx(getattr(whole, what), rel=1e-12), (name, what)


SHARDED = """
import os, sys
sys.path.insert(0, {here!r})
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from check_models import Model, BATCH, mse
import leadline as ll

dist.init_process_group("gloo")
mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
plan = ll.plan(Model, dict(width=16, depth=2), dict(width=32, depth=4))

def fresh():
    torch.manual_seed(0)
    return Model(32, 4)

def train(model):
    o = torch.optim.AdamW(plan.param_groups(model, lr=1e-2, weight_decay=0.1))
    for _ in range(3):
        o.zero_grad()
        mse(model, BATCH).backward()
        o.step()
    with torch.no_grad():
        return model(BATCH[0])

whole = train(plan.apply(fresh()))
before = plan.apply(fresh())
for block in before.blocks:
    fully_shard(block, mesh=mesh)
fully_shard(before, mesh=mesh)
after = fresh()
for block in after.blocks:
    fully_shard(block, mesh=mesh)
fully_shard(after, mesh=mesh)
plan.apply(after)
kinds = type(next(after.parameters())).__name__
parallel = DistributedDataParallel(plan.apply(fresh()))
for name, model in (("before", before), ("after", after), ("ddp", parallel)):
    off = (train(model) - whole).abs().max().item()
    assert off < 1e-6, (name, off)
norm = plan.clip_grad_norm_(after, 1e-3)
assert torch.isfinite(norm)
if dist.get_rank() == 0:
    print("same", kinds)
dist.destroy_process_group()
"""


def test_ddp_fully_shard_and_dtensor(tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED.format(here=str(HERE)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0",
         "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "same DTensor" in done.stdout


def test_checkpoint_and_resume_are_exact(plan):
    def run(model, optimizer, scheduler, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            mse(model, BATCH).backward()
            optimizer.step()
            scheduler.step()

    def start():
        model = plan.apply(fresh())
        o = torch.optim.AdamW(plan.param_groups(model, lr=1e-2, weight_decay=0.1))
        one = torch.optim.lr_scheduler.OneCycleLR
        return model, o, plan.scheduler(one, o, lr=1e-2, max_lr=1e-2, total_steps=12)

    whole = start()
    run(*whole, 8)
    half = start()
    run(*half, 4)
    saved = pickle.loads(pickle.dumps([x.state_dict() for x in half]))
    again = start()
    for x, state in zip(again, saved, strict=True):
        x.load_state_dict(state)
    run(*again, 4)
    for a, b in zip(whole[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert [g["lr"] for g in whole[1].param_groups] == [g["lr"] for g in again[1].param_groups]
