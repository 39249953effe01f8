"""Checkpoints of a solve: finished seeds and the state of the one that runs.

One file; where neurons are shared out over processes, each writes its own beside it, and the first
process's file, written last, names them: whenever the job is killed, that file names a whole state.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.dynamics import pieces
from leadline.dynamics.shards import Shards
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
        shards: the neurons of this process; a path must name the same file on every one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        info: dict[str, Any],
        every: float,
        shards: Shards | None = None,
    ) -> None:
        self.shards = Shards(1) if shards is None else shards
        self.path = None if path is None else Path(path)
        self.info = json.loads(json.dumps(info))
        self.every = every
        self.seconds = 0.0
        self.finished: list[dict[str, np.ndarray]] = []
        self._last = time.monotonic()
        self._loaded: pieces.State | None = None
        self._step = 0
        if self.path is not None and self.path.exists():
            self._load(self.path)

    def _load(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as f:
                header = json.loads((f.metadata() or {})["leadline"])
            beside = [(path.with_name(name), a, b) for name, a, b in header["shards"]]
            state = pieces.State([(path, 0, header["neurons"]), *beside], self.shards.here)
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
            one = state.under(f"finished/{s}/")
            self.finished.append({k: v.numpy() for k, v in one.items()})
        self._loaded = state

    def resume(self, work: Training) -> None:
        """Restore the state of the seed that ran, once."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None and len(state := loaded.under("work/")):
            work.run.restore(state)
            work.record.restore({k: v.numpy() for k, v in loaded.under("record/").items()})
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
        own: dict[str, torch.Tensor] = {}
        if work is not None:
            own = {f"work/{k}": v for k, v in work.run.tensors().items()}
        tensors: dict[str, torch.Tensor] = {}
        for s, record in enumerate(finished):
            for k, v in record.state().items():
                tensors[f"finished/{s}/{k}"] = torch.from_numpy(v)
        if work is not None:
            tensors |= {k: v for k, v in own.items() if self.shards.alone or not pieces.cut(k)}
            tensors |= {f"record/{k}": torch.from_numpy(v) for k, v in work.record.state().items()}
        header = {
            "info": self.info,
            "finished": len(finished),
            "step": 0 if work is None else work.k,
            "seconds": self.seconds,
            "neurons": self.shards.n,
            "shards": self._beside(path, own, f"{len(finished)}.{0 if work is None else work.k}"),
        }
        metadata = {"leadline": json.dumps(header)}
        now = [path.with_name(name) for name, _, _ in header["shards"]]
        if self.shards.leads:
            write_atomic(path, lambda part: pieces.write(part, tensors, metadata))
            # What this file does not name: pieces of the one before, and of a job that ended before its
            # file named them. Now, while the others wait: they write the next ones.
            piece = re.compile(re.escape(path.name) + r"\.\d+\.\d+\.\d+of\d+")
            for other in list(path.parent.iterdir()):
                if piece.match(other.name) and other not in now:
                    other.unlink(missing_ok=True)
        self.shards.wait()
        self._last = time.monotonic()
        return path

    def _beside(
        self, path: Path, own: dict[str, torch.Tensor], stamp: str
    ) -> list[tuple[str, int, int]]:
        """Every process writes its neurons; the files' names and what they hold."""
        if self.shards.alone or not own:
            return []
        size = self.shards.size
        names = [f"{path.name}.{stamp}.{r + 1}of{size}" for r in range(size)]
        mine = {k: v for k, v in own.items() if pieces.cut(k)}
        write_atomic(
            path.with_name(names[self.shards.rank]), lambda part: pieces.write(part, mine, {})
        )
        self.shards.wait()
        return [(name, *self.shards.bounds(r)) for r, name in enumerate(names)]

    def maybe_save(self, finished: list[Record], work: Training) -> None:
        """Write if it is time."""
        if self.path is None:
            return
        # One clock decides for all.
        if self.shards.of_first(time.monotonic() - self._last) >= self.every:
            self.save(finished, work)

    def finish(self, finished: list[Record]) -> None:
        """A seed is done: nothing of it may be lost."""
        if self.path is not None:
            self.save(finished, None)
