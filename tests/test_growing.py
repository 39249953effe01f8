"""Rows and tables that grow in place, in memory and in files."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from disks import resident
from leadline.solving.growing import CoefficientTable, Rows

CPU = torch.device("cpu")
F64, F32, BF16 = torch.float64, torch.float32, torch.bfloat16


def rows(n, dtype=F64, **how):
    return Rows(n, dtype, CPU, **how)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 9), st.integers(0, 20))
def test_rows_are_what_was_appended(counts, n, expected):
    kept = rows(n, expected=expected)
    parts = [normal(m, n, seed=i) for i, m in enumerate(counts)]
    for i, part in enumerate(parts):
        kept.append(part)
        so_far = torch.cat(parts[: i + 1])
        assert kept.count == len(so_far)
        assert torch.equal(kept.view, so_far)
        assert torch.equal(kept.stored, so_far)


def test_appending_copies_seldom():
    """A thousand rows one at a time: a new buffer for every doubling, one where they were expected."""
    for expected, most in ((0, 11), (1000, 1), (600, 2)):
        kept, places = rows(3, expected=expected), []
        for _ in range(1000):
            kept.append(torch.ones(1, 3, dtype=F64))
            if not places or places[-1] != kept.stored.data_ptr():
                places.append(kept.stored.data_ptr())
        assert len(places) <= most
        # At least doubled, so that copies are few, and no more, so that addresses are not wasted.
        size = kept.stored.untyped_storage().nbytes() // 24
        assert 1000 <= size <= max(1024, 2 * expected)


def test_a_row_of_a_view_is_no_copy():
    kept = rows(4)
    kept.append(normal(3, 4))
    assert kept.view.data_ptr() == kept.stored.data_ptr()
    assert kept.view.is_contiguous()
    assert kept.rounded(kept.view) is kept.view


def test_rows_with_fewer_digits():
    """They are stored as bfloat16 and read as float32; ``rounded`` says what will be read."""
    kept, given_ = rows(5, F32, storage=BF16), normal(4, 5, dtype=F32)
    coming = kept.rounded(given_)
    kept.append(given_)
    assert (kept.stored.dtype, kept.view.dtype, coming.dtype) == (BF16, F32, F32)
    assert torch.equal(kept.view, coming)
    assert torch.equal(coming, given_.to(BF16).to(F32))
    assert not torch.equal(coming, given_)


@pytest.mark.parametrize("storage", [None, BF16])
def test_rows_return_to_a_mark(storage):
    """What came after it is gone, its memory too, and what comes next is at its place."""
    kept = rows(6, F32, storage=storage)
    kept.append(normal(3, 6, dtype=F32))
    before, size = kept.view.clone(), kept.stored.untyped_storage().nbytes()
    mark = kept.mark()
    kept.append(normal(50, 6, seed=1, dtype=F32))
    assert kept.count == 53
    kept.rollback(mark)
    assert kept.count == 3
    assert torch.equal(kept.view, before)
    assert kept.stored.untyped_storage().nbytes() == size
    kept.append(torch.ones(1, 6))
    assert torch.equal(kept.view, torch.cat([before, torch.ones(1, 6)]))


def test_rows_in_a_file_without_a_name(tmp_path):
    kept, memory = rows(7, spill=str(tmp_path)), rows(7)
    for i in range(5):
        for r in (kept, memory):
            r.append(normal(4, 7, seed=i))
        assert os.listdir(tmp_path) == []
    assert torch.equal(kept.view, memory.view)
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    rows(0, spill=str(tmp_path / "nowhere")).append(torch.zeros(2, 0, dtype=F64))
    with pytest.raises(OSError, match=r"spill=.*nowhere"):
        rows(1, spill=str(tmp_path / "nowhere")).append(torch.zeros(2, 1, dtype=F64))


def test_files_and_devices_grow_by_a_quarter(tmp_path):
    """What is taken there is taken at once, and nothing ahead for rows that are only expected."""
    spilled = rows(2, expected=5000, spill=str(tmp_path))
    elsewhere = Rows(2, F64, torch.device("meta"), expected=5000)
    for kept in (spilled, elsewhere):
        places = set()
        for i in range(1, 400):
            kept.append(torch.ones(1, 2, dtype=F64, device=kept.stored.device))
            size = kept.stored.untyped_storage().nbytes() // 16
            assert i <= size <= max(1.25 * i, 1)
            places.add(size)
        assert len(places) < 40


def test_rows_at_rest_leave_memory(tmp_path):
    spilled, memory = rows(1000, spill=str(tmp_path)), rows(1000)
    for kept in (spilled, memory):
        kept.rest()  # nothing is there yet
        kept.append(normal(300, 1000))
    assert resident(tmp_path) >= 300 * 8000
    for kept in (spilled, memory):
        kept.rest()
    assert resident(tmp_path) < 100_000
    assert torch.equal(spilled.view, memory.view)
    assert torch.equal(memory.view, normal(300, 1000))


def test_a_table_grows_and_new_entries_are_zero():
    table = CoefficientTable(F64, torch.device("cpu"))
    table.view(2, 3)[:] = 1.0
    assert torch.equal(table.view(2, 3), torch.ones(2, 3, dtype=F64))
    wider = table.view(2, 5)
    assert wider.shape == (2, 5)
    assert wider.sum() == 6
    assert wider[:, 3:].abs().sum() == 0
    wider[:, 3:] = 2.0
    taller = table.view(7, 4)
    assert taller.shape == (7, 4)
    assert taller[:2, 3].tolist() == [2.0, 2.0]
    assert taller[2:].abs().sum() == 0
    # A corner is no copy, and is what the whole says.
    table.view(1, 1)[0, 0] = 9.0
    assert table.view(7, 4)[0, 0] == 9.0
    given = normal(3, 2)
    table.replace(given)
    assert torch.equal(table.view(3, 2), given)
    assert torch.equal(table.view(4, 2)[:3], given)


def test_a_table_doubles():
    """A row at a time: a thousand of them are copied a dozen times."""
    for shape in (lambda i: (i, 1), lambda i: (1, i)):
        table, places = CoefficientTable(F64, torch.device("cpu")), set()
        for i in range(1, 1001):
            table.view(*shape(i))
            places.add(table.buffer.data_ptr())
            # At least doubled, so that copies are few, and no more.
            assert i <= table.buffer.numel() < 2 * i
        assert len(places) <= 12
