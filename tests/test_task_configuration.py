"""What a training of a builder is asked for: checked, planned once, the same at every size."""

import json

import pytest
import torch

import leadline as ll
from check_models import BATCH, Model, mse
from leadline.matrixfree.configuration import TaskConfiguration

TASK = ll.Task(mse, batch=BATCH)
SIZE = dict(width=32, depth=4)


def asked_for(task=TASK, build=Model, recipe=None, **how):
    how = SIZE | dict(base=dict(width=16, depth=2)) | how
    return TaskConfiguration(task, build, recipe or ll.AdamW(), **how)


def test_sizes_share_one_plan():
    one = asked_for(dtype="float64", seeds=3)
    two = one.at(64, 8, seed=5, batch_seed=0)
    assert (two.plan.base, two.plan.target.width, two.seed) == (one.plan.base, 64, 5)
    assert two.plan.kinds is one.plan.kinds
    assert one.plan.target.width == 32
    planned = asked_for(build=one.plan, base=None)
    assert planned.plan == one.plan
    assert planned.info("train")["network"]["build"] == one.info("train")["network"]["build"]


def test_models_are_the_plans_in_the_dtype():
    c = asked_for(dtype="float64", seeds=2, seed=7)
    model = c.model(0)
    torch.manual_seed(7)
    due = c.plan.apply(Model(32, 4)).double().state_dict()
    assert all(torch.equal(v, due[k]) for k, v in model.state_dict().items())
    assert not torch.equal(c.model(1).state_dict()["readout.weight"], due["readout.weight"])
    assert len({c.run_seed(s) for s in range(100)} | {c.at(32, 4, seed=8).run_seed(1)}) == 101
    x, _ = c.batch(0)
    assert x.dtype == torch.float64
    assert x is not c.batch(0)[0]


def test_batches_of_a_problem_keep_their_digits():
    problem = ll.digits(classes=(0, 1), samples=16, test_samples=4)
    c = asked_for(
        problem, ll.residual_mlp(problem.dimension, problem.outputs), ll.Lion(), dtype="float64"
    )
    assert torch.equal(c.batch(0)[0], torch.tensor(problem.x))
    assert torch.equal(c.data.test()[0][0], torch.tensor(problem.x_test))
    assert "test_outputs" in c.record().arrays
    small = asked_for(problem, c.build, ll.Lion(batch_size=4), accumulation=2)
    assert [len(x) for x, _ in small.batch(0)] == [4, 4]


def test_it_says_all_as_json():
    info = json.loads(json.dumps(asked_for(recipe=ll.Muon(adamw=dict(lr=1e-3))).info("solve")))
    assert info["recipe"]["optimizer"] == "muon"
    assert info["network"]["base"] == dict(width=16, depth=2)
    assert info["recorded"] == "losses"
    assert info["problem"]["fingerprint"] == TASK.identity()
    assert {"ensemble", "tol"} & asked_for().info("train").keys() == set()


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        (dict(task=3), TypeError, "task=3 cannot be trained on"),
        (dict(build=3), TypeError, "build=3 cannot be called"),
        (dict(recipe="adam"), TypeError, r"recipe='adam' is not a Recipe: give leadline.SGD"),
        (dict(recipe=ll.SGD(center=True)), ValueError, "center=True is for a ResNet"),
        (dict(base=None), ValueError, r"base is missing.*base=dict\(width="),
        (dict(base=dict(width=3)), ValueError, "is not a size"),
        (dict(scheme="mupp"), ValueError, "did you mean 'mup'"),
        (dict(width=0), ValueError, "width=0 is too small"),
        (dict(coupling="both"), ValueError, "coupling='both' is unknown"),
        (dict(ensemble="quick"), ValueError, "ensemble='quick' is unknown"),
        (dict(dtype="float16"), ValueError, "float16"),
        (dict(tol=1.0), ValueError, "tol=1.0"),
        (dict(accumulation=0), ValueError, "accumulation=0"),
        (dict(recipe=ll.Adam(batch_size=4)), ValueError, "batch_size=4 is none of a Task's"),
        (dict(task=ll.Task(lambda m, b: m(b), batch=BATCH)), ValueError, "loss.* failed with"),
        (dict(task=ll.digits(classes=(0, 1), samples=8), recipe=ll.Adam(batch_size=9)), ValueError,
         "batch_size=9 is larger than the problem's 8 samples"),
    ],
)  # fmt: skip
def test_refusals(how, error, words):
    with pytest.raises(error, match=words):
        asked_for(**how)


def test_a_plan_has_what_a_plan_has(tmp_path):
    plan = ll.plan(Model, dict(width=16, depth=2), optimizer="adamw")
    with pytest.raises(TypeError, match=r"base=.* beside a plan"):
        asked_for(build=plan)
    with pytest.raises(TypeError, match="scheme='mup' beside a plan"):
        asked_for(build=plan, base=None, scheme="mup")
    with pytest.raises(ValueError, match="the recipe is Lion: plan with optimizer='lion'"):
        asked_for(build=plan, base=None, recipe=ll.Lion())
    plan.save(tmp_path / "plan.json")
    with pytest.raises(ValueError, match=r"no builder .*files do not keep it"):
        asked_for(build=ll.Plan.load(tmp_path / "plan.json"), base=None)
