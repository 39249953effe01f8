"""One FILE.py with a builder, a loss and batches serves every command."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import leadline as ll
from leadline.cli.program import main
from leadline.problems.parsing import parse_data

HEAD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(5, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.readout = nn.Linear(width, 3)

    def forward(self, x, scale):
        h = self.embed(x)
        for layer in self.layers:
            h = h + layer(torch.relu(h))
        return self.readout(h) * scale

def build(width, depth):
    return Net(width, depth)
"""
LOSS = """
def loss(model, batch):
    return nn.functional.cross_entropy(model(batch["x"], 0.5), batch["label"])
"""
BATCHES = """
def batches(step, generator):
    x = torch.randn(16, 5, generator=generator)
    return {"x": x, "label": (x[:, 0] > 0).long()}

eval_batch = batches(0, torch.Generator().manual_seed(1))
"""
SIZES = ("--widths", "16,32", "--depths", "2")


@pytest.fixture
def write(tmp_path, request):
    """A file of its own name: modules are known by it."""

    def file(*parts):
        path = tmp_path / f"mine_{abs(hash((request.node.name, *parts)))}.py"
        path.write_text("\n".join((HEAD, *parts)))
        return str(path)

    return file


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_plan_check_sweep_and_transfer_read_one_file(write, tmp_path):
    file, store = write(LOSS, BATCHES), str(tmp_path / "store")
    done = run("plan", file, "--base", "16x2", "--json")
    assert done.exit_code == 0
    assert "readout.weight" in done.output
    done = run(
        "check", file, "--base", "16x2", *SIZES, "--steps", "2", "--lr", "1e-3", "--quiet", "--json"
    )
    assert {r["parameter"] for r in json.loads(done.stdout)["rows"]} >= {"layers.*.weight"}
    how = (*SIZES, "--steps", "3", "--store", store, "--executor", "inline", "--json", "--quiet")
    done = run("sweep", file, "--lrs", "1e-3,1e-2", "--seeds", "1", *how)
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 4
    assert all(0 < r["test_loss"] < 5 for r in rows)
    assert rows[0]["data"].startswith("task(loss#")
    lrs = ("--lrs", "1e-3,1e-2,1e-1")
    done = run("transfer", file, *lrs, "--seeds", "1", *how)
    assert done.exit_code in (0, 1, 3)
    assert len(json.loads(done.stdout)["runs"]) == 6
    # The sweep's runs are the transfer's: what they trained on is the same.
    again = run("sweep", file, *lrs, "--seeds", "1", *how)
    assert json.loads(again.stdout)["fresh"] == 0


@pytest.mark.parametrize("command", ["sweep", "transfer", "check"])
def test_nothing_falls_back_to_digits(write, command):
    done = run(command, write(), *SIZES)
    assert done.exit_code == 2
    assert "defines no loss and no batch or batches: define loss(model, batch)" in done.output
    assert "or give --problem" in done.output
    done = run(command, write(LOSS), *SIZES)
    assert "defines no batch or batches" in done.output
    done = run(command, write(LOSS, BATCHES, "batch = eval_batch"), *SIZES)
    assert "defines both batch and batches" in done.output


@pytest.mark.parametrize("command", ["sweep", "transfer", "check"])
def test_errors_of_the_users_code_are_one_line_with_the_place(write, command):
    wrong = LOSS.replace('batch["label"]', 'batch["label"] + 7')
    file = write(wrong, BATCHES)
    how = () if command == "check" else ("--lrs", "1e-3,1e-2,1e-1", "--executor", "inline")
    done = run(command, file, *SIZES, *how, "--quiet")
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    line = 1 + Path(file).read_text().splitlines().index(wrong.strip().splitlines()[1])
    assert "failed with IndexError: Target" in done.output
    assert f"line {line}, in loss" in done.output


def test_an_error_while_importing_names_the_place(write):
    done = run("plan", write("numbers = [1]\nnumbers[3]"))
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "failed with IndexError: list index out of range (mine_" in done.output


def test_text_with_a_length_and_a_vocabulary(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("to be or not to be, that is the question. " * 2000)
    data = parse_data(f"text:{book}?length=32")
    assert data.context == 32
    assert data.vocabulary == 256
    done = run(
        *("sweep", "gpt", "--problem", f"text:{book}?length=8", "--widths", "16", "--depths", "1"),
        *(
            "--lrs",
            "1e-3",
            "--seeds",
            "1",
            "--steps",
            "2",
            "--executor",
            "inline",
            "--quiet",
            "--json",
        ),
    )
    (row,) = json.loads(done.stdout)["rows"]
    assert 0 < row["loss"] < 10
    for text, message in (
        (f"text:{book}?lenght=8", "did you mean 'length'"),
        (f"text:{book}?length=0", "context=0 is too small"),
        ("text:nowhere.txt", "does not exist"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            parse_data(text)


def test_tokens_of_a_tokenizer(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("to be or not to be that is the problem " * 500)
    words = {}

    def tokenizer(text):
        return [words.setdefault(w, len(words)) for w in text.split()]

    data = ll.text(book, context=4, tokenizer=tokenizer)
    assert data.vocabulary == len(words) == 8
    x, y = data.batch(0, 3, seed=0)
    assert x.max() < 8
    assert np.array_equal(x[:, 1:], y[:, :-1])
    assert data.fingerprint() != ll.text(book, context=4).fingerprint()
    assert ll.text(book, context=4, tokenizer=tokenizer, vocabulary=50).vocabulary == 50
    with pytest.raises(
        ValueError, match="vocabulary=3 is too small: the text holds the token id 7"
    ):
        ll.text(book, context=4, tokenizer=tokenizer, vocabulary=3)
    with pytest.raises(TypeError, match="return token ids"):
        ll.text(book, context=4, tokenizer=lambda t: t)
    with pytest.raises(ValueError, match="failed with KeyError"):
        ll.text(book, context=4, tokenizer=lambda t: {}[t])


@pytest.mark.parametrize("ending", [".npy", ".bin"])
def test_files_of_token_ids_stay_on_disk(tmp_path, ending):
    ids = (np.arange(5000) % 700).astype(np.uint16)

    def save(path, array):
        np.save(path, array) if ending == ".npy" else array.tofile(path)

    save(tmp_path / f"ids{ending}", ids)
    data = ll.text(tmp_path / f"ids{ending}", context=16)
    assert isinstance(data.train, np.memmap)
    assert (len(data.train), len(data.test), data.vocabulary) == (4500, 500, 700)
    assert np.array_equal(np.concatenate([data.train, data.test]), ids)
    save(tmp_path / f"train{ending}", ids[:3000])
    save(tmp_path / f"val{ending}", ids[3000:])
    both = ll.text(tmp_path, context=16, vocabulary=1000)
    assert (len(both.train), len(both.test), both.vocabulary) == (3000, 2000, 1000)
    assert both.fingerprint() != data.fingerprint()
    x, y = both.batch(0, 2, seed=0)
    assert np.array_equal((x + 1) % 700, y)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: np.save(p, np.zeros((3, 4))), "holds float64 of shape"),
        (lambda p: np.save(p, np.array([1, -2, 3] * 40)), "a token id is -2"),
        (lambda p: p.write_bytes(b"none"), "is no .npy file"),
        (lambda p: np.save(p, np.arange(5)), "too few for context=8"),
    ],
)
def test_wrong_files_of_token_ids(tmp_path, write, message):
    path = tmp_path / "ids.npy"
    write(path)
    with pytest.raises(ValueError, match=message):
        ll.text(path, context=8)
    odd = tmp_path / "ids.bin"
    odd.write_bytes(b"123")
    with pytest.raises(ValueError, match="no whole number of uint16"):
        ll.text(odd, context=8)


def test_recipes_on_the_command_line(write, tmp_path):
    file, out = write(LOSS, BATCHES), tmp_path / "store"
    how = (*SIZES, "--steps", "4", "--seeds", "1", "--executor", "inline", "--quiet", "--json")
    recipe = ("--warmup", "2", "--schedule", "cosine", "--clip", "0.5", "--accumulation", "2")
    done = run("sweep", file, "--lrs", "1e-2", *how, *recipe, "--store", str(out))
    row = json.loads(done.stdout)["rows"][0]
    assert (row["warmup"], row["schedule"], row["clip"], row["accumulation"]) == (
        2,
        "cosine",
        0.5,
        2,
    )
    decays = ("--weight-decay", "0.01:1:10")
    done = run("transfer", file, "--lrs", "1e-2", *how, *recipe, *decays)
    result = json.loads(done.stdout)
    assert result["hyperparameter"] == "weight_decay"
    assert {r["weight_decay"] for r in result["runs"]} == {0.01, 0.1, 1.0}
    done = run(
        "check", file, "--base", "16x2", *SIZES, "--lr", "1e-3", "--quiet", "--json", *recipe
    )
    assert done.exit_code in (0, 3), done.output
    assert json.loads(done.stdout)["rows"]
    scheduled = write(
        LOSS, BATCHES, "def schedule(step, steps):\n    return 0.5 if step else 1.0\n"
    )
    done = run("sweep", scheduled, "--lrs", "1e-2", *how)
    assert json.loads(done.stdout)["rows"][0]["schedule"].startswith("schedule#")
