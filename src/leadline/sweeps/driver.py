"""``sweep``: many training runs, batched, stored, resumed."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadline import available
from leadline.architecture import ResNet
from leadline.disk.write import check_folder
from leadline.errors import check_bool, check_path, check_progress, check_real, check_type, shown
from leadline.executors import Executor
from leadline.executors import executor as named_executor
from leadline.identity.names import check_told, told_or_not
from leadline.parametrization.schemes import Scheme
from leadline.schedules import Schedule
from leadline.store.store import Store, run_id
from leadline.sweeps.grid import SweepGrid, grid_of
from leadline.sweeps.groups import train
from leadline.sweeps.rates import Network
from leadline.sweeps.runs import RunGroup, TrainingRun, builder_of
from leadline.sweeps.schedule import SweepEstimate, Tally, estimate, groups, rates_of
from leadline.tasks.builtin import Samples
from leadline.tasks.data import TrainingData
from leadline.tasks.first_call import first_call
from leadline.tasks.task import Task, TaskData, data_of
from leadline.tracing.builder import Size, construct


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        rows: one dict a run: its settings, loss, test_loss, diverged, stopped, steps_done, seconds, id.
        fresh: runs that this call trained; the others were in the store.
        failed: errors of runs that could not be trained.
        seconds: of this call.
        store: the store's folder, or None.
    """

    rows: list[dict[str, Any]]
    fresh: int
    failed: tuple[str, ...]
    seconds: float
    store: str | None

    def __str__(self) -> str:
        from leadline.tabular.tables import number, text_table

        shown = [k for k in _COLUMNS if len({str(r.get(k)) for r in self.rows}) > 1]
        shown += [k for k in ("loss", "test_loss") if any(r.get(k) for r in self.rows)]
        body = [
            [number(v) if isinstance(v := r.get(k), float) else str(v) for k in shown]
            for r in self.rows
        ]
        head = f"{len(self.rows)} runs, {self.fresh} trained now in {self.seconds:.1f} s"
        tail = [f"failed: {f}" for f in self.failed]
        return "\n".join([head, text_table(shown, body, left=0), *tail])


_COLUMNS = (
    *("scheme", "optimizer", "width", "depth", "lr", "seed", "steps", "batch_size"),
    *("weight_decay", "momentum", "schedule", "warmup", "clip", "accumulation", "precision"),
    *("diverged", "stopped"),
)


def sweep(
    task: Any,
    build: Callable[..., Any],
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    lrs: Sequence[float],
    seeds: int | Sequence[int] = 1,
    steps: int | Sequence[int] = 100,
    batch_size: int | Sequence[int | None] | None = None,
    scheme: str | Scheme | Sequence[str | Scheme] = "auto",
    optimizer: str | Sequence[str] = "adamw",
    weight_decay: float | Sequence[float] = 0.0,
    momentum: float | Sequence[float] = 0.0,
    schedule: Schedule | Sequence[Schedule] = "constant",
    warmup: int | Sequence[int] = 0,
    clip: float | Sequence[float | None] | None = None,
    accumulation: int | Sequence[int] = 1,
    precision: str | Sequence[str] = "float32",
    arguments: Mapping[str, Sequence[Any]] | None = None,
    sizes: str = "product",
    base: Mapping[str, int] | Size | None = None,
    store: str | os.PathLike[str] | Store | None = None,
    executor: str | Executor | None = None,
    workers: int | None = None,
    slurm: Mapping[str, Any] | None = None,
    hopeless: float | None = None,
    roles: Mapping[str, Any] | None = None,
    inputs: Any = None,
    device: str = "cpu",
    dry_run: bool = False,
    progress: Callable[..., None] | None = None,
) -> Sweep | SweepEstimate:
    """Train every combination of the given settings, each once.

    Every run trains as the module itself would in a plain loop: models that cannot be stacked (states of
    their own, views of parameters, control flow on values) train one by one.

    Learning rates, weight decays and initializations are the base's and carried to every size by
    the plan of the scheme and optimizer. Runs of the same shape train together as one batched program;
    programs run side by side in one-thread processes. A finished run is in the store, durably, before
    the next one is asked for: the same call again trains only what is missing.

    Args:
        task: a ``Task`` (your own loss and batches), a ``Problem`` or a ``Text``.
        build: callable (width, depth, **arguments) -> nn.Module, parametrized by its plan; for
            executor="processes" it has to pickle (defined in a module, not a lambda). Or a
            ``ResNet``, with optimizer="sgd": lr is its η, the same number at every size, whatever the
            base, and a run is run 0 of ``train(..., seed=seed)`` (on a full batch: to rounding).
        widths, depths, lrs: values; the sweep is the product of all values that are given, of at most a
            million runs.
        seeds: their numbers, or how many from 0 on.
        steps, batch_size, weight_decay, momentum: one value or several; batch_size None is all samples.
        optimizer: names as in ``plan``.
        scheme: names as in ``plan``, or tables of your own (``Scheme``), each with a name of its own; of
            a ``ResNet`` "auto" is the scheme that it has.
        schedule: constant, cosine, linear, wsd (constant, then a line to 0 in the last fifth), or a
            function (step, steps) -> factor on the learning rate.
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient, in the base's units, as by ``plan.clip_grad_norm_``.
        accumulation: batches whose mean gradient makes a step.
        precision: float32, or bfloat16 by torch.autocast (such runs train one by one on a CPU).
        arguments: of the builder, further axes: {"gain": [1.0, 2.0]} calls build(width, depth, gain=1.0).
        sizes: "product", or "axes": widths at the smallest depth and depths at the smallest width only.
        base: size that lrs refer to; by default the smallest width and depth.
        store: folder of the results. Builders and arguments count by what they do (see docs/store.md);
            what cannot be told from others needs a name there, ``leadline.named``.
        executor: "processes" (default on a CPU), "inline" (default elsewhere: one program at a time has
            the device), "ray", "slurm" (needs a store), or an object of that kind.
        slurm: sbatch's options of executor="slurm", such as {"partition": "long", "time": "2:00:00"}.
        workers: processes (by default one a core), or jobs of executor="slurm" (16).
        hopeless: give up runs whose loss in the second half exceeds this many times the best of
            their program; None trains all to the end.
        roles, inputs: see ``leadline.plan``.
        device: a torch device, where runs train; models are drawn on the CPU, the same ones for any device.
            A GPU trains as many runs of a shape at once as its memory holds. No part of a run's identity.
        dry_run: return a ``SweepEstimate`` of runs and time instead.
        progress: called at most about once a second while programs train, and after each of them, with
            step and steps (of training, done and in all, of the runs of this call together), runs (a
            pair: ended or stored, and all), loss (the best of the last program) and share (of the work
            that is done: a larger size's steps count for more).

    Raises:
        ValueError, TypeError: an empty grid or a bad value, before any work.
    """
    started, progress = time.perf_counter(), check_progress(progress)
    data = data_of(task)
    if isinstance(build, ResNet):
        scheme = _scheme(build, scheme)
        build = _network(build, data, optimizer, arguments)
    grid = SweepGrid(
        width=widths,
        depth=depths,
        lr=lrs,
        seed=seeds,
        steps=steps,
        batch_size=batch_size,
        scheme=scheme,
        optimizer=optimizer,
        weight_decay=weight_decay,
        momentum=momentum,
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        accumulation=accumulation,
        precision=precision,
        arguments=arguments,
        sizes=sizes,
        base=base,
    )
    dry_run = check_bool("dry_run", dry_run)
    hopeless = None if hopeless is None else check_real("hopeless", hopeless, 1.0)
    if roles is not None:
        check_type("roles", roles, Mapping, "give a dict of patterns and roles, or None")
    for name, values in grid.arguments.items():
        for v in values:
            _told(f"arguments[{name!r}]", v, store)
    for s in grid.schedule:
        if callable(s):
            _told("schedule", s, store)
    runs = grid.runs(
        model=_told("build", build, store),
        data=_name(data, store),
        roles=_told("roles", dict(roles), store) if roles else "",
    )
    place = str(available.device(device))
    if executor is None:
        executor = "processes" if place == "cpu" else "inline"
    folder = store.path if isinstance(store, Store) else store
    here = named_executor(executor, workers, folder, slurm)
    if here.pickles:
        _check_pickles("build", build)
        if isinstance(task, Task):
            _check_pickles("task", task)
    with _open(store) as kept:
        # Made once: training may change what an argument holds.
        specs = {run: run.spec() for run in runs}
        ids = {run: run_id(spec) for run, spec in specs.items()}
        stored = () if kept is None else kept.known(set(ids.values()))
        # A run that was given up does not count where none may be.
        done = [r for r in stored if hopeless is not None or not r.result.get("stopped")]
        rows = {r.id: _row(r.spec, r.result, r.id) for r in done}
        missing = [r for r in runs if ids[r] not in rows]
        if missing and not dry_run:
            if kept is not None:
                check_folder("store", kept.path)
            here.prepare()
        if missing:
            inputs = _checked(data, build, missing[0], inputs)
        rates = rates_of(build, missing, grid.base, roles, inputs)
        work = groups(build, data, missing, rates, here.workers, hopeless, place)
        if dry_run:
            return estimate(work, len(runs) - len(missing), here.workers)
        failed: list[str] = []
        fresh = 0
        tally = Tally(work, len(runs) - len(missing), progress)
        for outcome in here.run(train, work, None if progress is None else tally.watch):
            group = work[outcome.index]
            if outcome.error is not None:
                failed.append(f"{_label(group)}: {outcome.error}")
                tally.end(outcome.index, ())
                continue
            ended = list(zip(group.runs, outcome.value, strict=True))
            if kept is not None:
                kept.put_many((specs[run], r.values, {"loss": r.curve}) for run, r in ended)
            for run, result in ended:
                rows[ids[run]] = _row(specs[run], result.values, ids[run])
            fresh += len(group.runs)
            tally.end(outcome.index, outcome.value)
        ordered = [rows[ids[r]] for r in runs if ids[r] in rows]
        where = None if kept is None else str(kept.path)
        seconds = time.perf_counter() - started
        return Sweep(ordered, fresh, tuple(failed), seconds, where)


def _told(argument: str, value: Any, store: Any) -> str:
    """The identity of a value, as text; with a store it has to be unambiguous."""
    return told_or_not(value) if store is None else check_told(argument, value, "store")


def _open(store: Any) -> contextlib.AbstractContextManager[Store | None]:
    """The store, closed afterwards if it was opened here."""
    if store is None or isinstance(store, Store):
        return contextlib.nullcontext(store)
    return Store(check_path("store", store))


def _row(spec: Mapping[str, Any], result: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {**{k: v for k, v in spec.items() if k != "base"}, **result, "id": key}


def _label(group: RunGroup) -> str:
    r = group.runs[0]
    return f"{len(group.runs)} runs of {r.scheme_name}, {r.optimizer}, width={r.width}, depth={r.depth}"


def _check_pickles(argument: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except Exception as e:
        raise TypeError(
            f"{argument}={shown(value)} cannot be sent to other processes ({e}): define what it holds in a "
            "module of its own, or give executor='inline'"
        ) from None


def _name(data: TrainingData, store: Any) -> str:
    """What the data are, as text; with a store it has to be unambiguous."""
    if store is not None and isinstance(data, TaskData):
        return data.task.identity(store=True)
    return data.name


def _checked(data: TrainingData, build: Any, run: TrainingRun, inputs: Any) -> Any:
    """Take the loss once, and return what the model takes, unless ``inputs`` says it."""
    model = construct(builder_of(build, run), run.size)
    taken = first_call(data, model, run.batch_size)
    return taken if inputs is None and isinstance(data, TaskData) else inputs


def _scheme(build: ResNet, scheme: Any) -> Any:
    """A network's own scheme, where the argument leaves it open.

    Raises:
        ValueError: they differ.
    """
    if build.scheme in ("auto", scheme):
        return scheme
    if isinstance(scheme, str) and scheme == "auto":
        return build.scheme
    raise ValueError(
        f"scheme={shown(scheme)} differs from the ResNet's {shown(build.scheme)}: leave one of them out"
    )


def _network(build: ResNet, data: TrainingData, optimizer: Any, arguments: Any) -> Network:
    """A builder of the project's own network, for the data."""
    if not isinstance(data, Samples):
        raise TypeError("a ResNet trains on a Problem: give one first, or another builder")
    if grid_of(optimizer=optimizer)["optimizer"] != ["sgd"]:
        raise ValueError(
            f"optimizer={optimizer!r} has no rates for a ResNet: give optimizer='sgd', or "
            "ll.residual_mlp(...), the same function class, for the others"
        )
    if arguments:
        raise ValueError(f"arguments={shown(arguments)} are those of a builder: set the ResNet's")
    return Network(build, data.problem.dimension, data.problem.outputs)
