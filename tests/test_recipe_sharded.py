"""The recipe of sharded training (docs/recipes.md): FSDP2, warm-up, clipping, a distributed checkpoint."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# As torchtitan orders it: model, plan, activation checkpointing by block, fully_shard,
# optimizer, schedule; model and optimizer saved as shards by torch.distributed.checkpoint.
LOOP = """
import sys
sys.path.insert(0, {here!r})
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import leadline as ll
from check_models import BATCH, Model, mse

dist.init_process_group("gloo")
mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
rank, ranks = dist.get_rank(), dist.get_world_size()
rows = slice(rank * 16 // ranks, (rank + 1) * 16 // ranks)


def start(plan, sharded, seed=0):
    torch.manual_seed(seed)
    model = plan.apply(Model(32, 4))
    if sharded:
        for i, block in enumerate(model.blocks):
            model.blocks[i] = checkpoint_wrapper(block)
            fully_shard(model.blocks[i], mesh=mesh)
        fully_shard(model, mesh=mesh)
    how = dict(adamw=dict(lr=3e-3)) if plan.optimizer_rule.orthogonal else {{}}
    optimizer = plan.optimizer(model, lr=1e-2, weight_decay=0.1, **how)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 4))
    return model, optimizer, schedule


def train(plan, model, optimizer, schedule, steps, sharded):
    batch = tuple(t[rows] for t in BATCH) if sharded else BATCH
    for _ in range(steps):
        optimizer.zero_grad()
        mse(model, batch).backward()
        plan.clip_grad_norm_(model, 0.5)
        optimizer.step()
        schedule.step()
    return [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]


def far(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


for name, tolerance in (("adamw", 1e-5), ("muon", 1e-2)):
    plan = ll.plan(Model, dict(width=16, depth=2), dict(width=32, depth=4), optimizer=name)
    whole = train(plan, *start(plan, False), 6, False)
    straight = train(plan, *start(plan, True), 6, True)
    # Muon's iteration is bfloat16, whose sums depend on the shards.
    assert far(whole, straight) < tolerance, (name, far(whole, straight))
    run = start(plan, True)
    train(plan, *run, 3, True)
    path = {folder!r} + "/" + name
    model_state, optimizer_state = get_state_dict(run[0], run[1])
    dcp.save(dict(model=model_state, optimizer=optimizer_state), checkpoint_id=path)
    again = start(plan, True, seed=1)
    model_state, optimizer_state = get_state_dict(again[0], again[1])
    state = dict(model=model_state, optimizer=optimizer_state)
    dcp.load(state, checkpoint_id=path)
    set_state_dict(
        again[0], again[1], model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    again[2].load_state_dict(run[2].state_dict())
    resumed = train(plan, *again, 3, True)
    assert far(straight, resumed) == 0.0, (name, far(straight, resumed))
    rates = [g["lr"] for g in again[1].param_groups]
    assert rates == [g["lr"] for g in plan.optimizer(again[0], 1e-2, 0.1,
        **(dict(adamw=dict(lr=3e-3)) if name == "muon" else {{}})).param_groups], rates
    kinds = {{type(p).__name__ for g in again[1].param_groups for p in g["params"]}}
    if rank == 0:
        print("same", name, *kinds)
dist.destroy_process_group()
"""


def test_fsdp2_with_a_distributed_checkpoint(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(LOOP.format(here=str(HERE), folder=str(tmp_path / "checkpoint")))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node=2",
         "--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "same adamw DTensor" in done.stdout
    assert "same muon DTensor" in done.stdout
