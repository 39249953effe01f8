"""CIFAR-10 from its official binary files; nothing is unpickled, nothing extracted."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np

from leadline.disk.bounded import Bounded
from leadline.errors import check_choice, check_int, check_path
from leadline.problems.data import arrays, balanced_draw, check_classes
from leadline.problems.problem import Problem, spec

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FOLDER = "cifar-10-batches-bin"
_PICKLED = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_RECORD = 3073  # a label, then 3 × 32 × 32 pixels
_RECORDS = 10000  # in each file
_REMEDY = "download the binary version, cifar-10-binary.tar.gz (for C programs)"

_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# Bytes and members that an archive may have besides.
_SLACK = 1 << 24
_MEMBERS = 1000
# What reading a damaged or foreign archive raises.
_UNREADABLE = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
    zlib.error,
    lzma.LZMAError,
)


class _Size(OSError):
    """A file has not the size that it should have."""


def _check_size(where: str, size: int) -> None:
    if size != _RECORDS * _RECORD:
        raise _Size(
            f"{where} has {size} bytes, not {_RECORDS * _RECORD} ({_RECORDS} records of "
            f"{_RECORD}): it is truncated or of another format; {_REMEDY} again"
        )


def _read_folder(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    root = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder
    pickled = (folder / _PICKLED).is_dir() or (root / "data_batch_1").is_file()
    if pickled and not (root / _TRAIN[0]).is_file():
        raise OSError(
            f"path={str(folder)!r} holds the Python (pickle) version: it is never unpickled; "
            f"{_REMEDY}"
        )
    batches = {}
    for name in names:
        file = root / name
        if not file.is_file():
            raise FileNotFoundError(
                f"path={str(folder)!r} holds no {name}: give the folder of the files of "
                f"{_FOLDER}, its parent or the tar.gz; if there is none, {_REMEDY}"
            )
        _check_size(str(file), file.stat().st_size)
        batches[name] = file.read_bytes()
    return batches


def _unpacked(path: Path) -> BinaryIO:
    """The archive's bytes, whatever packed them."""
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, opened in _PACKED.items():
        if start.startswith(magic):
            return cast(BinaryIO, opened(path, "rb"))
    return open(path, "rb")


def _read_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    batches: dict[str, bytes] = {}
    wanted = {f"{folder}{name}": name for folder in ("", f"{_FOLDER}/") for name in names}
    pickled = False
    size = _RECORDS * _RECORD
    try:
        with (
            _unpacked(path) as stream,
            # The official one has six files and little else. No header is as long as a file.
            tarfile.open(
                fileobj=Bounded(stream, 8 * size + _SLACK, size + _SLACK), mode="r:"
            ) as tar,
        ):
            for count, member in enumerate(tar):
                if count > _MEMBERS or member.size < 0:
                    raise ValueError("it has members without number or size")
                inside = str(PurePosixPath(member.name))
                pickled = pickled or inside.split("/")[0] == _PICKLED
                name = wanted.get(inside)
                if name is None or not member.isreg():
                    continue
                _check_size(f"{path}: {inside}", member.size)
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                with content:
                    batches[name] = content.read(size)
                _check_size(f"{path}: {inside}", len(batches[name]))
                if len(batches) == len(names):
                    break
    except _Size:
        raise
    except _UNREADABLE as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise OSError(
            f"path={str(path)!r} is not a readable tar.gz ({why}): it is truncated or of another "
            f"format; {_REMEDY} again"
        ) from error
    missing = [name for name in names if name not in batches]
    if missing and pickled:
        raise OSError(
            f"path={str(path)!r} is the Python (pickle) version: it is never unpickled; {_REMEDY}"
        )
    if missing:
        raise OSError(f"path={str(path)!r} holds no {_FOLDER}/{missing[0]}: {_REMEDY}")
    return batches


def _decode(where: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (records, 3072) uint8 and labels (records,) int64."""
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise OSError(
            f"{where} record {row} has the label {labels[row]}, not 0..9: the file is damaged "
            f"or of another format; {_REMEDY} again"
        )
    return records[:, 1:], labels


def _class_index(value: int | str) -> int:
    if isinstance(value, str):
        return NAMES.index(check_choice("classes", value, NAMES))
    index = check_int("classes", value, 0)
    if index > 9:
        raise ValueError(f"classes holds {index}: give 0..9 or names: {', '.join(NAMES)}")
    return index


def cifar10(
    path: str | os.PathLike[str],
    classes: Sequence[int | str] | None = None,
    samples: int | None = 1000,
    test_samples: int | None = 1000,
    loss: str = "mse",
    seed: int = 0,
    standardize: bool = True,
) -> Problem:
    """CIFAR-10 (d = 3072, pixels 0..255, channel by channel) from the official binary version.

    Args:
        path: the folder of data_batch_1.bin … data_batch_5.bin and test_batch.bin, its parent
            with cifar-10-batches-bin, or cifar-10-binary.tar.gz as downloaded.
        classes: two or more of 0..9 or their names, in the order of their indices; None is all.
        samples: P, with an equal share of every class (the first classes have one more where it
            does not divide); None is all.
        test_samples: drawn from test_batch.bin, as balanced as it allows; None is all, 0 is no
            test set.
        loss: "mse" or "cross_entropy".
        seed: of the draw, >= 0.
        standardize: see ``arrays``.

    Raises:
        FileNotFoundError: when the path or a file in it is missing.
        OSError: on truncated files and other formats, the Python (pickle) version among them.
        ValueError: on an unknown class, fewer than two, or samples out of range.
        TypeError: on values of another type.
    """
    text = check_path("path", path)
    where = Path(os.path.expanduser(text))
    if classes is None:
        indices = tuple(range(10))
    else:
        values = (c.item() if isinstance(c, np.generic) else c for c in check_classes(classes))
        indices = check_classes(_class_index(c) for c in values)
    chosen = tuple(NAMES[i] for i in indices)
    seed = check_int("seed", seed, 0)
    tested = test_samples is None or check_int("test_samples", test_samples, 0) > 0
    if not where.exists():
        raise FileNotFoundError(
            f"path={text!r} does not exist: give the folder of {_TRAIN[0]}, its parent or the "
            f"tar.gz; if there is none, {_REMEDY}"
        )
    if not where.is_dir() and not where.is_file():
        raise OSError(f"path={text!r} is neither a folder nor a file: give the tar.gz")
    read = _read_folder if where.is_dir() else _read_tar
    batches = read(where, (*_TRAIN, _TEST) if tested else _TRAIN)

    rng = np.random.default_rng(seed)
    sets: list[np.ndarray | None] = []
    for names in (_TRAIN, (_TEST,)):
        if names[0] not in batches:
            sets += [None, None]
            continue
        parts = [_decode(f"{text}: {name}", batches[name]) for name in names]
        pixels, labels = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
        train = names is _TRAIN
        count = samples if train else test_samples
        rows = balanced_draw(labels, indices, rng, count, train=train, names=chosen)
        sets += [pixels[rows], np.array(NAMES)[labels[rows]]]
    return arrays(
        *sets,
        loss=loss,
        classes=chosen,
        standardize=standardize,
        name=spec(
            cifar10,
            text,
            classes=None if classes is None else chosen,
            samples=samples,
            test_samples=test_samples,
            loss=loss,
            seed=seed,
            standardize=standardize,
        ),
    )
