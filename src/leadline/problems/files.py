"""Problems from NumPy's npz files; nothing is unpickled."""

from __future__ import annotations

import lzma
import math
import os
import struct
import zipfile
import zlib

import numpy as np

from leadline.disk import bounded
from leadline.errors import check_choice, check_int, check_path
from leadline.problems.data import (
    are_labels,
    arrays,
    as_array,
    check_subset,
    class_labels,
    round_robin,
)
from leadline.problems.losses import NAMES
from leadline.problems.problem import Problem, spec

_KEYS = ("x", "y", "x_test", "y_test")
_REMEDY = "write it with numpy.savez(path, x=..., y=...)"


# What reading a damaged or foreign archive raises, besides its own words.
_UNREADABLE = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,  # encrypted
    NotImplementedError,  # compressed in a way that is not known
    KeyError,
    OverflowError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def _load(text: str) -> dict[str, np.ndarray]:
    path = os.path.expanduser(text)
    if not os.path.exists(path):
        raise FileNotFoundError(f"path={text!r} does not exist: give an npz file; {_REMEDY}")
    try:
        if not os.path.isfile(path) or not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            wanted = {key: members[key] for key in _KEYS if key in members}
            shapes = {key: _header(archive, name, key) for key, name in wanted.items()}
            total = sum(math.prod(shape) * max(size, 8) for shape, size in shapes.values())
            bounded.check("it", total, os.path.getsize(path))
            data = {key: _array(archive, name) for key, name in wanted.items()}
    except _Objects:
        raise ValueError(
            f"path={text!r} holds an array of objects, which is never unpickled: "
            "save numbers or strings, as by .astype(float) or .astype(str)"
        ) from None
    except bounded.TooLargeError as error:
        raise bounded.TooLargeError(f"path={text!r} is too large: {error}") from None
    except _UNREADABLE as error:
        raise OSError(
            f"path={text!r} is not a readable npz file ({error}): it is truncated or of another "
            f"format; {_REMEDY}"
        ) from error
    for key in ("x", "y"):
        if key not in data:
            raise KeyError(f"path={text!r} holds no {key!r} but {sorted(members)}: {_REMEDY}")
    return data


class _Objects(Exception):
    """An array of Python objects."""


def _header(archive: zipfile.ZipFile, name: str, key: str) -> tuple[tuple[int, ...], int]:
    """Shape, and bytes an entry, of an array; nothing but its first bytes is unpacked."""
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read:
            raise ValueError(f"{key} is of the unknown version {version}")
        shape, _, dtype = read[version](stream)
    if dtype.hasobject:
        raise _Objects
    if any(n < 0 for n in shape):
        raise ValueError(f"{key} has the shape {shape}")
    stored = archive.getinfo(name).file_size
    if math.prod(shape) * dtype.itemsize > stored:
        raise ValueError(f"{key} has the shape {shape}, and {stored} bytes")
    return shape, dtype.itemsize


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def npz(
    path: str | os.PathLike[str],
    loss: str = "mse",
    standardize: bool = True,
    samples: int | None = None,
    test_samples: int | None = None,
    seed: int = 0,
) -> Problem:
    """A problem from the arrays x, y and optionally x_test, y_test of an npz file.

    Args:
        path: the file; its arrays are read as ``arrays`` reads its arguments.
        loss: "mse" or "cross_entropy".
        standardize: see ``arrays``.
        samples: P >= 1, drawn at random from x (as balanced as it allows if y is class labels);
            None is all, in the file's order.
        test_samples: the same of x_test; 0 is no test set.
        seed: of the draw, >= 0.

    Raises:
        FileNotFoundError: when there is no such file.
        OSError: on truncated files and other formats.
        KeyError: when x or y is missing, naming those present.
        ValueError: on arrays of objects, which are never unpickled, on more samples than there
            are, and as ``arrays`` does.
        TypeError: as ``arrays`` does.
    """
    text = check_path("path", path)
    check_choice("loss", loss, NAMES)
    seed = check_int("seed", seed, 0)
    if samples is not None:
        samples = check_int("samples", samples, 1)
    data = _load(text)
    data = {key: as_array(key, value) for key, value in data.items()}
    classes = None
    if are_labels(data["y"], loss):
        values = np.unique(class_labels("y", data["y"])).tolist()
        classes = tuple(values) if len(values) > 1 else None
    rng = np.random.default_rng(seed)
    for end, name, wanted in (("", "samples", samples), ("_test", "test_samples", test_samples)):
        x, y = data.get(f"x{end}"), data.get(f"y{end}")
        if wanted and x is None and y is None:
            raise ValueError(f"{name}={wanted!r} but path={text!r} holds no x_test: give None or 0")
        if wanted is None or x is None or y is None or x.shape[:1] != y.shape[:1] or not x.ndim:
            continue  # what does not match is for arrays to refuse
        count = check_subset(name, wanted, len(x))
        if count == 0:
            del data[f"x{end}"], data[f"y{end}"]
            continue
        kinds = np.unique(y, return_inverse=True)[1] if classes else np.zeros(len(x), np.int64)
        drawn = np.sort(round_robin(kinds, rng)[:count])
        data[f"x{end}"], data[f"y{end}"] = x[drawn], y[drawn]
    return arrays(
        data["x"],
        data["y"],
        data.get("x_test"),
        data.get("y_test"),
        loss=loss,
        classes=classes,
        standardize=standardize,
        name=spec(
            npz,
            text,
            loss=loss,
            standardize=standardize,
            samples=samples,
            test_samples=test_samples,
            seed=seed,
        ),
    )
