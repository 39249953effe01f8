"""Plain data: what JSON can say, with None for NaN and infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(x: Any) -> Any:
    """Mappings, sequences, arrays and NumPy's numbers as dicts, lists and Python's; not finite is None.

    >>> plain({"a": np.array([[1.0, np.nan], [2.0, 3.0]]), 2: (np.float32(0.5), float("inf"), "b")})
    {'a': [[1.0, None], [2.0, 3.0]], '2': [0.5, None, 'b']}
    """
    if isinstance(x, Mapping):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    if isinstance(x, np.ndarray) and x.dtype.kind == "f" and not np.isfinite(x).all():
        some = x.astype(object)
        some[~np.isfinite(x)] = None
        return some.tolist()
    if isinstance(x, np.ndarray):
        return x.tolist()
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not math.isfinite(x) else x
