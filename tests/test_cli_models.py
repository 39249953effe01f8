"""``leadline plan``, ``explain`` and ``check`` as a user runs them."""

import json

import pytest
from click.testing import CliRunner

from leadline.cli.program import main

MODEL = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.up, self.down = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)

    def forward(self, h):
        return h + self.down(torch.relu(self.up(h)))

class Model(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(6, width, bias=False)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.readout = nn.Linear(width, 1, bias=False)

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.readout(h)

g = torch.Generator().manual_seed(0)
batch = (torch.randn(8, 6, generator=g), torch.randn(8, 1, generator=g))

def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    return f"{path}:Model"


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_plan_prints_a_table_and_writes_a_file(model, tmp_path):
    out = tmp_path / "plan.json"
    done = run("plan", model, "--base", "16x2", "--target", "64x8", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "blocks.*.down.weight" in done.output
    rows = {line.split()[0]: line.split() for line in done.output.splitlines() if "weight" in line}
    assert rows["embed.weight"][1:3] == ["1", "input"]
    assert rows["blocks.*.down.weight"][1:3] == ["8", "hidden"]
    assert json.loads(out.read_text())["target"] == {"width": 64, "depth": 8}


def test_plan_as_json_and_as_code(model):
    data = json.loads(run("plan", model, "--base", "16x2", "--json").stdout)
    assert {k["role"] for k in data["kinds"]} == {"input", "hidden", "readout"}
    code = run("plan", model, "--base", "16x2", "--target", "32x4", "--code").stdout
    compile(code, "plan", "exec")
    assert "leadline" not in [
        w for line in code.splitlines() if "import" in line for w in line.split()
    ]


def test_explain():
    assert "2505.01618" in run("explain", "completep").output
    rows = json.loads(run("explain", "mup", "sgd", "--json").stdout)["rows"]
    assert rows[1]["parameter"] == "hidden"
    assert rows[1]["init"] == "m^-½"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "nowhere.py:Model"], "there is no file 'nowhere.py'"),
        (["plan", "Model"], "is no reference: give FILE.py:NAME"),
        (["plan", "{}x"], "has no 'Modelx'"),
        (["plan", "{}", "--base", "64"], "base='64' is not WIDTHxDEPTH"),
        (["plan", "{}", "--scheme", "muup"], "did you mean 'mup'"),
        (["plan", "{}", "--optimizer", "adm"], "did you mean 'adam'"),
        (["explain", "auto", "rmsprop"], "optimizer='rmsprop' is unknown"),
        (["check", "{}", "--widths", "a,b"], "widths='a,b' is not a list of integers"),
    ],
)
def test_mistakes_are_one_line(model, arguments, message):
    done = run(*(a.format(model) for a in arguments))
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_module_that_fails_to_import_is_one_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_that_name\n")
    done = run("plan", f"{path}:Model")
    assert done.exit_code == 2
    assert "failed with ModuleNotFoundError: No module named 'nothing_of_that_name'" in done.output


def test_check_needs_data(model, tmp_path):
    path = tmp_path / "bare.py"
    path.write_text(MODEL.split("g = torch")[0])
    done = run("check", f"{path}:Model", "--base", "16x2")
    assert done.exit_code == 2
    assert "bare.py defines no loss and no batch or batches" in done.output


def test_check_refuses_a_problem_of_another_shape(tmp_path):
    path = tmp_path / "wide.py"
    path.write_text(MODEL.replace("nn.Linear(6,", "nn.Linear(64,"))
    how = ("--base", "16x2", "--widths", "16,32", "--depths", "2", "--seeds", "1", "--quiet")
    done = run("check", f"{path}:Model", *how, "--problem", "digits:0,1,2?samples=8")
    assert done.exit_code == 2
    assert "the model puts out (8, 1), the targets are (8, 3)" in done.output
    done = run("check", f"{path}:Model", *how, "--problem", "digits:0,1?samples=8")
    assert done.exit_code in (0, 1, 3), done.output


def test_check_passes_and_fails_by_exit_status(model):
    how = ("--base", "16x2", "--widths", "16,32,64", "--depths", "2,4,8", "--seeds", "2", "--quiet")
    good = run("check", model, *how, "--optimizer", "sgd")
    assert good.exit_code == 3, good.output
    assert "run again with" in good.output
    good = run("check", model, *how, "--optimizer", "sgd", "--until-decided", "100")
    assert good.exit_code == 0, good.output
    assert "added to decide" in good.output
    bad = run("check", model, *how, "--scheme", "sp", "--optimizer", "adamw")
    assert bad.exit_code == 1, bad.output
    assert "exploding" in bad.output


FEW = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.value, self.out = nn.Linear(n, 8, bias=False), nn.Linear(n, n, bias=False)

    def forward(self, h):
        return h + self.out(self.value(h).repeat(1, 1, h.shape[2] // 8))

class Model(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.embed = nn.Embedding(50, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.readout = nn.Linear(width, 1, bias=False)

    def forward(self, tokens, mask):
        h = self.embed(tokens) * mask[..., None]
        for block in self.blocks:
            h = block(h)
        return self.readout(h)

def build(width, depth):
    return Model(width, depth)
"""


def test_roles_and_inputs_on_the_command_line(tmp_path):
    path = tmp_path / "few.py"
    path.write_text(FEW)
    how = ("plan", str(path), "--base", "16x2", "--target", "64x2", "--json")
    inputs = ("--input", "ids:2x5:50", "--input", "2x5")
    done = run(*how, *inputs)
    assert done.exit_code == 0, done.output
    roles = {k["template"]: k["role"] for k in json.loads(done.output)["kinds"]}
    assert roles["blocks.*.value.weight"] == "readout"
    done = run(*how, *inputs, "--role", "*.value.weight=hidden")
    roles = {k["template"]: k["role"] for k in json.loads(done.output)["kinds"]}
    assert roles["blocks.*.value.weight"] == "hidden"
    for wrong, message in (
        (("--role", "value"), "is not PATTERN=ROLE"),
        (("--role", "*.value.weight=hiden"), "did you mean 'hidden'"),
        (("--role", "nothing=hidden"), "matches no parameter"),
        (("--role", "*.value.weight=hidden,x=1"), "is no setting: give branch=false"),
        (("--input", "2,5"), "is no shape: give such as 2x3x32x32"),
        (("--input", "2x5:50"), "is no shape"),
    ):
        done = run(*how, *(inputs if wrong[0] == "--role" else ()), *wrong)
        assert done.exit_code == 2, done.output
        assert message in done.output
    refused = run(*how, "--role", "nothing=hidden", *inputs)
    assert "(--role PATTERN=ROLE)" in refused.output


FLAT = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))

def loss(model, batch):
    return (model(batch) - 1).square().mean()
"""


def test_a_model_of_one_depth_is_planned_and_checked_over_width(tmp_path):
    path = tmp_path / "flat.py"
    path.write_text(FLAT)
    done = run("plan", f"{path}:Model", "--base", "16x1", "--target", "64x1")
    assert done.exit_code == 0, done.output
    assert "for depth=1 alone: the model has the same parameters" in done.output
    how = ("--base", "16x1", "--widths", "16,32", "--seeds", "2", "--steps", "2", "--quiet")
    done = run("check", f"{path}:Model", *how, "--depths", "1")
    assert done.exit_code in (0, 1, 3), done.output
    assert "preactivation" in done.output
    done = run("check", f"{path}:Model", *how)
    assert (done.exit_code, "build ignores depth" in done.output) == (2, True)
