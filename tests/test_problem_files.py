"""Problems from files: CIFAR-10's binary version and npz."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pytest

from leadline.problems import arrays, cifar, cifar10, npz, parse

TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
FILES = [*TRAIN, "test_batch.bin"]
RECORDS = 40


@pytest.fixture(autouse=True)
def few_records(monkeypatch):
    monkeypatch.setattr(cifar, "_RECORDS", RECORDS)


def batch(seed: int) -> np.ndarray:
    """RECORDS records with four of each class, in random order."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
    data[:, 0] = rng.permutation(np.arange(RECORDS) % 10)
    return data


@pytest.fixture
def parent(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for i, name in enumerate(FILES):
        (folder / name).write_bytes(batch(i).tobytes())
    return tmp_path


def pack(path, members: dict[str, bytes], mode: str = "w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def contents(prefix="cifar-10-batches-bin/") -> dict[str, bytes]:
    return {prefix + name: batch(i).tobytes() for i, name in enumerate(FILES)}


# CIFAR-10


def test_folder_parent_and_tar_are_the_same(parent):
    options = {"samples": 20, "test_samples": 10, "seed": 3}
    problem = cifar10(parent, **options)
    assert cifar10(parent / "cifar-10-batches-bin", **options) == problem
    for prefix in ("cifar-10-batches-bin/", "./cifar-10-batches-bin/", ""):
        assert cifar10(pack(parent / "c.tar.gz", contents(prefix)), **options) == problem
    assert cifar10(pack(parent / "c.tar", contents(), "w"), **options) == problem
    assert problem != cifar10(parent, samples=20, test_samples=10, seed=4)
    assert problem.dimension == 3072
    assert np.bincount(problem.labels).tolist() == [2] * 10
    assert np.bincount(problem.labels_test).tolist() == [1] * 10
    np.testing.assert_allclose((problem.x**2).sum(1), 3072, rtol=1e-12)


def test_pixels_go_with_their_labels(parent):
    problem = cifar10(
        parent, ("cat", 5), samples=None, test_samples=None, standardize=False, loss="mse"
    )
    assert problem.classes == ("cat", "dog")
    train = np.concatenate([batch(i) for i in range(5)])
    train = train[np.isin(train[:, 0], (3, 5))]
    assert np.array_equal(problem.x, train[:, 1:])
    assert np.array_equal(problem.y[:, 0], train[:, 0].astype(float) - 4)
    test = batch(5)
    test = test[np.isin(test[:, 0], (3, 5))]
    assert np.array_equal(problem.x_test, test[:, 1:])
    assert problem.test_samples == 8


def test_no_test_set_needs_no_test_file(parent):
    (parent / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert cifar10(parent, samples=10, test_samples=0).x_test is None
    with pytest.raises(FileNotFoundError, match=r"no test_batch\.bin"):
        cifar10(parent, samples=10, test_samples=10)


def test_cifar_names_are_read_back(parent):
    problem = cifar10(parent, (3, "dog"), 8, 4, loss="cross_entropy", seed=2)
    assert problem.name == (
        f"cifar10:{parent}?classes=cat;dog,samples=8,test_samples=4,loss=cross_entropy,seed=2"
    )
    assert parse(problem.name) == problem
    assert parse(f"cifar10:{parent}?classes=3;5,samples=8,test_samples=4").classes == (
        "cat",
        "dog",
    )
    everything = cifar10(parent, samples=None, test_samples=None)
    assert everything.name == f"cifar10:{parent}?samples=none,test_samples=none"
    assert parse(everything.name) == everything


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"classes": ("cat", "dgo")}, "did you mean 'dog'"),
        ({"classes": (0, 10)}, "classes holds 10"),
        ({"classes": ("cat",)}, "at least two"),
        ({"classes": ("cat", 3)}, "repeats"),
        ({"samples": 9}, "fewer than the 10 classes"),
        ({"samples": 201}, "give at most 200"),
        ({"samples": 10, "test_samples": 41}, "test_samples=41 .* give at most 40"),
        ({"samples": 10, "test_samples": -1}, "test_samples=-1"),
        ({"samples": 10, "test_samples": 0, "seed": -1}, "seed=-1"),
    ],
)
def test_cifar_refuses(parent, options, match):
    with pytest.raises(ValueError, match=match):
        cifar10(parent, **options)


def test_missing_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*binary version"):
        cifar10(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no data_batch_1\.bin.*binary version"):
        cifar10(tmp_path)


def test_truncated_files(parent):
    file = parent / "cifar-10-batches-bin" / "data_batch_3.bin"
    for size in (0, 3073 * (RECORDS - 1), 3073 * RECORDS - 1):
        file.write_bytes(bytes(size))
        with pytest.raises(OSError, match=rf"data_batch_3\.bin has {size} bytes, not"):
            cifar10(parent)
    tar = pack(parent / "c.tar.gz", contents())
    data = tar.read_bytes()
    for keep in (0, 5, len(data) // 2):
        tar.write_bytes(data[:keep])
        with pytest.raises(OSError, match=r"not a readable tar\.gz.*binary version"):
            cifar10(tar)
    damaged = bytearray(data)
    damaged[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    tar.write_bytes(damaged)
    with pytest.raises(OSError, match="binary version"):
        cifar10(tar)
    short = contents()
    short["cifar-10-batches-bin/data_batch_2.bin"] = b"\0" * 3073
    with pytest.raises(OSError, match=r"data_batch_2\.bin has 3073 bytes"):
        cifar10(pack(tar, short))


def test_labels_beyond_nine(parent):
    data = batch(1)
    data[7, 0] = 200
    (parent / "cifar-10-batches-bin" / "data_batch_2.bin").write_bytes(data.tobytes())
    with pytest.raises(OSError, match=r"data_batch_2\.bin record 7 has the label 200"):
        cifar10(parent, samples=10, test_samples=10)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_the_pickle_version_is_named_and_never_unpickled(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    data = pickle.dumps(Bomb())
    for i in range(1, 6):
        (folder / f"data_batch_{i}").write_bytes(data)
    members = {f"cifar-10-batches-py/data_batch_{i}": data for i in range(1, 6)}
    for path in (folder, tmp_path, pack(tmp_path / "p.tar.gz", members)):
        with pytest.raises(OSError, match=r"pickle.*never unpickled.*cifar-10-binary"):
            cifar10(path)
    with pytest.raises(OSError, match=r"not a readable tar\.gz"):
        cifar10(folder / "data_batch_1")


def test_only_regular_files_of_the_exact_names_are_read(tmp_path):
    path = tmp_path / "c.tar.gz"
    (tmp_path / "secret").write_bytes(batch(0).tobytes())
    with tarfile.open(path, "w:gz") as tar:
        for name in FILES:
            link = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
            tar.addfile(link)
    with pytest.raises(OSError, match=r"holds no cifar-10-batches-bin/data_batch_1\.bin"):
        cifar10(path)
    with pytest.raises(OSError, match="holds no"):
        cifar10(pack(path, contents("../cifar-10-batches-bin/")))


# npz


X = np.random.default_rng(0).standard_normal((12, 3))
Y = np.array([0, 1, 2] * 4)


def save(path, **members):
    np.savez(path, **members)
    return path


def test_npz_is_arrays_of_its_members(tmp_path):
    path = save(tmp_path / "p.npz", x=X, y=Y, x_test=X[:5], y_test=Y[:5], other=X)
    problem = npz(path)
    assert problem == arrays(X, Y, X[:5], Y[:5])
    assert problem.name == f"npz:{path}"
    assert parse(problem.name) == problem
    targets = save(tmp_path / "t.npz", x=X, y=X[:, 0])
    assert npz(targets) == arrays(X, X[:, 0])
    words = np.array(["a", "b", "c"])[Y]
    assert npz(save(tmp_path / "w.npz", x=X, y=words)).classes == ("a", "b", "c")


def test_npz_draws(tmp_path):
    path = save(tmp_path / "p.npz", x=X, y=Y, x_test=X, y_test=Y)
    problem = npz(path, samples=6, test_samples=3, seed=1, standardize=False)
    assert np.bincount(problem.labels).tolist() == [2, 2, 2]
    assert np.bincount(problem.labels_test).tolist() == [1, 1, 1]
    assert {r.tobytes() for r in problem.x} <= {r.tobytes() for r in X}
    assert parse(problem.name) == problem
    assert npz(path, samples=6, test_samples=3, seed=2, standardize=False) != problem
    assert npz(path, test_samples=0).x_test is None
    few = npz(path, samples=2, loss="cross_entropy")  # one class of the file is not drawn
    assert few.classes == (0, 1, 2)
    floats = save(tmp_path / "f.npz", x=X, y=Y.astype(float))
    assert npz(floats, loss="cross_entropy").classes == (0, 1, 2)
    assert npz(floats, samples=5).y.shape == (5, 1)


@pytest.mark.parametrize("name", ["a:b.npz", "what?.npz", "a,b=c;d.npz", "a?b=c?.npz", "é ü.npz"])
def test_paths_may_hold_anything(tmp_path, name):
    path = save(tmp_path / name, x=X, y=Y)
    for problem in (npz(path), npz(path, samples=6), npz(path, loss="cross_entropy")):
        assert parse(problem.name) == problem


def test_npz_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "p.npz", x=X, y=Y)
    assert parse("npz:~/p.npz").name == "npz:~/p.npz"


def test_npz_refuses_pickles(tmp_path):
    objects = save(tmp_path / "o.npz", x=X, y=np.array([Bomb()] * 12, dtype=object))
    with pytest.raises(ValueError, match="objects, which is never unpickled"):
        npz(objects)
    plain = tmp_path / "p.npz"
    plain.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(OSError, match="not a readable npz"):
        npz(plain)


def test_npz_refuses_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        npz(tmp_path / "none.npz")
    with pytest.raises(OSError, match="not a readable npz"):
        npz(tmp_path)
    path = save(tmp_path / "p.npz", x=X, y=Y)
    data = path.read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:keep])
        with pytest.raises(OSError, match=r"not a readable npz.*numpy\.savez"):
            npz(path)
    damaged = bytearray(data)
    damaged[200:230] = bytes(30)
    path.write_bytes(damaged)
    with pytest.raises(OSError, match="not a readable npz"):
        npz(path)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(OSError, match="not a readable npz"):
        npz(tmp_path / "x.npy")


def test_npz_refuses_contents(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(KeyError, match=r"holds no 'y' but \['label', 'x'\]"):
        npz(save(path, x=X, label=Y))
    with pytest.raises(ValueError, match="x_test is given without y_test"):
        npz(save(path, x=X, y=Y, x_test=X))
    with pytest.raises(ValueError, match="y has shape"):
        npz(save(path, x=X, y=Y[:3]), samples=2)
    with pytest.raises(ValueError, match="single class"):
        npz(save(path, x=X, y=Y * 0))
    save(path, x=X, y=Y)
    with pytest.raises(ValueError, match=r"test_samples=2 but .* holds no x_test"):
        npz(path, test_samples=2)
    with pytest.raises(ValueError, match=r"samples=13 .* give at most 12"):
        npz(path, samples=13)
    with pytest.raises(ValueError, match="samples=0"):
        npz(path, samples=0)
    with pytest.raises(ValueError, match="did you mean 'mse'"):
        npz(path, loss="ms")
    with pytest.raises(TypeError, match="not a class label"):
        npz(save(path, x=X, y=X[:, 0]), loss="cross_entropy")
