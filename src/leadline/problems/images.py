"""MNIST, Fashion-MNIST and others of their format (IDX files), from a folder; nothing is extracted."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from leadline.disk import bounded
from leadline.errors import check_int, check_path
from leadline.problems.data import arrays, balanced_draw, check_classes
from leadline.problems.problem import Problem, spec

_PARTS = ("train", "t10k")
# What a file holds: the number that names it, and its first four bytes (unsigned bytes, so many axes).
_AXES = {"images": 3, "labels": 1}
# Where torchvision and others leave the files, below the folder that they are given.
_BELOW = ("", "raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw")
_REMEDY = "download it again"
_MOST_CLASS = 9
_GZIP = b"\x1f\x8b"


def _spellings(part: str, kind: str) -> tuple[str, ...]:
    """Names that the file has in the wild; an unpacked one comes first."""
    plain = [f"{part}-{kind}{mark}idx{_AXES[kind]}-ubyte" for mark in "-."]
    return (*plain, *(f"{name}.gz" for name in plain))


def _file(folder: Path, part: str, kind: str) -> Path | None:
    files = (folder / name for name in _spellings(part, kind))
    return next((file for file in files if file.is_file()), None)


def _root(text: str) -> Path:
    """The folder that holds the training images: the one that is named, or one below it.

    Raises:
        FileNotFoundError: none does. NotADirectoryError: it is a file. ValueError: several do.
    """
    path = Path(os.path.expanduser(text))
    name = _spellings("train", "images")[0]
    wanted = f"give the folder of {name} (or .gz) and its three companions"
    if not path.exists():
        raise FileNotFoundError(f"path={text!r} does not exist: {wanted}")
    if not path.is_dir():
        raise NotADirectoryError(f"path={text!r} is no folder: {wanted}")
    there = [below for below in _BELOW if _file(path / below, "train", "images")]
    if not there:
        raise FileNotFoundError(
            f"path={text!r} holds none of {', '.join(_spellings('train', 'images'))}, nor do "
            f"{', '.join(below for below in _BELOW if below)} in it: {wanted}"
        )
    if len(there) > 1 and there[0]:
        raise ValueError(
            f"path={text!r} holds several data sets: give one of "
            f"{', '.join(repr(os.path.join(text, below)) for below in there)}"
        )
    return path / there[0]


def _read(file: Path, kind: str) -> np.ndarray:
    """Pixels (N, rows, columns) or labels (N,), uint8.

    Raises:
        OSError: naming the file, and what is wrong with it. TooLargeError: it does not fit.
    """
    try:
        with open(file, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            if packed:
                with gzip.open(raw) as stream:
                    return _decode(file, kind, cast(BinaryIO, stream))
            if file.suffix == ".gz":
                raise _DamagedError(
                    f"{file} is no gzip file: {_REMEDY}, or drop .gz from its name if it is unpacked"
                )
            return _decode(file, kind, raw)
    except _DamagedError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise OSError(f"{file} cannot be read ({error}): {_REMEDY}") from error


class _DamagedError(OSError):
    """A file is not what its name says."""


def _decode(file: Path, kind: str, stream: BinaryIO) -> np.ndarray:
    axes = _AXES[kind]
    magic = bytes((0, 0, 8, axes))
    start = stream.read(4 + 4 * axes)
    if start[:4] != magic:
        raise _DamagedError(
            f"{file} begins with the bytes {start[:4].hex() or '(none)'}, not {magic.hex()} as IDX files "
            f"of {kind} do: it is another file; {_REMEDY}"
        )
    if len(start) < 4 + 4 * axes:
        raise _DamagedError(f"{file} ends within its header: it is truncated; {_REMEDY}")
    shape = tuple(int(n) for n in np.frombuffer(start[4:], ">u4"))
    size = " × ".join(map(str, shape))
    if 0 in shape:
        raise _DamagedError(f"{file} holds {size} {kind}, and one is needed at least: {_REMEDY}")
    if axes == 3 and shape[1] != shape[2]:
        raise _DamagedError(
            f"{file} holds images of {shape[1]} × {shape[2]} pixels, and square ones are needed: cut or "
            "fill them, or give them as leadline.arrays"
        )
    count = math.prod(shape)
    try:
        bounded.check("it", count, os.path.getsize(file))
    except bounded.TooLargeError as error:
        raise bounded.TooLargeError(f"{file}: {error}") from None
    content = stream.read(count + 1)
    if len(content) != count:
        has, what = f"{len(content):,}", "truncated"
        if len(content) > count:
            has, what = "more", "damaged or another file"
        raise _DamagedError(
            f"{file} should hold {count:,} bytes ({size}) after its header and holds {has}: it is {what}; "
            f"{_REMEDY}"
        )
    values = np.frombuffer(content, np.uint8).reshape(shape)
    if kind == "labels" and values.max() > _MOST_CLASS:
        row = int(np.argmax(values > _MOST_CLASS))
        raise _DamagedError(
            f"{file} has the label {values[row]} at place {row}, not 0..{_MOST_CLASS}: {_REMEDY}"
        )
    return values


def _load(text: str, root: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, side, side) and labels (N,), uint8, of the training or the test set."""
    read = {}
    for kind in _AXES:
        file = _file(root, part, kind)
        if file is None:
            names = _spellings(part, kind)
            remedy = "; give test_samples=0 to go without" if part == "t10k" else ""
            raise FileNotFoundError(
                f"path={text!r} holds no {kind} for its {part} set: none of {', '.join(names)} is in "
                f"{root}; {_REMEDY}{remedy}"
            )
        read[kind] = _read(file, kind)
    images, labels = read["images"], read["labels"]
    if len(images) != len(labels):
        raise OSError(
            f"path={text!r} holds {len(images)} {part} images and {len(labels)} {part} labels: "
            f"the two are of different sets; {_REMEDY}"
        )
    return images, labels


def pooled(images: np.ndarray, side: int) -> np.ndarray:
    """Means over a grid of side × side equal squares; a pixel across a border counts by its area.

    Args:
        images: (N, n, n) pixels.
        side: of the result, 1..n.

    >>> pooled(np.arange(16.0).reshape(1, 4, 4), 2).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """
    n = images.shape[1]
    at = np.arange(n)
    low, high = n * np.arange(side)[:, None], n * np.arange(1, side + 1)[:, None]
    # Overlaps in units of 1/side of a pixel: whole numbers, so that sums are exact.
    shares = np.minimum(high, side * (at + 1)) - np.maximum(low, side * at)
    shares = np.maximum(shares, 0).astype(np.float64)
    return shares @ images.astype(np.float64) @ shares.T / float(n * n)


def mnist(
    path: str | os.PathLike[str],
    classes: Sequence[int] | None = None,
    samples: int | None = 1000,
    test_samples: int | None = 1000,
    loss: str = "mse",
    seed: int = 0,
    standardize: bool = True,
    side: int | None = None,
    center: bool = True,
) -> Problem:
    """MNIST, Fashion-MNIST or another set in their files (d = 784, pixels 0..255, row by row).

    Args:
        path: the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte
            and t10k-labels-idx1-ubyte, packed (.gz) or not, also with a dot before "idx"; or the
            folder above it that torchvision was given (raw, MNIST/raw, FashionMNIST/raw, KMNIST/raw).
        classes: two or more of 0..9, in the order of their indices; None is all ten.
        samples: P, with an equal share of every class (the first classes have one more where it
            does not divide); None is all.
        test_samples: drawn from the t10k files, as balanced as it allows; None is all, 0 is no test
            set, and the t10k files are not needed.
        loss: "mse" or "cross_entropy".
        seed: of the draw, >= 0.
        standardize: see ``arrays``.
        side: images of side × side means of pixels (d = side²), at most as the files have; None is
            the pixels.
        center: see ``arrays``.

    Raises:
        FileNotFoundError: when the path or a file in it is missing; names what was looked for.
        OSError: on files that are truncated, no gzip, of another format, or do not belong together.
        ValueError: on an unknown class, fewer than two, samples or side out of range.
        TypeError: on values of another type.
    """
    text = check_path("path", path)
    indices = tuple(range(_MOST_CLASS + 1))
    if classes is not None:
        indices = tuple(check_int("classes", c, 0, _MOST_CLASS) for c in check_classes(classes))
        check_classes(indices)
    seed = check_int("seed", seed, 0)
    if side is not None:
        side = check_int("side", side, 1)
    tested = test_samples is None or check_int("test_samples", test_samples, 0) > 0
    root = _root(text)
    rng = np.random.default_rng(seed)
    sets: list[np.ndarray | None] = []
    sides: list[int] = []
    for part in _PARTS if tested else _PARTS[:1]:
        images, labels = _load(text, root, part)
        n = images.shape[1]
        sides.append(n)
        if sides[0] != n:
            raise OSError(
                f"path={text!r} holds train images of {sides[0]} × {sides[0]} pixels and t10k images of "
                f"{n} × {n}: the two are of different sets; {_REMEDY}"
            )
        if side is not None and side > n:
            raise ValueError(
                f"side={side} is more than the {n} pixels of the images: give at most {n}"
            )
        train = part == "train"
        rows = balanced_draw(labels, indices, rng, samples if train else test_samples, train=train)
        bounded.check("what is drawn of it", 8 * len(rows) * (side or n) ** 2, images.nbytes)
        pixels = images[rows]
        sets += [pixels if side in (None, n) else pooled(pixels, side), labels[rows]]
    return arrays(
        *sets,
        loss=loss,
        classes=indices,
        standardize=standardize,
        center=center,
        name=spec(
            mnist,
            text,
            classes=None if classes is None else indices,
            samples=samples,
            test_samples=test_samples,
            loss=loss,
            seed=seed,
            standardize=standardize,
            side=side,
            center=center,
        ),
    )
