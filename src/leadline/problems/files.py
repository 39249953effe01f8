"""Problems from NumPy's npz files; nothing is unpickled."""

from __future__ import annotations

import os
import zipfile
import zlib

import numpy as np

from leadline.errors import check_choice, check_int
from leadline.problems.data import are_labels, arrays, as_array, class_labels
from leadline.problems.draw import check_subset, round_robin
from leadline.problems.losses import NAMES
from leadline.problems.naming import spec
from leadline.problems.problem import Problem

_KEYS = ("x", "y", "x_test", "y_test")
_REMEDY = "write it with numpy.savez(path, x=..., y=...)"


def _load(text: str) -> dict[str, np.ndarray]:
    path = os.path.expanduser(text)
    if not os.path.exists(path):
        raise FileNotFoundError(f"path={text!r} does not exist: give an npz file; {_REMEDY}")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        found = {}
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            keys = archive.files
            for key in _KEYS:
                if key in keys:
                    found[key] = archive[key]
                    if not isinstance(found[key], np.ndarray):
                        raise ValueError(f"{key} is no array")
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"path={text!r} holds an array of objects, which is never unpickled: "
                "save numbers or strings, as by .astype(float) or .astype(str)"
            ) from None
        raise OSError(
            f"path={text!r} is not a readable npz file ({error}): it is truncated or of another "
            f"format; {_REMEDY}"
        ) from error
    for key in ("x", "y"):
        if key not in found:
            raise KeyError(f"path={text!r} holds no {key!r} but {sorted(keys)}: {_REMEDY}")
    return found


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
    text = os.fsdecode(path)
    check_choice("loss", loss, NAMES)
    seed = check_int("seed", seed, 0)
    if samples is not None:
        check_int("samples", samples, 1)
    found = _load(text)
    found = {key: as_array(key, value) for key, value in found.items()}
    classes = None
    if are_labels(found["y"], loss):
        values = np.unique(class_labels("y", found["y"])).tolist()
        classes = tuple(values) if len(values) > 1 else None
    rng = np.random.default_rng(seed)
    for end, name, wanted in (("", "samples", samples), ("_test", "test_samples", test_samples)):
        x, y = found.get(f"x{end}"), found.get(f"y{end}")
        if wanted and x is None and y is None:
            raise ValueError(f"{name}={wanted!r} but path={text!r} holds no x_test: give None or 0")
        if wanted is None or x is None or y is None or x.shape[:1] != y.shape[:1] or not x.ndim:
            continue  # what does not match is for arrays to refuse
        count = check_subset(name, wanted, len(x))
        if count == 0:
            del found[f"x{end}"], found[f"y{end}"]
            continue
        kinds = np.unique(y, return_inverse=True)[1] if classes else np.zeros(len(x), np.int64)
        drawn = np.sort(round_robin(kinds, rng)[:count])
        found[f"x{end}"], found[f"y{end}"] = x[drawn], y[drawn]
    return arrays(
        **found,
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
