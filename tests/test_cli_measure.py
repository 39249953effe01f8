"""``--measure`` and ``--modules``; limits, comparisons and dry runs of a model."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli.program import main
from leadline.cli.user_file import load
from leadline.limits.kernels_of_sizes import MeasuredLimit
from leadline.limits.result import Limit
from leadline.reporting.measures import measures_table, measures_text

FILE = """
import torch
from torch import nn
import leadline as ll

build = ll.residual_mlp(5, 3)

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

def batches(step, generator):
    x = torch.randn(8, 5, generator=generator)
    return x, (x[:, 0] > 0).long()

recipe = ll.SGD(lr=0.1, steps=2)
"""
BASE = ("--base", "16x2", "--quiet")
RESNET = (
    "--problem",
    "teacher?samples=4,dimension=2",
    "--width",
    "16",
    "--depth",
    "2",
    "--steps",
    "2",
)


@pytest.fixture
def path(tmp_path, request):
    """A file of its own name: modules are known by it."""
    file = tmp_path / f"measured_{abs(hash(request.node.name))}.py"
    file.write_text(FILE)
    return file


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def result(*arguments):
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def parts(path):
    module, build = load(str(path))
    return ll.Task(module.loss, batches=module.batches), build, module.recipe


@pytest.mark.parametrize("command", ["train", "solve"])
def test_modules_of_a_model(path, command, tmp_path):
    how = (command, path, *BASE, "--width", "32", "--depth", "2", "--seeds", "2")
    flags = ("--modules", "blocks.*, readout", "--measure", "movement,gradient_kernel")
    data = result(*how, *flags, "--measure-steps", "1,-1", "--out", tmp_path / "out")
    measure = ll.Measure(
        ("movement", "gradient_kernel"), modules=("blocks.*", "readout"), steps=(1, -1)
    )
    sizes = dict(width=32, depth=2, base=dict(width=16, depth=2), seeds=2)
    due = getattr(ll, command)(*parts(path), measure=measure, **sizes)
    assert data["info"]["modules"] == list(due.modules)
    assert data["measured_steps"] == [1, 2]
    for name in ("movement", "gradient_kernel"):
        np.testing.assert_allclose(data["measures"][name], due.measures[name], rtol=1e-5, atol=1e-9)
    kept = ll.Trajectory.load(tmp_path / "out" / "trajectory.safetensors")
    assert kept.measures.keys() == due.measures.keys()
    text = run(*how, *flags, "--measure-steps", "1,-1").stdout
    assert measures_text(due) in text
    assert "gradients: mean K(x,x)" in (tmp_path / "out" / "figure.html").read_text()


def test_a_limit_of_a_model(path, tmp_path):
    """Finished sizes are those of Python's call, which reads them, and of the same command."""
    out = tmp_path / "limit"
    how = ("--rtol", "0.5", "--width", "32", "--depth", "2", "--seeds", "2", "--over", "width")
    flags = ("limit", path, *BASE, *how, "--modules", "readout", "--out", out)
    data = result(*flags)
    sizes = dict(width=32, depth=2, base=dict(width=16, depth=2), seeds=2, over="width")
    sizes |= dict(measure=ll.Measure(modules=("readout",)), checkpoint=out / "sizes")
    due = ll.limit(*parts(path), 0.5, **sizes)
    np.testing.assert_array_equal(data["train_loss"], due.train_loss)
    assert data["measures"]["modules"] == ["readout"]
    assert [c["width"] for c in data["sizes"]] == [32, 64, 128]
    assert (out / "sizes" / "128x2.safetensors").exists()
    done = run(*flags)
    assert done.exit_code == 0, done.output
    assert measures_text(due) in done.stdout


def test_a_limit_keeps_nothing_of_what_cannot_be_told_from_others(path, tmp_path):
    module, build = load(str(path))
    spent = iter([])
    task = ll.Task(module.loss, batches=lambda step, g, rows=spent: module.batches(step, g))
    with pytest.raises(TypeError, match=r"task.batches.*cannot be told from others.*name="):
        ll.limit(task, build, module.recipe, base=dict(width=16, depth=2), checkpoint=tmp_path)


def test_a_comparison_of_a_model(path, tmp_path):
    out = tmp_path / "compare"
    more = ("--seeds", "2", "--over", "width", "--sizes", "16x2", "--rtol", "0.9", "--steps", "1")
    data = result("compare", path, *BASE, *more, "--out", out)
    assert set(data["branches"]) == {"train-16x2-reused", "limit-reused"}
    assert (out / "compare.json").exists()


def test_measures_of_the_built_in_network():
    flags = (
        "--measure",
        "feature_kernel,movement",
        "--measure-times",
        "0.5,1",
        "--measure-steps",
        "-1",
    )
    data = result("train", *RESNET, *flags, "--quiet")
    assert data["times"] == [0.5, 1.0]
    assert np.shape(data["measures"]["feature_kernel"]) == (4, 1, 2, 4, 4)
    text = run("train", *RESNET, *flags, "--quiet").stdout
    assert "feature kernel's alignment with targets" in text
    assert "t = 0.5" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*RESNET, "--measure-steps", "1"), "measure_steps='1' is for --measure"),
        ((*RESNET, "--modules", "head"), "measure.modules=('head',) is for a builder's models"),
        ((*RESNET, "--measure", "warmth"), "quantities='warmth' is unknown"),
        ((*RESNET, "--measure", "movement", "--measure-steps", "a"), "measure_steps='a' is not a list"),
        ((*RESNET, "--measure", "movement", "--measure-steps", "7"),
         "measure.steps=7 is outside the training: give 0 to 2, or -1 (--measure-steps)"),
        ((*RESNET, "--measure", "movement", "--measure-times", "2"), "--measure-times"),
        (("mlp", *RESNET[2:], "--measure", "movement"), "measure.modules is missing"),
        (("mlp", *RESNET[2:], "--measure-times", "1"), "--measure-times is for the built-in ResNet"),
        (("mlp", *RESNET[2:], "--modules", "nowhere"), "nowhere"),
        (("mlp", *RESNET[2:], "--modules", "*", "--measure", "tangent_kernel"), "tangent_kernel"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(arguments, words):
    done = run("solve", *arguments, "--quiet")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("what", ["limit", "compare"])
def test_networks_alone_have_flags_that_models_refuse(path, what):
    done = run(what, path, *BASE, "--activation", "relu")
    assert "--activation is for the built-in ResNet: leave it out" in done.stderr
    done = run(what, "--optimizer", "adam", "--quiet")
    assert "--optimizer is for a model" in done.stderr


SIZE = ("--width", "32", "--depth", "2", "--seeds", "2")


def test_a_dry_run_of_train(path):
    """What it says of memory is what the command takes."""
    how = ("train", path, *BASE, *SIZE, "--steps", "9", "--dry-run")
    data = result(*how)
    entries = 5 * 32 + 4 * 32 * 32 + 3 * 32
    assert data["at_most_bytes"] == data["first_step_bytes"] == pytest.approx(12 * entries, rel=0.2)
    assert (data["wide"], data["measured_steps"], data["sizes"]) == (0, 4, [[32, 2]])
    assert 0 < data["seconds"] < 30
    small = run(*how, "--memory", data["at_most_bytes"] - 1)
    assert "a model of width=32 and depth=2 needs" in small.stderr
    text = run(*how, "--memory", data["at_most_bytes"]).stdout
    assert text.startswith("train: 32x2; dense\n")


def test_a_dry_run_of_a_limit(path):
    """Sizes that are sure to run; the time of elementwise recipes grows as T²."""
    adam = ("--optimizer", "adamw", "--lr", "1e-3", "--steps", "8")
    text = run("limit", path, *BASE, *SIZE, *adam, "--dry-run").stdout
    assert text.startswith("limit: 32x2, 64x2, 32x4; 8 weights multiplied")
    assert "which grows as T²: 16 steps take four times as long" in text
    assert "time: at least" in text
    fast = ("--ensemble", "fast", "--over", "width", "--steps", "2")
    data = result("limit", path, *BASE, *SIZE, *fast, "--dry-run")
    assert data["sizes"] == [[32, 2], [64, 2], [128, 2]]
    assert data["at_least"]
    assert data["seconds"] > 0 == data["elementwise_seconds"]


def test_a_dry_run_of_a_comparison(path):
    how = ("--seeds", "2", "--steps", "1", "--over", "width", "--dry-run")
    data = result("compare", path, *BASE, *how)
    assert data["sizes"][:3] == [[16, 2], [32, 2], [64, 2]]
    assert data["at_least"]
    assert data["wide"] == 4


def _trajectory(seeds=2):
    kernels = np.zeros((seeds, 2, 1, 2, 2))
    kernels[:, 0, 0], kernels[:, 1, 0] = np.eye(2), [[3.0, 0.0], [0.0, 1.0]]
    kernels[1:, 1] *= 3
    return ll.Trajectory(
        steps=np.arange(2), train_loss=np.ones((seeds, 2)), measured_steps=np.arange(2),
        measures={"feature_kernel": kernels, "movement": np.tile([[3.0, 4.0]], (seeds, 2, 1, 1))},
        info={"modules": ["head"]},
    )  # fmt: skip


def test_the_numbers_of_the_table():
    """Diagonals (1 and 2, 6): 4 ± 12.7·(4/√2)/√2, Student's t for two seeds; cosines of diag(1, 1),
    diag(3, 1) and of yyᵀ."""
    header, rows = measures_table(_trajectory(), np.array([[1.0], [0.0], [9.0]]))
    assert header == ["where", "what", "step 0", "step 1"]
    cells = {what: values for _, what, *values in rows}
    assert {row[0] for row in rows} == {"head"}
    assert cells["features: mean K(x,x)"] == ["1", "4 ± 25"]
    assert cells["feature kernel's alignment with step 0"] == ["1", f"{4 / 20**0.5:.4g}"]
    assert cells["feature kernel's alignment with targets"] == [
        f"{0.5**0.5:.4g}",
        f"{3 / 10**0.5:.4g}",
    ]
    assert cells["movement, RMS over samples"] == [f"{12.5**0.5:.4g}"] * 2
    assert measures_table(_trajectory(1))[1][0][3] == "2"


def test_the_bars_of_a_limit_are_the_largest_that_its_entries_allow():
    values = {
        "feature_kernel": np.array([[[[3.0, 0.5], [0.5, 1.0]]]]),
        "movement": np.array([[[3.0, 4.0]]]),
    }
    errors = {"feature_kernel": np.full((1, 1, 2, 2), 1e-4), "movement": np.full((1, 1, 2), 1e-4)}
    measures = MeasuredLimit(np.array([5]), np.zeros(0), ("head",), values, errors, {})
    nothing = dict(
        train_outputs=None, contributions={}, sizes=(), p_value=0.5, converged=True, message=""
    )
    one = np.ones(1)
    due = Limit(steps=np.array([5]), train_loss=one, train_loss_error=one, info={}, measures=measures,
                **nothing)  # fmt: skip
    y = np.array([[1.0], [2.0]])
    cells = {what: value for _, what, value in measures_table(due, y)[1]}

    def aligned(k):
        return (k * (y @ y.T)).sum() / np.sqrt((k**2).sum()) / np.sqrt(((y @ y.T) ** 2).sum())

    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T.reshape(-1, 2, 2)
    k = values["feature_kernel"][0, 0]
    largest = max(abs(aligned(k + 1e-4 * s) - aligned(k)) for s in signs)
    value, bar = cells["feature kernel's alignment with targets"].split(" ± ")
    assert float(value) == pytest.approx(aligned(k), abs=1e-6)
    assert float(bar) == pytest.approx(largest, rel=0.05)
    assert cells["features: mean K(x,x)"] == "2.00000 ± 0.00010"
    # d RMS = (3 + 4)·1e-4 / (2 · RMS)
    assert float(cells["movement, RMS over samples"].split(" ± ")[1]) == pytest.approx(
        0.99e-4, rel=0.02
    )
