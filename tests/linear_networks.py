"""Linear networks (φ = identity, one-layer blocks) of infinite width and any depth, without noise.

At infinite width every fresh noise is orthogonal to all that came before. So the neurons of a layer are a
combination of independent Gaussian directions, one more for every new question, and inner products over
neurons are inner products of coefficients: the revealed operator, with unit vectors for its noise.
Independent of the package's own operator.
"""

import math

import numpy as np


class Space:
    """Independent directions, numbered as they are needed."""

    def __init__(self, size):
        self.size, self.used = size, 0

    def fresh(self):
        e = np.zeros(self.size)
        e[self.used] = 1.0
        self.used += 1
        return e


class Layer:
    """W/√n of one block: what it answered, and what it has learned (c_i z_i p_iᵀ)."""

    def __init__(self, space, reused):
        self.space, self.reused = space, reused
        self.forward_pairs, self.transposed_pairs = ([], []), ([], [])
        self.z, self.p, self.c, self.buffer = [], [], [], []

    def ask(self, u, pairs, others):
        (q, m), (r, y) = pairs, others
        out = np.zeros_like(u)
        for i, x in enumerate(u):
            rest = x.copy()
            for _ in range(2):
                for e in q:
                    rest = rest - (e @ rest) * e
            norm = np.linalg.norm(rest)
            if norm > 1e-9 * np.linalg.norm(x):
                e = rest / norm
                answer = self.space.fresh()
                if self.reused:
                    answer = answer + sum((b @ e) * a for a, b in zip(r, y, strict=True))
                q.append(e)
                m.append(answer)
            out[i] = sum((e @ x) * a for e, a in zip(q, m, strict=True))
        return out

    def forward(self, u):
        out = self.ask(u, self.forward_pairs, self.transposed_pairs)
        return out + sum(
            c * np.outer(u @ p, z) for c, p, z in zip(self.c, self.p, self.z, strict=True)
        )

    def backward(self, g):
        out = self.ask(g, self.transposed_pairs, self.forward_pairs)
        return out + sum(
            c * np.outer(g @ z, p) for c, p, z in zip(self.c, self.p, self.z, strict=True)
        )

    def learn(self, z, p, gradient, lr, momentum):
        self.z += list(z)
        self.p += list(p)
        self.buffer = [momentum * b for b in self.buffer] + [gradient] * len(z)
        self.c = [c - lr * b for c, b in zip(self.c + [0.0] * len(z), self.buffer, strict=True)]


def train(problem, network, sgd, depth, coupling):
    """Outputs (K+1, P, C) under mse, full batch, all weights learning."""
    x, y = problem.x, problem.y
    samples, d = x.shape
    space = Space(d + y.shape[1] + depth * samples * (2 * sgd.steps + 1))
    u = np.array([space.fresh() for _ in range(d)])
    v = np.array([space.fresh() for _ in range(y.shape[1])])
    layers = [Layer(space, coupling == "reused") for _ in range(depth)]
    a = math.sqrt(network.horizon / depth)
    buffer_u, buffer_v, out = 0.0, 0.0, []
    for step in range(sgd.steps + 1):
        h, features = x @ u / math.sqrt(d), []
        for layer in layers:
            features.append(h)
            h = h + a * layer.forward(h)
        out.append(h @ v.T)
        if step == sgd.steps:
            break
        chi = out[-1] - y
        g = chi @ v
        for layer, below in zip(layers[::-1], features[::-1], strict=True):
            above = g
            g = g + a * layer.backward(g)
            layer.learn(above, below, a / samples, sgd.lr, sgd.momentum)
        buffer_v = sgd.momentum * buffer_v + chi.T @ h / samples
        buffer_u = sgd.momentum * buffer_u + x.T @ g / math.sqrt(d) / samples
        u, v = u - sgd.lr * buffer_u, v - sgd.lr * buffer_v
    return np.array(out)


def limit(outputs):
    """The limit of outputs at depths L, 2L, 4L, …, by a polynomial in 1/L through all, and its change
    without the smallest depth."""

    def through(depths):
        design = np.array([[l**-q for q in range(len(depths))] for l in map(float, depths)])
        return np.tensordot(np.linalg.inv(design)[0], [outputs[l] for l in depths], 1)

    depths = sorted(outputs)
    best = through(depths)
    return best, np.abs(best - through(depths[1:]))
