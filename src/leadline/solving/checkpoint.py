"""Checkpoints of a solve: finished seeds and the state of the one that runs.

One file; where neurons are shared out over processes, each writes its own beside it, and the first
process's file, written last, names them: whenever the job is killed, that file names a whole state.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from leadline.disk.sealed import Sealed, checksum
from leadline.disk.write import as_path, attempt, check_file, clear, write_atomic
from leadline.errors import CheckpointError, WriteError, check_real
from leadline.solving import checkpoint_tensors
from leadline.solving.shards import Shards

if TYPE_CHECKING:
    from leadline.measure.record import Record


class Resumable(Protocol):
    """A run that a checkpoint saves and goes on with.

    Attributes:
        network: its state, by ``tensors`` and ``restore``; ``rest`` sends what lies in files out of memory.
        k: steps taken.
    """

    network: Any
    k: int

    @property
    def record(self) -> Any:
        """What was recorded so far, by ``state`` and ``restore``."""
        ...


class Checkpoint:
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
        self.path = None if path is None else as_path("checkpoint", path)
        self.info = json.loads(json.dumps(info))
        self.every = every
        self.seconds = 0.0
        self.finished: list[dict[str, np.ndarray]] = []
        self._last = time.monotonic()
        self._loaded: checkpoint_tensors.State | None = None
        self._step = 0
        self.pending: range | None = None
        """The runs whose state is there to go on with."""
        self.going: list[int] = []
        """The pending runs that had not diverged."""
        if self.path is None:
            return
        if os.path.isfile(self.path):
            self._load(self.path)
        elif os.path.exists(self.path) and not os.path.isdir(self.path):
            raise ValueError(f"checkpoint={str(path)!r} is a device or pipe: give a file")
        # Nothing more is written of a computation that is finished: its disk may be read-only.
        if len(self.finished) < self.info["seeds"]:
            check_file("checkpoint", self.path)
        clear(self.path.parent)

    def _load(self, path: Path) -> None:
        try:
            first = Sealed(path)
            header = first.header
            files = [(first, 0, header["neurons"])]
            for name, a, b, checksum in header["shards"]:
                piece = Sealed(path.with_name(name))
                if piece.checksum != checksum:
                    raise ValueError(f"{name} is of another time")
                files.append((piece, a, b))
            state = checkpoint_tensors.State(files, self.shards.here)
            there = dict(header["info"])
        except (KeyError, ValueError, TypeError, AttributeError, OSError) as e:
            raise self._damaged(e) from None
        wrong = [
            f"{k}={self.info.get(k)!r} (the file has {there.get(k)!r})"
            for k in self.info | there
            if self.info.get(k) != there.get(k)
        ]
        if wrong:
            raise CheckpointError(
                f"checkpoint={str(path)!r} belongs to another computation: {'; '.join(wrong)}; "
                "give the same arguments, or another path"
            )
        try:
            self._read(header, state)
        except (KeyError, ValueError, TypeError) as e:
            raise self._damaged(e) from None

    def _read(self, header: dict[str, Any], state: checkpoint_tensors.State) -> None:
        """Take what a file of this computation says, if it can be."""
        recipe = self.info["sgd"] if "sgd" in self.info else self.info["recipe"]
        steps, seeds = recipe["steps"], self.info["seeds"]
        for name, most in (("step", steps), ("finished", seeds)):
            if type(header[name]) is not int or not 0 <= header[name] <= most:
                raise ValueError(f"{name}={header[name]!r} is not in 0..{most}")
        self.seconds = check_real("seconds", header["seconds"], 0.0)
        self._step = header["step"]
        for s in range(header["finished"]):
            one = state.under(f"finished/{s}/")
            self.finished.append({k: v.numpy() for k, v in one.items()})
        if len(state.under("work/")):
            self._loaded = state
            runs, together = range(header["finished"], seeds), header.get("together", 1)
            if type(together) is not int or not 1 <= together <= len(runs):
                raise ValueError(f"together={together!r} is not in 1..{len(runs)}")
            stack = [runs[0]] if header.get("stack") is None else header["stack"]
            # Runs that diverged have left it.
            if not stack or any(type(s) is not int or s not in runs[:together] for s in stack):
                raise ValueError(f"stack={stack!r} is not of its seeds")
            self.pending, self.going = runs[:together], stack

    def _damaged(self, why: Exception) -> CheckpointError:
        said = why.args[0] if isinstance(why, KeyError) else why
        return CheckpointError(
            f"checkpoint={str(self.path)!r} is not a whole checkpoint ({said}): delete it or give "
            "another path"
        )

    def records(self, blank: Callable[[], Record]) -> list[Record]:
        """The records of the seeds that are finished."""
        try:
            return [blank().restore(state) for state in self.finished]
        except (KeyError, ValueError, TypeError) as e:
            raise self._damaged(e) from None

    def resume(self, work: Resumable) -> None:
        """Restore the state of the seed that ran, once."""
        loaded, self._loaded, self.pending = self._loaded, None, None
        if loaded is None:
            return
        try:
            work.network.restore(loaded.under("work/"))
            work.record.restore({k: v.numpy() for k, v in loaded.under("record/").items()})
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError, OSError) as e:
            if isinstance(e, OSError) and e.errno not in (None, errno.EIO):
                raise  # not what was read: a full disk of --spill
            raise self._damaged(e) from None
        work.k = self._step

    def save(
        self, finished: list[Record], work: Resumable | None, *, default: bool = False
    ) -> Path | None:
        """Write everything now; ``default`` makes up a path where none was given.

        Raises:
            WriteError: on all processes, where one of them could not.
        """
        path = self.path
        if path is None:
            if not default:
                return None
            digest = hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()
            path = Path(f"leadline-checkpoint-{digest[:12]}.safetensors")
        state: dict[str, torch.Tensor] = {}
        rest = (lambda: None) if work is None else work.network.rest
        if work is not None:
            state = {f"work/{k}": v for k, v in work.network.tensors().items()}
        tensors: dict[str, torch.Tensor] = {}
        for s, record in enumerate(finished):
            for k, v in record.state().items():
                tensors[f"finished/{s}/{k}"] = torch.from_numpy(v)
        if work is not None:
            tensors |= {
                k: v for k, v in state.items() if self.shards.alone or not checkpoint_tensors.cut(k)
            }
            tensors |= {f"record/{k}": torch.from_numpy(v) for k, v in work.record.state().items()}
        self._last = time.monotonic()
        header = {
            "info": self.info,
            "finished": len(finished),
            "step": 0 if work is None else work.k,
            "seconds": self.seconds,
            # Where several runs go on together: how many began, and those that have not diverged.
            "together": len(getattr(work, "runs", "1")),
            "stack": getattr(work, "going", None),
            "neurons": self.shards.n,
            "shards": self._beside(
                path, state, f"{len(finished)}.{0 if work is None else work.k}", rest
            ),
        }
        now = [path.with_name(name) for name, *_ in header["shards"]]
        try:
            if self.shards.leads:
                write_atomic(
                    path, lambda f: checkpoint_tensors.seal(f, tensors, header, rest), "checkpoint"
                )
                # What this file does not name: pieces of the one before, and of a job that ended before
                # its file named them. Now, while the others wait: they write the next ones.
                piece = re.compile(re.escape(path.name) + r"\.\d+\.\d+\.\d+of\d+")
                for other in list(path.parent.iterdir()):
                    if piece.fullmatch(other.name) and other not in now:
                        other.unlink(missing_ok=True)
        except WriteError:
            self.shards.wait()
            raise
        self.shards.wait()
        return path

    def _beside(
        self, path: Path, state: dict[str, torch.Tensor], stamp: str, rest: Callable[[], None]
    ) -> list[tuple[str, int, int, str]]:
        """Every process writes its neurons; the files' names, what they hold, and their checksums."""
        if self.shards.alone or not state:
            return []
        size = self.shards.size
        names = [f"{path.name}.{stamp}.{r + 1}of{size}" for r in range(size)]
        mine = {k: v for k, v in state.items() if checkpoint_tensors.cut(k)}
        here, refused = path.with_name(names[self.shards.rank]), None
        try:
            write_atomic(
                here,
                lambda f: checkpoint_tensors.seal(f, mine, {"piece": here.name}, rest),
                "checkpoint",
            )
        except WriteError as e:
            refused = e
        # All go on to the file that names the pieces, or none.
        if not self.shards.least(int(refused is None)):
            raise refused or WriteError(
                f"checkpoint={str(path)!r}: another process could not write"
            )
        return [
            (name, *self.shards.bounds(r), checksum(path.with_name(name)))
            for r, name in enumerate(names)
        ]

    def maybe_save(self, finished: list[Record], work: Resumable) -> None:
        """Write if it is time."""
        if self.path is None:
            return
        # One clock decides for all.
        if self.shards.of_first(time.monotonic() - self._last) >= self.every:
            attempt(lambda: self.save(finished, work))

    def finish(self, finished: list[Record]) -> None:
        """A seed is done: nothing of it may be lost."""
        if self.path is not None:
            attempt(lambda: self.save(finished, None))

    def rescue(
        self, finished: list[Record], work: Resumable, default: bool = True
    ) -> tuple[str | None, str]:
        """Save before giving up: the file, by default one in this folder, and what to say of it.

        Args:
            default: False makes none up: nothing could resume from it.
        """
        try:
            saved = self.save(finished, work, default=default)
        except WriteError as e:
            return None, f"nothing to resume from: {e}; start again"
        if saved is None:
            return None, "start again"
        path = str(saved)
        return path, f"resume from checkpoint={path!r}"
