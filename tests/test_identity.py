"""What identifies a run is what its functions do."""

import copy
import functools
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import identity_samples as samples
import leadline as ll
from identity_samples import DIFFERENT, UNKNOWN
from leadline.identity.digest import identify
from leadline.identity.names import told
from leadline.identity.plain import Unidentified
from leadline.sweeps.driver import sweep
from sweep_models import Model

HERE = Path(__file__).parent


@pytest.mark.parametrize("where", DIFFERENT)
def test_functions_that_differ_anywhere_are_different(where):
    a, b = DIFFERENT[where]
    assert identify(a) != identify(b)


def test_the_same_functions_are_the_same_in_every_process():
    code = "import identity_samples as s; from leadline.identity.names import told\n"
    code += "print({k: told(v) for k, v in s.same().items()})"
    expected = {k: told(v) for k, v in samples.same().items()}
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=env,
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(expected)


def test_a_function_stays_the_same_where_it_is_moved_written_again_or_called(tmp_path):
    source = (HERE / "identity_samples.py").read_text()
    moved = tmp_path / "moved_samples.py"
    moved.write_text("# Lines and names of files are no part of it.\n\n\n" + source)
    spec = importlib.util.spec_from_file_location("moved_samples", moved)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = module.same()
    for name, f in samples.same().items():
        assert told(f) == told(again[name]), name
    f = samples.closed(3)
    before = identify(f)
    for _ in range(2000):  # compiled anew by the interpreter, where it does that
        f(1.0)
    assert identify(f) == before


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
        | st.binary(max_size=3),
        lambda x: st.lists(x, max_size=3) | st.tuples(x) | st.dictionaries(st.text(max_size=2), x),
        max_leaves=6,
    ),
    st.data(),
)  # fmt: skip
def test_constants_are_the_same_where_they_print_the_same(value, data):
    other = data.draw(st.just(copy.deepcopy(value)) | st.lists(st.integers(), max_size=2))
    assert (identify(samples.closed(value)) == identify(samples.closed(other))) is (
        repr(value) == repr(other)
    )


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_has_no_plain_state_is_refused(what):
    make, why = UNKNOWN[what]
    with pytest.raises(Unidentified, match=why):
        identify(make())


def test_names_for_people():
    assert told(lambda h: h).startswith("lambda#")
    assert told(nn.LeakyReLU(0.1)).startswith("LeakyReLU#")
    assert told(functools.partial(torch.clamp, min=0)).startswith("partial(clamp)#")
    assert told(ll.named("wave", torch.sin)) == "named:wave"


def test_a_name_stands_for_the_function():
    wave = ll.named("wave-1", samples.random_closure())
    assert identify(wave) == identify(ll.named("wave-1", torch.cos))
    assert identify(wave) != identify(ll.named("wave-2", torch.cos))
    # As a part of something else too, and never what a built-in name stands for.
    assert identify(samples.closed(wave)) == identify(samples.closed(ll.named("wave-1", len)))
    assert told(ll.named("tanh", torch.cos)) != "tanh"
    there = pickle.loads(pickle.dumps(ll.named("wave", torch.sin)))
    assert (there.name, there(torch.zeros(1))) == ("wave", torch.zeros(1))


@pytest.mark.parametrize(
    ("name", "function", "error", "message"),
    [
        ("", len, ValueError, "name='' is empty"),
        (3, len, TypeError, "name=3 is not a text"),
        ("x", 3, TypeError, "function=3 cannot be called"),
    ],
)
def test_bad_names(name, function, error, message):
    with pytest.raises(error, match=message):
        ll.named(name, function)


PROBLEM = ll.arrays([[-0.3, 0.4]], [1.8], standardize=False)
SIZE = dict(width=32, depth=2, seed=1)


def solved(path, activation="tanh", schedule=None, **how):
    sgd = ll.SGD(lr=0.1, steps=3, schedule=schedule)
    return ll.solve(PROBLEM, ll.ResNet(activation), sgd, **SIZE, checkpoint=path, **how)


PAIRS = {
    "functions": (lambda h: 1.0 * h, lambda h: torch.sin(3 * h)),
    "closures": (samples.closed(0.5), samples.closed(0.25)),
    "slopes": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.9)),
    "partials": DIFFERENT["partial keyword"],
    "names": (ll.named("a", torch.sin), ll.named("b", torch.sin)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_a_checkpoint_does_not_answer_for_another_activation(pair, tmp_path):
    path = tmp_path / "c"
    first = solved(path, PAIRS[pair][0])
    assert "#" in first.info["network"]["activation"] or pair == "names"
    again = solved(path, PAIRS[pair][0])
    assert (again.train_loss == first.train_loss).all()
    with pytest.raises(ll.CheckpointError, match=r"another computation.*activation"):
        solved(path, PAIRS[pair][1])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda k: 1.0, lambda k: 0.5),
        (functools.partial(pow, 0.9), functools.partial(pow, 0.8)),
        ([1.0, 0.9, 0.8], [1.0, 0.9, 0.7]),
        (lambda k: 1.0 if k < 2 else 0.1, lambda k: 1.0),
    ],
)
def test_a_checkpoint_does_not_answer_for_another_schedule(a, b, tmp_path):
    path = tmp_path / "c"
    first = solved(path, schedule=a)
    assert (solved(path, schedule=a).train_loss == first.train_loss).all()
    with pytest.raises(ll.CheckpointError, match=r"another computation.*schedule"):
        solved(path, schedule=b)


def test_what_cannot_be_told_is_refused_with_a_checkpoint_alone(tmp_path):
    path = tmp_path / "c"
    state = {"calls": 0}
    unknown = samples.closed(1.0)
    unknown.__dict__["lock"] = __import__("threading").Lock()
    with pytest.raises(TypeError, match=r"activation=lambda cannot be told.*leadline\.named"):
        solved(path, unknown)
    assert not path.exists()
    free = solved(None, unknown)
    named = solved(path, ll.named("mine", unknown))
    assert (free.train_loss == named.train_loss).all()
    assert (solved(path, ll.named("mine", unknown)).train_loss == named.train_loss).all()

    def moody(k):
        state["calls"] += 1
        return 1.0 / state["calls"]

    with pytest.raises(TypeError, match=r"schedule=moody gives other multipliers"):
        solved(tmp_path / "d", schedule=moody)
    assert solved(None, schedule=moody).train_loss.shape == (1, 4)
    assert solved(tmp_path / "d", schedule=ll.named("mood", moody)).train_loss.shape == (1, 4)


def test_no_checkpoint_is_left_that_nothing_could_resume(tmp_path, monkeypatch):
    from leadline.solving import memory

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory.Meter, "fits_another_step", lambda self: False)
    unknown = samples.closed(1.0)
    unknown.__dict__["lock"] = __import__("threading").Lock()
    with pytest.raises(ll.MemoryBudgetError, match="start again with a larger memory"):
        solved(None, unknown)
    assert not list(tmp_path.iterdir())


class Scaled(Model):
    """The gain is a function's."""

    def __init__(self, width, depth, gain=1.0, phi=torch.relu):
        super().__init__(width, depth, gain)
        self.phi = phi

    def forward(self, x):
        return self.phi(super().forward(x))


def builder(phi):
    return lambda width, depth: Scaled(width, depth, phi=phi)


HOW = dict(widths=[16], depths=[2], lrs=[1e-3], steps=2, executor="inline")


def test_a_store_does_not_answer_for_another_builder(digits, tmp_path):
    how = HOW | dict(store=tmp_path / "s")
    first = sweep(digits, builder(torch.tanh), **how)
    assert sweep(digits, builder(torch.tanh), **how).fresh == 0
    other = sweep(digits, builder(nn.LeakyReLU(0.1)), **how)
    assert other.fresh == sweep(digits, builder(nn.LeakyReLU(0.9)), **how).fresh == 1
    assert other.rows[0]["loss"] != first.rows[0]["loss"]
    # The roles that a plan is told are a part of it.
    assert sweep(digits, builder(torch.tanh), roles={"readout*": "readout"}, **how).fresh == 1
    named = ll.named("tanh", builder(torch.tanh))
    assert [sweep(digits, named, **how).fresh for _ in range(2)] == [1, 0]


def test_arguments_of_a_builder_may_be_functions(digits, tmp_path):
    how = HOW | dict(store=tmp_path / "s")
    done = sweep(digits, Scaled, arguments={"phi": [torch.tanh, nn.LeakyReLU(0.1)]}, **how)
    assert [r["arguments"]["phi"].partition("#")[0] for r in done.rows] == ["tanh", "LeakyReLU"]
    assert done.rows[0]["loss"] != done.rows[1]["loss"]
    assert sweep(digits, Scaled, arguments={"phi": [nn.LeakyReLU(0.1)]}, **how).fresh == 0
    assert sweep(digits, Scaled, arguments={"phi": [nn.LeakyReLU(0.2)]}, **how).fresh == 1


def test_models_that_share_a_parameter_are_refused(digits):
    """A run would begin where another ended."""
    shared = nn.PReLU()
    with pytest.raises(ValueError, match=r"share 'phi\.weight'"):
        sweep(digits, builder(shared), **HOW)
    # As an argument it is copied for every model.
    how = HOW | dict(lrs=[1e-2, 1e-1], steps=5)
    done = sweep(digits, Scaled, arguments={"phi": [shared]}, **how)
    assert shared.weight.item() == 0.25
    (alone,) = sweep(digits, Scaled, arguments={"phi": [shared]}, **(how | dict(lrs=[1e-1]))).rows
    assert done.rows[1]["loss"] == alone["loss"]


def test_a_builder_that_cannot_be_told_needs_a_name_for_a_store(digits, tmp_path):
    lock = __import__("threading").Lock()

    def build(width, depth):
        assert lock
        return Model(width, depth)

    with pytest.raises(TypeError, match=r"build=build cannot be told.*leadline\.named"):
        sweep(digits, build, store=tmp_path / "s", **HOW)
    assert sweep(digits, build, **HOW).fresh == 1
    assert sweep(digits, ll.named("mine", build), store=tmp_path / "s", **HOW).fresh == 1


def test_runs_that_were_given_up_are_no_results_where_none_may_be(digits, tmp_path):
    how = HOW | dict(store=tmp_path / "s", lrs=[1e-7, 1e-2], steps=60)
    assert [r["stopped"] for r in sweep(digits, Model, hopeless=3.0, **how).rows] == [True, False]
    assert sweep(digits, Model, hopeless=3.0, **how).fresh == 0
    whole = sweep(digits, Model, **how)
    assert whole.fresh == 1
    assert [r["stopped"] for r in whole.rows] == [False, False]
