"""What a sweep says of itself while it runs."""

import pytest

from leadline.executors import base as executors
from leadline.executors import processes
from leadline.sweeps.driver import sweep
from sweep_models import Model


def watched(digits, executor, **how):
    """A sweep's reports, and what it did."""
    seen = []
    settings = dict(widths=[16], depths=[2], lrs=[1e-3, 2e-3], workers=1, executor=executor)
    done = sweep(digits, Model, progress=lambda **kw: seen.append(kw), **settings | how)
    return seen, done


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_progress_moves_within_a_program(digits, executor, monkeypatch):
    monkeypatch.setattr(executors, "EVERY", 0.0)
    monkeypatch.setattr(processes, "EVERY", 0.001)
    seen, done = watched(digits, executor, steps=1000)
    assert done.fresh == 2
    within = [r for r in seen if r["runs"] == (0, 2) and 0 < r["step"] < 2000]
    assert len(within) >= 10
    assert all(r["share"] == pytest.approx(r["step"] / 2000) for r in within)
    steps = [r["step"] for r in seen]
    assert steps == sorted(steps)
    assert (seen[-1]["step"], seen[-1]["runs"], seen[-1]["share"]) == (2000, (2, 2), 1.0)
    assert seen[-1]["loss"] == min(r["loss"] for r in done.rows)


def test_progress_counts_what_is_stored_and_weighs_sizes(digits, tmp_path):
    how = dict(store=tmp_path / "s", steps=5)
    watched(digits, "inline", **how)
    seen, _ = watched(digits, "inline", widths=[16, 32, 64], **how)
    assert {r["steps"] for r in seen} == {20}
    after = [r for r in seen if r["runs"][0] > 2]
    # The largest size goes first and is more than half of the work.
    assert [(r["step"], r["runs"]) for r in after] == [(10, (4, 6)), (20, (6, 6))]
    assert 0.5 < after[0]["share"] < 1


def test_progress_is_told_once_a_second(digits):
    seen, done = watched(digits, "inline", steps=200)
    # And at the end of the program.
    assert 2 <= len(seen) <= 2 + done.seconds


def test_what_progress_raises_is_no_failed_run(digits):
    def progress(**_):
        raise ValueError("seen enough")

    how = dict(widths=[16], depths=[2], lrs=[1e-3], steps=3, executor="inline")
    with pytest.raises(ValueError, match="seen enough"):
        sweep(digits, Model, progress=progress, **how)


class Failing(Model):
    """Can be planned with any size, and trained where it is narrow."""

    def forward(self, x):
        if self.embed.out_features > 16 and len(x) == 32:
            raise RuntimeError("too wide")
        return super().forward(x)


def test_runs_that_fail_are_counted_as_such(digits):
    seen = []
    how = dict(widths=[16, 32], depths=[2], lrs=[1e-3, 2e-3], steps=3, executor="inline")
    done = sweep(digits, Failing, progress=lambda **kw: seen.append(kw), **how)
    assert (done.fresh, len(done.rows), len(done.failed)) == (2, 2, 1)
    assert "too wide" in done.failed[0]
    assert seen[-1]["runs"] == (4, 4)
