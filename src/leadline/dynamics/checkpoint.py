"""Checkpoints of a solve: finished seeds and the state of the one that runs, in one file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from leadline.errors import CheckpointError
from leadline.trajectory import write_atomic

if TYPE_CHECKING:
    from leadline.dynamics.solver import Training
    from leadline.measure.record import Record


class Store:
    """The checkpoint file of one call of ``solve``; without a path it only measures time.

    Args:
        path: where to write and what to resume from.
        info: everything that the answer depends on; a file of another computation is refused.
        every: seconds between writes.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, info: dict[str, Any], every: float
    ) -> None:
        self.path = None if path is None else Path(path)
        self.info = json.loads(json.dumps(info))
        self.every = every
        self.seconds = 0.0
        self.finished: list[dict[str, np.ndarray]] = []
        self._last = time.monotonic()
        self._loaded: dict[str, torch.Tensor] = {}
        self._step = 0
        if self.path is not None and self.path.exists():
            self._load(self.path)

    def _load(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as f:
                header = json.loads((f.metadata() or {})["leadline"])
                tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, OSError) as e:
            raise CheckpointError(
                f"checkpoint={str(path)!r} is not a whole checkpoint ({e}): delete it or give "
                "another path"
            ) from None
        wrong = [
            f"{k}={self.info.get(k)!r} (the file has {header['info'].get(k)!r})"
            for k in self.info | header["info"]
            if self.info.get(k) != header["info"].get(k)
        ]
        if wrong:
            raise CheckpointError(
                f"checkpoint={str(path)!r} belongs to another computation: {'; '.join(wrong)}; "
                "give the same arguments, or another path"
            )
        self.seconds = header["seconds"]
        self._step = header["step"]
        for s in range(header["finished"]):
            prefix = f"finished/{s}/"
            arrays = {k: v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            self.finished.append({k.removeprefix(prefix): v for k, v in arrays.items()})
        self._loaded = tensors

    def resume(self, work: Training) -> None:
        """Restore the state of the seed that ran, once."""
        if not self._loaded:
            return
        state = {
            k.removeprefix("work/"): v for k, v in self._loaded.items() if k.startswith("work/")
        }
        records = {
            k.removeprefix("record/"): v.numpy()
            for k, v in self._loaded.items()
            if k.startswith("record/")
        }
        self._loaded = {}
        if state:
            work.run.restore(state)
            work.record.restore(records)
            work.k = self._step

    def save(
        self, finished: list[Record], work: Training | None, *, default: bool = False
    ) -> Path | None:
        """Write everything now; ``default`` makes up a path where none was given."""
        path = self.path
        if path is None:
            if not default:
                return None
            digest = hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()
            path = Path(f"leadline-checkpoint-{digest[:12]}.safetensors")
        tensors: dict[str, torch.Tensor] = {}
        for s, record in enumerate(finished):
            for k, v in record.state().items():
                tensors[f"finished/{s}/{k}"] = torch.from_numpy(v)
        if work is not None:
            tensors |= {f"work/{k}": v for k, v in work.run.tensors().items()}
            tensors |= {f"record/{k}": torch.from_numpy(v) for k, v in work.record.state().items()}
        header = {
            "info": self.info,
            "finished": len(finished),
            "step": 0 if work is None else work.k,
            "seconds": self.seconds,
        }
        flat = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        metadata = {"leadline": json.dumps(header)}
        write_atomic(path, lambda part: save_file(flat, part, metadata=metadata))
        self._last = time.monotonic()
        return path

    def maybe_save(self, finished: list[Record], work: Training) -> None:
        """Write if it is time."""
        if self.path is not None and time.monotonic() - self._last >= self.every:
            self.save(finished, work)

    def finish(self, finished: list[Record]) -> None:
        """A seed is done: nothing of it may be lost."""
        if self.path is not None:
            self.save(finished, None)
