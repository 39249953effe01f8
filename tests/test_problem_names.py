"""Problems by name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from leadline.problems import digits, parse, power_law, teacher


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (digits((0, 1), 64, seed=1), "digits:0,1?samples=64,seed=1"),
        (digits(samples=20, test_samples=0), "digits?samples=20,test_samples=0"),
        (digits((9, 2), 8, standardize=False), "digits:9,2?samples=8,standardize=false"),
        (teacher(), "teacher"),
        (teacher(samples=4, noise=0.1), "teacher?samples=4,noise=0.1"),
        (
            teacher(outputs=3, loss="cross_entropy", seed=9),
            "teacher?outputs=3,seed=9,loss=cross_entropy",
        ),
        (power_law(exponent=1.5, standardize=True), "power_law?exponent=1.5,standardize=true"),
    ],
)
def test_names_are_read_back(problem, name):
    assert problem.name == name
    assert parse(name) == problem
    assert parse(name).name == name


def test_parse_spellings():
    assert parse("digits?classes=0;1,samples=8") == digits((0, 1), 8)
    assert parse("digits: 0, 1? samples = 8, test_samples=none") == digits((0, 1), 8)
    assert parse("digits:0,1?samples=8,loss=cross_entropy").loss == "cross_entropy"
    assert parse("digits:0,1?samples=8", "cross_entropy").loss == "cross_entropy"
    assert parse("digits:0,1?samples=8,loss=mse", "mse").loss == "mse"
    assert parse("teacher?") == teacher()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("digit", "did you mean 'digits'"),
        ("", "problem=''"),
        ("digits?sample=3", "parameter of digits='sample' .*did you mean 'samples'"),
        ("digits?samples=x", "samples='x' in .* give an integer"),
        ("digits:a,b", "classes='a;b' in .* give digits"),
        ("digits:", "digits takes digits"),
        ("digits:0,1?classes=0;1", "given twice"),
        ("digits?samples=8,samples=9", "given twice"),
        ("digits?samples", "'samples' in .* not parameter=value"),
        ("digits?standardize=1", "standardize='1' in .* give true or false"),
        ("teacher?noise=x", "noise='x' in .* give a number"),
        ("teacher?seed=none", "seed='none' in .* give an integer"),
        ("teacher:4", "has '4' after the colon, where teacher takes nothing"),
        ("teacher?samples=0", "samples=0"),
        ("npz", "names no path"),
        ("cifar10:?samples=10", "names no path"),
        ("npz:what?.npz", "end the string with one more"),
        ("teacher?loss=mae", "loss='mae'"),
    ],
)
def test_parse_refuses(text, match):
    with pytest.raises(ValueError, match=match):
        parse(text)


def test_parse_refuses_two_losses_and_what_is_no_string():
    with pytest.raises(ValueError, match="loss='mse' differs from loss='cross_entropy'"):
        parse("digits?loss=cross_entropy", "mse")
    with pytest.raises(TypeError, match="problem=3"):
        parse(3)


def test_importing_problems_is_light():
    code = (
        "import sys, leadline.problems as p; p.teacher(); "
        "print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_loss_that_is_no_name_is_refused_before_the_rest():
    for loss in (np.ones((2, 2)), 3, "l1"):
        with pytest.raises(
            ValueError, match=r"loss=.* is unknown: .*choose from mse, cross_entropy"
        ):
            parse("npz:/nonexistent", loss=loss)
