"""Writing: tried first, whole or not at all; files of bases on disks that are full."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import leadline as ll
from disks import PROBLEM, SGD, Stop, disk, read_only, solve
from leadline.disk import mapped
from leadline.disk.write import (
    SUFFIX,
    attempt,
    check_file,
    check_folder,
    clear,
    write_atomic,
    write_new,
)
from leadline.errors import UnwrittenWarning, WriteError

# Writing


def leftovers(folder):
    return [p for p in folder.rglob("*") if p.name.endswith(SUFFIX)]


def test_a_name_that_cannot_be_written_is_refused_before(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    cases = [
        (tmp_path, IsADirectoryError, "is a folder: give a file"),
        (file / "a", NotADirectoryError, "is below a file"),
        (file / "a" / "b", NotADirectoryError, "is below a file"),
        ("/proc/x.html", WriteError, "cannot be written: No such file"),
        (tmp_path / ("n" * 300), WriteError, "name is too long"),
        (tmp_path / ("n" * 300) / "x", WriteError, "name is too long"),
        (f"{tmp_path}/a\0b", ValueError, "is no path"),
        ("", IsADirectoryError, "is a folder"),
    ]
    for path, kind, words in cases:
        with pytest.raises(kind, match=f"html=.*{words}"):
            check_file("html", path)
        if kind is not IsADirectoryError:
            with pytest.raises(kind, match=f"checkpoint=.*{words}"):
                solve(path)
    folders = [
        (file, NotADirectoryError, "is a file: give a folder"),
        (file / "a", NotADirectoryError, "is below a file"),
        ("/proc/foo", WriteError, "cannot be written: No such file"),
        ("/proc", WriteError, "cannot be written"),
        (tmp_path / ("n" * 300), WriteError, "name is too long"),
        (f"{tmp_path}/a\0b", ValueError, "is no path"),
    ]
    for path, kind, words in folders:
        with pytest.raises(kind, match=f"out=.*{words}"):
            check_folder("out", path)
    for wrong in (5, b"x", None, [tmp_path]):
        for check in (check_file, check_folder, lambda name, path: write_atomic(path, b"", name)):
            with pytest.raises(TypeError, match=r"out=.* is no path: give text or a Path"):
                check("out", wrong)
    with pytest.raises(ValueError, match="checkpoint='/dev/null' is a device or pipe"):
        solve("/dev/null")
    assert check_file("html", tmp_path / "new" / "deep" / "x.html").name == "x.html"
    check_folder("out", tmp_path / "other" / "deep", make=False)
    long = tmp_path / ("ü" * 120)
    assert check_file("html", long) == long
    write_atomic(long, b"1")
    assert sorted(tmp_path.iterdir()) == [file, long]


def test_links_are_followed_and_devices_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    check_file("path", link)
    write_atomic(link, b"after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_file("path", pipe)
    write_atomic(pipe, b"through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(WriteError, match="path='/dev/full' cannot be written: the disk is full"):
        write_atomic("/dev/full", b"x")


def test_full_and_read_only_disks_are_named_with_a_remedy(tmp_path):
    with disk(tmp_path / "disk", "64k") as small:
        target = write_atomic(small / "x", b"before")
        with pytest.raises(WriteError, match=r"path=.*x' .* the disk is full: free space, or") as e:
            write_atomic(target, bytes(100_000))
        assert e.value.errno == 28
        with pytest.warns(UnwrittenWarning, match="the disk is full"):
            assert not attempt(lambda: write_atomic(target, bytes(100_000)))
        assert target.read_bytes() == b"before"
        assert not leftovers(small)
        (small / "ballast").write_bytes(bytes(61_000))
        for check in (check_file, check_folder):
            with pytest.raises(WriteError, match="the disk is full"):
                check("out", small / "new" / "deep")
        (small / "ballast").unlink()
        read_only(small)
        for check in (check_file, check_folder):
            with pytest.raises(WriteError, match="the disk is read-only"):
                check("out", small / "new")
        with pytest.raises(WriteError, match="the disk is read-only"):
            write_atomic(target, b"y")


def test_what_killed_writers_left_goes_and_what_others_write_stays(tmp_path):
    code = (
        "import sys, time\n"
        "from leadline.disk.write import write_atomic\n"
        "def slow(file):\n"
        "    file.write(b'half'); file.flush(); print('now', flush=True); time.sleep(60)\n"
        "write_atomic(sys.argv[1], slow)\n"
    )
    target = tmp_path / "checkpoint.safetensors"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "now\n"
        (part,) = leftovers(tmp_path)
        clear(tmp_path)
        assert part.exists(), "somebody writes it"
        writer.kill()
    assert leftovers(tmp_path) == [part]
    mine = tmp_path / "mine.1234.part"
    mine.write_text("of another program")
    check_file("checkpoint", target)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_checkpoint_that_cannot_be_written_costs_no_result(tmp_path):
    whole = solve(None)
    with disk(tmp_path / "disk", "64k") as small:
        path = small / "c"
        with pytest.raises(Stop):
            solve(path, stop=1)
        (small / "ballast").write_bytes(bytes(40_000))
        with pytest.raises(Stop), pytest.warns(UnwrittenWarning, match="checkpoint=.* is full"):
            solve(path, stop=4, width=256)
        with pytest.warns(UnwrittenWarning, match="checkpoint=.*the disk is full: free space"):
            big = solve(small / "d", width=256)
        assert np.array_equal(big.train_loss, solve(tmp_path / "whole", width=256).train_loss)
        (small / "ballast").unlink()
        read_only(small)
        with pytest.raises(WriteError, match=r"checkpoint=.*read-only"):
            solve(small / "new")
    assert np.isfinite(whole.train_loss).all()


# Files of bases


@pytest.mark.parametrize("kind", ["nameless", "named", "without reservation"])
def test_a_full_disk_of_bases_is_an_error_and_no_signal(kind, tmp_path, monkeypatch):
    def unsupported(*_, **__):
        raise OSError(95, "Operation not supported")

    if kind == "named":
        real = os.open

        def nameless(path, flags, *more, **how):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                unsupported()
            return real(path, flags, *more, **how)

        monkeypatch.setattr(os, "open", nameless)
    if kind == "without reservation":
        monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with disk(tmp_path / "disk", "256k") as small:
        held = mapped.empty(str(small), 20_000, torch.float32, "spill")
        held[:] = 7.0
        assert not list(small.iterdir())
        with pytest.raises(WriteError, match=r"spill=.*the disk is full: .*400,000 bytes"):
            mapped.empty(str(small), 100_000, torch.float32, "spill")
        assert (held == 7.0).all()
        assert not list(small.iterdir())
        with pytest.raises(WriteError, match=r"spill=.*the disk is full"):
            ll.solve(PROBLEM, ll.ResNet(), SGD, width=2048, depth=4, spill=small)


def test_bases_in_files_are_those_in_memory_on_a_disk_without_reservations(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    how = dict(width=300, depth=2)
    spilled = ll.solve(PROBLEM, ll.ResNet(), SGD, spill=tmp_path, **how)
    assert np.array_equal(spilled.train_loss, ll.solve(PROBLEM, ll.ResNet(), SGD, **how).train_loss)


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_replaces_none(tmp_path, monkeypatch, links):
    if not links:  # as disks of other systems have none

        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "f"
    assert write_new(path, b"one")
    assert not write_new(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
