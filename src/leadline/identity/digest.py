"""The digest of anything a function, a module or an object is made of."""

from __future__ import annotations

import functools
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, ModuleType
from typing import Any

from leadline.identity.functions import of_callable, of_class, of_module
from leadline.identity.library import release
from leadline.identity.objects import state
from leadline.identity.plain import Named, Unidentified, combined, of_leaf


class Walk:
    """One walk through an object and what it holds.

    Args:
        without: ids of parameters and buffers whose values do not count. The code of functions and classes
            then does not either: what is left is how one model of a builder differs from another.
        tensor: called with every other tensor.
    """

    def __init__(
        self, without: Collection[int] | None = None, tensor: Callable[[Any], None] | None = None
    ) -> None:
        self.without, self.tensor = without or (), tensor
        self.code = without is None
        self._known: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        # What has a hash stays alive, so that no other object gets its id.
        self._kept: list[Any] = []
        self._where: list[str] = []

    @contextmanager
    def at(self, place: str) -> Generator[None]:
        """Errors from here say where."""
        self._where.append(place)
        yield
        self._where.pop()

    @property
    def where(self) -> str:
        """The innermost places, in words."""
        return " in ".join(reversed(self._where[-2:]))

    def of(self, x: Any) -> bytes:
        """The digest.

        Raises:
            Unidentified: it has no plain state, or one that changes with every call.
        """
        leaf = of_leaf(x)
        if leaf is not None:
            return leaf
        key = id(x)
        if key in self._known:
            return self._known[key]
        if key in self._open:
            # A cycle: how far up it closes.
            return combined("again", len(self._open) - self._open[key])
        self._open[key] = len(self._open)
        digest_of_x = self._compound(x)
        del self._open[key]
        self._known[key] = digest_of_x
        self._kept.append(x)
        return digest_of_x

    def _compound(self, x: Any) -> bytes:
        if isinstance(x, Named):
            return combined("named", x.name)
        if isinstance(x, ModuleType):
            return of_module(self, x)
        if isinstance(x, type):
            return of_class(self, x)
        digest_of_x = of_callable(self, x)
        if digest_of_x is None:
            digest_of_x = self._container(x)
        if digest_of_x is None:
            digest_of_x = self._numbers(x)
        if digest_of_x is None:
            self._refuse(x)
            digest_of_x = self._torch(x)
        return self._object(x) if digest_of_x is None else digest_of_x

    def _container(self, x: Any) -> bytes | None:
        if isinstance(x, functools.partial):
            keywords = [combined(k, self.of(v)) for k, v in sorted(x.keywords.items())]
            held = [self.of(vars(x)), self.of(x.func), *map(self.of, x.args)]
            return combined("partial", len(x.args), *held, *keywords)
        if isinstance(x, functools._lru_cache_wrapper):
            return combined("cached", self.of(x.__wrapped__))
        kind = type(x)
        if kind in (tuple, list, deque):
            return combined(kind.__name__, *map(self.of, x))
        if kind in (dict, OrderedDict, MappingProxyType):
            return combined(kind.__name__, *self._pairs(x))
        if kind is defaultdict:
            return combined("defaultdict", self.of(x.default_factory), *self._pairs(x))
        if kind in (set, frozenset):
            return combined(kind.__name__, *sorted(map(self.of, x)))
        if kind is slice:
            return combined("slice", *map(self.of, (x.start, x.stop, x.step)))
        return None

    def _pairs(self, x: Mapping[Any, Any]) -> Iterator[bytes]:
        for k, v in x.items():
            yield combined("item", self.of(k), self.of(v))

    def _numbers(self, x: Any) -> bytes | None:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return None
        if isinstance(x, numpy.dtype):
            return combined("dtype", x.str if x.fields is None else repr(x))
        if type(x) is numpy.ndarray or isinstance(x, numpy.generic):
            if x.dtype.hasobject:
                return combined("objects", str(x.shape), *map(self.of, x.ravel().tolist()))
            content = numpy.ascontiguousarray(x).tobytes()
            return combined(type(x).__name__, repr(x.dtype), str(x.shape), content)
        return None

    def _refuse(self, x: Any) -> None:
        """What changes with every call."""
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        kinds: tuple[type, ...] = (random.Random,)
        if numpy is not None:
            n = numpy.random
            kinds += (n.Generator, n.RandomState, n.BitGenerator)
        if torch is not None:
            kinds += (torch.Generator,)
        if isinstance(x, kinds):
            raise Unidentified(self._said("a random generator, which changes with every call", x))
        if isinstance(x, Iterator):
            raise Unidentified(self._said("changed by every look at it", x))
        if torch is not None and isinstance(x, torch.jit.ScriptModule):
            raise Unidentified(self._said("compiled", x))

    def _torch(self, x: Any) -> bytes | None:
        torch = sys.modules.get("torch")
        if torch is None:
            return None
        if isinstance(x, torch.dtype | torch.device | torch.layout | torch.memory_format):
            return combined("torch", str(x))
        if isinstance(x, torch.Tensor):
            if self.tensor is not None:
                self.tensor(x)
            return self._tensor(x)
        if isinstance(x, torch.nn.Module):
            original = vars(x).get("_orig_mod") or x._modules.get("_orig_mod")
            return self._module(x) if original is None else self.of(original)
        return None

    def _tensor(self, x: Any) -> bytes:
        import torch

        if x.is_meta or x.layout is not torch.strided or x.is_quantized:
            raise Unidentified(self._said("a tensor without plain numbers", x))
        with torch.no_grad():
            try:
                plain = x.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
                content = plain.view(torch.uint8).numpy().tobytes()
            except (RuntimeError, TypeError, ValueError, NotImplementedError) as e:
                raise Unidentified(
                    self._said(f"a tensor whose numbers are hidden ({e})", x)
                ) from None
        return combined("tensor", str(x.dtype), str(tuple(x.shape)), content)

    def _module(self, x: Any) -> bytes:
        """A ``torch.nn.Module``: its class, parameters, buffers, modules and plain attributes."""
        import torch

        held = dict(vars(x))
        parts = [self.of(type(x))]
        for kind in ("_parameters", "_buffers"):
            for name, t in held.pop(kind).items():
                value = b"none" if t is None else str(tuple(t.shape)).encode()
                if t is not None and id(t) not in self.without:
                    value = combined("value", self.of(t), str(t.requires_grad))
                parts.append(combined(kind, name, value))
        for name, module in held.pop("_modules").items():
            with self.at(name):
                parts.append(combined("module", name, self.of(module)))
        basic = vars(torch.nn.Module())
        for name, value in sorted(held.items()):
            if name in basic and name != "training":
                # Hooks, under numbers that count all hooks of the process.
                functions = value.values() if isinstance(value, dict) else ()
                parts.append(combined(name, *(self.of(f) for f in functions)))
            else:
                with self.at(name):
                    parts.append(combined("attribute", name, self.of(value)))
        return combined("torch.nn.Module", *parts)

    def _object(self, x: Any) -> bytes:
        if type(x).__module__ == "torch._ops":
            return combined("operation", str(x), release("torch") or "")
        return combined(
            "object", self.of(type(x)), *(self.of(part) for part in state(x, self._said))
        )

    def _said(self, why: str, x: Any) -> str:
        kind = type(x)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        place = f" ({self.where})" if self._where else ""
        return f"{module}{kind.__qualname__}{place} is {why}"


def identify(x: Any) -> str:
    """SHA-256, in hex, of what something is: the same in every process.

    Raises:
        Unidentified: that cannot be told.
    """
    try:
        return Walk().of(x).hex()
    except RecursionError:
        raise Unidentified("it is nested too deep") from None
