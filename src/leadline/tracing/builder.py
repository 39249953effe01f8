"""Calling the user's builder: at which sizes, with which errors, and what its parameters look like."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_map

from leadline.errors import check_int
from leadline.places import failed
from leadline.tracing.modes import NothingDrawn

Builder = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Size:
    """A width and a depth, in the builder's own units."""

    width: int
    depth: int

    def __str__(self) -> str:
        return f"width={self.width}, depth={self.depth}"


def size(name: str, value: Any) -> Size:
    """Check ``dict(width=, depth=)``."""
    if isinstance(value, Size):
        return value
    if not isinstance(value, Mapping) or set(value) != {"width", "depth"}:
        raise ValueError(f"{name}={value!r} is not a size: give dict(width=..., depth=...)")
    return Size(
        check_int(f"{name}['width']", value["width"], 1),
        check_int(f"{name}['depth']", value["depth"], 1),
    )


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Random numbers of this seed (torch, NumPy, Python); the caller's go on as if nothing happened."""
    state, others = random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=gpus):
            # torch.manual_seed would also reseed GPUs that are not in use yet.
            torch.default_generator.manual_seed(seed)
            for gpu in gpus:
                torch.cuda.default_generators[gpu].manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        random.setstate(state)
        np.random.set_state(others)  # noqa: NPY002


def seed_of_passes(seed: int) -> int:
    """The seed of what a model draws in its passes (dropout, noise), if the builder drew with ``seed``.

    Of one seed a pass would draw the numbers that the weights are made of.
    """
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])


def construct(build: Builder, at: Size, seed: int = 0, meta: bool = False) -> nn.Module:
    """The builder's model, with the caller's random state left alone.

    Raises:
        ValueError: the builder failed, or what it returned cannot be parametrized.
    """
    if not callable(build):
        raise TypeError(
            f"build is {type(build).__name__}, which cannot be called: give a callable (width, depth)"
        )
    with seeded(seed):
        try:
            if meta:
                with torch.device("meta"), NothingDrawn():
                    model = build(at.width, at.depth)
            else:
                model = build(at.width, at.depth)
        except Exception as e:
            remedy = (
                "the builder is called at base, at target and at integer multiples of base: all of "
                "them must be possible"
            )
            raise failed(f"build({at})", e, remedy) from e
    if not isinstance(model, nn.Module):
        raise TypeError(f"build({at}) returned {type(model).__name__}: return a torch.nn.Module")
    check_parameters(model, f"build({at})")
    if not _has_forward(model) and callable(getattr(model, "training_step", None)):
        model.forward = TrainingStep(model)
    return model


@dataclass(frozen=True)
class TrainingStep:
    """The forward pass of a model that has none but a ``training_step`` (LightningModule)."""

    model: nn.Module

    def __call__(self, batch: Any) -> Any:
        """What it does with a batch, the first of an epoch."""
        return self.model.training_step(batch, 0)  # ty: ignore[not-callable]


def _has_forward(model: nn.Module) -> bool:
    """nn.Module's and LightningModule's own only raise."""
    name = getattr(getattr(model.forward, "__func__", model.forward), "__qualname__", "")
    return name not in ("_forward_unimplemented", "LightningModule.forward")


def outline(build: Builder, at: Size) -> nn.Module:
    """The model without its memory where the builder can do that."""
    try:
        return construct(build, at, meta=True)
    except ValueError:
        return construct(build, at)


def check_parameters(model: nn.Module, what: str) -> None:
    """Refuse parameters that have no scale of their own.

    Raises:
        ValueError: names the parameter and the remedy.
    """
    any_parameter = False
    for name, p in model.named_parameters():
        any_parameter = True
        if isinstance(p, UninitializedParameter):
            raise ValueError(
                f"{what}: parameter {name!r} is lazy (no shape yet): run one batch through the model "
                "inside the builder before it returns"
            )
        if p.is_complex():
            raise ValueError(
                f"{what}: parameter {name!r} is {p.dtype}: the rules are for real numbers; hold real and "
                "imaginary part as two parameters"
            )
        if not p.is_floating_point():
            raise ValueError(
                f"{what}: parameter {name!r} is {p.dtype}, quantised: plan the floating-point model "
                "and quantise afterwards"
            )
    if not any_parameter:
        raise ValueError(
            f"{what} has no parameters, so there is nothing to parametrize (quantised modules hold "
            "none: plan the floating-point model)"
        )


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, tied ones once."""
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def aliases(model: nn.Module) -> dict[str, list[str]]:
    """Every name of the parameters that have several."""
    by_id: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        by_id.setdefault(id(p), []).append(name)
    return {names[0]: names for names in by_id.values() if len(names) > 1}


def example(model: nn.Module, inputs: Any, at: Size) -> Any:
    """Inputs for one forward pass.

    Args:
        inputs: the user's ``inputs``: a tensor, tuple or dict, or a callable of (width, depth).

    Raises:
        ValueError: none were given and the model does not say what it takes.
    """
    if callable(inputs):
        inputs = inputs(at.width, at.depth)
    if isinstance(model.forward, TrainingStep):
        if inputs is None:
            raise ValueError(
                f"{type(model).__name__} has no forward, so nothing says what it takes: give "
                "inputs=, a batch as the data loader makes it"
            )
        return {"batch": inputs}
    if inputs is not None:
        return inputs
    like = next(model.parameters())

    def fit(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.to(like.device, like.dtype if x.is_floating_point() else x.dtype)

    with seeded(0):
        return tree_map(fit, _guess(model))


def _guess(model: nn.Module) -> Any:
    config = getattr(model, "config", None)
    if getattr(model, "main_input_name", None) == "pixel_values" and config is not None:
        side = getattr(config, "image_size", None) or 64
        side = side if isinstance(side, int) else side[0]
        return {"pixel_values": torch.randn(2, config.num_channels, side, side)}
    dummy = getattr(model, "dummy_inputs", None)
    if isinstance(dummy, Mapping) and dummy:
        vocabulary = getattr(config, "vocab_size", None)
        return {
            k: v.clamp(max=vocabulary - 1)
            if vocabulary and isinstance(v, Tensor) and not v.is_floating_point()
            else v
            for k, v in dummy.items()
        }
    for module in model.modules():
        if isinstance(module, nn.Linear):
            return torch.randn(4, module.in_features)
        if isinstance(module, nn.Embedding):
            return torch.randint(0, module.num_embeddings, (2, 8))
        kinds = ((nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3))
        for kind, dims in kinds:
            if isinstance(module, kind):
                return torch.randn(2, module.in_channels, *[32 if dims < 3 else 16] * dims)
        leaf = next(module.children(), None) is None
        if leaf and next(module.parameters(recurse=False), None) is not None:
            break
    raise ValueError(
        "the model does not say what it takes (no dummy_inputs, and its first layer is no Linear, Conv "
        "or Embedding): give inputs= (a tensor, a tuple of arguments or a dict of keywords)"
    )
