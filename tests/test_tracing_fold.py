"""Which parameters scale a tensor, operation by operation; and whether they scale nothing else."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leadline.tracing.fold import Fold, closed, exclusive, fold
from leadline.tracing.graph import Graph, Node
from leadline.tracing.recording import record

N = 4


class Run(nn.Module):
    """Parameters a, b (square), g, c (vectors), k (filters), e (a table); ``f`` makes the result."""

    def __init__(self, f):
        super().__init__()
        self.f = f
        for name, shape in dict(a=(N, N), b=(N, N), g=(N,), c=(N,), k=(N, N, 3), e=(9, N)).items():
            setattr(self, name, nn.Parameter(torch.rand(shape) + 1))
        self.ones = torch.full((N,), 1.0)

    def forward(self, x):
        return self.f(self, x)


def written(whole, part):
    whole[:, :2] = part if part.dim() < 2 else part[:, :2]
    return whole * 1.0


def result(f, x=None):
    """The graph, and the node of the result."""
    graph = record(Run(f), torch.randn(2, N) if x is None else x)
    return graph, len(graph.nodes) - 1


def names(f, x=None):
    """What scales the result, in alphabetical order; None where nothing does."""
    found = fold(*result(f, x))
    return None if found is None else "".join(sorted(found.parameters))


FOLDS = {
    # Products with weights.
    "a product": (lambda s, x: x @ s.a, "a"),
    "and its bias": (lambda s, x: F.linear(x, s.a, s.c), "ac"),
    "of products": (lambda s, x: torch.tanh(x @ s.a) @ s.b, "b"),
    "a matrix and a vector": (lambda s, x: x @ s.g, "g"),
    "a filter": (lambda s, x: F.conv1d(x[..., None].expand(-1, -1, 5), s.k), "k"),
    "a filter and its bias": (lambda s, x: F.conv1d(x[..., None].expand(-1, -1, 5), s.k, s.c), "ck"),
    "a table": (lambda s, x: F.embedding((x[:, 0] * 0).long(), s.e), "e"),
    "one half of a table": (lambda s, x: F.embedding((x[:, 0] * 0).long(), s.e)[:, :2], "e"),
    # Sums of a tensor and what is made of it.
    "a skip": (lambda s, x: (y := x @ s.a) + y @ s.b, "a"),
    "of filters": (lambda s, x: (y := (x @ s.a)[:, None]) + F.conv1d(y, s.k[:1, :1], padding=1), "a"),
    "of a gain": (lambda s, x: torch.relu((y := x @ s.a) * s.g) * 3.0 + y, "a"),
    "of a square": (lambda s, x: (y := x @ s.a) + y * y, None),
    "of a quotient": (lambda s, x: (y := x @ s.a) + 1.0 / y, None),
    "of data": (lambda s, x: x + x @ s.a, None),
    # Products of data: the first that acts on nothing else.
    "of values": (lambda s, x: (x @ s.a).softmax(-1).mT @ (x @ s.b), "b"),
    "of scores": (lambda s, x: (x @ s.a).mT @ torch.tanh(x @ s.b), "a"),
    "of both": (lambda s, x: (x @ s.a).mT @ (x @ s.b), "b"),
    "of one used twice": (lambda s, x: ((x @ s.a).mT @ (y := x @ s.b)) * y.sum().sign(), "a"),
    "of nothing": (lambda s, x: torch.tanh(x @ s.a).mT @ torch.tanh(x @ s.b), None),
    "attention": (
        lambda s, x: F.scaled_dot_product_attention(
            (x @ s.a)[None], torch.tanh(x)[None], (x @ s.b)[None]), "b"),
    "fused attention": (
        lambda s, x: F.scaled_dot_product_attention(
            (x @ s.a)[None, None], torch.tanh(x)[None, None], (x @ s.b)[None, None]), "b"),
    # A weight that is a product: one of its factors.
    "low rank": (lambda s, x: x @ (s.a @ s.b), "b"),
    "low rank of one that folds": (lambda s, x: x @ (s.a @ torch.exp(s.b)), "a"),
    "low rank of none": (lambda s, x: x @ (torch.exp(s.a) @ torch.exp(s.b)), None),
    "a gain of two": (lambda s, x: (x @ s.a) * (s.g * s.c), "g"),
    # What is added to a product.
    "added data": (lambda s, x: torch.addmm(torch.tanh(x), x, s.a), None),
    "added products": (lambda s, x: torch.addmm(x @ s.b, x, s.a), "ab"),
    "an added weight": (lambda s, x: torch.addmm(s.c, x, x.mT @ x), None),
    "an added weight and data": (lambda s, x: torch.addmm(s.c, x, x.mT @ (x @ s.b)), "bc"),
    "added to matrices": (lambda s, x: torch.baddbmm(x[None], x[None], s.a[None]), None),
    "added to a vector": (lambda s, x: torch.addmv(x @ s.c, x @ s.b, s.g), "cg"),
    "added to products of matrices": (
        lambda s, x: torch.baddbmm((x @ s.a)[None], (x @ s.k[..., 0])[None], s.b[None]), "ab"),
    "added ones": (lambda s, x: F.linear(x, s.a, s.ones), None),
    "added zeros": (lambda s, x: F.linear(x, s.a, 0 * s.ones), "a"),
    "a filter and ones": (lambda s, x: F.conv1d(x[..., None].expand(-1, -1, 5), s.k, s.ones), None),
    # Views and what keeps positive factors.
    "views": (lambda s, x: (x @ s.a).t().reshape(-1)[1:].clone(), "a"),
    "relu": (lambda s, x: F.leaky_relu(torch.relu(x @ s.a)).abs(), "a"),
    "dropout": (lambda s, x: F.dropout(x @ s.a, 0.5), "a"),
    "tanh": (lambda s, x: torch.tanh(x @ s.a), None),
    "gelu": (lambda s, x: F.gelu(x @ s.a), None),
    "padded by 0": (lambda s, x: F.pad(x @ s.a, (1, 1)), "a"),
    "padded by 1": (lambda s, x: F.pad(x @ s.a, (1, 1), value=1.0), None),
    "masked by 0": (lambda s, x: (x @ s.a).masked_fill(x > 0, 0.0), "a"),
    "masked by -∞": (lambda s, x: (x @ s.a).masked_fill(x > 0, -math.inf), "a"),
    "masked by ∞": (lambda s, x: (x @ s.a).masked_fill(x > 0, math.inf), None),
    "masked by 2": (lambda s, x: (x @ s.a).masked_fill(x > 0, 2.0), None),
    "masked by a tensor of 0": (
        lambda s, x: (x @ s.a).masked_fill(x > 0, torch.tensor(0.0, dtype=x.dtype)), "a"),
    "masked by a tensor of 2": (
        lambda s, x: (x @ s.a).masked_fill(x > 0, torch.tensor(2.0, dtype=x.dtype)), None),
    "masked by data": (lambda s, x: (x @ s.a).masked_fill(x > 0, x.sum()), None),
    "above 0": (lambda s, x: F.threshold(x @ s.a, 0.0, 0.0), "a"),
    "above 0, else 1": (lambda s, x: F.threshold(x @ s.a, 0.0, 1.0), None),
    "above 1": (lambda s, x: F.threshold(x @ s.a, 1.0, 0.0), None),
    "entries": (lambda s, x: (x @ s.a)[torch.arange(2), torch.arange(1, 3)], "a"),
    # Norms.
    "a norm": (lambda s, x: F.layer_norm(x @ s.a, (N,), s.g, s.c), "cg"),
    "a norm's gain": (lambda s, x: F.layer_norm(x @ s.a, (N,), s.g), "g"),
    "a plain norm": (lambda s, x: F.layer_norm(x @ s.a, (N,)), None),
    "a normalised weight": (lambda s, x: x @ F.layer_norm(s.a, (N,)), None),
    "a normalised weight's gain": (lambda s, x: x @ F.layer_norm(s.a, (N,), s.g), "g"),
    "batches": (lambda s, x: F.batch_norm(x @ s.a, None, None, s.g, s.c, True), "cg"),
    "weight norm": (lambda s, x: x @ (s.g * s.a / s.a.norm(dim=0, keepdim=True)), "g"),
    "weight norm with a gain that is no weight": (
        lambda s, x: x @ (s.g.exp() * s.a / s.a.norm(dim=0, keepdim=True)), None),
    # Products and sums.
    "a gain": (lambda s, x: s.g * (x @ s.a), "g"),
    "a gain behind": (lambda s, x: (x @ s.a) * s.g, "g"),
    "a number": (lambda s, x: (x @ s.a) * 3.0, "a"),
    "a quotient": (lambda s, x: (x @ s.a) / 3.0, "a"),
    "over a weight": (lambda s, x: (x @ s.a) / s.g, "a"),
    "over a weight in place": (lambda s, x: (x @ s.a).div_(s.g), "a"),
    "over data": (lambda s, x: (x @ s.a) / torch.sigmoid(x @ s.b), "a"),
    "one over": (lambda s, x: torch.sigmoid(x) / (x @ s.b), None),
    "a gate": (lambda s, x: torch.sigmoid(x @ s.a) * (x @ s.b), "b"),
    "a gate behind": (lambda s, x: (x @ s.b) * torch.sigmoid(x @ s.a), "b"),
    "two factors": (lambda s, x: (x @ s.a) * (x @ s.b), "a"),
    "a factor used twice": (lambda s, x: (y := x @ s.a) * (x @ s.b) * y.sum().sign(), "b"),
    "a sum": (lambda s, x: x @ s.a + x @ s.b, "ab"),
    "a difference": (lambda s, x: x @ s.a - x @ s.b, "ab"),
    "a sum with a bias": (lambda s, x: x @ s.a + s.c, "ac"),
    "a sum with data": (lambda s, x: x @ s.a + x, None),
    "a sum with a number": (lambda s, x: x @ s.a + 1.0, None),
    "a sum with zero": (lambda s, x: x @ s.a + 0.0, "a"),
    "a sum with ones": (lambda s, x: x @ s.a + s.ones, None),
    "a sum with zeros": (lambda s, x: x @ s.a + torch.zeros(N), "a"),
    "a sum with other constants": (lambda s, x: x @ s.a + torch.arange(4.0), None),
    "of a sum with a nonlinearity": (lambda s, x: x @ s.a + torch.tanh(x @ s.b), None),
    # Parts put together.
    "side by side": (lambda s, x: torch.cat([x @ s.a, x @ s.b]), "ab"),
    "side by side with a weight": (lambda s, x: torch.cat([x @ s.a, s.b]), "ab"),
    "a stack": (lambda s, x: torch.stack([x @ s.a, x @ s.b]), "ab"),
    "beside ones": (lambda s, x: torch.cat([x @ s.a, s.ones[None]]), None),
    "beside zeros": (lambda s, x: torch.cat([torch.zeros_like(x), x @ s.a]), "a"),
    "stacked on ones": (lambda s, x: torch.stack([x @ s.a, torch.ones_like(x)]), None),
    "written to zeros": (lambda s, x: written(torch.zeros_like(x), x @ s.a), "a"),
    "written to what is empty": (lambda s, x: torch.empty_like(x).copy_(x @ s.a), "a"),
    "written to a part of what is empty": (
        lambda s, x: torch.empty_like(x).t()[:].copy_((x @ s.a).t()), "a"),
    "written to a view of what is empty": (
        lambda s, x: torch.empty_like(x)[:].copy_(x @ s.a), "a"),
    "beside constants written to what is empty": (
        lambda s, x: torch.cat([x @ s.a, torch.empty(1, N).copy_(torch.arange(4.0))]), None),
    "beside zeros that are masked": (
        lambda s, x: torch.cat([x @ s.a, (0 * s.ones).masked_fill(x > 0, -math.inf)]), None),
    "written to ones": (lambda s, x: written(torch.ones_like(x), x @ s.a), None),
    "written to products": (lambda s, x: written(x @ s.b, x @ s.a), "ab"),
    "written to rows": (
        lambda s, x: torch.zeros_like(x).index_put_((torch.tensor([1, 0]),), x @ s.a), "a"),
    "added to rows of ones": (
        lambda s, x: torch.ones_like(x).index_put((torch.tensor([1, 0]),), x @ s.a), None),
    "written where data say": (
        lambda s, x: torch.zeros_like(x).index_put(((x[:, 0] > 0).long(),), x @ s.a), "a"),
    "ones written": (lambda s, x: written(x @ s.a, s.ones[:2]), None),
    "with data": (lambda s, x: torch.cat([x @ s.a, x]), None),
    "the data alone": (lambda s, x: x * 1.0, None),
    "a parameter": (lambda s, x: s.g.repeat(1), "g"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDS)
def test_what_scales_a_tensor(name):
    f, due = FOLDS[name]
    assert names(f) == due


SCALED = [n for n, (_, due) in FOLDS.items() if due and n not in ("dropout", "masked by -∞")]


@pytest.mark.parametrize("name", SCALED)
def test_scaling_these_scales_it(name):
    """What a fold promises, by numbers: twice the parameters, twice the tensor."""
    f, due = FOLDS[name]
    model = Run(f).double()
    model.ones = model.ones.double()
    x = torch.randn(2, N, dtype=torch.float64)
    with torch.no_grad():
        before = model(x)
        for p in due:
            getattr(model, p).mul_(2)
        # Norms add an ε to the variance.
        torch.testing.assert_close(model(x), 2 * before, rtol=1e-6, atol=1e-9)


def test_nodes_on_the_way():
    graph, end = result(lambda s, x: torch.relu(F.linear(x, s.a, s.c)) * 2.0)
    ops = sorted(graph.nodes[i].parameter or graph.nodes[i].op for i in fold(graph, end).visited)
    assert ops == ["a", "addmm", "c", "mul", "relu", "t"]
    graph, end = result(lambda s, x: x @ (s.g * s.a / s.a.norm(dim=0, keepdim=True)))
    ops = sorted(graph.nodes[i].parameter or graph.nodes[i].op for i in fold(graph, end).visited)
    assert ops == ["div", "g", "mm", "mul"]


def test_union_leaves_its_parts_alone():
    one, two = Fold({"a"}, {1}), Fold({"b"}, {2})
    assert one.union(two, Fold({"c"}, {3})) == Fold({"a", "b", "c"}, {1, 2, 3})
    assert (one, two) == (Fold({"a"}, {1}), Fold({"b"}, {2}))


def is_closed(f, shared=frozenset()):
    graph, end = result(f)
    # The product is the target, whatever else is made of it.
    target = next(n.index for n in graph.nodes if n.op == "mm")
    found = fold(graph, target)
    return closed(graph, found, target, shared), exclusive(graph, found, target, {end}, shared)


def test_a_fold_must_act_on_nothing_else():
    assert is_closed(lambda s, x: (x @ s.a).tanh()) == (True, True)
    # The target may go to several places where that is allowed.
    assert is_closed(lambda s, x: (y := x @ s.a).tanh() + y.exp()) == (True, False)
    # Its weight may not.
    assert is_closed(lambda s, x: (x @ s.a).tanh() + s.a.sum()) == (False, False)
    assert is_closed(lambda s, x: (x @ s.a).tanh() + s.a.sum(), frozenset("a")) == (True, False)
    assert is_closed(lambda s, x: (x @ s.a).tanh() + s.a.sum(), frozenset("b")) == (False, False)
    graph, end = result(lambda s, x: x @ s.a)
    assert not closed(graph, None, end)


def test_operations_in_place():
    """copy_ into a part: the whole takes the weights of all parts."""

    def whole(s, x):
        y = torch.zeros(2, N) + (x @ s.a)
        y[:, :2] = (x @ s.b)[:, :2]
        return y * 1.0

    graph, end = result(whole)
    found = fold(graph, end)
    assert found is None or found.parameters <= {"a", "b"}
    nodes = [
        Node(0, "parameter", [], (N,), parameter="p"),
        Node(1, "input", [], (N,)),
        *(Node(2 + i, op, [0, 1], (N,)) for i, op in enumerate(
            ("copy_", "index_put_", "index_put", "select_scatter", "cat", "stack"))),
    ]  # fmt: skip
    graph = Graph(nodes, {"p": 0}, [1])
    assert [fold(graph, i) for i in range(2, 8)] == [None] * 6
    for n in nodes[2:]:
        n.inputs = [0, 0]
    graph = Graph(nodes, {"p": 0}, [1])
    assert [fold(graph, i) for i in range(2, 8)] == [Fold({"p"}, {0, i}) for i in range(2, 8)]


def test_ways_that_part_and_meet_again_are_gone_once():
    # Two ways through each sum: 2^60 of them, were each gone by itself.
    def diamonds(s, x):
        x = x @ s.a
        for _ in range(60):
            x = x * 2.0 + x * 3.0
        return x

    graph, end = result(diamonds)
    found = fold(graph, end)
    assert found.parameters == {"a"}
    assert closed(graph, found, end)


def test_bounds_that_are_infinite_are_none():
    # What quantization will set, and has not.
    for bound, expected in ((math.inf, "a"), (3.0, None)):
        low, high = torch.tensor(-bound), torch.tensor(bound)
        assert names(lambda s, x, lo=low, hi=high: (x @ s.a).clamp(lo, hi)) == expected
