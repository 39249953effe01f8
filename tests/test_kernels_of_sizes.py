"""Kernels and movement extrapolated from sizes: planted series, kernels that are known, what is refused."""

import json

import numpy as np
import pytest

import leadline as ll
from leadline.limits.kernels_of_sizes import extrapolated
from leadline.trajectory import Trajectory

X = np.array([[1.0, 0.5], [-0.3, 1.2], [0.7, -0.9]])
PROBLEM = ll.arrays(X, [1.0, -0.5, 0.3], standardize=False)
SIZES = [(256, 8), (512, 8), (1024, 8), (256, 16), (256, 32), (512, 32)]
K = np.array([[[1.0, 0.3], [0.3, 1.4]], [[1.5, 0.5], [0.5, 2.0]]])


def planted(seed=0, seeds=4, noise=0.05, series=lambda n, l: 1 + 0.5 / l + 2.0 / n, sizes=SIZES):
    """Runs whose kernel (S, 1, 2, 2, 2) is K times a series, with noise ∝ 1/√n that entries differ in."""
    rng = np.random.default_rng(seed)
    for n, l in sizes:
        g = rng.standard_normal((seeds, 1, 2, 2, 2)) * noise * 16 / np.sqrt(n)
        g = (g + g.swapaxes(-1, -2)) / 2 * K / K.max()
        info = dict(width=n, depth=l, seeds=seeds, largest_rank=16)
        kernel = K * series(n, l) + g
        steps = np.arange(1)
        yield Trajectory(
            steps=steps,
            train_loss=np.ones((seeds, 1)),
            info=info,
            measures={"feature_kernel": kernel, "movement": np.diagonal(kernel, 0, -2, -1)},
        )


@pytest.mark.parametrize("name", ["feature_kernel", "movement"])
def test_a_planted_series_is_met_within_its_bars(name):
    """95 % of entries, over draws; and the bars are no wider than the noise needs."""
    exact = K[None] if name == "feature_kernel" else np.diagonal(K[None], 0, -2, -1)
    inside, bars = [], []
    for seed in range(12):
        value, error, p = extrapolated(list(planted(seed)), name, np.ones(1))
        assert value.shape == exact.shape
        assert p > 0.001
        inside.append(abs(value - exact) <= error)
        bars.append(error / exact)
    assert np.mean(inside) >= 0.9
    assert np.mean(bars) < 0.12
    assert np.mean(bars) > 0.005


def test_more_noise_wider_bars_and_none_the_exact_kernel():
    rough, fine, exact = (
        extrapolated(list(planted(noise=x)), "feature_kernel", np.ones(1)) for x in (0.3, 0.03, 0.0)
    )
    assert (rough[1] > 2 * fine[1]).all()
    assert np.allclose(exact[0][0], K, rtol=2e-2)
    assert (abs(exact[0][0] - K) <= exact[1][0]).all()


def test_sizes_that_follow_no_series_are_told():
    """A kernel that grows with depth for ever."""
    runs = list(planted(noise=0.005, series=lambda n, l: 1.0 + 3 * (n == 1024)))
    assert extrapolated(runs, "feature_kernel", np.ones(1))[2] < 0.01


def test_over_width_alone():
    sizes = [(256, 4), (512, 4), (1024, 4)]
    inside = []
    for seed in range(8):
        runs = list(planted(seed, sizes=sizes, noise=0.01))
        value, error, _ = extrapolated(runs, "feature_kernel", np.ones(1), deepen=False)
        inside.append(abs(value - K * (1 + 0.5 / 4)) <= error)
        assert (error < 0.2).all()
    assert np.mean(inside) >= 0.9


def test_initial_kernels_are_met():
    """At step 0 the limit is known: K_t and G_t at infinite depth."""
    quantities = ("feature_kernel", "gradient_kernel", "tangent_kernel", "movement")
    m = ll.Measure(quantities=quantities, times=(0.5, 1.0), steps=(0, -1))
    net, sgd = ll.ResNet("tanh"), ll.SGD(lr=0.1, steps=1)
    r = ll.limit(PROBLEM, net, sgd, rtol=0.3, width=64, depth=4, measure=m)
    known, seen = ll.initial_kernels(PROBLEM, net, times=m.times), r.measures
    pairs = {"feature_kernel": known.feature_path, "gradient_kernel": known.gradient_path}
    pairs |= {f"tangent_{k}": getattr(known, f"tangent_{k}") for k in ("hidden", "readout")}
    for name, exact in pairs.items():
        value, error = seen.values[name][0], seen.errors[name][0]
        assert value.shape == exact.shape
        assert (abs(value - exact) <= 2 * error).all(), name
        assert error.max() < 0.4 * abs(exact).max()
    assert (seen.values["movement"][0] == 0).all()
    assert (seen.values["movement"][1] > 0.01).all()
    assert not seen.undecided
    assert "feature_kernel ± " in repr(r)
    out = json.loads(json.dumps(r.to_json()))["measures"]
    assert np.allclose(out["values"]["feature_kernel"], seen.values["feature_kernel"])


def test_what_cannot_be_followed_is_refused():
    def refused(message, verb_build=None, **how):
        build = verb_build or ll.ResNet()
        with pytest.raises(ValueError, match=message):
            ll.limit(PROBLEM, build, ll.SGD(lr=0.1, steps=1), depth=4, **how)

    refused("times=0.3 is no layer at depth=4.*give 0.25", measure=ll.Measure(times=(0.3,)))
    refused("particles=2 have no limit", measure=ll.Measure(particles=2))
    build = ll.residual_mlp(2, 1)
    names = [n for n, _ in build(8, 2).named_modules() if n]
    block = next(n for n in names if any(c.isdigit() for c in n))
    pattern = "".join("*" if c.isdigit() else c for c in block)
    how = dict(base=dict(width=32, depth=2), measure=ll.Measure(modules=(pattern,)))
    refused(f"has '{block[0]}.* at one of depth=4 and 8 alone", build, **how)
