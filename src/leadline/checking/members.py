"""Models of one size that differ by seed, run as one program where they allow it.

Parameters, buffers and whatever passes through modules are stacked over seeds, and the model is mapped over
the stack (``leadline.sweeps.stacks``). What cannot be mapped (control flow on values, random numbers in the
forward pass) runs seed after seed; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from leadline.sweeps import stacks
from leadline.sweeps.stacks import NotStacked, State, same_gradients, stacked
from leadline.tasks.data import LossModule, TrainingData
from leadline.tracing.held import call, filled, places

T = TypeVar("T")

_TENSOR = object()
"""Where a tensor was, among what else passed through modules."""


@dataclass
class Passage:
    """Inputs and output of a module in one forward pass."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor | None


class Members:
    """Models of one size, one a seed.

    Args:
        models: alike in everything but the values of parameters and buffers.
        data: the loss, and the batch of step 0, the same at every step. Models train in its precision and
            are measured in float32, because what is measured are small differences.
        seeds: of the random numbers that training draws.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        data: TrainingData,
        seeds: Sequence[int],
    ) -> None:
        self.models, self.batch = list(models), data.batch(0, None, 0)
        self.data, self.training = data.precise("float32"), data
        self.together = len(self.models) > 1
        """Do they still run as one program?"""
        self._places = [places(m) for m in self.models]
        self.buffers = stacked([dict(m.named_buffers()) for m in self.models])
        self._compared = False
        self.gpus = gpus_of(self.models[0])
        with torch.random.fork_rng(devices=self.gpus):
            self._random = [self._random_state(s) for s in seeds]

    def __len__(self) -> int:
        return len(self.models)

    def _random_state(self, seed: int | None = None) -> list[Tensor]:
        """States of the generators of the CPU and of the models' GPUs, as they are or begun with a seed."""
        if seed is not None:
            torch.manual_seed(seed)
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(g) for g in self.gpus)]

    def state(self) -> State:
        """A copy of the parameters as they are now."""
        return stacked([dict(m.named_parameters()) for m in self.models])

    def inspect(
        self, state: State, watched: Iterable[str]
    ) -> tuple[dict[str, Passage], Tensor, Tensor]:
        """One forward pass with these parameters, the same random numbers every time.

        Returns:
            What passed through the watched modules, the model's outputs, and the losses, all stacked.

        Raises:
            ValueError: the loss failed, is no scalar, or hides the model's output.
        """
        names, kept = tuple(watched), []

        def one(model: nn.Module, p: State, b: State) -> list[Tensor]:
            torch.manual_seed(0)
            with watching(model, names) as (seen, outputs):
                loss = self._loss(self.data, model, p | b)
            if not outputs:
                raise ValueError(
                    "the loss called the model in no way that shows its output: call model(...), which "
                    "must return a floating-point tensor, or something that holds one"
                )
            parts = {n: (s.args, s.kwargs, s.output) for n, s in seen.items()}
            leaves, spec = tree_flatten(parts)
            kept[:] = spec, [_TENSOR if isinstance(x, Tensor) else x for x in leaves]
            tensors = [x for x in leaves if isinstance(x, Tensor)]
            return [loss.detach().clone(), outputs[-1].detach().clone(), *tensors]

        with torch.no_grad(), torch.random.fork_rng(devices=self.gpus):
            losses, f, *tensors = self.mapped(one, state, self._buffers())
        (spec, leaves), rest = kept, iter(tensors)
        parts = tree_unflatten([next(rest) if x is _TENSOR else x for x in leaves], spec)
        return {n: Passage(*part) for n, part in parts.items()}, f, losses

    def call(self, name: str, state: State, seen: Passage) -> Tensor | None:
        """The outputs of the module of this name with these parameters (local names) at these inputs."""
        inner = self.models[0].get_submodule(name)
        at, buffers = places(inner), self._buffers()
        local = {n: buffers[full] for n, full in self.inside(name).items() if full in buffers}

        def one(model: nn.Module, p: State, b: State, args: Any, kwargs: Any) -> list[Tensor]:
            module = model.get_submodule(name)
            if self.together:
                out = call(module, at, p | b, args, kwargs)
            else:
                with filled(module, p | b):
                    out = module(*args, **kwargs)
            tensor = first_tensor(out)
            return [] if tensor is None else [tensor.detach().clone()]

        with torch.no_grad():
            outputs = self.mapped(one, state, local, seen.args, seen.kwargs)
        return outputs[0] if outputs else None

    def inside(self, name: str) -> dict[str, str]:
        """Local names of a module's parameters and buffers, and the model's names of the same tensors."""
        model = self.models[0]
        module = model.get_submodule(name)
        known = {id(t): n for n, t in (*model.named_parameters(), *model.named_buffers())}
        local = (*module.named_parameters(), *module.named_buffers())
        return {n: known[id(t)] for n, t in local}

    def _buffers(self) -> State:
        """A copy of the buffers as they are now: inspecting moves none."""
        if not self.together:
            return stacked([dict(m.named_buffers()) for m in self.models])
        return {n: b.clone() for n, b in self.buffers.items()}

    def alike(self) -> bool:
        """Do the models differ in nothing but parameters and buffers, and hold those by name alone?"""
        try:
            return len({stacks.unregistered(model) for model in self.models}) == 1
        except NotStacked:
            return False

    def backward(self) -> list[float]:
        """Set every model's gradients; the losses."""
        if self.together:
            losses = self._backward_together()
            if losses is not None:
                return losses
        out = []
        for i, model in enumerate(self.models):
            with torch.random.fork_rng(devices=self.gpus):
                cpu, *others = self._random[i]
                torch.set_rng_state(cpu)
                for gpu, state in zip(self.gpus, others, strict=True):
                    torch.cuda.set_rng_state(state, gpu)
                loss = self.training.loss(model, self.batch)
                self._random[i] = self._random_state()
            loss.backward()
            out.append(float(loss.detach()))
        return out

    def _backward_together(self) -> list[float] | None:
        names = [n for n, x in self.models[0].named_parameters() if x.requires_grad]
        before = {n: b[-1].clone() for n, b in self.buffers.items()}

        def losses(p: State) -> Tensor:
            return self._as_one(
                lambda m, p, b: self._loss(self.training, m, p | b), p, self.buffers
            )

        try:
            gradients, values = stacks.gradients(losses, self.state(), names)
            if not self._compared and not self._as_alone(names, gradients, before):
                raise NotStacked("the models' own gradients are others")
        except Exception:
            self.together = False
            return None
        self._compared = True
        for n, g in zip(names, gradients, strict=True):
            for i, model in enumerate(self.models):
                model.get_parameter(n).grad = None if g is None else g[i]
        return values.tolist()

    def _as_alone(
        self, names: Sequence[str], gradients: Sequence[Tensor | None], before: State
    ) -> bool:
        """Are the last member's gradients those of the model itself?"""
        model = self.models[-1]
        with filled(model, before), torch.random.fork_rng(devices=self.gpus), torch.enable_grad():
            loss = self.training.loss(model, self.batch)
            parameters = [model.get_parameter(n) for n in names]
            expected = torch.autograd.grad(loss, parameters, allow_unused=True)
        return same_gradients([None if g is None else g[-1] for g in gradients], expected)

    def _loss(self, data: TrainingData, model: nn.Module, state: State) -> Tensor:
        """The loss of the model with these parameters and buffers (one member's)."""
        if not self.together:
            with filled(model, state):
                return data.loss(model, self.batch)
        at = {f"model.{place}": f"model.{n}" for place, n in self._places[0].items()}
        whole = {f"model.{n}": t for n, t in state.items()}
        return call(LossModule(model, data), at, whole, (self.batch,))

    def losses(self) -> list[float]:
        """The losses at the present parameters."""
        return self.inspect(self.state(), ())[2].tolist()

    def mapped(self, f: Callable[..., T], *trees: Any) -> T:
        """f(model, *trees) for every member, its results stacked.

        Args:
            f: returns tensors, or a structure of them.
            trees: structures whose tensors are stacked over members; f gets one member's.
        """
        if self.together:
            try:
                return self._as_one(f, *trees)
            except Exception:
                # Whatever it was: if it is not the mapping, it comes again, in the user's own terms.
                self.together = False
        out = []
        for i, model in enumerate(self.models):
            mine = tree_map(lambda x, i=i: x[i] if isinstance(x, Tensor) else x, trees)
            out.append(f(model, *mine))
        return tree_map(lambda *x: torch.stack(x), *out)

    def _as_one(self, f: Callable[..., T], *trees: Any) -> T:
        return stacks.mapped(partial(f, self.models[0]), *trees)


def gpus_of(model: nn.Module) -> list[torch.device]:
    """The GPUs that the model's parameters are on."""
    return list(dict.fromkeys(p.device for p in model.parameters() if p.device.type == "cuda"))


@contextmanager
def watching(
    model: nn.Module, names: Sequence[str] = ()
) -> Generator[tuple[dict[str, Passage], list[Tensor]]]:
    """What passes through modules of these names, in the order of the calls, and the model's outputs."""
    seen: dict[str, Passage] = {}
    outputs: list[Tensor] = []

    def keep(_m: Any, _a: Any, out: Any) -> None:
        tensor = first_tensor(out)
        if tensor is not None:
            outputs.append(tensor)

    handles = [model.register_forward_hook(keep)]
    for name in names:

        def hook(_m: Any, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
            args, kwargs = detached(without_cache(args)), detached(without_cache(kwargs))
            seen[name] = Passage(args, kwargs, detached(first_tensor(out)))

        handles.append(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))
    try:
        yield seen, outputs
    finally:
        for h in handles:
            h.remove()


def detached(x: Any) -> Any:
    """Tensors of a module's arguments or output as copies of their own, without their history."""
    if isinstance(x, Tensor):
        return x.detach().clone()
    if isinstance(x, tuple):
        return tuple(detached(v) for v in x)
    if isinstance(x, dict):
        return {k: detached(v) for k, v in x.items()}
    return x


def first_tensor(out: Any) -> Tensor | None:
    """The first floating-point tensor of a model's or module's output."""
    if isinstance(out, Tensor):
        return out if out.is_floating_point() else None
    logits = getattr(out, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(out, list | tuple):
        values = out
    elif hasattr(out, "values"):
        values = out.values()
    else:
        return None
    return next((t for v in values if (t := first_tensor(v)) is not None), None)


def without_cache(x: Any) -> Any:
    """Arguments to call a block with once more: attention's caches would grow at every call."""
    if isinstance(x, dict):
        kept = {k: without_cache(v) for k, v in x.items()}
        return kept | ({"use_cache": False} if "use_cache" in x else {})
    if isinstance(x, tuple):
        return tuple(without_cache(v) for v in x)
    return None if type(x).__name__.endswith("Cache") else x
