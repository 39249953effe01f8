"""Problems: data, targets and loss, and where they come from."""

from leadline.problems.builtin import digits, power_law, teacher
from leadline.problems.cifar import cifar10
from leadline.problems.data import arrays
from leadline.problems.files import npz
from leadline.problems.images import mnist
from leadline.problems.parsing import parse
from leadline.problems.problem import Problem

__all__ = [
    "Problem",
    "arrays",
    "cifar10",
    "digits",
    "mnist",
    "npz",
    "parse",
    "power_law",
    "teacher",
]
