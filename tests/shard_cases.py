"""What tests/test_shards.py computes, by one process and by several."""

import torch
import torch.distributed as dist

import leadline as ll
from leadline.solving.shards import Shards

EVERYTHING = ll.Measure(
    quantities=(
        "feature_kernel",
        "activation_kernel",
        "gradient_kernel",
        "tangent_kernel",
        "movement",
    ),
    times=(0.0, 0.5, 1.0),
    particles=290,
)


def case(problem, network, sgd, **how):
    return lambda **more: ll.solve(problem, network, sgd, **how, **more)


TEACHER = ll.teacher(samples=6, dimension=5, test_samples=4)
DIGITS = ll.digits(classes=(0, 1, 2), samples=9, test_samples=5)
CASES = {
    # 600 neurons are three blocks of noise: no number of processes but three divides them.
    "plain": case(
        TEACHER,
        ll.ResNet(),
        ll.SGD(lr=0.5, steps=4, momentum=0.5, weight_decay=0.01),
        width=600,
        depth=3,
        tol=0.0,
        dtype="float64",
    ),
    "everything": case(
        DIGITS,
        ll.ResNet(activation="relu", block_layers=2),
        ll.SGD(lr=0.3, steps=3, batch_size=5, center=True),
        width=700,
        depth=3,
        tol=1e-3,
        dtype="float64",
        variance_reduction="balanced",
        measure=EVERYTHING,
    ),
    "independent": case(
        TEACHER,
        ll.ResNet(activation="erf"),
        ll.SGD(lr=0.5, steps=3),
        width=520,
        depth=2,
        coupling="independent",
        variance_reduction="ends",
        tol=0.0,
        dtype="float64",
    ),
    # Two blocks: a third process holds nothing.
    "narrow": case(
        TEACHER,
        ll.ResNet(),
        ll.SGD(lr=0.5, steps=3),
        width=300,
        depth=2,
        tol=0.0,
        dtype="float64",
        measure=EVERYTHING,
    ),
    # All of W(0) is drawn for test inputs.
    "many test inputs": case(
        ll.digits(classes=(0, 1), samples=6, test_samples=280),
        ll.ResNet(),
        ll.SGD(lr=0.3, steps=2),
        width=540,
        depth=2,
        tol=1e-3,
        dtype="float64",
    ),
    # Wide enough for an order of its own, in float32, where decisions hang on the last bit.
    "ordered": case(
        ll.digits(classes=(0, 1), samples=32, test_samples=5),
        ll.ResNet(),
        ll.SGD(lr=0.3, steps=5),
        width=16384,
        depth=2,
        tol=1e-3,
        measure=ll.Measure(),
    ),
}


def limit(**more):
    sgd = ll.SGD(lr=0.5, steps=1)
    how = dict(seeds=2, width=64, depth=1, rtol=0.2, dtype="float64", tol=0.0, seconds=60.0)
    return ll.limit(TEACHER, ll.ResNet(), sgd, **how, **more)


def products(shards):
    """Sums of known rows, each process with its own columns."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, shards.n, generator=rng), torch.randn(7, shards.n, generator=rng)
    here = slice(*shards.here)
    a, b = a[:, here], b[:, here]
    return [*shards.inner((a, b), (b, b), squares=a), *shards.inner((a.double(), a.double()))]


def arrays(trajectory):
    names = ("train_loss", "train_outputs", "test_outputs", "test_loss")
    out = {name: torch.tensor(getattr(trajectory, name)) for name in names}
    return out | {name: torch.tensor(v) for name, v in trajectory.measures.items()}


def answers(group=None):
    """All of it, as tensors by name."""
    out = {name: arrays(run(group=group)) for name, run in CASES.items()}
    end = limit(group=group)
    out["limit"] = {
        "loss": torch.tensor(end.train_loss),
        "error": torch.tensor(end.train_loss_error),
    }
    for n in (300, 8192, 8500, 20000):
        sums = products(Shards(n, group))
        out[f"products {n}"] = {str(i): t for i, t in enumerate(sums)}
    return out


def work(rank, size, folder):
    """One process of a group: saves its answers."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    torch.save(answers(dist.group.WORLD), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
