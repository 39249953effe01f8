"""Products with a wide weight are those of dense entries: values, gradients of inputs and weight.

Square sides are among the shapes, so that a transposed product has the same shape and other numbers.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from leadline.matrixfree import products, views  # noqa: F401  (both fill the table of torch's functions)
from leadline.matrixfree.matrix import Passes, WideMatrix
from leadline.matrixfree.weight import Layout, WideWeight
from leadline.solving.configuration import Settings
from leadline.solving.fast import FastOperator
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.sides import Rectangle
from leadline.solving.updates import Step

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def fast(settings, rows, columns, seed):
    return FastOperator(settings, np.random.SeedSequence(seed), n_in=columns, n_out=rows, std=0.5)


def gaussian(settings, rows, columns, seed):
    noise = [Noise(seed, (k,), n) for k, n in enumerate((rows, rows, columns, columns))]
    return Operator(settings, *noise[:2], Rectangle(rows, columns, 0.5, *noise[2:]))


def wide(rows, columns, experts=0, kernel=(), answers=fast):
    """A weight, and its matrices."""
    settings = Settings(
        n=rows, expected=rows, reused=True, tol=0.0, dtype=F64, device=torch.device("cpu")
    )
    passes, whole = Passes(), answers is fast
    made = tuple(
        WideMatrix(rows, columns, answers(settings, rows, columns, e), passes, F64, whole=whole)
        for e in range(experts or 1)
    )
    layout = Layout("w", made, (0, rows), (0, columns), stacked=experts > 0, kernel=kernel)
    return WideWeight.parameter(layout, F64, torch.device("cpu")), made


def same(function, x_shape, *shape, **options):
    """Value and gradients of ``function(x, w)``, wide first: its W(0) is read off afterwards."""
    weight, made = wide(*shape, **options)
    x = normal(*x_shape)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    y = function(a, weight)
    c = normal(*y.shape, seed=1)
    with made[0].passes.gradient():
        (y * c).sum().backward()
    entries = torch.stack([m.initial() for m in made]).reshape(weight.shape).requires_grad_()
    z = function(b, entries)
    (z * c).sum().backward()
    assert y.shape == z.shape
    assert y.is_contiguous() or not z.is_contiguous(), "code that views what a product returns"
    torch.testing.assert_close(y, z, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-11)
    # A step of rate 1 takes the gradient away from W.
    moved = []
    for m in made:
        m.update(Step(1.0))
        moved.append(m.initial() - m.answers.query(torch.eye(m.n_in, dtype=F64))[0].mT)
    gradient = torch.stack(moved).reshape(entries.shape)
    torch.testing.assert_close(gradient, entries.grad, rtol=1e-10, atol=1e-10)


MATRICES = {
    "linear": lambda x, w: F.linear(x, w),
    "linear by names": lambda x, w: F.linear(weight=w[2:5], input=x, bias=x.sum() * x.new_ones(3)),
    "matmul": lambda x, w: x @ w.mT / 3,
    "matmul, weight first": lambda x, w: (w @ x.mT).mT,
    "matmul by names": lambda x, w: torch.matmul(other=w.T, input=x),
    "rmatmul": lambda x, w: w.T.__rmatmul__(x),
    "mm": lambda x, w: torch.mm(x[0], w.t()) - w.mm(x[1].T).T,
    "mv": lambda x, w: torch.mv(w, x[0, 0]) + w @ x[1, 1] + x[2, 2] @ w.T,
    "one matrix on a batch": lambda x, w: torch.matmul(w, x.mT),
    "four axes": lambda x, w: x.reshape(3, 1, 5, 12) @ w.transpose(0, 1),
    "einsum": lambda x, w: torch.einsum("bpi,ji->jbp", x, w),
    "einsum, weight first": lambda x, w: torch.einsum("ji,bpi->pjb", w, x),
    "einsum with a sum": lambda x, w: torch.einsum("bpi,ji->jb", x, w),
    "einsum, all letters sorted otherwise": lambda x, w: torch.einsum("ZaQ,AQ -> AZa", x, w),
    "einsum with dots": lambda x, w: torch.einsum("...i,oi->...o", x, w),
    "einsum with dots in the middle": lambda x, w: torch.einsum("p...i,oi->o...p", x, w),
    "einsum of a list": lambda x, w: torch.einsum("bpi,ji->bj", [x, w]),
    "einsum with numbers": lambda x, w: torch.einsum(x, [0, 1, 2], w, [3, 2], [3, 0, 1]),
    "einsum of a transpose": lambda x, w: torch.einsum("bpi,ij->pjb", x, w.T),
    "parts": lambda x, w: torch.cat([F.linear(x, p) for p in w.split([1, 7])], -1),
    "chunks": lambda x, w: torch.cat([F.linear(x, p) * k for k, p in enumerate(w.chunk(3))], -1),
    "chunks of a transpose": lambda x, w: torch.cat([x @ p for p in w.T.chunk(2, -1)], -1),
    "narrow": lambda x, w: F.linear(x, w.narrow(0, -3, 2)) * 2,
    "columns": lambda x, w: F.linear(x[..., :4], w[:, 8:]) + F.linear(x, w).sum(-1, keepdim=True),
    "block of a block": lambda x, w: x[..., 2:5] @ w[1:7].T[4:, 2:][1:4],
    "detached": lambda x, w: F.linear(x, w.detach()) + F.linear(x, w) ** 2,
    "addmm": lambda x, w: torch.addmm(x[1, :, :8], x[0], w.T),
    "addmm with numbers": lambda x, w: torch.addmm(
        x[1, :, :8], mat2=w.T, mat1=x[0], beta=-0.7, alpha=3
    ),
    "addmm, weight first": lambda x, w: x[0, :1, :5].addmm(w, x[1].T, beta=2, alpha=0.3),
    "addmm without what is added": lambda x, w: torch.addmm(x[0, 0, :8], x[1], w.T, beta=0),
    "addmv": lambda x, w: torch.addmv(x[0, 0, :8], w, x[1, 0], beta=0.5, alpha=-2),
    "factors": lambda x, w: F.linear(x, -w * 0.25) + F.linear(x, 3 * w / 7),
    "factor that learns": lambda x, w: F.linear(x, w * x[0, 0, 0]) + F.linear(x, w / x.norm()),
    "other tensors of its type": lambda x, w: x @ w.T + w.new_full((8,), 2) + x.sum().type_as(w),
    "the same shape": lambda x, w: x @ w.reshape(8, -1).T @ w.view_as(w).view(w.shape).flatten(1),
    "twice": lambda x, w: F.linear(torch.tanh(F.linear(x, w)) @ w, w),
    "Gram matrix": lambda x, w: x @ w.T @ w,
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(name):
    same(MATRICES[name], (3, 5, 12), 8, 12)


@pytest.mark.parametrize("answers", [fast, gaussian])
@pytest.mark.parametrize("name", MATRICES)
def test_what_a_product_returns_may_be_changed_in_place(name, answers):
    """As Falcon does: y = layer(x); y += x."""

    def changed(x, w):
        # A kind of ``detach`` apart, what torch lets be changed has to be here.
        y = MATRICES[name](x, w)
        y += 0.5
        y *= x.mean()
        return y.tanh_()

    same(changed, (3, 5, 12), 8, 12, answers=answers)


@pytest.mark.parametrize("name", ["matmul", "einsum, weight first", "addmm with numbers", "twice"])
def test_gaussian_matrices(name):
    same(MATRICES[name], (3, 5, 12), 8, 12, answers=gaussian)


SQUARE = {
    "linear": lambda x, w: F.linear(x, w),
    "matmul": lambda x, w: x @ w,
    "weight first": lambda x, w: w @ x,
    "einsum": lambda x, w: torch.einsum("bip,ij->jbp", x, w),
    "einsum of the other side": lambda x, w: torch.einsum("bip,ji->jbp", x, w),
    "mv": lambda x, w: w.mv(x[0, 0]) + 2 * (x[1, 1] @ w),
    "addmm": lambda x, w: torch.addmm(x[0], x[1], w, beta=3, alpha=0.1),
    "addmm, weight first": lambda x, w: torch.addmm(x[0], w, x[1], beta=3, alpha=0.1),
    "tied to its transpose": lambda x, w: torch.relu(x @ w) @ w.T - F.linear(x.mT, w).mT,
    "a permutation": lambda x, w: x @ w.permute(1, 0) + 2 * (x @ w.swapaxes(-1, -2).adjoint()),
}


@pytest.mark.parametrize("answers", [fast, gaussian])
@pytest.mark.parametrize("name", SQUARE)
def test_square_matrices(name, answers):
    same(SQUARE[name], (2, 8, 8), 8, 8, answers=answers)


STRIDES = [
    dict(),
    dict(stride=2),
    dict(dilation=2, padding="same"),
    dict(padding=1, stride=3, dilation=2),
    dict(padding="valid"),
]
CONVOLUTIONS = {
    1: (F.conv1d, (11,), (3,)),
    2: (F.conv2d, (7, 6), (2, 3)),
    3: (F.conv3d, (7, 5, 6), (2, 1, 3)),
}


@pytest.mark.parametrize("options", STRIDES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dims", CONVOLUTIONS)
def test_convolutions(options, groups, dims):
    convolution, places, kernel = CONVOLUTIONS[dims]

    def function(x, w):
        return convolution(x, w, bias=x.mean() * x.new_ones(8), groups=groups, **options)

    columns = 3 * int(np.prod(kernel))
    same(function, (2, 3 * groups, *places), 8, columns, kernel=kernel)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: F.conv2d(x, w, None, (2, 1), (1, 0), (1, 2)),
        lambda x, w: F.conv2d(x[0], w, padding=[1, 2]),
        lambda x, w: torch.conv2d(x, weight=w * 2),
        lambda x, w: F.conv2d(F.pad(x, (1, 2, 0, 1), mode="circular"), w, stride=(2,)),
        lambda x, w: F.unfold(x, (2, 3)).mT @ w.flatten(1).T,
        lambda x, w: F.linear(F.unfold(x, (2, 3)).mT, w.view(8, -1)),
    ],
)
def test_convolutions_in_other_forms(function):
    same(function, (2, 3, 7, 6), 8, 3 * 6, kernel=(2, 3))


def test_a_convolution_of_gaussian_answers():
    def function(x, w):
        return F.conv1d(x, w, stride=2, groups=2)

    same(function, (2, 6, 7), 8, 9, kernel=(3,), answers=gaussian)


OFFSETS = torch.tensor([2, 2, 7], dtype=torch.int32)
INDEX = torch.tensor([2, 0, 2, 1, 2])


def grouped(x, w):
    """For dense entries what ``grouped_mm`` is, in float64."""
    if isinstance(w, WideWeight):
        return F.grouped_mm(x, w, offs=OFFSETS)
    ends = [0, *OFFSETS.tolist()]
    return torch.cat([x[a:b] @ w[e] for e, (a, b) in enumerate(pairwise(ends))])


EXPERTS = {
    "matmul": ((3, 5, 8), lambda x, w: x @ w),
    "bmm": ((3, 5, 8), lambda x, w: torch.bmm(x, mat2=w)),
    "bmm, weight first": ((3, 12, 5), lambda x, w: w.bmm(x)),
    "matmul, the same rows for all": ((5, 8), lambda x, w: x @ w),
    "matmul, one row for all": ((8,), lambda x, w: x @ w),
    "matmul, one column for all": ((12,), lambda x, w: w @ x),
    "matmul with more axes": ((2, 3, 5, 8), lambda x, w: x @ w),
    "matmul, an axis that is repeated": ((2, 1, 5, 8), lambda x, w: torch.matmul(x, w)),
    "matmul of the transposes": ((3, 5, 12), lambda x, w: x @ w.transpose(-1, -2)),
    "matmul of permuted axes": ((3, 5, 12), lambda x, w: x @ w.permute(0, 2, 1)),
    "baddbmm": (
        (3, 5, 8),
        lambda x, w: torch.baddbmm(x[:, :1, :1], x, w, beta=-2, alpha=0.3),
    ),
    "baddbmm, weight first": (
        (3, 12, 5),
        lambda x, w: torch.baddbmm(x[0, :8], batch2=x, batch1=w, beta=0.5, alpha=4),
    ),
    "einsum, every expert with all rows": (
        (5, 8),
        lambda x, w: torch.einsum("pi,eij->epj", x, w),
    ),
    "einsum, a sum over experts": ((5, 8), lambda x, w: torch.einsum("pi,eij->pj", x, w)),
    "einsum, every expert with its rows": (
        (5, 8, 3),
        lambda x, w: torch.einsum("kio,pik->pok", w, x),
    ),
    "einsum with dots": ((2, 3, 5, 8), lambda x, w: torch.einsum("...epi,eij->...epj", x, w)),
    "einsum over the other side": ((3, 5, 12), lambda x, w: torch.einsum("epj,eij->pie", x, w)),
    "each expert by itself": (
        (3, 5, 8),
        lambda x, w: torch.stack([x[e] @ w[e] * (e + 1) for e in range(3)]),
    ),
    "unbind": (
        (3, 5, 8),
        lambda x, w: torch.stack(
            [a @ b * k for k, (a, b) in enumerate(zip(x, w.unbind(), strict=True))]
        ),
    ),
    "iteration": ((5, 8), lambda x, w: torch.stack([x @ m for m in w])),
    "last two experts": ((2, 5, 8), lambda x, w: x @ w[1:] + x.flip(0) @ w[-2:, :, :]),
    "parts of experts": ((3, 5, 8), lambda x, w: torch.cat([x @ p for p in w.chunk(2, -1)], -1)),
    "parts of inputs": ((3, 5, 3), lambda x, w: x @ w[:, 2:5] + x @ w[..., 1:4, :]),
    "one expert for every row": ((5, 1, 8), lambda x, w: torch.bmm(x, w[INDEX])),
    "an index, weight first": ((5, 12, 2), lambda x, w: w.index_select(0, INDEX) @ x),
    "an index, the same rows for all": ((4, 8), lambda x, w: x @ w[INDEX]),
    "an index of transposes": ((5, 2, 12), lambda x, w: x @ w.mT[INDEX]),
    "part of an index": ((2, 3, 8), lambda x, w: x @ w[INDEX][1:3]),
    "grouped_mm": ((9, 8), lambda x, w: grouped(x, w)[:7]),
    "grouped_mm of transposes": ((7, 12), lambda x, w: grouped(x, w.mT)),
}


@pytest.mark.parametrize("name", EXPERTS)
def test_experts(name):
    same(EXPERTS[name][1], EXPERTS[name][0], 8, 12, experts=3)


@pytest.mark.parametrize("name", ["bmm", "grouped_mm", "one expert for every row"])
def test_experts_of_gaussian_answers(name):
    same(EXPERTS[name][1], EXPERTS[name][0], 8, 12, experts=3, answers=gaussian)


@pytest.mark.parametrize("name", ["matmul", "einsum, a sum over experts", "grouped_mm"])
def test_square_experts(name):
    """A transposed product would have the same shape."""
    shape, function = EXPERTS[name]
    same(function, shape, 8, 8, experts=3)
    same(lambda x, w: function(x, w.mT), shape, 8, 8, experts=3)


def test_grouped_rows_beyond_the_last_group_are_zero():
    weight, _ = wide(8, 12, experts=3)
    y = F.grouped_mm(normal(9, 8), weight, offs=OFFSETS)
    assert y.shape == (9, 12)
    assert (y[:7] != 0).all()
    assert (y[7:] == 0).all()


def test_no_rows_at_all():
    same(lambda x, w: F.linear(x, w), (0, 12), 8, 12)
    same(lambda x, w: torch.bmm(x, w[INDEX[:0]]), (0, 1, 8), 8, 12, experts=3)
    same(lambda x, w: x @ w.mT[INDEX[:0]], (2, 12), 8, 12, experts=3)
    weight, made = wide(8, 12, experts=3)
    with made[0].passes.gradient():
        torch.bmm(normal(0, 1, 8), weight[INDEX[:0]]).sum().backward()
    assert made[0].pending, "a gradient of 0, for momentum and decay, is not none"


X = normal(3, 12, 12)


@pytest.mark.parametrize(
    "call",
    [
        lambda w: w + 1,
        lambda w: X[0] * w,
        lambda w: w * w,
        lambda w: w.sum(),
        lambda w: w @ w,
        lambda w: F.linear(w, X[0]),
        lambda w: F.linear(X, w, w),
        lambda w: torch.addmm(w, X[0], X[1]),
        lambda w: torch.einsum("bpi,ji", X, w),
        lambda w: torch.einsum("ii,bpq->bpq", w, X),
        lambda w: torch.einsum("bij,ij->b", X, w),
        lambda w: torch.einsum("bpi,ji,jk->bpk", X, w, X[0]),
        lambda w: torch.einsum("bpi,ji->bpij", X, w),
        lambda w: torch.tensordot(X, w, 1),
        lambda w: torch.inner(X, w),
        lambda w: torch.kron(X[0], w),
        lambda w: F.bilinear(X, X, w[None]),
        lambda w: F.grouped_mm(X[0], w, offs=OFFSETS),
        lambda w: F.conv1d(X, w),
        lambda w: torch.mm(X[0], w, out=X[1].clone()),
        lambda w: X[0].clone().addmm_(X[1], w),
        lambda w: w[0],
        lambda w: w[::2],
        lambda w: w[:, INDEX],
        lambda w: w.view(-1),
        lambda w: w.double().long(),
        lambda w: w * X[:1, :1, :1],
        lambda w: torch.stack([w, w]),
        lambda w: torch.linalg.multi_dot([X[0], w, X[1]]),
        lambda w: w.tolist(),
        lambda w: w.zero_(),
        lambda w: torch.einsum("bpi,ji->bp", X, w),
        lambda w: torch.div(w, 2, rounding_mode="floor"),
        lambda w: w.type("torch.IntTensor"),
        lambda w: w.to(torch.int64),
        lambda w: X.new_tensor(w),
        lambda w: torch.zeros_like(w),
    ],
)
@pytest.mark.filterwarnings("ignore:To copy construct")
def test_what_is_no_product_is_refused_by_name(call):
    weight, _ = wide(12, 12)
    with pytest.raises(
        ValueError, match=r"(?s)parameter 'w' is wide.*needs its entries.*stored='w'"
    ):
        call(weight)


@pytest.mark.parametrize(
    "call",
    [
        lambda w: F.conv_transpose1d(normal(2, 8, 5), w),
        lambda w: w[:4],
        lambda w: w.chunk(2),
        lambda w: normal(2, 12) @ w,
        lambda w: torch.einsum("bi,oik->bok", normal(2, 3), w),
        lambda w: w.mT,
    ],
)
def test_a_kernel_is_refused_where_it_does_not_convolve(call):
    weight, _ = wide(8, 12, kernel=(4,))
    with pytest.raises(ValueError, match="parameter 'w' is wide"):
        call(weight)


@pytest.mark.parametrize(
    "call",
    [
        lambda w: F.linear(normal(2, 5), w),
        lambda w: normal(2, 5) @ w,
        lambda w: F.linear(normal(2, 12).to(torch.complex128), w),
    ],
)
def test_rows_of_another_length_or_kind_are_told(call):
    weight, _ = wide(8, 12)
    with pytest.raises(ValueError, match=r"parameter 'w', which has (12|8) real entries there, is"):
        call(weight)
