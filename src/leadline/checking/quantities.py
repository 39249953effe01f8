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

from leadline.planning.plan import Plan

Key = tuple[str, str]
"""Quantity and the template of a parameter (or of a block)."""


@dataclass
class Measured:
    """Root mean squares by quantity and template."""

    values: dict[Key, float]
    losses: list[float]
    lost: dict[str, str] = field(default_factory=dict)


@dataclass
class _Seen:
    """What passed through a module in one forward pass."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor | None


def first_tensor(out: Any) -> Tensor | None:
    """The first floating-point tensor of a model's or module's output."""
    if isinstance(out, Tensor):
        return out if out.is_floating_point() else None
    logits = getattr(out, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    values = out.values() if isinstance(out, dict) else out
    if isinstance(out, dict | list | tuple) or hasattr(out, "values"):
        for v in values if isinstance(out, dict | list | tuple) else out.values():
            found = first_tensor(v)
            if found is not None:
                return found
    return None


@contextmanager
def _watch(modules: dict[str, nn.Module], seen: dict[str, _Seen]) -> Generator[None]:
    handles = []
    for name, module in modules.items():

        def hook(_m: Any, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
            seen[name] = _Seen(_detached(args), _detached(kwargs), _detached(first_tensor(out)))

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


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.detach().double().square().mean().sqrt())


class Probe:
    """A model under watch: its state at initialization, and what is compared with it later."""

    def __init__(self, plan: Plan, model: nn.Module, batch: Any, loss_fn: Callable[..., Any]):
        self.plan, self.model, self.batch, self.loss_fn = plan, model, batch, loss_fn
        for m in model.modules():
            # A check compares the same function before and after: no dropout.
            if isinstance(m, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
                m.eval()
        self.kinds = plan.kind_of(model)
        self.owners: dict[str, nn.Module] = {}
        self.own: dict[str, list[tuple[str, str]]] = defaultdict(list)
        modules = dict(model.named_modules())
        for name in self.kinds:
            owner, _, local = name.rpartition(".")
            self.owners[owner] = modules[owner]
            self.own[owner].append((local, name))
        self.blocks = {
            n: m for n, m in modules.items() if n and self._block_template(n) is not None
        }
        self.initial = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.before, self.f0 = self._look({})
        self.chi = self._slope()

    def _block_template(self, name: str) -> str | None:
        """The template of a repeated block that holds whole branches."""
        inside = next((p for p in self.kinds if p.startswith(name + ".")), None)
        if inside is None:
            return None
        own = self.plan.naming.module(name, inside)
        return own if own in self._block_names() else None

    def _block_names(self) -> set[str]:
        out = set()
        for b in self.plan.branches:
            parts = b.split(".")
            if "*" in parts:
                last = len(parts) - parts[::-1].index("*")
                out.add(".".join(parts[:last]))
        return out

    def _look(self, replaced: dict[str, Tensor]) -> tuple[dict[str, _Seen], Tensor]:
        """One forward pass: what passed through the modules, and the model's output."""
        seen: dict[str, _Seen] = {}
        outputs: list[Tensor] = []

        def keep(_m: Any, _a: Any, out: Any) -> None:
            found = first_tensor(out)
            if found is not None:
                outputs.append(found.detach().clone())

        handle = self.model.register_forward_hook(keep)
        held = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in replaced}
        try:
            with torch.no_grad(), _watch({**self.owners, **self.blocks}, seen):
                for n, p in self.model.named_parameters():
                    if n in replaced:
                        p.copy_(replaced[n])
                self.loss_fn(self.model, self.batch)
        finally:
            handle.remove()
            with torch.no_grad():
                for n, p in self.model.named_parameters():
                    if n in held:
                        p.copy_(held[n])
        if not outputs:
            raise ValueError("the model's output holds no floating-point tensor to compare")
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
            loss = self.loss_fn(self.model, self.batch)
        finally:
            handle.remove()
        f = outputs[-1]
        if not isinstance(loss, Tensor) or not f.requires_grad or loss.numel() != 1:
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
        for name, module in self.blocks.items():
            was, now = self.before.get(name), after.get(name)
            if was is None or now is None or was.output is None or now.output is None:
                continue
            t = self._block_template(name) or name
            note("stream", t, now.output)
            note("change of stream", t, now.output - was.output)
            lazy = self._nonlinear(name, module, now, trained)
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
        self, name: str, module: nn.Module, now: _Seen, trained: dict[str, Tensor]
    ) -> float | None:
        """|B(θ_0+Δ) - B(θ_0) - JΔ| / |B(θ_0+Δ) - B(θ_0)| of a block at its present input."""
        local = {n: f"{name}.{n}" for n, _ in module.named_parameters()}
        start = {n: self.initial[full] for n, full in local.items() if full in self.initial}
        move = {n: trained[local[n]] - v for n, v in start.items()}

        def block(p: dict[str, Tensor]) -> Tensor:
            out = first_tensor(functional_call(module, p, now.args, now.kwargs))
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
