"""The data of a study."""

import struct

import numpy as np
import pytest

from leadline.claims import sources
from leadline.problems import digits, mnist


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images of 4 × 4 in ten classes, of which 5 and 7 lie closest."""
    monkeypatch.setattr(sources, "_LOOK", 100)
    rng = np.random.default_rng(0)
    means = rng.integers(0, 200, (10, 4, 4))
    means[7] = means[5] + rng.integers(0, 20, (4, 4))
    for part, count in (("train", 100), ("t10k", 40)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = (means[labels] + rng.integers(0, 9, (count, 4, 4))).astype(np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(head + values.tobytes())
    return tmp_path


def test_images_of_all_classes_and_of_the_two_closest(folder):
    everything = sources.source_problem(f"mnist:{folder}", False, 20, 10, "cross_entropy")
    assert everything == mnist(folder, samples=20, test_samples=10, loss="cross_entropy")
    pair = sources.source_problem(f"mnist:{folder}", True, 8, 0, "mse")
    assert pair == mnist(folder, (5, 7), samples=8, test_samples=0)
    assert pair.outputs == 1


def test_options_of_a_source_reach_the_images(folder):
    source = sources.check_source(f"mnist:{folder}?side=2,center=false")
    made = sources.source_problem(source, False, 20, 0, "mse")
    assert made == mnist(folder, samples=20, test_samples=0, side=2, center=False)
    # A mark at the end of a path that holds one.
    renamed = folder.rename(folder.parent / "what?")
    assert sources.source_problem(f"mnist:{renamed}?", False, 20, 0, "mse").samples == 20


def test_a_seed_draws_other_samples(folder):
    first, second = (
        sources.source_problem(f"mnist:{folder}", False, 20, 0, "mse", seed) for seed in (0, 1)
    )
    assert first != second
    assert second == mnist(folder, samples=20, test_samples=0, seed=1)
    assert sources.source_problem("digits", True, 8, 4, "mse") == digits((3, 8), 8, 4)
