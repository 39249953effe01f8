"""Role tables of real models against hand-written ones: every parameter, its place and its factors."""

import functools

import pytest
from torch import nn

import leadline as ll
import role_tables as tables
from tracing_models import (
    ConvBlock,
    Own,
    gpt2,
    images,
    llama,
    mixer,
    resnet,
    vit,
)

# (init, lr, λ, ε) in powers of m: the table of 2011.14522 and 2203.03466 in PyTorch's convention.
WIDTH = {
    "adamw": {
        "input": (0, 0, 0, -1),
        "hidden": (-0.5, -1, 1, -1),
        "readout": (-1, -1, 1, 0),
        "vector": (0, 0, 0, -1),
        "finite": (0, 0, 0, 0),
    },
    "sgd": {
        "input": (0, 1, -1, 0),
        "hidden": (-0.5, 0, 0, 0),
        "readout": (-1, -1, 1, 0),
        "vector": (0, 1, -1, 0),
        "finite": (0, 0, 0, 0),
    },
}
# In branches, powers of r: completep (2505.01618), and depth-mup for branches of one layer.
DEPTH = {
    ("adamw", "many"): (0, 0, 0, -1),
    ("sgd", "many"): (0, 1, -1, 0),
    ("adamw", "one"): (0, -0.5, 0.5, -0.5),
    ("sgd", "one"): (0, 0, 0, 0),
}
# A multiplier a that is folded: powers of a.
FOLD = {"adamw": (1, 1, -1, -1), "sgd": (1, 2, -2, 0)}
# The builder's own draw, in powers of (m, r).
DRAW = {"c": (0, 0), "i": (-0.5, 0), "o": (-0.5, 0), "cL": (0, -0.5)}


def expected(row, optimizer, m, r):
    """(init, lr, λ, ε) of one line of a table."""
    _, role, where, takes, draw = row
    layers = int(where.split("/")[1].rstrip("!")) if where != "-" else None
    depth = (0, 0, 0, 0) if layers is None else DEPTH[optimizer, "one" if layers == 1 else "many"]
    a = {"-": 1.0, "readout": 1 / m, "branch": r ** (-0.5 if layers == 1 else -1.0)}[takes]
    out = [
        m**w * r**d * a**k
        for w, d, k in zip(WIDTH[optimizer][role], depth, FOLD[optimizer], strict=True)
    ]
    out[0] /= m ** DRAW[draw][0] * r ** DRAW[draw][1]
    return tuple(out)


def line(kind):
    """What a plan says, as a line of a table without its draw."""
    where = "-" if kind.position is None else f"{kind.position + 1}/{kind.layers}"
    where += "!" if kind.last else ""
    return kind.template, kind.role, where, "+".join(what for what, _ in kind.takes) or "-"


MODELS = {
    "gpt2": (gpt2, 32, tables.GPT2),
    "llama": (llama, 32, tables.LLAMA),
    "vit": (vit, 32, tables.VIT),
    "resnet": (resnet, 8, tables.RESNET),
    "resnet bottleneck": (functools.partial(resnet, layer="bottleneck"), 8, tables.BOTTLENECK),
    "convolutions": (images(ConvBlock), 8, tables.CONVOLUTIONS),
    "mixer": (mixer, 16, tables.MIXER),
    **{f"own {k}": (functools.partial(Own, layers=k), 16, tables.own(k)) for k in (1, 2, 3)},
}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("name", MODELS)
def test_the_whole_table(name, optimizer):
    build, n, table = MODELS[name]
    base, target = dict(width=n, depth=2), dict(width=3 * n, depth=4)
    plan = ll.plan(build, base, target, optimizer=optimizer)
    assert sorted(line(k) for k in plan.kinds) == sorted(row[:4] for row in table)
    model = build(3 * n, 4)
    found = plan.factors()
    assert set(found) == {n for n, _ in model.named_parameters()}
    for name_, f in found.items():
        kind = plan.kinds[plan.names[name_]]
        (row,) = {r for r in table if r[:4] == line(kind)}
        due = expected(row, optimizer, 3.0, 2.0)
        # SGD and Adam without ε of their own keep it as it is.
        got = (f.init, f.lr, f.weight_decay, f.eps if optimizer == "adamw" else due[3])
        assert got == pytest.approx(due, rel=1e-9), (name_, row)


def torchvision_vit(n, depth):
    models = pytest.importorskip("torchvision.models", exc_type=Exception)
    return models.VisionTransformer(32, 8, depth, n // 16, n, 4 * n, num_classes=10)


def timm_vit(n, depth):
    timm = pytest.importorskip("timm", exc_type=Exception)
    how = dict(img_size=32, patch_size=8, embed_dim=n, depth=depth, num_heads=n // 16)
    return timm.models.vision_transformer.VisionTransformer(**how, num_classes=10)


@pytest.mark.parametrize(
    ("build", "inner", "last"),
    [
        (torchvision_vit, "mlp.0.weight", "mlp.3.weight"),
        (timm_vit, "mlp.fc1.weight", "mlp.fc2.weight"),
    ],
)
def test_other_libraries_where_they_import(build, inner, last):
    assert isinstance(build(32, 2), nn.Module)
    plan = ll.plan(build, dict(width=32, depth=2), dict(width=64, depth=4))
    lines = {k.template: line(k)[1:] for k in plan.kinds}
    assert {v for k, v in lines.items() if k.endswith(inner)} == {("hidden", "1/2", "-")}
    assert {v for k, v in lines.items() if k.endswith(last)} == {("hidden", "2/2!", "branch")}
