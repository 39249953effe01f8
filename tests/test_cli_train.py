"""``leadline train`` and ``solve`` of a FILE.py: the recipe of flags and file, and what has no model."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli.program import main
from leadline.cli.user_file import load

FILE = """
import torch
from torch import nn
import leadline as ll

build = ll.residual_mlp(5, 3)

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

def batches(step, generator):
    x = torch.randn(16, 5, generator=generator)
    return x, (x[:, 0] > 0).long()

eval_batch = batches(0, torch.Generator().manual_seed(1))
"""
SIZE = ("--width", "32", "--depth", "4", "--base", "16x2", "--seeds", "2", "--quiet")
HOW = dict(width=32, depth=4, base=dict(width=16, depth=2), seeds=2)


@pytest.fixture
def write(tmp_path, request):
    """A file of its own name: modules are known by it."""

    def file(*parts):
        path = tmp_path / f"trained_{abs(hash((request.node.name, *parts)))}.py"
        path.write_text("\n".join((FILE, *parts)))
        return str(path)

    return file


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def result(*arguments):
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def trained(path, recipe, **how):
    module, build = load(path)
    task = ll.Task(module.loss, batches=module.batches, eval_batch=module.eval_batch)
    return ll.train(task, build, recipe, **HOW | how)


def same(data, trajectory):
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(data[name], getattr(trajectory, name), rtol=1e-6)
    assert data["info"]["recipe"] == json.loads(json.dumps(trajectory.info["recipe"]))


def test_flags_are_a_recipe(write):
    path = write()
    data, _ = result("train", path, *SIZE, "--optimizer", "lion", "--lr", "2e-3", "--steps", "3",
                     "--betas", "0.8,0.9", "--weight-decay", "0.1", "--clip", "0.5", "--scheme", "mup",
                     "--schedule", "linear", "--warmup", "1", "--seed", "3",
                     "--batch-seed", "1")  # fmt: skip
    recipe = ll.Lion(
        lr=2e-3, steps=3, betas=(0.8, 0.9), weight_decay=0.1, clip=0.5, schedule=(1.0, 1.0, 0.5)
    )
    same(data, trained(path, recipe, scheme="mup", seed=3, batch_seed=1))


def test_what_flags_leave_open_is_usual(write):
    """AdamW at its own rate, not at that of the ResNet; Muon leaves the rest to AdamW at another."""
    path = write()
    data, _ = result("train", path, *SIZE, "--steps", "2")
    same(data, trained(path, ll.AdamW(steps=2)))
    more = ("--optimizer", "muon-match-rms", "--adamw-lr", "1e-3", "--momentum", "0.9")
    data, _ = result("train", path, *SIZE, "--steps", "2", *more)
    same(
        data,
        trained(path, ll.Muon(steps=2, momentum=0.9, adjust="match-rms", adamw=dict(lr=1e-3))),
    )


def test_the_files_recipe_and_the_flags_that_change_it(write):
    path = write(
        "recipe = ll.AdamW(lr=2e-3, steps=2, betas=(0.8, 0.9))",
        "def schedule(step, steps): return 1 / (step + 1)",
    )
    recipe = ll.AdamW(lr=2e-3, steps=2, betas=(0.8, 0.9), schedule=(1.0, 0.5))
    data, _ = result("train", path, *SIZE)
    same(data, trained(path, recipe))
    data, _ = result("train", path, *SIZE, "--lr", "1e-3", "--optimizer", "adamw")
    same(
        data,
        trained(path, ll.AdamW(lr=1e-3, steps=2, betas=(0.8, 0.9), schedule=recipe.schedule)),
    )
    data, _ = result("train", path, *SIZE, "--optimizer", "sgd", "--lr", "0.1")
    same(data, trained(path, ll.SGD(lr=0.1, steps=2, schedule=recipe.schedule)))


def test_a_check_optimizer_of_the_file_is_said_to_be_unused(write):
    path = write("def optimizer(model, plan, lr): return plan.optimizer(model, lr=lr)")
    _, said = result("train", path, *SIZE, "--steps", "1")
    assert "optimizer of the file is not used" in said


def test_solve_takes_the_same_flags(write, tmp_path):
    path = write("recipe = ll.SGD(lr=0.1, steps=2)")
    more = (
        "--ensemble",
        "fast",
        "--coupling",
        "independent",
        "--tol",
        "0.01",
        "--out",
        tmp_path / "o",
    )
    data, _ = result("solve", path, *SIZE, *more, "--stored", "*.0.layers.0.weight,blocks.3.*")
    module, build = load(path)
    task = ll.Task(module.loss, batches=module.batches, eval_batch=module.eval_batch)
    due = ll.solve(task, build, module.recipe, ensemble="fast", coupling="independent", tol=0.01,
                   stored=("*.0.layers.0.weight", "blocks.3.*"), **HOW)  # fmt: skip
    same(data, due)
    assert data["info"]["wide"] == list(due.info["wide"])
    assert ll.Trajectory.load(tmp_path / "o" / "trajectory.safetensors").info["ensemble"] == "fast"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_dry_run_predicts_memory_and_time(write, optimizer):
    """Nothing is left of it; what it says of memory is kept by a solve with that budget."""
    how = ("solve", write(), *SIZE, "--optimizer", optimizer, "--steps", "8")
    data, _ = result(*how, "--dry-run")
    assert data["measured_steps"] == 4
    assert data["wide"] == 8
    assert 0 <= data["elementwise_seconds"] <= data["seconds"] < 60
    assert (data["elementwise_seconds"] > 0) == (optimizer == "adamw")
    done = run(*how, "--dry-run")
    assert ("T²: 16 steps" in done.stdout) == (optimizer == "adamw")
    solved, _ = result(*how, "--memory", data["at_most_bytes"])
    assert len(solved["train_loss"][0]) == 9
    small = run(*how, "--memory", data["first_step_bytes"] - 1)
    assert small.exit_code == 2
    assert "the first step of width=32, depth=4 needs" in small.stderr


def test_results_stay(write, tmp_path):
    """A built-in model; a page, JSON and the trajectory in the folder."""
    out = tmp_path / "out"
    done = run("train", "mlp", *SIZE, "--steps", "1", "--out", out, "--problem", "digits:0,1")
    assert done.exit_code == 0, done.output
    kept = ll.Trajectory.load(out / "trajectory.safetensors")
    assert kept.train_outputs.shape[:2] == (2, 2)
    assert "adamw" in (out / "figure.html").read_text()
    assert json.loads((out / "result.json").read_text())["info"]["network"]["base"]["width"] == 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--optimizer", "adam"), "--optimizer is for a model: name it"),
        (("--role", "*=hidden"), "--role is for a model"),
        (("mlp", "--activation", "relu"), "--activation is for the built-in ResNet"),
        (("mlp", "--train", "hidden"), "--train is for the built-in ResNet"),
        (("resnet",), "model='resnet' is what is trained without a model"),
        (("mlp", "--optimizer", "adamm"), "did you mean 'adam'"),
        (("mlp", "--momentum", "0.9"), "momentum=0.9 is none of the settings of adamw"),
        (("mlp", "--eps", "0.1", "--optimizer", "lion"), "eps=0.1 is none of the settings of lion"),
        (("mlp", "--betas", "0.9"), "betas=(0.9,) is one number"),
        (("mlp", "--base", "64"), "base='64' is not WIDTHxDEPTH"),
        (("mlp", "--coupling", "independent"), "coupling='independent' cannot be trained"),
        (("nowhere.py",), "there is no file 'nowhere.py'"),
        (("what",), "model='what' is unknown"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    done = run("train", *arguments, "--width", "32", "--depth", "4", "--quiet")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_recipe_of_the_file_is_one(write):
    done = run("train", write("recipe = 3"), *SIZE)
    assert "recipe=3 is not a Recipe: let FILE.py define such as" in done.stderr
