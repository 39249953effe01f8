"""A run of a builder's model between two steps, as tensors: to stop, and to go on with the same bits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from leadline.describe import check_schedule_identified
from leadline.identity.names import check_told
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.matrixfree.loop import TaskTraining
from leadline.matrixfree.updates import WideUpdates
from leadline.measure.record import Record
from leadline.recipes.base import Recipe
from leadline.solving.checkpoint_tensors import State
from leadline.tasks.task import Task


class RunState:
    """The model, its optimizers, its wide weights and the random state of a run."""

    def __init__(self, work: TaskTraining, updates: WideUpdates) -> None:
        self._work, self._updates = work, updates
        self._random: dict[str, Tensor] = {}

    def tensors(self) -> dict[str, Tensor]:
        """The whole state, for a checkpoint; taken within ``TaskTraining.run``."""
        out = {f"ordinary/{name}": x.detach() for name, x in self._ordinary().items()}
        for j, optimizer in enumerate(self._work.optimizers):
            for i, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    out |= _encoded(f"optimizer/{j}/{i}/{name}", value)
        for name, answers in self._matrices().items():
            out |= {f"{name}/{key}": x for key, x in answers.tensors().items()}
        return out | {f"random/{k}": v for k, v in random_state(self._work.c.device).items()}

    def restore(self, state: State) -> None:
        """Continue from ``tensors()``; the random state follows with ``begin``."""
        # Copies, not views into a file: a product rounds by how its factors are aligned.
        with torch.no_grad():
            for name, x in self._ordinary().items():
                x.copy_(state[f"ordinary/{name}"])
        for j, optimizer in enumerate(self._work.optimizers):
            _restore_optimizer(optimizer, state.under(f"optimizer/{j}/"))
        for name, answers in self._matrices().items():
            answers.restore(state.under(f"{name}/"))
        self._random = {k: v.clone() for k, v in state.under("random/").items()}

    def begin(self) -> None:
        """Within ``TaskTraining.run``, before its first step: the random state that was saved, if any."""
        if self._random:
            set_random_state(self._random, self._work.c.device)

    def rest(self) -> None:
        """Nothing of it lies in files."""

    def _ordinary(self) -> dict[str, Tensor]:
        """Parameters and buffers with entries."""
        model, wide = self._work.model, self._updates.wide
        parameters = {n: p for n, p in model.named_parameters() if n not in wide}
        return parameters | dict(model.named_buffers())

    def _matrices(self) -> dict[str, Any]:
        """W(0) and learned parts of the wide weights, by place."""
        out: dict[str, Any] = {}
        for i, w in enumerate(self._updates.wide.values()):
            for e, m in enumerate(w.matrices):
                out[f"wide/{i}/{e}"] = m.answers
                if m.part is not None:
                    out[f"part/{i}/{e}"] = m.part
        return out


class ResumableRun:
    """A run as ``solving.checkpoint.Checkpoint`` saves and resumes it."""

    def __init__(self, work: TaskTraining, updates: WideUpdates) -> None:
        self.work, self.network = work, RunState(work, updates)

    @property
    def record(self) -> Record:
        """What was recorded so far."""
        return self.work.record

    @property
    def k(self) -> int:
        """Steps taken."""
        return self.work.k

    @k.setter
    def k(self, value: int) -> None:
        self.work.k = value


def check_identified(build: Any, task: Any, recipe: Recipe, what: str) -> None:
    """Refuse functions that cannot be told from others, where what is kept would answer for them.

    Args:
        build, task, recipe: as of ``solve``.
        what: what is kept: "checkpoint".

    Raises:
        TypeError: naming the argument and the remedy.
    """
    check_told("build", build, what)
    if isinstance(task, Task) and task.name is None:
        parts = {"loss": task.loss, "batches": task.source.identity, "eval_batch": task.eval_batch}
        for name, x in parts.items():
            try:
                check_told(f"task.{name}", x, what)
            except TypeError as e:
                head = str(e).partition(": give it a name")[0]
                raise TypeError(
                    f"{head}: give the task a name, leadline.Task(..., name='my-task'), or give no {what}"
                ) from None
    check_schedule_identified(recipe, what)


def factors_digest(c: TaskConfiguration) -> str:
    """What the plan makes of the recipe at every parameter, as a short text."""
    text = repr(sorted((name, repr(f)) for name, f in c.plan.factors().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encoded(key: str, value: Any) -> dict[str, Tensor]:
    """A value of an optimizer's state; nothing of what is None."""
    if value is None:
        return {}
    if isinstance(value, Tensor):
        return {key: value}
    dtype = torch.float64 if isinstance(value, float) else torch.int64
    return {f"{key}#{type(value).__name__}": torch.tensor(value, dtype=dtype)}


def _restore_optimizer(optimizer: Optimizer, state: Mapping[str, Tensor]) -> None:
    """State of the parameters in the optimizer's order, as ``_encoded`` wrote it."""
    kinds = {"int": int, "float": float, "bool": bool}
    values: dict[int, dict[str, Any]] = {}
    for key, x in state.items():
        i, _, name = key.partition("/")
        name, number, kind = name.partition("#")
        values.setdefault(int(i), {})[name] = kinds[kind](x.item()) if number else x.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": values})


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The random state of torch (on the CPU and the device), NumPy and Python, as tensors."""
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, words, following = random.getstate()
    out = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.array([*keys, position, has_gauss], dtype=np.int64)),
        "numpy_gauss": torch.tensor(gauss, dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([] if following is None else [following], dtype=torch.float64),
    }
    return out | ({"device": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Continue from ``random_state()``."""
    torch.set_rng_state(state["torch"])
    *keys, position, has_gauss = state["numpy"].tolist()
    gauss = float(state["numpy_gauss"])
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, *words = state["python"].tolist()
    random.setstate((version, tuple(words), *(state["python_gauss"].tolist() or [None])))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"], device)
