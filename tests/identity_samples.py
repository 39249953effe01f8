"""Functions and what they are: pairs that differ somewhere, and values that cannot be told."""

import functools
import operator
import sys

import numpy as np
import torch
from torch import nn

SCALE = 2.0
TABLE = {"k": [1.0, 2.0]}


def helper(h):
    return SCALE * h


def calls(h):
    return helper(h)


def uses_table(h):
    return TABLE["k"][0] * h


def with_scale(value):
    """``calls`` as it is where the global that its helper reads has another value."""
    space = dict(globals(), SCALE=value)
    inner = type(helper)(helper.__code__, space)
    space["helper"] = inner
    return type(calls)(calls.__code__, space)


def closed(k):
    return lambda h: k * h


def default(k):
    def f(h, k=k):
        return k * h

    return f


def keyword(k):
    def f(h, *, k=k):
        return k * h

    return f


def deep(k):
    def outer(h):
        def inner(x):
            return closed(k)(x)

        return inner(h)

    return outer


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


class Scaled:
    def __init__(self, k):
        self.k = k

    def __call__(self, h):
        return self.k * h

    def method(self, h):
        return self.k + h


class Slotted:
    __slots__ = ("__k",)

    def __init__(self, k):
        self.__k = k

    def __call__(self, h):
        return self.__k * h


class Own(nn.Module):
    def __init__(self, k, plain):
        super().__init__()
        self.weight, self.plain = nn.Parameter(torch.tensor(k)), plain
        self.register_buffer("b", torch.arange(3), persistent=False)

    def forward(self, h):
        return self.weight * h


class Other(Own):
    def forward(self, h):
        return self.weight + h


def hooked(k):
    module = nn.Identity()
    module.register_forward_hook(lambda m, a, out: k * out)
    return module


def weighted(gain):
    module = nn.Linear(2, 2)
    nn.init.constant_(module.weight, gain)
    nn.init.zeros_(module.bias)
    return module


def attribute(k):
    def f(h):
        return f.k * h

    f.k = k
    return f


def same():
    """Every name once, the same in every process."""
    return {
        "lambda": lambda h: torch.sin(3 * h),
        "sets": lambda h: h if "a" in {"a", "b", "c", "d"} else -h,
        "recursive": even,
        "global": calls,
        "partial": functools.partial(nn.functional.leaky_relu, negative_slope=0.1),
        "module": nn.Sequential(nn.LeakyReLU(0.1), weighted(0.5)),
        "object": Scaled({"a": np.arange(3), "b": {1, 2, 3}, "c": {"x", "y"}}),
        "class": Own,
        "bound": Scaled(2).method,
        "library": torch.special.expit,
        "reduced": operator.itemgetter(1, "a"),
        "compiled": torch.compile(helper, backend="eager"),
        "import": imports_inside,
        "hooks": hooked(2),
    }


def imports_inside(h):
    import math

    from sweep_models import square

    return square(h) * math.pi


DIFFERENT = {
    "code": (lambda h: h, lambda h: torch.sin(3 * h)),
    "constant": (lambda h: torch.sin(3 * h), lambda h: torch.sin(4 * h)),
    "type of a constant": (lambda h: h * 1, lambda h: h * 1.0),
    "sign of zero": (lambda h: h + 0.0, lambda h: h + -0.0),
    "nested constant": (lambda h: (lambda x: 2 * x)(h), lambda h: (lambda x: 3 * x)(h)),
    "attribute": (lambda h: torch.sin(h), lambda h: torch.cos(h)),
    "module looked up": (lambda h: np.sin(h), lambda h: torch.sin(h)),
    "global": (with_scale(2.0), with_scale(3.0)),
    "closure": (closed(0.1), closed(0.2)),
    "deep closure": (deep(0.1), deep(0.2)),
    "default": (default(1), default(2)),
    "keyword default": (keyword(1), keyword(2)),
    "attribute of a function": (attribute(1), attribute(2)),
    "partial": (functools.partial(closed, 1), functools.partial(closed, 2)),
    "partial keyword": (
        functools.partial(nn.functional.leaky_relu, negative_slope=0.1),
        functools.partial(nn.functional.leaky_relu, negative_slope=0.9),
    ),
    "object": (Scaled(1), Scaled(2)),
    "slot": (Slotted(1), Slotted(2)),
    "bound object": (Scaled(1).method, Scaled(2).method),
    "bound method": (Scaled(1).method, Scaled(1).__call__),
    "array": (closed(np.arange(3)), closed(np.arange(3.0))),
    "shape": (closed(torch.zeros(2, 3)), closed(torch.zeros(3, 2))),
    "tensor": (closed(torch.ones(3)), closed(torch.tensor([1.0, 1.0, 1.0000001]))),
    "slope": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.9)),
    "kind of module": (nn.ReLU(), nn.SiLU()),
    "weights": (weighted(0.5), weighted(0.25)),
    "plain attribute": (Own(1.0, "a"), Own(1.0, "b")),
    "parameter": (Own(1.0, "a"), Own(2.0, "a")),
    "forward": (Own(1.0, "a"), Other(1.0, "a")),
    "hook": (hooked(1), hooked(2)),
    "training": (nn.Dropout(0.1), nn.Dropout(0.1).eval()),
    "inner module": (nn.Sequential(nn.ELU(1.0)), nn.Sequential(nn.ELU(2.0))),
    "library function": (torch.relu, torch.tanh),
    "table": ([1.0, 2.0].__getitem__, [1.0, 3.0].__getitem__),
    "getter": (operator.itemgetter(1), operator.itemgetter(2)),
    "compiled": (
        torch.compile(closed(1), backend="eager"),
        torch.compile(closed(2), backend="eager"),
    ),
    "class": (Own, Other),
}


def counts():
    n = 0

    def f(h):
        nonlocal n
        n += 1
        return n * h

    return f


def sets_global(h):
    global SCALE
    SCALE = 3.0
    return h


def random_closure():
    rng = np.random.default_rng(0)
    return lambda h: rng.normal() * h


def generator_closure():
    numbers = (x for x in (1, 2, 3))
    return lambda h: next(numbers) * h


def file_closure():
    f = sys.stdin
    return lambda h: f.read()


UNKNOWN = {
    "a counter": (counts, "sets the variable 'n' outside of itself"),
    "a global that is set": (lambda: sets_global, "sets the variable 'SCALE'"),
    "a random generator": (random_closure, "Generator.* is a random generator"),
    "torch's generator": (lambda: closed(torch.Generator()), "is a random generator"),
    "a generator": (generator_closure, "generator.* is changed by every look"),
    "an open file": (file_closure, "is changed by every look at it|without plain state"),
    "text that is run": (lambda: lambda h: eval("SCALE * h"), r"calls eval\(\)"),
    "compiled code": (lambda: np.frompyfunc(helper, 1, 1), "compiled code"),
    "a lock": (lambda: closed(__import__("threading").Lock()), "without plain state"),
    "no numbers": (lambda: closed(torch.empty(2, device="meta")), "without plain numbers"),
}
