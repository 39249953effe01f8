"""MNIST and others of its format: IDX files written here are read back, and what is wrong is named."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from leadline.disk import bounded
from leadline.problems import arrays, mnist, parse
from leadline.problems.images import pooled

NAMES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("t10k", "images"): "t10k-images-idx3-ubyte",
    ("t10k", "labels"): "t10k-labels-idx1-ubyte",
}
IMAGES, LABELS = NAMES["train", "images"], NAMES["train", "labels"]
COUNTS = {"train": 40, "t10k": 20}
SIDE = 6


def idx(values: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes, by the format's description."""
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    )


def content(part: str, side: int = SIDE) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(sorted(COUNTS).index(part))
    count = COUNTS[part]
    labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
    return {"images": rng.integers(0, 256, (count, side, side), dtype=np.uint8), "labels": labels}


def write(folder, spell=lambda name: name, pack=lambda data: data):
    folder.mkdir(parents=True, exist_ok=True)
    for (part, kind), name in NAMES.items():
        (folder / spell(name)).write_bytes(pack(idx(content(part)[kind])))
    return folder


ALL = dict(samples=None, test_samples=None)


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw"])
@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_written_is_read_back(tmp_path, below, dots, packed):
    def spell(name):
        return (name.replace("-idx", ".idx") if dots else name) + (".gz" if packed else "")

    write(tmp_path / below, spell, gzip.compress if packed else lambda data: data)
    problem = mnist(tmp_path, **ALL, standardize=False)
    for part, x, labels in (
        ("train", problem.x, problem.labels),
        ("t10k", problem.x_test, problem.labels_test),
    ):
        assert np.array_equal(x, content(part)["images"].reshape(COUNTS[part], -1))
        assert np.array_equal(labels, content(part)["labels"])
    assert problem.classes == tuple(range(10))


@pytest.mark.parametrize("seed", range(8))
def test_files_of_any_size_are_read_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    side, counts = int(rng.integers(1, 40)), rng.integers(2, 60, 2)
    written = {}
    for part, count in zip(("train", "t10k"), counts, strict=True):
        images = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        written[part] = images.reshape(count, -1), labels
        for kind, values in (("images", images), ("labels", labels)):
            packed = rng.random() < 0.5
            file = tmp_path / (NAMES[part, kind] + (".gz" if packed and rng.random() < 0.5 else ""))
            packed = packed or file.suffix == ".gz"
            file.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    problem = mnist(tmp_path, **ALL, standardize=False, loss="cross_entropy")
    assert np.array_equal(problem.x, written["train"][0])
    assert np.array_equal(problem.labels, written["train"][1])
    assert np.array_equal(problem.x_test, written["t10k"][0])
    assert np.array_equal(problem.labels_test, written["t10k"][1])
    assert np.array_equal(problem.y, np.eye(10)[problem.labels])


def test_draws_are_balanced_and_normalised_as_arrays_are(tmp_path):
    write(tmp_path)
    how = dict(samples=9, test_samples=5, seed=3)
    plain = mnist(tmp_path, (7, 2, 4), **how, standardize=False)
    assert np.bincount(plain.labels).tolist() == [3, 3, 3]
    assert np.bincount(plain.labels_test).tolist() == [2, 2, 1]
    assert plain.classes == (7, 2, 4)
    everything = content("train")
    rows = {image.tobytes(): label for image, label in zip(*everything.values(), strict=True)}
    for x, label in zip(plain.x, plain.labels, strict=True):
        assert (7, 2, 4)[label] == rows[x.astype(np.uint8).tobytes()]
    names = np.array(plain.classes)
    for center in (True, False):
        assert mnist(tmp_path, (7, 2, 4), **how, center=center) == arrays(
            plain.x,
            names[plain.labels],
            plain.x_test,
            names[plain.labels_test],
            classes=plain.classes,
            center=center,
        )
    assert mnist(tmp_path, (7, 2, 4), **how) != mnist(tmp_path, (7, 2, 4), **(how | {"seed": 4}))


def test_rows_are_only_scaled_without_centring(tmp_path):
    write(tmp_path)
    raw = mnist(tmp_path, **ALL, standardize=False)
    scaled = mnist(tmp_path, **ALL, center=False)
    np.testing.assert_allclose(
        scaled.x, raw.x * (SIDE / np.linalg.norm(raw.x, axis=1))[:, None], rtol=1e-14
    )
    assert abs(mnist(tmp_path, **ALL).x.mean()) < 0.05 < scaled.x.mean()


def test_names_are_read_back(tmp_path):
    write(tmp_path)
    named = {
        "": {},
        "?classes=2;4,samples=4,test_samples=none,loss=cross_entropy,seed=1": dict(
            classes=(2, 4), samples=4, test_samples=None, loss="cross_entropy", seed=1
        ),
        "?samples=none,test_samples=0,side=3,center=false": dict(
            samples=None, test_samples=0, side=3, center=False
        ),
        "?samples=20,test_samples=10,standardize=false": dict(
            samples=20, test_samples=10, standardize=False
        ),
    }
    del named[""]  # a thousand samples are more than there are here
    for end, how in named.items():
        problem = mnist(tmp_path, **how)
        assert problem.name == f"mnist:{tmp_path}{end}"
        assert parse(problem.name) == problem
    assert parse(f"mnist:{tmp_path}?samples=10,test_samples=0,side=none") == mnist(
        tmp_path, samples=10, test_samples=0
    )


# Pooling


def test_pooling_is_the_mean_of_squares(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12))
    for side in (1, 2, 3, 4, 6, 12):
        step = 12 // side
        wanted = images.reshape(5, side, step, side, step).mean((2, 4))
        np.testing.assert_allclose(pooled(images, side), wanted, rtol=1e-15)
    write(tmp_path)
    problem = mnist(tmp_path, **ALL, side=3, standardize=False)
    wanted = content("train")["images"].reshape(40, 3, 2, 3, 2).mean((2, 4)).reshape(40, 9)
    assert np.array_equal(problem.x, wanted)
    assert np.array_equal(
        mnist(tmp_path, **ALL, side=SIDE).x, mnist(tmp_path, **ALL).x
    )  # its own side changes no bit


@pytest.mark.parametrize("side", [2, 3, 4, 5])
def test_pixels_across_a_border_count_by_their_area(side):
    images = np.random.default_rng(1).integers(0, 256, (3, 7, 7))
    fine = np.repeat(np.repeat(images, side, 1), side, 2)  # every pixel as side × side of its value
    wanted = fine.reshape(3, side, 7, side, 7).mean((2, 4))
    np.testing.assert_allclose(pooled(images, side), wanted, rtol=1e-15)


# Refusals


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        (dict(classes=(1, 10)), ValueError, "classes=10 is too large: .* <= 9"),
        (dict(classes=(1,)), ValueError, "at least two"),
        (dict(classes=(1, 1)), ValueError, "repeats"),
        (dict(classes=("a", "b")), TypeError, "classes='a' is not an integer"),
        (dict(samples=9), ValueError, "fewer than the 10 classes"),
        (dict(samples=41), ValueError, "give at most 40"),
        (dict(test_samples=21), ValueError, "test_samples=21 .* give at most 20"),
        (dict(test_samples=-1), ValueError, "test_samples=-1"),
        (dict(seed=-1), ValueError, "seed=-1"),
        (dict(side=7), ValueError, "side=7 is more than the 6 pixels .* at most 6"),
        (dict(side=0), ValueError, "side=0"),
        (dict(center=1), TypeError, "center=1 is not a bool"),
        (dict(loss="l1"), ValueError, "loss='l1'"),
    ],
)
def test_arguments_are_refused(tmp_path, how, error, match):
    write(tmp_path)
    with pytest.raises(error, match=match):
        mnist(tmp_path, **(dict(samples=10, test_samples=10) | how))


def test_names_are_refused(tmp_path):
    for text, match in (
        ("mnist", "names no path: give mnist:PATH"),
        (f"mnist:{tmp_path}?side=x", "side='x' .* give an integer"),
        (f"mnist:{tmp_path}?classes=cat;dog", "classes='cat;dog' .* give digits"),
        (f"mnist:{tmp_path}?centre=true", "did you mean 'center'"),
    ):
        with pytest.raises(ValueError, match=match):
            parse(text)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist: give the folder of train-images"):
        mnist(tmp_path / "none")
    with pytest.raises(FileNotFoundError) as error:
        mnist(tmp_path)
    for text in (IMAGES, "train-images.idx3-ubyte", f"{IMAGES}.gz", "MNIST/raw"):
        assert text in str(error.value)
    write(tmp_path)
    with pytest.raises(NotADirectoryError, match="is no folder"):
        mnist(tmp_path / IMAGES)
    (tmp_path / LABELS).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no labels for its train set: none of train-labels"
    ):
        mnist(tmp_path, **ALL)


def test_no_test_set_needs_no_test_files(tmp_path):
    write(tmp_path)
    (tmp_path / NAMES["t10k", "images"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"no images for its t10k set: .*test_samples=0"):
        mnist(tmp_path, **ALL)
    assert mnist(tmp_path, samples=None, test_samples=0).x_test is None


def test_two_sets_in_one_folder_are_refused(tmp_path):
    for below in ("MNIST/raw", "KMNIST/raw"):
        write(tmp_path / below)
    with pytest.raises(ValueError, match=r"several data sets: give one of .*'/?.*KMNIST/raw'"):
        mnist(tmp_path, **ALL)
    mnist(tmp_path / "MNIST", **ALL)


def spoilt(tmp_path, name, data, match):
    write(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(OSError, match=match) as error:
        mnist(tmp_path, **ALL)
    assert name in str(error.value)


GOOD = idx(content("train")["images"])


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        (IMAGES, b"", r"begins with the bytes \(none\), not 00000803"),
        (IMAGES, b"<html>", "begins with the bytes 3c68746d, not 00000803"),
        (IMAGES, idx(content("train")["labels"]), "00000801, not 00000803"),
        (LABELS, GOOD, "00000803, not 00000801"),
        (IMAGES, b"\0\0\x0d" + GOOD[3:], "00000d03"),  # floats
        (IMAGES, GOOD[:9], "ends within its header"),
        (
            IMAGES,
            GOOD[:-1],
            r"should hold 1,440 bytes \(40 × 6 × 6\) .* holds 1,439: it is truncated",
        ),
        (IMAGES, GOOD[:16], "holds 0: it is truncated"),
        (IMAGES, GOOD + b"\0", "holds more: it is damaged"),
        (IMAGES, gzip.compress(GOOD)[:-9], "cannot be read .*end-of-stream"),
        (IMAGES, gzip.compress(GOOD)[:-8] + bytes(8), "cannot be read .*CRC check failed"),
        (IMAGES, gzip.compress(GOOD)[:60] + bytes(900), "cannot be read"),
        (IMAGES, idx(np.zeros((0, 6, 6), np.uint8)), "holds 0 × 6 × 6 images"),
        (LABELS, idx(np.zeros(0, np.uint8)), "holds 0 labels"),
        (IMAGES, idx(np.zeros((40, 6, 5), np.uint8)), "images of 6 × 5 pixels, and square ones"),
        (
            LABELS,
            idx(np.array([9] * 7 + [10] + [0] * 32, np.uint8)),
            r"label 10 at place 7, not 0\.\.9",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, name, data, match):
    spoilt(tmp_path, name, data, match)


def test_what_is_called_gz_is_gzip(tmp_path):
    write(tmp_path, lambda name: f"{name}.gz")
    with pytest.raises(OSError, match=r"images-idx3-ubyte\.gz is no gzip file: .*drop \.gz"):
        mnist(tmp_path, **ALL)
    for name in NAMES.values():
        (tmp_path / f"{name}.gz").rename(tmp_path / name)
    mnist(tmp_path, **ALL)


def test_sets_that_do_not_belong_together(tmp_path):
    write(tmp_path)
    (tmp_path / LABELS).write_bytes(idx(content("t10k")["labels"]))
    with pytest.raises(
        OSError, match="40 train images and 20 train labels: the two are of different"
    ):
        mnist(tmp_path, **ALL)
    write(tmp_path)
    (tmp_path / NAMES["t10k", "images"]).write_bytes(idx(content("t10k", 5)["images"]))
    with pytest.raises(OSError, match="train images of 6 × 6 pixels and t10k images of 5 × 5"):
        mnist(tmp_path, **ALL)


def test_a_header_of_terabytes_is_not_believed(tmp_path):
    write(tmp_path)
    (tmp_path / IMAGES).write_bytes(bytes((0, 0, 8, 3)) + b"\xff" * 12)
    with pytest.raises(bounded.TooLargeError, match=rf"{IMAGES}: it takes .* bytes"):
        mnist(tmp_path, **ALL)
    write(tmp_path)
    with bounded.within(1000), pytest.raises(bounded.TooLargeError, match="takes 1,440 bytes"):
        mnist(tmp_path, **ALL)
    with bounded.within(1440), pytest.raises(bounded.TooLargeError, match="what is drawn of it"):
        mnist(tmp_path, **ALL)
