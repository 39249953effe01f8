"""Factors of small matrices. LAPACK directly: numpy's checks take longer than matrices of this size."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

_lapack: Any = None
with contextlib.suppress(ImportError):  # a GPU's machine may have torch and numpy alone
    from scipy.linalg import lapack as _lapack


def cholesky(a: np.ndarray) -> tuple[np.ndarray, int]:
    """The lower factor of a float64 matrix, and 0, or something else if it has none."""
    if _lapack is not None:
        return _lapack.dpotrf(a, lower=1)
    try:
        return np.linalg.cholesky(a), 0
    except np.linalg.LinAlgError:
        return a, 1


def inverted(factor: np.ndarray) -> np.ndarray:
    """The inverse of a lower triangular factor, whose other half is zero."""
    if _lapack is not None:
        return _lapack.dtrtri(factor, lower=1)[0]
    return np.tril(np.linalg.inv(factor))
