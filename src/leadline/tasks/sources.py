"""Where batches come from: one that stays, a function of step and generator, or something to iterate over.

Every source answers ``at(step, seed)`` with the same batch in every process and at every call. Random
numbers that are drawn on the way, by the user's function or by a loader that shuffles, are those of
the seed and the step, and the global generators go on as if nothing had happened. A generator that a loader
holds itself begins anew with every epoch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from leadline.errors import shown
from leadline.places import failed
from leadline.tracing.builder import seeded

_STREAM = 3
_REMEDY = "it is called with the step and a torch.Generator, and returns the batch of that step"


def _number(*words: int) -> int:
    """One seed of several numbers."""
    state = np.random.SeedSequence([*words, _STREAM]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@dataclass(frozen=True)
class FixedBatch:
    """The same batch at every step, for every seed."""

    batch: Any
    shared = True

    def at(self, step: int, seed: int) -> Any:
        """The batch."""
        return self.batch

    @property
    def identity(self) -> Any:
        """What it is, for a store."""
        return self.batch


@dataclass(frozen=True)
class BatchFunction:
    """A batch by a function of the step, or of the step and a generator."""

    function: Callable[..., Any]
    generator: bool
    """Does it take one?"""
    shared = False

    def at(self, step: int, seed: int) -> Any:
        """The batch of a step."""
        number = _number(seed, step)
        with seeded(number & 0xFFFFFFFF):
            arguments = (torch.Generator().manual_seed(number),) if self.generator else ()
            try:
                return self.function(step, *arguments)
            except Exception as e:
                raise failed(f"batches(step={step}, ...)", e, _REMEDY) from e

    @property
    def identity(self) -> Any:
        """What it is, for a store."""
        return self.function


@dataclass
class _Reading:
    """How far an iterable has been read for a seed."""

    step: int = -1
    epoch: int = 0
    batch: Any = None
    rest: Iterator[Any] | None = None


@dataclass(frozen=True)
class BatchIterable:
    """The batches of an iterable, epoch after epoch; a loader that shuffles does so by the seed."""

    iterable: Any
    shared: bool
    """Are the batches the same for every seed?"""
    _readings: dict[int, _Reading] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> tuple[Any, bool]:
        return self.iterable, self.shared

    def __setstate__(self, state: tuple[Any, bool]) -> None:
        for name, value in zip(("iterable", "shared", "_readings"), (*state, {}), strict=True):
            object.__setattr__(self, name, value)

    def at(self, step: int, seed: int) -> Any:
        """The batch of a step: the next one is read, an earlier one is read again from the beginning."""
        seed = 0 if self.shared else seed
        reading = self._readings.get(seed)
        if reading is None or reading.step > step:
            reading = self._readings[seed] = _Reading()
        while reading.step < step:
            self._next(reading, seed)
        return reading.batch

    def _next(self, reading: _Reading, seed: int) -> None:
        fresh = reading.rest is None
        with seeded(_number(seed, reading.step + 1) & 0xFFFFFFFF):
            try:
                if reading.rest is None:
                    reading.rest = self._begin(seed, reading.epoch)
                reading.batch = next(reading.rest)
            except StopIteration:
                if fresh:
                    raise ValueError(
                        f"batches={shown(self.iterable)} holds no batch: give one that holds some"
                    ) from None
                reading.rest, reading.epoch = None, reading.epoch + 1
                return
            except Exception as e:
                raise failed("reading batches", e, "it is iterated over, epoch after epoch") from e
        reading.step += 1

    def _begin(self, seed: int, epoch: int) -> Iterator[Any]:
        for holder in _samplers(self.iterable):
            generator = getattr(holder, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(_number(seed, epoch))
            if callable(getattr(holder, "set_epoch", None)):
                holder.set_epoch(epoch)
        return iter(self.iterable() if callable(self.iterable) else self.iterable)

    @property
    def identity(self) -> Any:
        """What it is, for a store: a loader by its data and how they become batches."""
        x = self.iterable
        if not isinstance(x, torch.utils.data.DataLoader):
            return x
        samplers = [type(s) for s in _samplers(x)[1:]]
        sizes = [getattr(s, "batch_size", None) for s in _samplers(x)]
        return (x.dataset, samplers, sizes, x.drop_last, x.collate_fn)


def _samplers(iterable: Any) -> list[Any]:
    """A loader and what orders its samples."""
    out = [iterable]
    for name in ("batch_sampler", "sampler"):
        inner = getattr(iterable, name, None)
        if inner is not None:
            out += [inner, *([inner.sampler] if hasattr(inner, "sampler") else [])]
    return out


Source = FixedBatch | BatchFunction | BatchIterable


def source(batches: Any) -> Source:
    """What the user's ``batches`` is.

    Raises:
        TypeError: nothing that gives batches, or something that gives them only once.
    """
    remedy = (
        "give a list of batches, a DataLoader, or a function (step, generator) that returns a batch"
    )
    if callable(batches) and not isinstance(batches, Iterable):
        count = _parameters(batches)
        if count == 0:
            return BatchIterable(batches, shared=False)
        return BatchFunction(batches, generator=count != 1)
    if isinstance(batches, Iterator):
        raise TypeError(
            f"batches={shown(batches)} can be read only once, and every run reads from the beginning: "
            "give the function that makes it, a list, a DataLoader, or a function (step, generator)"
        )
    if isinstance(batches, str | bytes | dict | torch.Tensor | np.ndarray):
        raise TypeError(
            f"batches={shown(batches)} is one batch or less: {remedy}; one batch that stays is batch="
        )
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches={shown(batches)} cannot be iterated over: {remedy}")
    if isinstance(batches, list | tuple) and not batches:
        raise ValueError(f"batches={batches!r} is empty: {remedy}")
    return BatchIterable(batches, shared=isinstance(batches, list | tuple))


def _parameters(function: Callable[..., Any]) -> int:
    """How many positional arguments a function takes, two where that is not said."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return 2
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in signature.parameters.values()):
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [p for p in signature.parameters.values() if p.kind in kinds]
    required = sum(p.default is inspect.Parameter.empty for p in places)
    if required > 2:
        raise TypeError(
            f"batches={shown(function)} takes {required} arguments: it is called with (step, generator)"
        )
    # A second one with a default is a setting of the user's, unless its name says otherwise.
    optional = [p.name in ("generator", "rng") for p in places[required:2]]
    return required + sum(optional) if required else int(bool(places))
