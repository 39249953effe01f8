"""Mixtures of experts, however written: factors by hand, and the exact effect of the multiplier."""

import pytest
import torch

import leadline as ll
from expert_models import BANKS, LISTS, OnlyWhatIsHit, build

BASE, TARGET = dict(width=32, depth=2), dict(width=64, depth=8)
X = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(3))
# m = 2, r = 4, AdamW, completep; by (role, last): rate and fold.
ROUTER, INNER, LAST = (0.5, 1.0), (0.5, 1.0), (0.125, 0.25)


def factors(block, scheme="auto"):
    plan = ll.plan(build(block), BASE, TARGET, scheme, inputs=X)
    return {n: (plan.kinds[plan.names[n]].role, f.lr, f.fold) for n, f in plan.factors().items()}


@pytest.mark.parametrize("block", LISTS, ids=lambda b: b.__name__)
def test_the_multiplier_goes_into_every_experts_last_layer(block):
    f = factors(block)
    for layer in range(8):
        for k in range(4):
            at = f"blocks.{layer}.experts.{k}"
            assert f[f"{at}.0.weight"] == ("hidden", *INNER)
            assert f[f"{at}.2.weight"] == ("hidden", *LAST)
            assert f[f"{at}.0.bias"] == ("vector", 1.0, 1.0)
            assert f[f"{at}.2.bias"] == ("vector", 0.25, 0.25)
        assert f[f"blocks.{layer}.router.weight"] == ("readout", *ROUTER)
    if "blocks.0.gate.weight" in f:
        assert f["blocks.0.gate.weight"] == ("readout", *ROUTER)
        assert f["blocks.0.shared.2.weight"] == ("hidden", *LAST)


@pytest.mark.parametrize("block", BANKS, ids=lambda b: b.__name__)
def test_experts_in_one_tensor(block):
    f = factors(block)
    assert f["blocks.3.up"] == ("hidden", *INNER)
    assert f["blocks.3.down"] == ("hidden", *LAST)
    assert f["blocks.3.router.weight"] == ("readout", *ROUTER)


@pytest.mark.parametrize("block", [*LISTS, *BANKS], ids=lambda b: b.__name__)
def test_the_branch_is_multiplied_exactly(block):
    plan = ll.plan(build(block), BASE, dict(width=32, depth=8), "completep", inputs=X)
    torch.manual_seed(0)
    model = build(block)(32, 8)
    h = torch.randn(2, 12, 32)
    before = model.blocks[5](h)
    plan.apply(model)
    torch.testing.assert_close(model.blocks[5](h), before / 4)


def test_an_expert_without_rows_is_as_the_others():
    """With three rows some experts of every draw stay idle."""
    plan = ll.plan(build(OnlyWhatIsHit), BASE, TARGET, inputs=X[:1, :3])
    folds = {f.fold for n, f in plan.factors().items() if n.endswith(".2.weight")}
    assert folds == {0.25}


def test_positions_do_not_count_the_router():
    """What chooses experts is no layer before theirs."""
    plan = ll.plan(build(LISTS[0]), BASE, inputs=X)
    layers = {n: plan.kinds[k] for n, k in plan.names.items()}
    assert layers["blocks.0.experts.0.0.weight"].position == 0
    assert layers["blocks.0.experts.0.2.weight"].position == 1
    assert layers["blocks.0.experts.0.2.weight"].layers == 2


def mixtral(implementation):
    transformers = pytest.importorskip("transformers")

    def make(n, depth):
        config = transformers.MixtralConfig(
            vocab_size=50, hidden_size=n, intermediate_size=2 * n, num_hidden_layers=depth,
            num_attention_heads=n // 16, num_key_value_heads=n // 16, num_local_experts=2,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        config._experts_implementation = implementation
        return transformers.MixtralForCausalLM(config)

    return make


@pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm", "eager"])
def test_mixtral(implementation):
    tokens = torch.arange(64).view(2, 32) % 47
    plan = ll.plan(mixtral(implementation), BASE, TARGET, inputs={"input_ids": tokens})
    by_kind = {
        k.template: (k.role, f.init, f.lr) for k in plan.kinds for f in [plan.kind_factors(k)]
    }
    root = 2**-0.5
    assert by_kind["model.layers.*.mlp.experts.gate_up_proj"] == (
        "hidden",
        pytest.approx(root),
        0.5,
    )
    assert by_kind["model.layers.*.mlp.experts.down_proj"] == (
        "hidden",
        pytest.approx(root / 4),
        0.125,
    )
    assert by_kind["model.layers.*.mlp.gate.weight"] == ("readout", 0.5, 0.5)
