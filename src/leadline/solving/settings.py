"""What all revealed operators of a run share: sizes, accuracy, and where numbers are kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from leadline.solving.basis import FLOOR
from leadline.solving.shards import Shards


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
    def floor(self) -> float:
        """Relative size below which a remainder is no direction."""
        return max(self.tol, FLOOR[self.dtype])

    @property
    def defect(self) -> float:
        """Overlaps within a basis that do no harm: a hundredth of ``floor``."""
        return 0.01 * self.floor
