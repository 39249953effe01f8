"""Files: every damage is named, writing is tried first, and what killed writers leave is removed."""

import json
import os
import random

import numpy as np
import pytest
from safetensors.numpy import load as plain_load
from safetensors.numpy import save as plain_save

import leadline as ll
from disks import Stop, disk, read_only, solve
from leadline.disk import sealed, strict
from leadline.solving import solver


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Unfinished checkpoints of seeds together and of one, a finished one, a saved run: bytes by kind."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.raises(Stop):
        solve(folder / "unfinished", stop=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "STACKED_WIDTH", 0)
        with pytest.raises(Stop):
            solve(folder / "alone", stop=2)
    done = solve(folder / "finished")
    done.save(folder / "run")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def refusal(kind, path):
    """The error of reading a file of this kind back; None if it is read."""
    try:
        if kind == "run":
            ll.Trajectory.load(path)
        else:
            solve(path)
    except (OSError, ll.CheckpointError) as error:
        return str(error)
    return None


KINDS = ("unfinished", "finished", "run")


def flipped(data, bit):
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_named(kind, files, tmp_path):
    data, path = files[kind], tmp_path / kind
    head = 8 + int.from_bytes(data[:8], "little")
    sum_at = data.index(b'"sha256": "') + 11
    chance = random.Random(0)
    bits = [8 * k + chance.randrange(8) for k in (*range(8), sum_at, sum_at + 63, head - 1, head)]
    bits += [chance.randrange(8 * head) for _ in range(30)]
    bits += [chance.randrange(8 * head, 8 * len(data)) for _ in range(30)]
    for bit in bits:
        path.write_bytes(flipped(data, bit))
        said = refusal(kind, path)
        assert said is not None, bit
        assert repr(str(path)) in said
        assert "is not a whole" in said


@pytest.mark.parametrize("kind", KINDS)
def test_every_other_length_is_named(kind, files, tmp_path):
    data, path = files[kind], tmp_path / kind
    head = 8 + int.from_bytes(data[:8], "little")
    for size in (0, 1, 7, 8, 9, head - 1, head, head + 1, len(data) - 8, len(data) - 1):
        path.write_bytes(data[:size])
        assert "is not a whole" in refusal(kind, path), size
    for more in (b"\0", b" " * 8, data):
        path.write_bytes(data + more)
        assert "is not a whole" in refusal(kind, path)
    path.write_bytes(data)
    assert refusal(kind, path) is None


def test_other_safetensors_readers_read_a_sealed_file(files, tmp_path):
    arrays = plain_load(files["run"])
    assert np.array_equal(arrays["train_loss"], solve(tmp_path / "whole").train_loss)


def sealed_as(path, arrays, header):
    with open(path, "wb") as file:
        sealed.write(file, [sealed.of_numpy(k, np.asarray(v)) for k, v in arrays.items()], header)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(step=-3), r"step=-3 is not in 0\.\.3"),
        (dict(step=4), r"step=4 is not in 0\.\.3"),
        (dict(step=True), "step=True"),
        (dict(finished=3), r"finished=3 is not in 0\.\.2"),
        (dict(seconds=-1.0), "seconds=-1"),
        (dict(seconds="1"), "seconds='1'"),
        (dict(shards=[["../x", 0, 1, ""]]), "Invalid name|no such|No such"),
        (dict(shards=3), "not iterable"),
        (dict(info=[1]), "not a whole checkpoint"),
        (dict(together=0), "together=0"),
        (dict(together=3), "together=3"),
        (dict(together="2"), "together='2'"),
        (dict(stack=[0, 7]), r"stack=\[0, 7\] is not of its seeds"),
        (dict(stack=[]), "is not of its seeds"),
    ],
)
def test_a_header_with_a_right_checksum_has_to_make_sense(change, words, files, tmp_path):
    (tmp_path / "c").write_bytes(files["unfinished"])
    header, arrays = sealed.arrays(tmp_path / "c")
    sealed_as(tmp_path / "c", arrays, header)
    assert refusal("unfinished", tmp_path / "c") is None
    sealed_as(tmp_path / "c", arrays, header | change)
    with pytest.raises(ll.CheckpointError, match=words):
        solve(tmp_path / "c")


@pytest.mark.parametrize(
    ("kind", "name", "array"),
    [
        ("alone", "work/0.0.Q", np.zeros((2, 7), np.float32)),
        ("alone", "work/u", None),
        ("alone", "work/0.0.s", np.zeros(2)),
        ("alone", "work/1.0.noise", np.zeros((1, 3), np.uint64)),
        ("alone", "record/record/train_loss", np.zeros(9)),
        ("alone", "record/scalars", np.zeros(1)),
        ("unfinished", "work/stack.0.0.Q", np.zeros((2, 2, 7), np.float32)),
        ("unfinished", "work/stack.0.0.filled", np.zeros((2, 5), int)),
        ("unfinished", "work/stack.1.0.noise1", np.zeros((1, 3), np.uint64)),
        ("unfinished", "record/1/record/train_loss", np.zeros(9)),
        ("unfinished", "record/1/scalars", None),
    ],
)
def test_a_state_of_another_shape_is_refused(kind, name, array, files, tmp_path):
    (tmp_path / "c").write_bytes(files[kind])
    header, arrays = sealed.arrays(tmp_path / "c")
    assert name in arrays
    arrays[name] = array
    sealed_as(tmp_path / "c", {k: v for k, v in arrays.items() if v is not None}, header)
    with pytest.raises(ll.CheckpointError, match="not a whole checkpoint"):
        solve(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(steps=np.arange(7)), "train_loss has shape"),
        (dict(train_loss=np.zeros(4)), "train_loss has shape"),
        (dict(train_loss=None), "lacks 'train_loss'"),
        (dict(train_outputs=None), "lacks 'train_outputs'"),
        (dict(train_outputs=np.zeros((2, 4))), "train_outputs has shape"),
        (dict(train_loss=np.zeros((2, 4), np.int64)), "train_loss has type"),
        (dict(losses=np.zeros((2, 4))), "no 'losses'"),
        ({"measures/x": np.zeros(3)}, "x has shape"),
        (dict(diverged=np.zeros(2)), "diverged has type"),
    ],
)
def test_a_trajectory_of_other_arrays_is_refused(change, words, files, tmp_path):
    (tmp_path / "r").write_bytes(files["run"])
    header, arrays = sealed.arrays(tmp_path / "r")
    arrays = {k: v for k, v in (arrays | change).items() if v is not None}
    with pytest.raises(OSError, match=words):
        ll.Trajectory.load(sealed_as(tmp_path / "r", arrays, header))


def test_files_of_another_kind_are_refused(files, tmp_path):
    (tmp_path / "c").write_bytes(files["finished"])
    with pytest.raises(OSError, match="not a whole saved trajectory"):
        ll.Trajectory.load(tmp_path / "c")
    (tmp_path / "r").write_bytes(files["run"])
    with pytest.raises(ll.CheckpointError, match="not a whole checkpoint"):
        solve(tmp_path / "r")
    bare = plain_save({"steps": np.arange(2)}, {"leadline": "{}"})
    (tmp_path / "bare").write_bytes(bare)
    with pytest.raises(OSError, match="no checksum"):
        ll.Trajectory.load(tmp_path / "bare")
    for bad, kind in ((tmp_path, OSError), (tmp_path / "none", FileNotFoundError)):
        with pytest.raises(kind, match="path="):
            ll.Trajectory.load(bad)
    with pytest.raises(IsADirectoryError, match="give a file"):
        solve(tmp_path)


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(files, tmp_path):
    (tmp_path / "r").write_bytes(files["run"])
    file = sealed.Sealed(tmp_path / "r")
    os.truncate(tmp_path / "r", 100)
    with pytest.raises(sealed.DamagedError, match="became shorter"):
        file.array("train_outputs")


def test_ranges_of_arrays_are_those_of_numpy(tmp_path):
    rng = np.random.default_rng(0)
    kinds = {"a": np.float64, "b": np.float32, "c": np.int64, "d": np.uint8, "e": np.float16}
    arrays = {k: (100 * rng.random((3, 5, 2))).astype(t) for k, t in kinds.items()}
    arrays |= {"yes": rng.random(9) > 0.5, "none": np.zeros((0, 4)), "one": np.float64(3)}
    file = sealed.Sealed(sealed_as(tmp_path / "x", arrays, {"h": 1}))
    assert file.header == {"h": 1}
    for name, array in arrays.items():
        back = file.array(name)
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)
    for name in kinds:
        for part in (slice(0, 2), slice(1, 3), slice(2, 2), slice(None)):
            kind = sealed.numpy_type(file.kinds[name])
            rows, columns = arrays[name][part], arrays[name][:, part]
            assert np.array_equal(file.read(name, 0, part).view(kind), rows.ravel())
            assert np.array_equal(file.read(name, 1, part).view(kind), columns.ravel())
    with pytest.raises(TypeError, match="has dtype complex128"):
        sealed.of_numpy("z", np.zeros(2, complex))


# JSON


def test_sealed_json_says_every_change():
    data = {"a": [1, 2.5, None, True], "b": {"ü": "x"}, "c": 3}
    text = json.dumps(strict.seal(data), indent=1, ensure_ascii=False).encode()
    assert strict.unseal(text) == data
    assert strict.unseal(json.dumps(json.loads(text)) + "\n") == data
    for bit in range(8 * len(text)):
        try:
            read = strict.unseal(flipped(text, bit))
        except ValueError:
            continue
        assert read == data, bit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested too deep"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": 1e999}', "too large"),
        ("{}", "no checksum"),
        ("3", "no checksum"),
        ('{"sha256": "0"}', "does not have its checksum"),
        ('{"a": %s}' % ("9" * 5000), "digits"),
        (b"\xff", "utf-8"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none(text, words):
    with pytest.raises(ValueError, match=words):
        strict.unseal(text)


def test_a_finished_checkpoint_answers_from_a_read_only_disk(files, tmp_path):
    with disk(tmp_path / "disk", "1m") as small:
        (small / "c").write_bytes(files["finished"])
        read_only(small)
        assert np.array_equal(solve(small / "c").train_loss, solve(tmp_path / "w").train_loss)
