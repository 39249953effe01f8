"""Archives that are crafted, encrypted or unpack to more than they should: refused, and named."""

import gzip
import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from leadline import available
from leadline.disk import bounded
from leadline.problems import cifar, cifar10, npz
from leadline.problems.texts import text
from leadline.tabular import files

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6.0)


@pytest.fixture(autouse=True)
def few_records(monkeypatch):
    monkeypatch.setattr(cifar, "_RECORDS", 4)


def packed(path, how=zipfile.ZIP_STORED, **arrays):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, array in arrays.items():
            out = io.BytesIO()
            np.save(out, array)
            archive.writestr(f"{name}.npy", out.getvalue())
    return path


def patched(path, local, central, value):
    """Set a 16-bit field of every member's headers, at these places."""
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        at = data.find(magic)
        while at >= 0:
            struct.pack_into("<H", data, at + offset, value)
            at = data.find(magic, at + 1)
    path.write_bytes(data)
    return path


def refused(path, words):
    with pytest.raises(OSError, match=words) as error:
        npz(path)
    assert f"path={str(path)!r} is not a readable npz file" in str(error.value)


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_compressed_in_any_known_way(how, tmp_path):
    assert npz(packed(tmp_path / "a", how, x=X, y=Y)).samples == 6
    noise = np.random.default_rng(0).random((99, 9))
    data = bytearray(packed(tmp_path / "a", how, x=noise, y=Y).read_bytes())
    data[200:900] = bytes(700)
    (tmp_path / "a").write_bytes(data)
    refused(tmp_path / "a", "truncated or of another format")


def test_npz_encrypted_or_compressed_in_an_unknown_way(tmp_path):
    refused(patched(packed(tmp_path / "a", x=X, y=Y), 6, 8, 1), "encrypted")
    refused(patched(packed(tmp_path / "a", x=X, y=Y), 8, 10, 99), "compression")


def test_npz_of_zeros_is_not_unpacked(tmp_path, monkeypatch):
    path = packed(
        tmp_path / "a", zipfile.ZIP_DEFLATED, x=np.zeros((100_000, 8)), y=np.zeros(100_000)
    )
    how = dict(samples=4, standardize=False)
    assert npz(path, **how).samples == 4
    large = bounded.TooLargeError
    with bounded.within(1_000_000), pytest.raises(large, match="takes 7,200,000 bytes") as error:
        npz(path)
    assert f"path={str(path)!r} is too large" in str(error.value)
    assert "more than memory= allows (1,000,000)" in str(error.value)
    monkeypatch.setattr(bounded, "_SMALL", 1 << 20)
    with pytest.raises(large, match="store it uncompressed"):
        npz(path)
    plain = packed(tmp_path / "b", x=np.zeros((100_000, 8)), y=np.zeros(100_000))
    assert npz(plain, **how).samples == 4
    monkeypatch.setattr(available, "memory", lambda: 2_000_000)
    with pytest.raises(large, match=r"more than half of what is available \(1,000,000\)"):
        npz(plain)


def header(shape, descr="'<f8'"):
    said = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    said += b" " * (-(len(said) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(said)) + said


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (header("(10**12,)"), "Cannot parse header|malformed"),
        (header("(1000000000000,)"), r"shape \(1000000000000,\), and"),
        (header("(-1,)"), "shape"),
        (header("(" + "-" * 5000 + "1,)"), "truncated or of another format"),
        (header("(1,)", "'nonsense'"), "descr"),
        (b"\x93NUMPY\7\0" + bytes(100), "truncated or of another format"),
        (b"text", "magic"),
        (b"", "EOF|magic"),
    ],
)
def test_npz_whose_array_says_nonsense(start, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("x.npy", start)
        archive.writestr("y.npy", start)
    refused(tmp_path / "a", words)


def test_npz_of_endlessly_many_empty_texts(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        for name in "xy":
            archive.writestr(f"{name}.npy", header("(1000000000000,)", "'<U0'"))
    with pytest.raises(bounded.TooLargeError, match="takes 16,000,000,000,000 bytes"):
        npz(tmp_path / "a")


def test_npz_that_is_no_file(tmp_path):
    refused(tmp_path, "no zip archive")


def tar_of(path, name, kind, size, packer=gzip.open):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    with packer(path, "wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    return path


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_tar_with_a_header_of_three_gigabytes(kind, tmp_path):
    path = tar_of(tmp_path / "c.tar.gz", "x", kind, 3 << 30)
    with pytest.raises(OSError, match="bytes are to be read at once, at most"):
        cifar10(path)


def test_tar_that_unpacks_to_too_much(tmp_path):
    path = tar_of(tmp_path / "c.tar.gz", "big", tarfile.REGTYPE, 3 << 30)
    with pytest.raises(OSError, match="it unpacks to more than"):
        cifar10(path)


def test_tar_with_a_negative_size_ends(tmp_path):
    raw = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 8 + (-1024 & 0xFFFFFFFF).to_bytes(4, "big")
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw):06o}\0 ".encode()
    (tmp_path / "c.tar").write_bytes(bytes(raw) + bytes(4096))
    with pytest.raises(OSError, match="not a readable tar"):
        cifar10(tmp_path / "c.tar")


@pytest.mark.parametrize("start", [b"BZh9damaged", b"\xfd7zXZ\0damaged", b"\x1f\x8bdamaged", b""])
def test_tar_damaged_at_its_start(start, tmp_path):
    (tmp_path / "c.tar.gz").write_bytes(start + bytes(600))
    with pytest.raises(OSError, match=r"not a readable tar|holds no cifar"):
        cifar10(tmp_path / "c.tar.gz")


def test_pipes_are_no_archives(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="neither a folder nor a file"):
        cifar10(tmp_path / "pipe")
    refused(tmp_path / "pipe", "no zip archive")


def test_tables_and_texts_are_read_up_to_a_bound(tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_bytes(b"abc " * 9999)
    assert len(text(tmp_path / "t.txt", context=8, limit_bytes=1000).train) < 1000
    with pytest.raises(OSError, match="neither a file nor a folder"):
        text("/dev/null")
    monkeypatch.setattr(files, "MOST", 1000)
    (tmp_path / "runs.csv").write_text("width,depth,loss\n" + "8,8,1\n" * 999)
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        files.read_columns(tmp_path / "runs.csv")
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        files.read_columns("/dev/zero")
    with pytest.raises(IsADirectoryError, match="is a folder: give the path of a CSV"):
        files.read_columns(tmp_path)
