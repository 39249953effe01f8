"""The estimate of a limit, term by term: what it says against plain loops over sizes, seeds and outputs."""

import math

import numpy as np
import pytest
from scipy import special, stats

from leadline.limits import estimate as estimates
from leadline.limits.estimate import estimate
from leadline.limits.series import Sizes, infer
from leadline.trajectory import Trajectory

GRID = [(128, 4), (256, 4), (128, 8), (512, 16), (256, 16)]
STEPS, SAMPLES, OUTPUTS, RANK = 4, 3, 2, 20


def runs(seed=0, scale=1.0, seeds=(4, 3, 5, 4, 4), grid=GRID):
    """Outputs that move from zero along a series in 1/n and 1/L, with noise."""
    rng = np.random.default_rng(seed)
    start, way = rng.standard_normal((2, SAMPLES, OUTPUTS))
    out = []
    for (n, l), count in zip(grid, seeds, strict=True):
        f = np.zeros((count, STEPS, SAMPLES, OUTPUTS))
        for k in range(STEPS):
            value = start + k * way * (1 + 3 / l - 10 / n)
            f[:, k] = value + scale * (k > 0) / np.sqrt(n) * rng.standard_normal(
                (count, *way.shape)
            )
        info = dict(width=n, depth=l, seeds=count, largest_rank=RANK - (n == 128), seconds=1.0)
        loss = 0.5 * (f**2).sum(-1).mean(-1)
        out.append(
            Trajectory(steps=2 * np.arange(STEPS), train_loss=loss, train_outputs=f, info=info)
        )
    return out


def pooled(variance, n, l, seeds):
    """Variances of means: a size's own, and three seeds' worth of all of them ∝ L^β/n."""
    x = [math.log(v) - np.mean(np.log(l)) for v in l]
    blur = np.mean([special.polygamma(1, (s - 1) / 2) for s in seeds])
    out = []
    for v in variance:
        y = [math.log(a * b) for a, b in zip(v, n, strict=True)]
        beta = sum(a * b for a, b in zip(x, y, strict=True)) / (sum(a * a for a in x) + blur)
        level = np.mean([a * b * math.exp(-beta * c) for a, b, c in zip(v, n, x, strict=True)])
        out.append(
            [
                ((s - 1) * a + 3 * level * math.exp(beta * c) / b) / (s + 2) / s
                for a, b, c, s in zip(v, n, x, seeds, strict=True)
            ]
        )
    return np.array(out)


@pytest.mark.parametrize("kind", ["mse", "cross_entropy"])
@pytest.mark.parametrize("scale", [0.02, 2.0])
def test_every_part_of_a_bar(kind, scale):
    """Noise along the loss's slope, terms left, spread over models, and what is of second order."""
    given = runs(scale=scale)
    y = np.eye(OUTPUTS)[[0, 1, 1]]
    found = estimate(given, "train", kind, y)
    n, l, seeds = (np.array([t.info[k] for t in given], float) for k in ("width", "depth", "seeds"))
    f = [t.train_outputs for t in given]
    means = np.stack([x.mean(0).reshape(STEPS, -1) for x in f], 1)
    noise = pooled(
        np.stack([x.var(0, ddof=1).reshape(STEPS, -1).mean(1) for x in f], 1)[1:], n, l, seeds
    )
    assert found.noise[1:] == pytest.approx(noise, rel=1e-12)
    moved = ((means[:, 3] - means[0, 3]) ** 2).mean(1)
    typical = np.sqrt([max(moved[: k + 1]) for k in range(STEPS)])
    progress = np.array([1, 3, 5, 7]) / 7
    sizes = Sizes(n, l, RANK)
    posterior = infer(sizes, means, found.noise, typical, progress)
    w = posterior.mean_weights
    out = np.array([w[k] @ means[k] for k in range(STEPS)])
    assert found.outputs.reshape(STEPS, -1) == pytest.approx(out, rel=1e-12)
    assert found.sizes.rank == RANK

    for k in range(1, STEPS):
        g = out[k].reshape(SAMPLES, OUTPUTS)
        p = np.exp(g) / np.exp(g).sum(1, keepdims=True)
        slope = ((g - y if kind == "mse" else p - y) / SAMPLES).ravel()
        trace = OUTPUTS if kind == "mse" else (p * (1 - p)).sum() / SAMPLES
        value = 0.5 * ((g - y) ** 2).sum() if kind == "mse" else -(y * np.log(p)).sum()
        assert found.loss[k] == pytest.approx(value / SAMPLES, rel=1e-12)

        def between(values, k=k):
            """Variance over models of the weighted mean of sizes' values (c, M), the mean over M."""
            chance, weights = posterior.probability[:, k], posterior.weights[:, k]
            each = weights @ values
            return (chance @ (each - chance @ each) ** 2).mean()

        along = [x[:, k].reshape(len(x), -1) @ slope for x in f]
        own = np.array([[a.var(ddof=1) for a in along]])
        shares = w[k] ** 2 * pooled(own, n, l, seeds)[0]
        freedom = shares.sum() ** 2 / (shares**2 / (seeds + 2)).sum()
        sampling = shares.sum() * (stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)) ** 2
        width = posterior.width[k] * (slope**2).sum()
        depth = posterior.depth[k] * (slope**2).sum() + between((means[k] @ slope)[:, None])
        uncertain = (
            (w[k] ** 2 * noise[k - 1]).sum()
            + posterior.width[k]
            + posterior.depth[k]
            + between(means[k])
        )
        second = 0.5 * uncertain * trace * (1 + 2 * math.sqrt(2 / (SAMPLES * OUTPUTS)))
        linear = sampling + width + depth
        bar = math.hypot(stats.norm.ppf(0.975) * math.sqrt(linear), second)
        assert found.bar[k] == pytest.approx(bar, rel=1e-9)
        said = {name: v[k] ** 2 for name, v in found.sources.items()}
        expected = {"sampling": sampling, "width": width, "depth": depth}
        assert said == pytest.approx(
            {a: b * bar**2 / linear for a, b in expected.items()}, rel=1e-9
        )


def test_the_three_questions():
    """The p-values of a misfit, of the deepest and of the widest size; the smallest times three."""
    for seed in range(4):
        given = runs(seed)
        seen = estimates._results(given, "train")
        n, l = seen.sizes.n, seen.sizes.l
        posterior = infer(seen.sizes, seen.flat, seen.noise, *seen.scales)
        freedom = 3 + 2 + 4 + 3 + 3
        values = [estimates._p_value(posterior.misfit[1:] / 4, 4, freedom)]
        # Without the deepest, the widest that is left is new at those depths; and the other way round.
        for keep, new in (([0, 1, 2], 3), ([0, 1, 2, 4], 3)):
            known = Sizes(n[keep], l[keep], RANK)
            expected = infer(
                known, seen.flat[:, keep], seen.noise[:, keep], *seen.scales, at=(n[new], l[new])
            )
            w = expected.mean_weights
            ratios = []
            for k in range(1, STEPS):
                y = seen.flat[k, keep]
                each = expected.weights[:, k] @ y
                chance = expected.probability[:, k]
                spread = (chance @ (each - chance @ each) ** 2).mean()
                variance = seen.noise[k, new] + w[k] ** 2 @ seen.noise[k, keep] + spread
                variance += expected.width[k] + expected.depth[k]
                ratios.append(((seen.flat[k, new] - w[k] @ y) ** 2).mean() / variance)
            values.append(estimates._p_value(np.array(ratios), 1, freedom))
        assert estimates.lack_of_fit(seen, posterior) == pytest.approx(
            min(1.0, len(values) * min(values)), rel=1e-6
        )


def test_two_sizes_are_tested_by_their_misfit_alone():
    """Nothing is left to expect the larger from, and one step is a step."""
    for grid in ([(128, 4), (256, 8)], [(128, 4), (256, 4)]):
        given = runs(grid=grid, seeds=(4, 4))
        seen = estimates._results(given, "train")
        posterior = infer(seen.sizes, seen.flat, seen.noise, *seen.scales)
        p = estimates._p_value(posterior.misfit[1:], 1, 6)
        assert estimates.lack_of_fit(seen, posterior) == pytest.approx(p, rel=1e-12)
    only = [
        Trajectory(
            steps=t.steps[:1],
            train_loss=t.train_loss[:, :1],
            train_outputs=0 * t.train_outputs[:, :1],
            info=t.info,
        )
        for t in runs()
    ]
    found = estimate(only, "train", "mse", np.zeros((SAMPLES, OUTPUTS)))
    assert found.p_value == pytest.approx(1.0, abs=1e-9)
    assert (found.loss == 0).all()


def test_large_outputs_have_a_loss():
    """exp(1000) is no number, its logarithm is."""
    f = np.array([[[1000.0, 0.0]]])
    loss, slope, curvature = estimates._loss("cross_entropy", f, np.array([[0.0, 1.0]]))
    assert loss[0] == pytest.approx(1000.0)
    assert slope.ravel() == pytest.approx([1.0, -1.0])
    assert curvature[0] == pytest.approx(0.0, abs=1e-12)
