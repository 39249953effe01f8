"""What a solve is asked for, one record that checks itself, and what of it every operator needs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from leadline import available
from leadline.architecture import COUPLINGS, ENSEMBLES, ResNet
from leadline.describe import check_identified, describe, plain
from leadline.disk.write import check_folder
from leadline.errors import check_choice, check_int, check_path, check_real
from leadline.measure.evaluation import check_test_every
from leadline.measure.observation import Measure
from leadline.measure.record import Record, check_task
from leadline.recipes.sgd import SGD
from leadline.solving.basis import FLOOR
from leadline.solving.shards import Shards
from leadline.solving.variance_reduction import VARIANCE_REDUCTIONS

if TYPE_CHECKING:
    from leadline.problems import Problem


# Kinds of storage, and the smallest tol that rounding leaves alone: a direction is off by 2⁻⁹/√3.
STORAGE = {"bfloat16": (torch.bfloat16, 0.004)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Options:
    """What can be asked for a ``ResNet`` and for a builder's models alike.

    Attributes:
        coupling, ensemble, tol: of the products of hidden weights; ``train`` needs the first alone.
        seeds, seed: S runs; see ``leadline.solve`` for their random streams.
        batch_seed: of the batches, which are the same for all runs; None is ``seed``.
        dtype, device: in which, and where, networks train.
        record_every: steps between two that are recorded.
        test_every: steps between two evaluations of test data; None is record_every, see ``solve``.
        measure: what is measured inside, or None.
        memory: budget in bytes, or None.

    Raises:
        ValueError, TypeError: when it is made, naming the argument, its value and the remedy.
    """

    coupling: str = "reused"
    ensemble: str = "gaussian"
    seeds: int = 1
    seed: int = 0
    batch_seed: int | None = None
    tol: float = 1e-3
    dtype: Any = "float32"
    device: Any = "cpu"
    record_every: int = 1
    test_every: int | str | None = None
    measure: Measure | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("seed", 0), ("record_every", 1)):
            self._keep(name, check_int(name, getattr(self, name), least))
        if self.batch_seed is not None:
            self._keep("batch_seed", check_int("batch_seed", self.batch_seed, 0))
        self._keep("tol", check_real("tol", self.tol, 0.0, 1.0, open_maximum=True))
        self._keep("coupling", check_choice("coupling", self.coupling, COUPLINGS))
        self._keep("ensemble", check_choice("ensemble", self.ensemble, ENSEMBLES))
        self._keep("dtype", available.dtype(self.dtype))
        self._keep("device", available.device(self.device))

    def _keep(self, name: str, value: object) -> None:
        """Set a field to what it was checked to be."""
        object.__setattr__(self, name, value)

    @property
    def batch_order(self) -> int:
        """The seed of the order of batches."""
        return self.seed if self.batch_seed is None else self.batch_seed


@dataclass(frozen=True)
class Configuration(Options):
    """A problem, a network, a recipe, and the options of ``solve``, which documents them.

    Raises:
        ValueError, TypeError: when it is made, naming the argument, its value and the remedy.
    """

    problem: Problem
    network: ResNet
    sgd: SGD
    width: int
    depth: int
    variance_reduction: str = "none"
    storage: str | None = None
    spill: Any = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: float = 300.0
    group: Any = None
    complete: bool = True
    """Whether W(0) may be drawn whole where that is cheaper (``completion``)."""

    def __post_init__(self) -> None:
        check_task(self.problem, self.network, self.sgd, self.measure)
        for name in ("width", "depth"):
            self._keep(name, check_int(name, getattr(self, name), 1))
        super().__post_init__()
        p, sgd, size = self.problem, self.sgd, self.sgd.batch_size
        rows = p.samples if size is None else min(size, p.samples)
        tested = check_test_every(self.test_every, sgd, self.record_every, rows, p.test_samples)
        self._keep("test_every", tested)
        every = check_real("checkpoint_every", self.checkpoint_every, 0.0)
        self._keep("checkpoint_every", every)
        check_choice("variance_reduction", self.variance_reduction, VARIANCE_REDUCTIONS)
        self.sgd.check_width(self.problem.samples, self.width)
        if self.ensemble == "fast":
            self._check_fast()
        if self.storage is not None:
            self._keep("storage", self._check_storage(self.storage))
        if self.spill is not None:
            self._keep("spill", self._check_spill(self.spill))
        if self.checkpoint is not None:
            check_identified(self.network, self.sgd, "checkpoint")

    def _check_fast(self) -> None:
        """Refuse what has no meaning where W(0) is never remembered."""
        ensemble = "ensemble='fast'"
        if self.variance_reduction == "balanced":
            raise ValueError(
                f"variance_reduction='balanced' makes noise orthogonal that {ensemble} does not draw: "
                "give variance_reduction='ends' or 'none', or ensemble='gaussian'"
            )
        for name in ("storage", "spill"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"{name}={str(value)!r} is for the bases of W(0), which {ensemble} does not keep: "
                    f"leave {name} out, or give ensemble='gaussian'"
                )
        if not self.shards.alone:
            raise ValueError(
                f"group= has {self.shards.size} processes, and {ensemble} multiplies all neurons at once: "
                "give each process seeds of its own, or ensemble='gaussian'"
            )

    def _check_storage(self, storage: str) -> str:
        storage = check_choice("storage", storage, STORAGE)
        if self.tol < STORAGE[storage][1]:
            raise ValueError(
                f"storage={storage!r} rounds directions to about 0.001: tol={self.tol:g} would take "
                f"that for new ones; give tol >= {STORAGE[storage][1]:g}, or no storage"
            )
        return storage

    def _check_spill(self, spill: str | os.PathLike[str]) -> str:
        if self.device.type != "cpu":
            raise ValueError(
                f"spill={str(spill)!r} works on a CPU, not on device={str(self.device)!r}"
            )
        folder = check_path("spill", spill)
        if not os.path.isdir(folder):
            raise NotADirectoryError(f"spill={folder!r} is not a folder: make it, or give another")
        check_folder("spill", folder)
        return folder

    @property
    def stored_dtype(self) -> torch.dtype:
        """In which the bases are kept."""
        return self.dtype if self.storage is None else STORAGE[self.storage][0]

    @cached_property
    def shards(self) -> Shards:
        """The neurons of this process."""
        return Shards(self.width, self.group, self.device)

    @property
    def may_complete(self) -> bool:
        """Whether W(0) may be drawn whole: not where it is shared out, rounded or in files, where no new
        input reaches it, or with a budget of the caller's, which is for what the bases take.
        """
        plain = self.shards.alone and self.storage is None and self.spill is None
        moves = "hidden" in self.sgd.train or "input" in self.sgd.train
        return self.complete and plain and moves and self.memory is None

    @cached_property
    def settings(self) -> Settings:
        """What every operator has to know."""
        problem, sgd = self.problem, self.sgd
        batch = problem.samples if sgd.batch_size is None else sgd.batch_size
        return Settings(
            n=self.width,
            expected=min(self.width, batch * max(sgd.steps, 1), 512),
            reused=self.coupling == "reused",
            tol=self.tol,
            balanced=self.variance_reduction == "balanced",
            dtype=self.dtype,
            device=self.device,
            storage=None if self.storage is None else self.stored_dtype,
            spill=self.spill,
            shards=self.shards,
        )

    def record(self) -> Record:
        """One run's record, empty."""
        assert isinstance(self.test_every, int)
        return Record.empty(self.problem, self.sgd, self.record_every, self.test_every)

    @property
    def info(self) -> dict[str, Any]:
        """All that the answer depends on, as JSON can say it."""
        return {
            "kind": "solve",
            **describe(self.problem, self.network, self.sgd),
            "width": self.width,
            "depth": self.depth,
            "coupling": self.coupling,
            "ensemble": self.ensemble,
            "seeds": self.seeds,
            "seed": self.seed,
            "batch_seed": self.batch_seed,
            "tol": self.tol,
            "variance_reduction": self.variance_reduction,
            "dtype": str(self.dtype).removeprefix("torch."),
            "storage": self.storage,
            "record_every": self.record_every,
            "test_every": self.test_every,
            "measure": plain(self.measure),
            **({} if self.complete else {"complete": False}),
        }


@dataclass(frozen=True)
class Settings:
    """What all operators of a run share."""

    n: int
    reused: bool = True
    tol: float = 0.0
    balanced: bool = False
    expected: int = 0
    """Directions that a buffer is first made for."""
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    lean: bool = False
    """Wait for the device once a query, at the price of a product (always on a GPU)."""
    counter: bool = False
    """Draw on the device, from a hash (always on a GPU)."""
    storage: torch.dtype | None = None
    """dtype in which the bases are kept, with fewer digits than ``dtype``, or None."""
    spill: str | None = None
    """Folder for files that hold the bases, or None."""
    shards: Shards = field(default=None)  # ty: ignore[invalid-assignment]
    """Which of the n neurons are here; all by default."""
    seeds: tuple[int, ...] = ()
    """Leading axes of every row and table: (S,) where several seeds are solved together."""

    def __post_init__(self) -> None:
        if self.shards is None:
            object.__setattr__(self, "shards", Shards(self.n, device=self.device))
        if self.device.type == "cuda":
            object.__setattr__(self, "lean", True)
            object.__setattr__(self, "counter", True)

    @property
    def rounded(self) -> bool:
        """Whether bases are stored with fewer digits."""
        return self.storage not in (None, self.dtype)

    @property
    def blurred(self) -> bool:
        """Whether rounding hides by |u|² − |c|² what tol tells apart."""
        return self.tol**2 < 4 * torch.finfo(self.dtype).eps

    @property
    def floor(self) -> float:
        """Relative size below which a remainder is no direction."""
        return max(self.tol, FLOOR[self.dtype])

    @property
    def defect(self) -> float:
        """Overlaps within a basis that do no harm: a hundredth of ``floor``."""
        return 0.01 * self.floor
