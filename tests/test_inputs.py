"""What counts as a number, a function, a sequence: kept in its plain form, or refused by name."""

import functools
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import leadline as ll
from leadline.errors import check_bool, check_choice, check_int, check_list, check_real, shown
from leadline.measure.record import recorded_steps

TRAINABLE = torch.ones(1, requires_grad=True)
PROBLEM = ll.teacher(samples=6, dimension=3)


def forms(value):
    """A number in the forms that arrays and tensors have it."""
    yield value
    yield np.array(value)[()]
    yield np.array(value)
    yield torch.tensor(value)


@pytest.mark.parametrize("form", range(4))
def test_numbers_of_every_library_are_kept_as_pythons_own(form):
    def this(value):
        return list(forms(value))[form]

    sgd = ll.SGD(
        lr=this(0.5),
        steps=this(3),
        batch_size=this(4),
        momentum=this(0.25),
        weight_decay=this(0.0),
        center=this(False),
        schedule=np.array([1.0, 0.5, 0.25]),
    )
    network = ll.ResNet(
        np.str_("relu"), this(1), this(True), this(1.5), this(0.5), np.str_("depth-mup")
    )
    measure = ll.Measure(("movement",), np.array([0.0, 1.0]), np.array([0, -1]), this(2))
    size = dict(width=this(16), depth=this(2), seeds=this(2), seed=this(3), record_every=this(2))
    plain = dict(width=16, depth=2, seeds=2, seed=3, record_every=2)
    for verb, own, how in (
        (ll.solve, dict(tol=this(0.125), memory=this(10**9)), dict(tol=0.125)),
        (ll.train, dict(memory=this(10**9)), {}),
    ):
        made = verb(PROBLEM, network, sgd, measure=measure, **size, **own)
        json.dumps(made.to_json())
        same = verb(
            PROBLEM,
            ll.ResNet("relu", 1, True, 1.5, 0.5, "depth-mup"),
            ll.SGD(0.5, 3, 4, 0.25, weight_decay=0.0, center=False, schedule=(1.0, 0.5, 0.25)),
            measure=ll.Measure(("movement",), (0.0, 1.0), (0, -1), 2),
            **plain,
            **how,
        )
        assert np.array_equal(made.train_outputs, same.train_outputs)
        left = {k: v for k, v in made.info.items() if "seconds" not in k}
        right = {k: v for k, v in same.info.items() if "seconds" not in k}
        assert json.dumps(left) == json.dumps(right)


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), torch.tensor(True), 2.0, "2", b"2", None, [2], np.array([2]), 2j],
)
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match=r"^n=.* is not an integer: give an integer >= 1$"):
        check_int("n", value, 1)


@pytest.mark.parametrize(
    "value", [True, np.bool_(False), "1", b"1", None, [1.0], np.array([1.0]), torch.ones(1), 1j]
)
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"^r=.* is not a number: give a finite number$"):
        check_real("r", value)


@pytest.mark.parametrize(
    ("value", "kept"), [(Fraction(1, 4), 0.25), (1, 1.0), (-0.0, 0.0), (np.float32(0.1), 0.1)]
)
def test_numbers_are_kept(value, kept):
    found = check_real("r", value)
    assert type(found) is float
    assert found == pytest.approx(kept, rel=1e-7)
    assert math.copysign(1, found) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 10**400, np.float64("nan")])
def test_what_is_not_finite(bad):
    with pytest.raises(ValueError, match=r"^r=.*: give a finite number >= 0$"):
        check_real("r", bad, 0.0)


@given(st.floats(0, 1), st.booleans(), st.booleans())
def test_a_range_says_what_it_takes(value, low, high):
    """A number is taken exactly if it is in the range that the refusal of another names."""
    with pytest.raises(ValueError, match="out of range") as refused:
        check_real("r", 2.0, 0.0, 1.0, open_minimum=low, open_maximum=high)
    below, above = str(refused.value).split("finite number ")[1].split(" and ")
    assert below == ("> 0" if low else ">= 0")
    assert above == ("< 1" if high else "<= 1")
    inside = (value > 0 or not low) and (value < 1 or not high)
    try:
        assert check_real("r", value, 0.0, 1.0, open_minimum=low, open_maximum=high) == value
        assert inside
    except ValueError:
        assert not inside


def test_large_integers_are_named_without_their_digits():
    with pytest.raises(ValueError, match=r"^n=<an integer of 33220 bits> is too large"):
        check_int("n", 10**10_000, 1)
    with pytest.raises(ValueError, match=r"^n=9 is too large: give an integer >= 1 and <= 5$"):
        check_int("n", 9, 1, 5)
    assert check_int("n", 2**63 - 1, 1) == 2**63 - 1


def test_sequences_are_counted_before_they_are_kept():
    assert check_list("v", np.arange(3), 5) == [0, 1, 2]
    assert check_list("v", (k for k in (1, 2)), 5) == [1, 2]
    with pytest.raises(ValueError, match="v has more than 5 values"):
        check_list("v", itertools.count(), 5)
    for wrong in (3, "abc", None, np.array(3)):
        with pytest.raises(TypeError, match="is not a sequence"):
            check_list("v", wrong, 5)
    for empty in ((), [], np.zeros(0)):
        with pytest.raises(ValueError, match="is empty"):
            check_list("v", empty, 5)


def test_choices_and_flags():
    assert type(check_choice("c", np.str_("a"), ("a", "b"))) is str
    assert check_bool("b", np.bool_(True)) is True
    for wrong in (1, "True", None):
        with pytest.raises(TypeError, match=r"^b=.* is not a bool: give True or False$"):
            check_bool("b", wrong)
    for wrong in (1, None, ["a"], np.array(["a", "b"]), "x" * 10**6):
        with pytest.raises(ValueError, match=r"^c=.* is unknown") as refused:
            check_choice("c", wrong, ("a", "b"))
        assert len(str(refused.value)) < 200


def test_what_is_shown_is_short_and_on_one_line():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert shown(Odd()) == "<Odd>"
    assert len(shown(np.zeros((100, 100)))) <= 80
    assert "\n" not in shown(np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(lr=1e300, weight_decay=1e30), "lr=1e\\+300 is out of range: .* <= 1e\\+30"),
        (dict(momentum=-0.1), "momentum=-0.1 is out of range: give a finite number >= 0 and < 1"),
        (dict(momentum=1.0), "momentum=1.0 is out of range: give a finite number >= 0 and < 1"),
        (dict(train=1), "train=1 is not a sequence: give one or more of input, hidden, readout"),
        (dict(train=()), r"train=\(\) is empty"),
        (dict(train=["body"]), "train='body' is unknown"),
        (dict(schedule=3), "schedule=3 is not a sequence"),
        (dict(schedule="cosin"), "schedule='cosin'.* did you mean 'cosine'"),
        (dict(schedule=[1.0, math.nan, 1.0], steps=3), "schedule at step 1=nan"),
        (dict(schedule=[1.0], steps=3), "schedule has 1 multipliers, steps=3"),
        (dict(schedule=lambda k: "x"), "schedule at step 0='x' is not a number"),
        (dict(schedule=lambda k: 1 / (9 - k)), "fails at step 9 with ZeroDivisionError"),
        (dict(schedule=lambda k: -1.0), "schedule at step 0=-1.0 is out of range"),
        (dict(steps=1e12), "steps=1000000000000.0 is not an integer"),
    ],
)
def test_a_recipe_is_refused(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ll.SGD(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(steps="all"), "steps='all' is not a sequence"),
        (dict(times=9), "times=9 is not a sequence"),
        (dict(times=()), r"times=\(\) is empty"),
        (dict(times=[1.5]), "times=1.5 is out of range"),
        (dict(steps=[0.5]), "steps=0.5 is not an integer"),
        (dict(quantities=3), "quantities=3 is not a sequence"),
        (dict(quantities=np.int64(3)), "quantities=.*3.* is not a sequence"),
        (dict(quantities=["x"]), "quantities='x' is unknown"),
        (dict(particles=-1), "particles=-1 is too small"),
    ],
)
def test_a_measure_is_refused(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ll.Measure(**wrong)


def test_a_long_recipe_takes_no_time():
    seen = []
    sgd = ll.SGD(steps=10**12, schedule=lambda k: seen.append(k) or 1.0)
    assert len(seen) <= 1000
    assert {0, 10**12 - 1} <= set(seen)
    assert len(sgd.batches(10, 0)) == 10**12
    with pytest.raises(ValueError, match="schedule at step 7"):
        ll.SGD(steps=5, schedule=lambda k: -1.0 if k == 7 else 1.0).multiplier(7)


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_batches_are_those_of_epochs_drawn_in_order(steps, samples, size, seed):
    size = min(size, samples)
    batches = ll.SGD(steps=steps, batch_size=size).batches(samples, seed)
    rng = np.random.default_rng([0x6261746368, seed])
    expected = []
    while len(expected) < steps:
        order = rng.permutation(samples) if size < samples else np.arange(samples)
        expected += [order[k : k + size] for k in range(0, samples, size)]
    expected = expected[:steps]
    assert [b.tolist() for b in batches] == [b.tolist() for b in expected]
    for k in reversed(range(steps)):
        assert np.array_equal(batches[k], expected[k])


@given(st.integers(0, 60), st.integers(1, 70))
def test_recorded_steps(steps, every):
    assert recorded_steps(steps, every).tolist() == sorted({*range(0, steps + 1, every), steps})


def elementwise_but_last(h):
    return h * h.flip(-1)


@pytest.mark.parametrize(
    ("phi", "message"),
    [
        (np.sin, "activation=sin is NumPy's and has no gradient: give torch.sin"),
        (lambda h: np.tanh(h.detach().numpy()), "returns ndarray, not a tensor"),
        (functools.partial(torch.softmax, dim=-1), "is not elementwise"),
        (torch.nn.LayerNorm(7).requires_grad_(False), "is not elementwise"),
        (lambda h: h - h.mean(), "is not elementwise"),
        (elementwise_but_last, "elementwise_but_last is not elementwise"),
        (lambda h: h.sum(-1), "returns the shape"),
        (torch.relu_, "changes its input in place"),
        (torch.nn.PReLU(), "parameters that require a gradient"),
        (torch.nn.ReLU, "is a class"),
        (torch.nn.Dropout(0.5), "gives other values the second time"),
        (lambda h: torch.sin(h.double()), "returns float64 for float32"),
        (lambda h: (h > 0).long(), "returns int64 for float32"),
        (lambda h: torch.tanh(h.float()), "returns float32 for float64"),
        (torch.ones_like, "has no gradient by autograd"),
        (lambda h: torch.tanh(h.detach()), "has no gradient by autograd"),
        (torch.log, "is nan at -"),
        (lambda h: torch.where(h > 0, h.sqrt(), 0 * h), "has the slope nan at -"),
        (lambda h, k: h, "fails on a tensor of float32"),
        (lambda h: (h * TRAINABLE).to(h), "detach it"),
    ],
)
def test_an_activation_is_looked_at_once(phi, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ll.ResNet(phi)


@pytest.mark.parametrize(
    "phi",
    [torch.sin, torch.nn.LeakyReLU(0.25), torch.nn.functional.gelu, torch.sign, lambda h: h,
     lambda h: h**3, torch.exp, lambda h: h.abs().sqrt(), functools.partial(torch.clamp, min=-0.5)],
)  # fmt: skip
def test_elementwise_functions_are_taken(phi):
    state = torch.random.get_rng_state()
    ll.ResNet(phi)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_slope_that_is_nan_is_not_called_divergence():
    """A kink that the probe does not meet: sqrt at exactly 0, where an input is 0."""
    network = ll.ResNet(lambda h: h.abs().sqrt())
    problem = ll.arrays([[0.0, 0.0], [1.0, 2.0]], [0.5, 1.0], standardize=False)
    with pytest.raises(ValueError, match="has the slope nan at 0"):
        ll.solve(problem, network, ll.SGD(steps=2), width=16, depth=1)


@pytest.mark.parametrize("verb", [ll.solve, ll.train])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_that_are_not_finite_are_divergence(verb, center, dtype):
    """Three layers of gain 1e15 on inputs of 1e30; nothing else is raised and nothing is warned of."""
    x = np.array([[1e30, 2e30], [3e30, -1e30]])
    problem = ll.arrays(x, [0.5, 1.0], standardize=False)
    network = ll.ResNet("relu", gain=1e15, block_layers=3)
    done = verb(problem, network, ll.SGD(steps=2, center=center), width=16, depth=1, dtype=dtype)
    (step,) = done.diverged
    assert step >= 0
    assert np.isfinite(done.train_loss[0, :step]).all()
    assert np.isnan(done.train_loss[0, step:]).all()


@pytest.mark.parametrize("verb", [ll.solve, ll.train])
def test_a_rate_that_no_float_holds_is_divergence(verb):
    sgd = ll.SGD(lr=1e30, steps=2, schedule=(1e20, 1.0))
    done = verb(PROBLEM, ll.ResNet(), sgd, width=16, depth=1)
    assert done.diverged.tolist() == [1]


def test_rates_that_no_precision_holds_are_refused():
    """Optimizers would say that a value cannot be converted to their type."""

    build = ll.residual_mlp(4, 1)
    plan = ll.plan(build, base=dict(width=32, depth=2))
    batch = torch.ones(2, 4), torch.ones(2, 1)
    for refused in (
        lambda: plan.param_groups(build(32, 2), lr=1e300),
        lambda: plan.param_groups(build(32, 2), lr=0.1, weight_decay=1e300),
        lambda: ll.check(ll.Task(lambda m, b: m(b[0]).mean(), batch=batch), plan, lr=1e300),
        lambda: ll.sweep(ll.teacher(4, 4), build, widths=[32], depths=[1], lrs=[1e300], steps=1),
    ):
        with pytest.raises(ValueError, match=r"=1e\+300 .*is out of range: give .* <= 1e\+30"):
            refused()


def test_a_long_path_is_cut_in_a_message():
    for load in (ll.Trajectory.load, ll.Plan.load):
        with pytest.raises(OSError, match="path='xxx") as caught:
            load("x" * 10_000)
        assert len(str(caught.value)) < 1000


RUNS = [
    dict(width=w, samples=s, loss=1 + w**-0.5 + s**-0.3 + 0.001 * k)
    for k, (w, s) in enumerate(itertools.product((8, 16, 32, 64), (10, 20, 40, 80)))
]
HOW = dict(seeds=2, rtol=0.9)
SIZE = dict(width=8, depth=1, seeds=1)
TINY = PROBLEM, ll.ResNet(), ll.SGD(steps=1)
WITH_PROGRESS = {
    "solve": lambda p: ll.solve(*TINY, **SIZE, progress=p),
    "train": lambda p: ll.train(*TINY, **SIZE, progress=p),
    "limit": lambda p: ll.limit(*TINY, width=8, depth=2, **HOW, progress=p),
    "compare": lambda p: ll.compare(
        *TINY, sizes=[(8, 1)], couplings="reused", **HOW, seconds=5, progress=p
    ),
    "sweep": lambda p: ll.sweep(
        PROBLEM,
        ll.ResNet(),
        widths=[8],
        depths=[1],
        lrs=[0.1],
        steps=1,
        optimizer="sgd",
        executor="inline",
        progress=p,
    ),
    "forecast": lambda p: ll.forecast(RUNS, draws=50, progress=p),
    "study": lambda p: ll.study(claims=[99], progress=p),
}


@pytest.mark.parametrize("name", WITH_PROGRESS)
def test_progress_is_a_function_or_none(name):
    """False is what other libraries take for none; ``study`` is refused for its claim, after progress."""
    with pytest.raises(TypeError, match=r"progress=True is not a function: give one .* or None"):
        WITH_PROGRESS[name](True)
    if name == "study":
        with pytest.raises(ValueError, match="99"):
            WITH_PROGRESS[name](False)
    else:
        assert WITH_PROGRESS[name](False) is not None
