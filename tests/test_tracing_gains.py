"""Gains that a number is added to: which are read as c + w, and what takes a multiplier beside numbers."""

import math

import pytest
import torch
from torch import nn

from leadline.tracing.fold import fold, offsets
from leadline.tracing.recording import record


class Net(nn.Module):
    """Two weights and what is made of them and the data."""

    def __init__(self, make):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.make = make

    def forward(self, x):
        return self.make(x, self.w, self.v)


def graph_of(make):
    return record(Net(make), torch.randn(2, 3))


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (lambda x, w, v: x * (1 + w) * v, {"w": 1.0}),
        (lambda x, w, v: x * (w + 2.5) * v, {"w": 2.5}),
        (lambda x, w, v: x * (1 + w) * (3 + v), {"w": 1.0, "v": 3.0}),
        # Through views, and more than once with one number.
        (lambda x, w, v: x * (1 + w[None].expand(2, 3)) * v, {"w": 1.0}),
        (lambda x, w, v: x * (1 + w) + (1 + w.view(1, 3)) * v, {"w": 1.0}),
        # Two numbers, no number, or something else besides: not of the form c + w.
        (lambda x, w, v: x * (1 + w) + (2 + w) * v, {}),
        (lambda x, w, v: x * (0 + w) * v, {}),
        (lambda x, w, v: x * (1 + w) + w * v, {}),
        (lambda x, w, v: x * (1 + w) + w[None] * v, {}),
        (lambda x, w, v: x * (w + v), {}),
        (lambda x, w, v: x * (1 * w) * v, {}),
    ],
)
def test_which_parameters_are_scaled_with_their_number(make, numbers):
    assert offsets(graph_of(make)) == numbers


def names(make):
    """Parameters that take a multiplier of what the model returns; None: there is no place."""
    graph = graph_of(make)
    place = fold(graph, len(graph.nodes) - 1)
    return None if place is None else place.parameters


@pytest.mark.parametrize(
    ("make", "takes"),
    [
        (lambda x, w, v: x * (1 + w), {"w"}),
        (lambda x, w, v: x * (1 + w[None]), {"w"}),
        (lambda x, w, v: x * (0 + w), {"w"}),
        # Scaled as c + w only where that is all that w does.
        (lambda x, w, v: (x + w) * (1 + w), None),
        (lambda x, w, v: (x * (2 + w)).cos() * (1 + w), None),
        # What is left out is nothing, or takes no part in a softmax.
        (lambda x, w, v: torch.where(x > 0, x * w, 0.0), {"w"}),
        (lambda x, w, v: (x * w).masked_fill(x > 0, -math.inf), {"w"}),
        (lambda x, w, v: torch.where(x > 0, x * w, x * v), {"w", "v"}),
        (lambda x, w, v: torch.where(x > 0, x * w, 1.0), None),
        (lambda x, w, v: torch.where(x > 0, x * w, math.inf), None),
        (lambda x, w, v: torch.where(x > 0, x * w, -1.0), None),
    ],
)
def test_what_takes_a_multiplier_beside_numbers(make, takes):
    assert names(make) == takes
