"""One quoted string names a problem."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from leadline.errors import check_choice, shown
from leadline.problems.builtin import digits, power_law, teacher
from leadline.problems.cifar import cifar10
from leadline.problems.files import npz
from leadline.problems.images import mnist
from leadline.problems.losses import NAMES
from leadline.problems.problem import Problem
from leadline.problems.texts import Text
from leadline.problems.texts import text as builtin_text

_KINDS: dict[str, Callable[..., Any]] = {
    "digits": digits,
    "cifar10": cifar10,
    "mnist": mnist,
    "npz": npz,
    "teacher": teacher,
    "power_law": power_law,
}
# Names of a text's parameters in a string that are others in Python.
_TEXT = {"length": "context"}
_BOOLS = {"true": True, "false": False}


def _integer_or_text(value: str) -> int | str:
    value = value.strip()
    return int(value) if value.removeprefix("-").isdecimal() else value


def _value(key: str, value: str, build: Callable[..., Any], text: str) -> Any:
    """The typed value of a parameter, or raise naming it and what is expected."""
    key = _TEXT.get(key, key)
    default = inspect.signature(build).parameters[key].default
    expected = "an integer"
    try:
        if key in ("loss", "dtype"):
            return value
        if key == "classes":
            expected = "digits, such as 0;1"
            return tuple(
                (_integer_or_text if build is cifar10 else int)(v) for v in value.split(";")
            )
        if isinstance(default, bool):
            expected = "true or false"
            return _BOOLS[value.lower()]
        if isinstance(default, float):
            expected = "a number"
            return float(value)
        if key in ("samples", "test_samples", "side") and value.lower() == "none":
            return None
        return int(value)
    except (ValueError, KeyError):
        raise ValueError(f"{key}={value!r} in {text!r} is not valid: give {expected}") from None


def parse(text: str, loss: str | None = None) -> Problem:
    """The problem that a string names: ``kind``, ``kind:argument``, then ``?parameters``.

    Kinds are the builders: "digits:0,1?samples=64,seed=1", "cifar10:PATH?classes=cat;dog",
    "mnist:FOLDER?side=14", "npz:PATH", "teacher?samples=32", "power_law?exponent=1.5". Parameters are
    the builder's, separated by commas; items of a list by semicolons; true, false and none are values. A
    path may hold anything; parameters begin after the last "?", so end the string with one more if the
    path itself holds a "?".

    Args:
        text: the name.
        loss: "mse" or "cross_entropy"; None is the string's, or else the builder's default.

    Raises:
        ValueError: on an unknown kind or parameter (naming the nearest valid one), on a bad value,
            and when ``loss`` and the string's differ.
        TypeError, OSError, KeyError: as the builders do.

    >>> parse("teacher?samples=4,dimension=2")
    Problem('teacher?samples=4,dimension=2', samples=4, test_samples=0, dimension=2, outputs=1, loss='mse')
    """
    made = _parsed(text, _KINDS, loss)
    assert isinstance(made, Problem)
    return made


def parse_data(text: str, tokenizer: Any = None) -> Problem | Text:
    """The problem or the text that a string names: as ``parse``, and ``text``.

    "text:FILE?length=128,vocabulary=50257" is ``leadline.text`` of that file, with ``length`` for its
    context; "text" alone is the source of Python's standard library.

    Args:
        text: the name.
        tokenizer: for texts, as for ``leadline.text``.

    >>> parse_data("text?length=8,limit_bytes=100000").context
    8
    """
    if isinstance(text, str) and text.partition(":")[0].partition("?")[0].strip() == "text":
        build = functools.partial(builtin_text, tokenizer=tokenizer)
        return _parsed(text, _KINDS | {"text": build})
    return _parsed(text, _KINDS | {"text": builtin_text})


def _parsed(text: str, kinds: Mapping[str, Callable[..., Any]], loss: str | None = None) -> Any:
    """What the string names among builders by kind."""
    if not isinstance(text, str):
        raise TypeError(f"problem={shown(text)} is not a string: give one, such as 'digits:0,1'")
    if loss is not None:
        loss = check_choice("loss", loss, NAMES)
    head, mark, tail = text.rpartition("?")
    if not mark:
        head, tail = text, ""
    kind, colon, argument = head.partition(":")
    kind = check_choice("problem", kind.strip(), kinds)
    build = kinds[kind]
    defaults = {k: p.default for k, p in inspect.signature(build).parameters.items()}
    values: dict[str, Any] = {}
    if "path" in defaults:
        if not argument and defaults["path"] is inspect.Parameter.empty:
            raise ValueError(f"problem={text!r} names no path: give {kind}:PATH")
        values["path"] = argument or None
    elif build is digits and argument:
        values["classes"] = _value("classes", argument.replace(",", ";"), build, text)
    elif colon:
        raise ValueError(
            f"problem={text!r} has {argument!r} after the colon, where {kind} takes "
            f"{'digits, such as digits:0,1' if build is digits else 'nothing: drop it'}"
        )
    for item in tail.split(",") if tail else ():
        key, equals, value = item.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            hint = '; if the path holds a "?", end the string with one more' if argument else ""
            raise ValueError(f"{item!r} in {text!r} is not parameter=value: write it so{hint}")
        names = [k for k in defaults if k not in ("path", "tokenizer")]
        check_choice(f"parameter of {kind}", key, [*names, *(_TEXT if kind == "text" else ())])
        key = _TEXT.get(key, key)
        if key in values:
            raise ValueError(f"{key}={value!r} in {text!r} is given twice: give it once")
        values[key] = _value(key, value, build, text)
    if loss is not None and values.setdefault("loss", loss) != loss:
        raise ValueError(
            f"loss={loss!r} differs from loss={values['loss']!r} in {text!r}: give one of them"
        )
    return build(**values)
