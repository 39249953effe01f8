"""Runs of a law with planted parameters, as the forecast's regression sees them."""

import numpy as np

from leadline.forecasting.estimate import Data, prepare
from leadline.forecasting.law import Law, Term
from leadline.forecasting.reading import read_runs as read

# Of sizes that do not vary: its one parameter is the mean of log losses.
CONSTANT = Law((Term("width", 1.0),), floor=False)
ONE = Law((Term("width", 1.0),))
FREE = Law((Term("width"),))
TWO = Law((Term("width"), Term("depth", 1.0)))


def theta_of(e, *rest):
    """Parameters: E, and the logarithms of the others."""
    return np.array([e, *np.log(rest)])


def sizes(widths=(32, 64, 128, 256), depths=(2, 4, 8)):
    grid = np.array([(n, l) for n in widths for l in depths], float)
    return {"width": grid[:, 0], "depth": grid[:, 1]}


def rows(law, theta, noise_=0.0, seeds=1, **grid):
    """Runs of a law at parameters theta, sizes over the smallest."""
    at, r = sizes(**grid), np.random.default_rng(0)
    logs = np.stack([np.log(at[a] / at[a].min()) for a in law.axes], 1) if law.axes else None
    values = law.value(theta, np.zeros((len(at["width"]), 0)) if logs is None else logs)[0]
    return read(
        [
            dict(width=n, depth=l, seed=s, loss=v * np.exp(noise_ * r.standard_normal()))
            for n, l, v in zip(at["width"], at["depth"], values, strict=True)
            for s in range(seeds)
        ]
    )


def problem(law, theta, **how):
    data = prepare(rows(law, theta, **how), np.ones(0))
    data = Data(data.runs, np.linspace(0.5, 1.5, len(data.runs)), 1e3, data.origin)
    return data, data.logs(law)
