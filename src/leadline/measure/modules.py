"""What is measured of the outputs of any model's modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from leadline.errors import cut
from leadline.measure.observation import Measure, gram, movement
from leadline.tasks.data import TrainingData, copied

Context = Callable[[], AbstractContextManager[Any]]


def matched(patterns: Sequence[str], model: nn.Module) -> list[str]:
    """Names of the modules that any of the patterns matches, in the model's order.

    Raises:
        ValueError: a pattern that matches none.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(n, pattern) for n in names):
            raise ValueError(
                f"measure.modules={pattern!r} matches no module; there are {cut(', '.join(names), 600)}"
            )
    return [n for n in names if any(fnmatchcase(n, p) for p in patterns)]


class ModuleMeasurement:
    """The modules of one run's model, measured at some of its steps on the same inputs.

    One pass at once tells which modules have an output that can be measured (a list of modules has none).
    Of a module that is called several times in a pass the last output counts.

    Args:
        model: at initialization.
        data: whose first rows pass through it.
        evaluating: evaluation without gradients, of which nothing is remembered.
        backward: within it gradients may be taken.
        initially: within it weights that are trained elsewhere are as before training; None where all
            weights are the model's tensors.
        elsewhere: names of these weights.

    Attributes:
        names: of the modules.

    Raises:
        ValueError: a pattern that matches no module with an output of numbers; modules whose numbers of
            rows differ.
    """

    def __init__(
        self,
        request: Measure,
        model: nn.Module,
        data: TrainingData,
        evaluating: Context,
        backward: Context,
        initially: Context | None = None,
        elsewhere: Collection[str] = (),
    ) -> None:
        self.request, self.model, self.data = request, model, data
        self.names = matched(request.modules, model)
        self._batch = data.first(request.rows)
        self._evaluating, self._backward, self._initially = evaluating, backward, initially
        self._before: list[tuple[Tensor, Tensor]] = []
        """Tensors of the model and their values before training, where a later pass needs them."""
        if initially is not None and request.initial:
            kept = [p for n, p in model.named_parameters() if n not in elsewhere]
            self._before = [(x, x.detach().clone()) for x in (*kept, *model.buffers())]
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._refused: dict[str, str] = {}
        with evaluating():
            first = self._features()
        self._check(first)
        self._shapes = {name: first[name].shape for name in self.names}
        self._first = first if request.initial and initially is None else {}

    def before_pass(self) -> None:
        """Keep the model's buffers, which a training pass changes, for ``numbers``."""
        self._buffers = [(b, b.detach().clone()) for b in self.model.buffers()]

    def numbers(self) -> dict[str, np.ndarray]:
        """The requested arrays (without seed and step axes), first axis the modules, float64."""
        want, gradients = self.request.quantities, None
        with self._evaluating(), _swapped(self._buffers):
            if self.request.backward:
                with torch.enable_grad():
                    features, gradients = self._gradients()
            else:
                features = self._features()
            first = self._first
            if self.request.initial and self._initially is not None:
                with self._initially(), _swapped(self._before):
                    first = self._features()
        out: dict[str, list[Tensor]] = {name: [] for name in want}
        for name in self.names:
            h = self._of(name, features)
            if "feature_kernel" in want:
                out["feature_kernel"].append(gram(h))
            if gradients is not None:
                out["gradient_kernel"].append(gram(self._of(name, gradients)))
            if "movement" in want:
                begun = self._of(name, first)
                out["movement"].append(movement(h, begun, lambda x: x.mean(-1)))
        return {k: torch.stack(v).double().cpu().numpy() for k, v in out.items()}

    def _of(self, name: str, outputs: Mapping[str, ModuleRows]) -> Tensor:
        """A module's rows (P, n); NaN where it has others than at first (those of experts change)."""
        rows, shape = outputs.get(name), self._shapes[name]
        if rows is None or rows.shape != shape:
            return torch.full((min(shape[0], self.request.rows), shape[1]), torch.nan).double()
        return rows.first

    def _features(self) -> dict[str, ModuleRows]:
        """Every module's output in one pass."""
        kept: dict[str, ModuleRows] = {}

        def keep(name: str, h: Tensor) -> Tensor:
            kept[name] = ModuleRows.of(h, self.request.rows)
            return h

        with self._hooked(keep):
            self.data.loss(self.model, copied(self._batch))
        return kept

    def _gradients(self) -> tuple[dict[str, ModuleRows], dict[str, ModuleRows]]:
        """Every module's output (B, n), and z = n·B·∂loss/∂h."""
        kept: dict[str, Tensor] = {}

        def keep(name: str, h: Tensor) -> Tensor:
            kept[name] = h if h.requires_grad else h.detach().requires_grad_()
            return kept[name].clone()  # what changes it in place changes another

        with self._hooked(keep):
            loss = self.data.loss(self.model, copied(self._batch))
        with self._backward():
            z = torch.autograd.grad(loss, list(kept.values()), allow_unused=True)
        count = self.request.rows
        features = {name: ModuleRows.of(h, count) for name, h in kept.items()}
        gradients = {
            name: ModuleRows.of(torch.zeros_like(h) if g is None else g * h.numel(), count)
            for (name, h), g in zip(kept.items(), z, strict=True)
        }
        return features, gradients

    @contextmanager
    def _hooked(self, keep: Callable[[str, Tensor], Tensor]) -> Generator[None]:
        """Every module's output goes through ``keep``, and the model goes on with what that returns."""
        modules, handles = dict(self.model.named_modules()), []

        def hook(name: str) -> Callable[..., Any]:
            def replaced(_module: nn.Module, _inputs: Any, result: Any) -> Any:
                leaves, spec = tree_flatten(result)
                at = next((i for i, x in enumerate(leaves) if isinstance(x, Tensor)), None)
                if at is None:
                    self._refused[name] = type(result).__name__
                    return None
                if not leaves[at].is_floating_point() or not leaves[at].ndim:
                    shape = tuple(leaves[at].shape)
                    self._refused[name] = f"{leaves[at].dtype} of shape {shape}"
                    return None
                leaves[at] = keep(name, leaves[at])
                return tree_unflatten(leaves, spec)

            return replaced

        try:
            for name in self.names:
                handles.append(modules[name].register_forward_hook(hook(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check(self, features: Mapping[str, ModuleRows]) -> None:
        for pattern in self.request.modules:
            here = [name for name in self.names if fnmatchcase(name, pattern)]
            if not any(name in features for name in here):
                what = self._refused.get(here[0])
                why = "is not called in a pass" if what is None else f"puts out {what}"
                names = cut(", ".join(features), 300) or "none of these"
                raise ValueError(
                    f"measure.modules={pattern!r}: module {here[0]!r} {why}, so that it has no features: "
                    f"leave it out (those that have: {names})"
                )
        self.names = [name for name in self.names if name in features]
        counts = {name: h.shape[0] for name, h in features.items()}
        few, many = (f(counts, key=counts.__getitem__) for f in (min, max))
        if counts[few] != counts[many]:
            raise ValueError(
                f"measure.modules: module {few!r} puts out {counts[few]} rows and {many!r} {counts[many]}: "
                "measure those of equal rows (samples or tokens) in one call"
            )


@contextmanager
def _swapped(tensors: Sequence[tuple[Tensor, Tensor]]) -> Generator[None]:
    """Tensors have other values; they are as they were afterwards."""
    now = [(x, x.data) for x, _ in tensors]
    try:
        for x, value in tensors:
            x.data = value
        yield
    finally:
        for x, value in now:
            x.data = value


@dataclass(frozen=True)
class ModuleRows:
    """A module's output.

    Attributes:
        shape: (B, n). first: (P, n) the first of its rows, float64.
    """

    shape: tuple[int, int]
    first: Tensor

    @classmethod
    def of(cls, h: Tensor, count: int) -> ModuleRows:
        """(B, n) as it is, (B, T, n) as (B·T, n), (B, C, ...) as (B, C·...); at most ``count`` are kept."""
        h = h.detach()
        h = h.reshape(-1, h.shape[-1] if h.ndim > 1 else 1) if h.ndim <= 3 else h.flatten(1)
        return cls((h.shape[0], h.shape[1]), h[:count].double().clone())
