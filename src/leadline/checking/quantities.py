"""What is measured on one trained model of one size and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from leadline.checking.stream import Seen, blocks, first_tensor, streams, without_cache
from leadline.planning.plan import Plan

Key = tuple[str, str]
"""Quantity and the template of a parameter (or of a block)."""


@dataclass
class Measured:
    """Root mean squares by quantity and template."""

    values: dict[Key, float]
    losses: list[float]
    lost: dict[str, str] = field(default_factory=dict)


@contextmanager
def _watch(modules: dict[str, nn.Module], seen: dict[str, Seen]) -> Generator[None]:
    handles = []
    for name, module in modules.items():

        def hook(_m: Any, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
            seen[name] = Seen(_detached(args), _detached(kwargs), _detached(first_tensor(out)))

        handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for h in handles:
            h.remove()


def _detached(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.detach().clone()
    if isinstance(x, tuple):
        return tuple(_detached(v) for v in x)
    if isinstance(x, dict):
        return {k: _detached(v) for k, v in x.items()}
    return x


def scalar_loss(loss_fn: Callable[..., Any], model: nn.Module, batch: Any) -> Tensor:
    """The loss.

    Raises:
        ValueError: loss_fn failed, or returned no scalar.
    """
    try:
        loss = loss_fn(model, batch)
    except Exception as e:
        raise ValueError(
            f"loss_fn(model, batch) failed with {type(e).__name__}: {e}; it is called with models of the "
            "builder and with batch as given"
        ) from e
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shown = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn returned {shown}: return a scalar tensor of (model, batch)")
    return loss


def _one_map(module: nn.Module) -> bool:
    """Does its output belong to one weight alone? A whole model that owns a parameter is seen otherwise."""
    own = list(module.parameters(recurse=False))
    return len(own) == len(list(module.parameters())) and sum(p.ndim > 1 for p in own) < 2


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.detach().double().square().mean().sqrt())


class Probe:
    """A model under watch: its state at initialization, and what is compared with it later."""

    def __init__(self, plan: Plan, model: nn.Module, batch: Any, loss_fn: Callable[..., Any]):
        self.plan, self.model, self.batch, self.loss_fn = plan, model, batch, loss_fn
        # A check compares the same function before and after: no dropout, functional ones included.
        model.eval()
        for m in model.modules():
            if isinstance(m, _BatchNorm):
                m.train()
        self.kinds = plan.kind_of(model)
        self.owners: dict[str, nn.Module] = {}
        self.own: dict[str, list[tuple[str, str]]] = defaultdict(list)
        modules = dict(model.named_modules())
        for name in self.kinds:
            owner, _, local = name.rpartition(".")
            self.owners[owner] = modules[owner]
            self.own[owner].append((local, name))
        for owner in [o for o, m in self.owners.items() if not _one_map(m)]:
            del self.owners[owner]
        self.blocks = blocks(plan, self.kinds)
        self.initial = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.before, self.f0 = self._look({})
        self.chi = self._slope()

    def _look(self, replaced: dict[str, Tensor]) -> tuple[dict[str, Seen], Tensor]:
        """One forward pass: what passed through the modules, and the model's output."""
        seen: dict[str, Seen] = {}
        outputs: list[Tensor] = []

        def keep(_m: Any, _a: Any, out: Any) -> None:
            found = first_tensor(out)
            if found is not None:
                outputs.append(found.detach().clone())

        handle = self.model.register_forward_hook(keep)
        held = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in replaced}
        try:
            watched = self.owners | {n: self.model.get_submodule(n) for n in self.blocks}
            with torch.no_grad(), _watch(watched, seen), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                for n, p in self.model.named_parameters():
                    if n in replaced:
                        p.copy_(replaced[n])
                scalar_loss(self.loss_fn, self.model, self.batch)
        finally:
            handle.remove()
            with torch.no_grad():
                for n, p in self.model.named_parameters():
                    if n in held:
                        p.copy_(held[n])
        if not outputs:
            raise ValueError(
                "loss_fn called the model in no way that shows its output: call model(...), which must "
                "return a floating-point tensor, or something that holds one"
            )
        return seen, outputs[-1]

    def _slope(self) -> Tensor | None:
        """χ = ∂loss/∂f at initialization, with norm √entries; None if the loss does not use f."""
        outputs: list[Tensor] = []

        def keep(_m: Any, _a: Any, out: Any) -> None:
            found = first_tensor(out)
            if found is not None:
                outputs.append(found)

        handle = self.model.register_forward_hook(keep)
        try:
            loss = scalar_loss(self.loss_fn, self.model, self.batch)
        finally:
            handle.remove()
        f = outputs[-1]
        if not f.requires_grad:
            return None
        (chi,) = torch.autograd.grad(loss, f, allow_unused=True)
        if chi is None or not float(size := rms(chi)):
            return None
        return chi / size

    def moved(self) -> Tensor:
        """The change of the model's output."""
        return self._look({})[1] - self.f0

    def measure(self) -> dict[Key, float]:
        """Compare with the initialization."""
        squares: dict[Key, list[float]] = defaultdict(list)
        after, _ = self._look({})
        trained = {n: p.detach().clone() for n, p in self.model.named_parameters()}

        def note(quantity: str, template: str, x: Tensor) -> None:
            squares[quantity, template].append(rms(x) ** 2)

        for owner, module in self.owners.items():
            was, now = self.before.get(owner), after.get(owner)
            if was is None or now is None or was.output is None or now.output is None:
                continue
            # What a module puts out is its matrix's business; its bias only adds to it.
            main = max(self.own[owner], key=lambda pair: len(self.kinds[pair[1]].shape))[1]
            t = self.kinds[main].template.rpartition(".")[0] or "model"
            note("preactivation", t, was.output)
            note("change", t, now.output - was.output)
            for local, name in self.own[owner]:
                t = self.kinds[name].template
                with torch.no_grad():
                    out = functional_call(module, {local: self.initial[name]}, now.args, now.kwargs)
                other = first_tensor(out)
                if other is not None:
                    note("own update", t, now.output - other)
        before, later = (streams(self.blocks, seen) for seen in (self.before, after))
        for name in before.keys() & later.keys():
            note("stream", self.blocks[name], before[name])
            note("change of stream", self.blocks[name], later[name] - before[name])
        for name, t in self.blocks.items():
            if name in after and name not in self.owners and after[name].output is not None:
                lazy = self._nonlinear(name, self.model.get_submodule(name), after[name], trained)
                if lazy is not None:
                    squares["nonlinear", t].append(lazy**2)
        out = {k: (sum(v) / len(v)) ** 0.5 for k, v in squares.items()}
        return out | self._effects(trained)

    def _effects(self, trained: dict[str, Tensor]) -> dict[Key, float]:
        """f(θ_0 + Δθ of one kind) - f(θ_0), along the direction in which the loss falls.

        Of a change by random directions most entries are noise of relative size 1/√n, which would hide at
        small widths what the kind has learned.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for name, kind in self.kinds.items():
            groups[kind.template].append(name)
        out = {}
        for t, names in groups.items():
            state = {n: trained[n] if n in names else v for n, v in self.initial.items()}
            _, f = self._look(state)
            moved = f - self.f0
            out["effect on output", t] = (
                rms(moved) if self.chi is None else abs(float((moved * self.chi).mean()))
            )
        return out

    def _nonlinear(
        self, name: str, module: nn.Module, now: Seen, trained: dict[str, Tensor]
    ) -> float | None:
        """|B(θ_0+Δ) - B(θ_0) - JΔ| / |B(θ_0+Δ) - B(θ_0)| of a block at its present input."""
        local = {n: f"{name}.{n}" for n, _ in module.named_parameters()}
        start = {n: self.initial[full] for n, full in local.items() if full in self.initial}
        move = {n: trained[local[n]] - v for n, v in start.items()}

        def block(p: dict[str, Tensor]) -> Tensor:
            args, kwargs = without_cache(now.args), without_cache(now.kwargs)
            out = first_tensor(functional_call(module, p, args, kwargs))
            assert out is not None
            return out

        # JΔ by a central difference: its error is of third order in Δ, and any operation will do.
        h = 0.05
        with torch.no_grad():
            base, up, down, end = (
                block({n: start[n] + k * move[n] for n in start}) for k in (0.0, h, -h, 1.0)
            )
        tangent = (up - down) / (2 * h)
        moved = rms(end - base)
        return rms(end - base - tangent) / moved if moved > 0 else None
