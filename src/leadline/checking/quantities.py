"""Measurements on trained models of one size, one a seed, and on their residual stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from leadline.checking.members import Members, Passage, first_tensor, watching
from leadline.planning.plans import Plan
from leadline.sweeps.stacks import State
from leadline.tracing.held import filled
from leadline.tracing.kinds import Kind

Key = tuple[str, str]
"""Quantity and the template of a parameter (or of a block)."""


@dataclass
class Measurement:
    """Root mean squares by quantity and template."""

    values: dict[Key, float]
    losses: list[float]
    lost: dict[str, str] = field(default_factory=dict)


def one_map(module: nn.Module) -> bool:
    """Does its output belong to one weight alone? A whole model that owns a parameter is seen otherwise."""
    direct = list(module.parameters(recurse=False))
    return len(direct) == len(list(module.parameters())) and sum(p.ndim > 1 for p in direct) < 2


def rms(x: Tensor) -> np.ndarray:
    """Root mean square of every member: (S, ...) -> (S,)."""
    return x.detach().double().square().flatten(1).mean(1).sqrt().cpu().numpy()


class Inspection:
    """Models at initialization, and measurements of what training changed."""

    def __init__(self, plan: Plan, members: Members) -> None:
        self.plan, self.members = plan, members
        # A check compares the same function before and after: no dropout, functional ones included.
        for model in members.models:
            model.eval()
            for m in model.modules():
                if isinstance(m, _BatchNorm):
                    m.train()
        first = members.models[0]
        self.kinds = plan.kind_of(first)
        self.owners: dict[str, nn.Module] = {}
        self.owned: dict[str, list[tuple[str, str]]] = defaultdict(list)
        modules = dict(first.named_modules())
        for name in self.kinds:
            owner, _, local = name.rpartition(".")
            self.owners[owner] = modules[owner]
            self.owned[owner].append((local, name))
        for owner in [o for o, m in self.owners.items() if not one_map(m)]:
            del self.owners[owner]
        self.blocks = blocks(plan, self.kinds)
        self.watched = (*self.owners, *self.blocks)
        self.initial = members.state()
        self.before, self.f0, together = members.inspect(self.initial, self.watched)
        self.chi, alone = self._slopes()
        same = torch.allclose(together, alone, rtol=1e-4, equal_nan=True)
        if members.together and not (same and members.alike()):
            # Something differs between the models that is no parameter or buffer.
            members.together = False
            self.before, self.f0, _ = members.inspect(self.initial, self.watched)

    def _slopes(self) -> tuple[list[Tensor | None], Tensor]:
        """χ = ∂loss/∂f at initialization, with norm √entries, None if the loss does not use f; losses."""
        slopes = [self._slope(model) for model in self.members.models]
        return [chi for chi, _ in slopes], torch.stack([loss for _, loss in slopes])

    def _slope(self, model: nn.Module) -> tuple[Tensor | None, Tensor]:
        gpus = self.members.gpus
        random = torch.random.fork_rng(devices=gpus)
        # Inspecting moves no buffers.
        with filled(model, {}), watching(model) as (_, outputs), random:
            torch.manual_seed(0)
            loss = self.members.data.loss(model, self.members.batch)
        f = outputs[-1]
        if not f.requires_grad:
            return None, loss.detach()
        (chi,) = torch.autograd.grad(loss, f, allow_unused=True)
        if chi is None or not float(size := rms(chi[None])[0]):
            return None, loss.detach()
        return chi / size, loss.detach()

    def moved(self) -> Tensor:
        """The change of the models' outputs: (S, ...)."""
        return self.members.inspect(self.members.state(), ())[1] - self.f0

    def measure(self) -> list[dict[Key, float]]:
        """Compare with the initialization, member by member."""
        squares: dict[Key, list[np.ndarray]] = defaultdict(list)
        trained = self.members.state()
        after, _, _ = self.members.inspect(trained, self.watched)

        def note(quantity: str, template: str, x: Tensor) -> None:
            squares[quantity, template].append(rms(x) ** 2)

        for owner in self.owners:
            was, now = self.before.get(owner), after.get(owner)
            if was is None or now is None or was.output is None or now.output is None:
                continue
            # What a module puts out is its matrix's business; its bias only adds to it.
            main = max(self.owned[owner], key=lambda pair: len(self.kinds[pair[1]].shape))[1]
            t = self.kinds[main].holder or "model"
            note("preactivation", t, was.output)
            note("change", t, now.output - was.output)
            names = self.members.inside(owner)
            present = {n: trained[full] for n, full in names.items() if full in trained}
            for local, name in self.owned[owner]:
                t = self.kinds[name].label
                other = self.members.call(owner, present | {local: self.initial[name]}, now)
                if other is not None:
                    note("own update", t, now.output - other)
        before, later = (streams(self.blocks, seen) for seen in (self.before, after))
        for name in before.keys() & later.keys():
            note("stream", self.blocks[name], before[name])
            note("change of stream", self.blocks[name], later[name] - before[name])
        for name, t in self.blocks.items():
            if name in after and name not in self.owners and after[name].output is not None:
                lazy = self._nonlinear(name, after[name], trained)
                if lazy is not None:
                    squares["nonlinear", t].append(lazy**2)
        values = {k: np.sqrt(np.mean(v, axis=0)) for k, v in squares.items()}
        values |= self._effects(trained)
        return [{k: float(v[i]) for k, v in values.items()} for i in range(len(self.members))]

    def _effects(self, trained: State) -> dict[Key, np.ndarray]:
        """f(θ_0 + Δθ of one kind) - f(θ_0), along the direction in which the loss falls.

        Of a change by random directions most entries are noise of relative size 1/√n, which would hide at
        small widths what the kind has learned.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for name, kind in self.kinds.items():
            groups[kind.label].append(name)
        groups["model"] = list(self.kinds)
        out = {}
        for t, names in groups.items():
            state = {n: trained[n] if n in names else v for n, v in self.initial.items()}
            _, f, _ = self.members.inspect(state, ())
            moved = f - self.f0
            sizes = rms(moved)
            quantity = "change of output" if t == "model" else "effect on output"
            out[quantity, t] = np.array(
                [
                    sizes[i] if chi is None else abs(float((moved[i] * chi).mean()))
                    for i, chi in enumerate(self.chi)
                ]
            )
        return out

    def _nonlinear(self, name: str, now: Passage, trained: State) -> np.ndarray | None:
        """|B(θ_0+Δ) - B(θ_0) - JΔ| / |B(θ_0+Δ) - B(θ_0)| of a block at its present input."""
        names = self.members.inside(name)
        local = {n: full for n, full in names.items() if full in trained}
        start = {n: self.initial[full] for n, full in local.items()}
        move = {n: trained[local[n]] - v for n, v in start.items()}
        # JΔ by a central difference: its error is of third order in Δ, and any operation will do.
        h, out = 0.05, []
        for k in (0.0, h, -h, 1.0):
            output = self.members.call(name, {n: v + k * move[n] for n, v in start.items()}, now)
            assert output is not None
            out.append(output)
        base, up, down, end = out
        moved, rest = rms(end - base), rms(end - base - (up - down) / (2 * h))
        return rest / moved if (moved > 0).all() else None


def blocks(plan: Plan, kinds: Mapping[str, Kind]) -> dict[str, str]:
    """Modules that repeat with depth, and their templates: those that hold whole branches if there are any.

    Otherwise (lists of layers side by side, tied together in the model's forward) the layers themselves.

    Args:
        kinds: of every parameter of the model, by name.
    """
    whole = {_to_index(b) for b in plan.branches} - {""}
    out: dict[str, str] = {}
    for name, kind in kinds.items():
        template = _to_index(kind.template.rpartition(".")[0])
        if kind.branch is None or not template or (whole and template not in whole):
            continue
        out[".".join(name.split(".")[: template.count(".") + 1])] = template
    return out


def _to_index(template: str) -> str:
    """Up to the last ``*``.

    >>> _to_index("h.*.attn.c_attn"), _to_index("embed")
    ('h.*', '')
    """
    parts = template.split(".")
    last = max((i for i, part in enumerate(parts) if "*" in part), default=-1)
    return ".".join(parts[: last + 1])


def streams(blocks: Mapping[str, str], seen: Mapping[str, Passage]) -> dict[str, Tensor]:
    """The residual stream after every block, by the block's name.

    Where each block takes what the one before it put out, that is the stream; where the model adds the
    branch itself, h + block(h), the stream is what blocks take, and of several lists of layers what those
    of the first take.

    Args:
        seen: in the order of the calls.
    """
    groups: dict[str, list[str]] = {}
    for name in seen:
        if name in blocks:
            groups.setdefault(blocks[name], []).append(name)
    out: dict[str, Tensor] = {}
    outside = False
    for members in groups.values():
        pairs = [(seen[a].output, _input(seen[b])) for a, b in pairwise(members)]
        if all(a is not None and b is not None and _same(a, b) for a, b in pairs):
            out |= {n: x for n in members if (x := seen[n].output) is not None}
        elif not outside:
            outside = True
            out |= {n: x for n in members[1:] if (x := _input(seen[n])) is not None}
    return out


def _input(call: Passage) -> Tensor | None:
    return first_tensor((*call.args, *call.kwargs.values()))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())
