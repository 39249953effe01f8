"""``solve``: training without stored hidden weights, of a ``ResNet`` or of a builder's models."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from leadline.architecture import ResNet, refuse_for_builder, refuse_for_network
from leadline.errors import check_progress
from leadline.measure.observation import Measure
from leadline.recipes.sgd import SGD
from leadline.solving.solver import solve_network
from leadline.trajectory import Trajectory

if TYPE_CHECKING:
    from leadline.parametrization.schemes import Scheme
    from leadline.planning.plans import Plan
    from leadline.recipes.base import Recipe
    from leadline.tracing.builder import Builder, Size


def solve(
    task: Any,
    build: ResNet | Builder | Plan,
    recipe: Recipe,
    *,
    width: int,
    depth: int,
    base: Mapping[str, int] | Size | None = None,
    scheme: str | Scheme = "auto",
    coupling: str = "reused",
    ensemble: str = "gaussian",
    seeds: int = 1,
    seed: int = 0,
    batch_seed: int | None = None,
    accumulation: int = 1,
    tol: float = 1e-3,
    variance_reduction: str = "none",
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    record_every: int = 1,
    test_every: int | str = "auto",
    measure: Measure | None = None,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
    stored: str | Sequence[str] = (),
    memory: int | None = None,
    storage: str | None = None,
    spill: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 300.0,
    group: Any = None,
    progress: Callable[..., Any] | None = None,
) -> Trajectory:
    """Solve the training of a width-n, depth-L network without its n×n matrices.

    Every hidden weight, whose two sides grow with width, is multiplied and never stored; embeddings,
    readouts, norms and biases are ordinary parameters. With ``ensemble="gaussian"``,
    ``variance_reduction="none"`` and tol = 0 this is the exact law of ``train`` where hidden weights are
    drawn from normal distributions (uniform draws become normal ones of the same standard deviation), at
    O(n·rank) memory.

    Args:
        task: a ``Problem`` for a ``ResNet``; for a builder a ``Task``, a ``Problem`` or a ``Text``.
        build: a ``ResNet``; or a builder (width, depth) -> model, or a plan of one. The builder's model
            stays as it is; what needs the entries of a hidden weight is refused by name.
        recipe: ``SGD`` for a ``ResNet``; for a builder also ``Adam``, ``AdamW``, ``Lion``, ``SignSGD``,
            ``Muon``. Updates of SGD and Muon have low rank. Those of the others act by entry, exactly:
            kept in tiles as far as a fifth of the free memory holds them (none with ``memory``), else made
            anew from the history of all steps, in a time that grows as n²T² for T steps.
        width: n ≥ 1. depth: L ≥ 1, in the builder's units.
        base: for a builder: the size that the recipe's settings refer to, dict(width=, depth=).
        scheme, roles, inputs: for a builder; see ``leadline.plan``.
        coupling: "reused" backpropagates through the same weights (true backpropagation);
            "independent" through an independent copy of every hidden W(0) (the gradient-independence
            assumption of arXiv 2512.21075).
        ensemble: what W(0) is drawn from. "gaussian" is the law of dense networks, by queries that are
            remembered; "fast" has the same limit at infinite width, not the same law at a finite one, at
            O(n log n) time a product and memory that grows only with the rank of what is learned (not
            with variance_reduction="balanced", storage, spill or several processes).
        seeds: S ≥ 1 runs. Run s of a ``ResNet`` draws from child s of ``SeedSequence(seed)``.
        seed: ≥ 0, of all that is drawn but the batches.
        batch_seed: seed of the batches, which all runs share; None is ``seed``.
        accumulation: for a builder: batches whose mean gradient makes a step.
        tol: in [0, 1): directions below tol·|query| are answered by their conditional mean
            instead of being added to the bases. With Muon at most 1e-3: it amplifies what is small.
        variance_reduction: for a ``ResNet``: "none", "ends" ([U v] with orthogonal columns) or "balanced"
            (also the fresh noise): less fluctuation at equal n, for extrapolating to the limit.
        dtype: "float32" or "float64". device: any torch device.
        record_every: record every so many steps (the first and the last are always recorded).
        test_every: evaluate the test inputs every so many steps, a multiple of record_every (and before
            the first step and after the last in any case). "auto" is as often as takes about a third of the
            time at most, by the numbers of inputs: at every recorded step where test inputs are few.
        measure: kernels and other measures of the training inputs, at chosen steps: at depth times of a
            ``ResNet``, or of the outputs of a builder's modules (``Measure(modules=...)``).
        stored: for a builder: names or patterns of hidden weights that keep their entries in memory.
        memory: budget in bytes for all that the call adds to what Python and the libraries take: data,
            records, weights, bases, and what a query holds at once (default: 80 % of what is
            available now).
        storage: for a ``ResNet``: "bfloat16" keeps the bases in half the memory; for tol ≥ 0.004, below
            which rounding would pass for new directions. None keeps all digits of dtype.
        spill: for a ``ResNet``: folder for files (nameless, gone with the process) that hold the bases,
            mapped into memory: for bases larger than memory, on a CPU.
        checkpoint: file to write every ``checkpoint_every`` seconds and to resume from. It stays when the
            work is done: the same call then reads its answer from it. Functions count by what they do; one
            that cannot be told from others needs a name, ``leadline.named``.
        checkpoint_every: seconds.
        group: for a ``ResNet``: a torch.distributed process group over which the neurons are shared out:
            every process of it calls ``solve`` with the same arguments and gets the same answer. memory=
            is then each process's; a checkpoint must be the same file for all.
        progress: called as ``progress(seed=, step=, steps=, loss=, rank=, bytes=)``; where several
            seeds are solved together also with ``seeds=``, their range.

    Returns:
        A ``Trajectory`` of kind "solve". Of a builder's models: losses and outputs as ``train`` records
        them; info has the names of the weights that were ``wide``, and ``product_error``, the largest
        relative error of a product that rounding made.

    Raises:
        ValueError, TypeError: bad arguments, before any work; a hidden weight that is drawn or used in a
            way that needs its entries.
        MemoryError: a first step does not fit (before any work), or ``MemoryBudgetError`` when the
            budget ends later; the checkpoint it names resumes with a larger budget.
        LostProcessError: another process of the group ended, or does not answer.
    """
    of_networks: dict[str, Any] = dict(
        variance_reduction=variance_reduction,
        storage=storage,
        spill=spill,
        group=group,
    )
    resumed: dict[str, Any] = dict(checkpoint=checkpoint, checkpoint_every=checkpoint_every)
    of_builders: dict[str, Any] = dict(
        base=base,
        scheme=scheme,
        accumulation=accumulation,
        roles=roles,
        inputs=inputs,
        stored=stored,
    )
    progress = check_progress(progress)
    shared: dict[str, Any] = dict(
        width=width,
        depth=depth,
        coupling=coupling,
        ensemble=ensemble,
        seeds=seeds,
        seed=seed,
        batch_seed=batch_seed,
        tol=tol,
        dtype=dtype,
        device=device,
        record_every=record_every,
        test_every=test_every,
        measure=measure,
        memory=memory,
    )
    if isinstance(build, ResNet):
        refuse_for_network(**of_builders)
        options: dict[str, Any] = {**shared, **of_networks, **resumed}
        return solve_network(task, build, _sgd(recipe), progress=progress, **options)
    refuse_for_builder(**of_networks)
    # What reads and multiplies models of builders takes as long to import as a small network to solve.
    from leadline.matrixfree.configuration import TaskConfiguration
    from leadline.matrixfree.solver import solve_task

    options = {**shared, **of_builders}
    return solve_task(TaskConfiguration(task, build, recipe, **options), progress, **resumed)


def _sgd(recipe: Any) -> SGD:
    """The recipe, which ``solve_network`` checks."""
    return recipe
