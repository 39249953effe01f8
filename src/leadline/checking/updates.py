"""Watching a real run: are the layers' updates as large as a check at small sizes says they should be?

A check measured what a step of each layer changes in its own output, ΔW · input, at small sizes. The plan
says how that goes with width and depth, and the learning rate is known at every step. So a large run has an
expected size for every layer's update. Over training all updates shrink together (gradients turn, losses
flatten), so layers are compared with their median too: a layer that leaves the others is what a small run
did not show.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from leadline.checking.members import detached, first_tensor, gpus_of, without_cache
from leadline.checking.quantities import one_map, rms
from leadline.checking.report import CheckReport, Row
from leadline.checking.saved import read_report
from leadline.errors import check_int, check_real, check_type
from leadline.planning.plans import Plan
from leadline.tracing.held import call, places

# Layers of a kind that are watched: the first, the last and those between, evenly.
_LAYERS = 3


class BandWarning(UserWarning):
    """An update has left its band."""


@dataclass(frozen=True)
class UpdateRecord:
    """One kind of parameter at one step.

    Attributes:
        size: RMS of what the step changed in the layer's own output, per unit of the base's learning rate.
        ratio: over what is expected at this size of the model.
        relative: ratio over the median of all kinds' at this step.
    """

    step: int
    parameter: str
    size: float
    ratio: float
    relative: float


class Monitor:
    """Compares the updates of a training with those of a check; ``leadline.monitor`` makes it.

    From then on it works by itself, in every so many steps of the optimizer.

    Attributes:
        records: what was measured.
        messages: what has left its band, once for each parameter; each is also a ``BandWarning``.
    """

    def __init__(
        self,
        report: CheckReport,
        model: nn.Module,
        plan: Plan,
        optimizers: Sequence[Optimizer],
        every: int,
        band: float,
    ) -> None:
        self.plan, self.every, self.band = plan, every, band
        self.records: list[UpdateRecord] = []
        self.messages: list[str] = []
        self.step = 0
        self._expected = expected_updates(report, plan)
        self._model, self._optimizers = model, optimizers
        self._watched = self._choose()
        self._inputs: dict[str, tuple[Any, Any]] = {}
        self._before: dict[str, dict[str, Tensor]] = {}
        self._done: set[str] = set()
        self._handles: list[Any] = [
            optimizers[0].register_step_pre_hook(lambda *_: self._keep()),
            optimizers[-1].register_step_post_hook(lambda *_: self._compare()),
        ]
        for owner in {o for o, _, _ in self._watched}:
            module = model.get_submodule(owner)
            self._handles.append(module.register_forward_hook(self._seen(owner), with_kwargs=True))

    def close(self) -> None:
        """Watch no longer."""
        for h in self._handles:
            h.remove()
        self._handles.clear()

    def _choose(self) -> list[tuple[str, str, str]]:
        """Owner, local name and label of the parameters that are watched."""
        modules = dict(self._model.named_modules())
        by_label: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for name, kind in self.plan.kind_of(self._model).items():
            owner, _, local = name.rpartition(".")
            if kind.label in self._expected and one_map(modules[owner]):
                by_label[kind.label].append((owner, local, kind.label))
        if not by_label:
            raise ValueError(
                "no parameter of the model is one that the check measured: give the check of this model"
            )
        out = []
        for members in by_label.values():
            count = min(len(members), _LAYERS)
            rows = {round(i * (len(members) - 1) / max(count - 1, 1)) for i in range(count)}
            out += [members[i] for i in sorted(rows)]
        return out

    @property
    def _now(self) -> bool:
        return self.step % self.every == 0

    def _seen(self, owner: str) -> Any:
        def hook(_m: Any, args: Any, kwargs: Any, _out: Any) -> None:
            if self._now and torch.is_grad_enabled():
                self._inputs[owner] = (
                    detached(without_cache(args)),
                    detached(without_cache(kwargs)),
                )

        return hook

    def _keep(self) -> None:
        if not self._now:
            return
        for owner in self._inputs:
            held = dict(self._model.get_submodule(owner).named_parameters(recurse=False))
            self._before[owner] = {n: p.detach().clone() for n, p in held.items()}

    def _compare(self) -> None:
        if self._now and self._before:
            sizes: dict[str, list[float]] = defaultdict(list)
            lrs = self._rates()
            for owner, local, template in self._watched:
                lr = lrs.get(f"{owner}.{local}" if owner else local)
                if owner in self._before and lr:
                    sizes[template].append(self._moved(owner, local) / lr)
            self._note({t: math.sqrt(sum(v * v for v in s) / len(s)) for t, s in sizes.items()})
        self._inputs.clear()
        self._before.clear()
        self.step += 1

    def _rates(self) -> dict[str, float]:
        """The base's learning rate of every parameter, now."""
        names = {id(p): n for n, p in self._model.named_parameters()}
        kinds = self.plan.kind_of(self._model)
        out = {}
        for o in self._optimizers:
            for group in o.param_groups:
                for p in group["params"]:
                    name = names.get(id(p))
                    if name is not None:
                        out[name] = float(group["lr"]) / self.plan.kind_factors(kinds[name]).lr
        return out

    def _moved(self, owner: str, local: str) -> float:
        module = self._model.get_submodule(owner)
        args, kwargs = self._inputs[owner]
        now = {n: p.detach() for n, p in module.named_parameters(recurse=False)}
        now |= dict(module.named_buffers(recurse=False))
        at = places(module)
        # What the training draws next is untouched, on GPUs too.
        random = torch.random.fork_rng(devices=gpus_of(self._model))
        with torch.no_grad(), random:
            outputs = []
            for state in (now, now | {local: self._before[owner][local]}):
                torch.manual_seed(0)
                outputs.append(first_tensor(call(module, at, state, args, kwargs)))
        a, b = outputs
        return 0.0 if a is None or b is None else float(rms((a - b)[None])[0])

    def _note(self, sizes: Mapping[str, float]) -> None:
        ratios = {t: s / self._expected[t] for t, s in sizes.items() if s > 0}
        if not ratios:
            return
        middle = median(ratios.values())
        for t, ratio in ratios.items():
            r = UpdateRecord(self.step, t, sizes[t], ratio, ratio / middle)
            self.records.append(r)
            if t not in self._done and not 1 / self.band <= r.relative <= self.band:
                self._say(t, r)
        if "all" not in self._done and not 1 / self.band**2 <= middle <= self.band**2:
            self._done.add("all")
            self._warn(
                f"step {self.step}: the updates of all layers are {middle:.2g} times what is expected, "
                f"outside 1/{self.band**2:g} to {self.band**2:g}: another rate, optimizer or batch than "
                "the check's?"
            )

    def _say(self, template: str, r: UpdateRecord) -> None:
        self._done.add(template)
        self._warn(
            f"step {self.step}: the update of {template} is {r.relative:.2g} times the other layers', "
            f"where the check at small sizes leaves 1/{self.band:g} to {self.band:g} ({r.ratio:.2g} times "
            "what is expected by itself)"
        )

    def _warn(self, message: str) -> None:
        self.messages.append(message)
        warnings.warn(message, BandWarning, stacklevel=2)

    def __str__(self) -> str:
        from leadline.tabular.tables import text_table

        last: dict[str, UpdateRecord] = {r.parameter: r for r in self.records}
        body = [[t, str(r.step), f"{r.ratio:.2g}", f"{r.relative:.2g}"] for t, r in last.items()]
        head = ["parameter", "step", "over expected", "over the others"]
        return "\n".join([*self.messages, text_table(head, body, left=1)])


def monitor(
    report: CheckReport | str | os.PathLike[str],
    model: nn.Module,
    plan: Plan,
    optimizer: Optimizer | Iterable[Optimizer],
    every: int = 100,
    band: float = 4.0,
) -> Monitor:
    """Watch a run of the target from here on.

    Args:
        report: a check of the same plan at small sizes, or its check.json.
        model: of the plan's target; the plan is applied, the optimizer made.
        plan: at the target.
        optimizer: one, or those that step one after the other.
        every: steps of the optimizer.
        band: factor by which a layer's update may differ from the other layers', either way; all together
            may differ from the expected by its square.

    Raises:
        TypeError, ValueError: a bad argument, or a model the check knows nothing about.
    """
    check_type("model", model, nn.Module, "give the model that is trained")
    spread = [n for n, p in model.named_parameters() if hasattr(p, "full_tensor")]
    if spread:
        raise ValueError(
            f"model: parameter {spread[0]!r} is spread over processes (FSDP), and an update is measured on "
            "whole ones: watch a run on one device, or with DDP its model.module"
        )
    check_type("plan", plan, Plan, "give the plan at the target")
    several = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    for o in several:
        check_type("optimizer", o, Optimizer, "give the torch optimizer that steps")
    every = check_int("every", every, 1)
    band = check_real("band", band, 1.0, open_minimum=True)
    if not isinstance(report, CheckReport):
        report = read_report(report)
    return Monitor(report, model, plan, several, every, band)


def expected_updates(report: CheckReport, plan: Plan) -> dict[str, float]:
    """RMS of what one step changes in a layer's own output per unit of the base's learning rate, by kind.

    The check's value at its largest size of each axis, carried on with the exponent that the plan promises.
    """
    out: dict[str, float] = {}
    rows: dict[str, dict[str, Row]] = defaultdict(dict)
    for r in report.rows:
        if r.quantity == "own update" and r.expected is not None and min(r.values) > 0:
            rows[r.parameter][r.axis] = r
    for template, axes in rows.items():
        base = next(iter(axes.values())).values[0]
        value = base
        for axis, r in axes.items():
            assert r.expected is not None
            target = getattr(plan.target, axis)
            value *= r.values[-1] / r.values[0] * (target / r.sizes[-1]) ** r.expected
        out[template] = value / (report.lr * report.steps)
    return out
