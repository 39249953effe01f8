"""``train``: dense finite networks, of a ``ResNet`` or of a builder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from leadline.architecture import ResNet, refuse_for_network
from leadline.available import refusal
from leadline.errors import MemoryBudgetError, check_progress
from leadline.measure.observation import Measure
from leadline.measure.record import assemble
from leadline.training.networks import budget, train_network
from leadline.trajectory import Trajectory, versions

if TYPE_CHECKING:
    from leadline.matrixfree.configuration import TaskConfiguration
    from leadline.parametrization.schemes import Scheme
    from leadline.planning.plans import Plan
    from leadline.recipes.base import Recipe
    from leadline.tracing.builder import Builder, Size

# Numbers that an optimizer keeps of every weight, at most.
_STATES = {"sgd": 1, "lion": 1, "signsgd": 1}


def train(
    task: Any,
    build: ResNet | Builder | Plan,
    recipe: Recipe,
    *,
    width: int,
    depth: int,
    base: Mapping[str, int] | Size | None = None,
    scheme: str | Scheme = "auto",
    coupling: str = "reused",
    seeds: int = 1,
    seed: int = 0,
    batch_seed: int | None = None,
    accumulation: int = 1,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    record_every: int = 1,
    measure: Measure | None = None,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
    memory: float | None = None,
    progress: Callable[..., Any] | None = None,
) -> Trajectory:
    """Train dense networks: a ``ResNet`` of width n and depth L, or a builder's models.

    Run s of a ``ResNet`` draws its weights from child s of ``SeedSequence(seed)``, whatever the number
    of seeds, and as many seeds as fit into memory are trained together. Run 0 of a builder is the model
    that the builder draws with ``seed``, scaled by the plan, and trains as in a ``sweep``; the others have
    seeds of their own, and runs follow one another. Batches depend on ``seed`` alone and are shared by
    all runs.

    Args:
        task: a ``Problem``; for a builder also a ``Task`` or a ``Text``.
        build: a ``ResNet``; or a builder (width, depth) -> model, or its plan.
        recipe: ``SGD``; for a builder also ``Adam``, ``AdamW``, ``Lion``, ``SignSGD`` or ``Muon``, whose
            settings are the base's and are carried to the size by the plan.
        width: n ≥ 1.
        depth: L ≥ 1.
        base: for a builder: the size that the recipe's settings refer to, dict(width=, depth=).
        scheme, roles, inputs: for a builder; see ``leadline.plan``.
        coupling: "reused" is backpropagation; "independent" is the decoupled network, whose
            backward pass uses a second W(0), independent of the first, with the same learned
            updates (the gradient-independence assumption at finite size), for a ``ResNet``.
        seeds: number of runs S ≥ 1.
        seed: ≥ 0.
        batch_seed: for a builder: seed of the batches; None is ``seed``.
        accumulation: for a builder: batches whose mean gradient makes a step.
        dtype: "float32" or "float64", or the torch dtype.
        device: a torch device.
        record_every: record steps 0, record_every, ..., and always the last.
        measure: what to measure inside, at depth times of a ``ResNet`` or in modules of a builder's models
            (``Measure(modules=...)``); None is nothing.
        memory: budget in bytes for all that the call adds to what Python and the libraries take: data,
            records, weights, gradients, momentum, activations; None is 60 % of what is available. Of a
            builder's models weights, gradients and optimizer states count.
        progress: called after every step with step (1..K), steps, loss (mean over the runs at
            work, before the step) and seeds (their range).

    Returns:
        A ``Trajectory`` of kind "train". A run that diverges is NaN from that step on, the others
        go on. Of a builder on a ``Problem``, training losses and outputs are those of the training pass
        where it sees all samples, and of evaluation mode otherwise; test ones are of evaluation mode. On
        a ``Task`` or ``Text`` ``train_outputs`` is None, and the training loss of step k is that of its
        batch.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
        MemoryError: if not even one run fits, before any work.
    """
    progress = check_progress(progress)
    if isinstance(build, ResNet):
        of_builders = dict(base=base, batch_seed=batch_seed, roles=roles, inputs=inputs)
        refuse_for_network(**of_builders, scheme=scheme, accumulation=accumulation)
        return train_network(
            task,
            build,
            recipe,
            width=width,
            depth=depth,
            coupling=coupling,
            seeds=seeds,
            seed=seed,
            dtype=dtype,
            device=device,
            record_every=record_every,
            measure=measure,
            memory=memory,
            progress=progress,
        )
    from leadline.matrixfree.configuration import TaskConfiguration

    configuration = TaskConfiguration(
        task,
        build,
        recipe,
        width=width,
        depth=depth,
        base=base,
        scheme=scheme,
        coupling=coupling,
        seeds=seeds,
        seed=seed,
        batch_seed=batch_seed,
        accumulation=accumulation,
        dtype=dtype,
        device=device,
        record_every=record_every,
        measure=measure,
        roles=roles,
        inputs=inputs,
        memory=memory,
    )
    return train_task(configuration, progress)


def train_task(c: TaskConfiguration, progress: Callable[..., Any] | None = None) -> Trajectory:
    """Train what a configuration describes, one run after the other.

    Raises:
        ValueError: the coupling is independent.
        MemoryError: a model with gradients and optimizer states does not fit.
    """
    started = time.perf_counter()
    if c.coupling != "reused":
        raise ValueError(
            f"coupling={c.coupling!r} cannot be trained with dense weights of a builder: leave it out, or "
            "call leadline.solve, which has it for any model"
        )
    from leadline.matrixfree.loop import TaskTraining

    check_dense_memory(c)
    records, measured = [], {}
    for s in range(c.seeds):
        model = c.model(s)
        work = TaskTraining(c, s, model, c.optimizers(model))
        measured = work.modules

        def done(work: TaskTraining = work, s: int = s) -> None:
            if progress is not None:
                how = dict(step=work.k, steps=c.recipe.steps, loss=work.loss)
                progress(**how, seeds=range(s, s + 1))

        work.run(done)
        records.append(work.record)
    info = c.info("train") | {
        **measured,
        "device": str(c.device),
        "versions": versions(),
        "parameters_bytes": c.entries * c.dtype.itemsize,
        "seconds": time.perf_counter() - started,
    }
    return assemble(records, info, c.recipe, c.measure)


def dense_task_bytes(c: TaskConfiguration) -> dict[str, int]:
    """What a dense model of a builder needs, by name."""
    weights = c.entries * c.dtype.itemsize
    states = _STATES.get(c.recipe.optimizer, 2)
    return {"weights": weights, "gradients": weights, "optimizer": weights * states}


def check_dense_memory(c: TaskConfiguration) -> None:
    """Refuse a model that does not fit with gradients and optimizer states.

    Raises:
        MemoryError: naming the parts.
    """
    need, most = dense_task_bytes(c), budget(c.memory, c.device)
    if sum(need.values()) > most:
        what = f"a model of width={c.width} and depth={c.depth}"
        raise MemoryBudgetError(refusal(what, need, most, set_by_user=c.memory is not None))
