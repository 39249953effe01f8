"""What the configs of the panel share: how a small model of a ``model_type`` is built."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Extra = Callable[[int, int], dict[str, Any]]
TOKENS = torch.arange(12).view(2, 6) % 7 + 3
WORDS = {"input_ids": TOKENS}
PAIR = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :4]}


def seed() -> torch.Generator:
    """Random numbers that are the same each time."""
    return torch.Generator().manual_seed(0)


def pixels(side: int, count: int = 2) -> dict[str, torch.Tensor]:
    """Two pictures; more where batch norms would make signs of two."""
    return {"pixel_values": torch.randn(count, 3, side, side, generator=seed())}


def sound(*shape: int, name: str = "input_values") -> dict[str, torch.Tensor]:
    """Two sounds, raw or as features."""
    return {name: torch.randn(2, *shape, generator=seed())}


@dataclass(frozen=True)
class Family:
    """How a ``model_type`` is built."""

    type: str
    head: str = "AutoModelForCausalLM"
    """A class of transformers, or one that picks it."""
    extra: Extra = lambda w, L: {}
    inputs: Any = field(default_factory=lambda: WORDS)
    """By name, or a callable of width and depth."""
    edit: Callable[[Any], None] | None = None
    """Changes the model that was built."""
    deep: bool = True
    """Has its config a depth? Otherwise it is planned between two widths."""

    def build(self, width: int, depth: int) -> nn.Module:
        """The model."""
        import transformers

        known = common(width, depth) | self.extra(width, depth)
        known = {k: v for k, v in known.items() if v is not None}
        config = transformers.AutoConfig.for_model(self.type, **known)
        made = pkgutil.resolve_name(f"transformers.{self.head}")
        model = made.from_config(config) if hasattr(made, "from_config") else made(config)
        if self.edit is not None:
            self.edit(model)
        return model


def common(w: int, depth: int) -> dict[str, Any]:
    """What most configs call their sizes."""
    return {
        "vocab_size": 97,
        "hidden_size": w,
        "intermediate_size": 2 * w,
        "num_hidden_layers": depth,
        "num_attention_heads": w // 16,
        "num_key_value_heads": w // 32,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def experts(**names: Any) -> Extra:
    """Mixtures: four experts, two of them active."""
    return lambda w, L: {
        "num_local_experts": 4,
        "num_experts": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": w,
        **{k: v(w) if callable(v) else v for k, v in names.items()},
    }


def some(**names: Any) -> Extra:
    """Settings, those that are functions of the width called."""
    return lambda w, L: {k: v(w, L) if callable(v) else v for k, v in names.items()}


def both(first: Extra, **names: Any) -> Extra:
    """These settings, and more of them."""
    return lambda w, L: {**first(w, L), **some(**names)(w, L)}


def width(times: int = 1, over: int = 1) -> Callable[[int, int], int]:
    """A multiple of the width."""
    return lambda w, L: times * w // over


def depth(w: int, layers: int) -> int:
    """The depth."""
    return layers


def heads(size: int = 16) -> Callable[[int, int], int]:
    """So many that each has this size."""
    return lambda w, L: w // size


def types(*names: str) -> Callable[[int, int], list[str]]:
    """Kinds of layers in turn, as many as there are layers."""
    return lambda w, L: list(names) * (L // len(names))


def sparse(**names: Any) -> Extra:
    """Latent attention that an indexer thins out."""
    return lambda w, L: {
        **mla(**names)(w, L),
        "index_topk": 4,
        "index_head_dim": 16,
        "index_n_heads": 2,
    }


def vision(**names: Any) -> Extra:
    """Of pictures of 32 by 32."""
    return lambda w, L: {
        "image_size": 32,
        "patch_size": 8,
        "num_channels": 3,
        **{k: v(w, L) if callable(v) else v for k, v in names.items()},
    }


def mla(**names: Any) -> Extra:
    """Multi-head latent attention."""
    return lambda w, L: {
        "q_lora_rank": w // 2,
        "kv_lora_rank": w // 2,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "num_key_value_heads": w // 16,
        "first_k_dense_replace": 0,
        "n_group": 1,
        "topk_group": 1,
        "head_dim": 8,
        **experts(**names)(w, L),
    }


GPT = dict(
    n_embd=lambda w, L: w, n_layer=lambda w, L: L, n_head=lambda w, L: w // 16, n_positions=64
)
SEQ = dict(
    d_model=lambda w, L: w,
    encoder_layers=lambda w, L: L,
    decoder_layers=lambda w, L: L,
    encoder_attention_heads=lambda w, L: w // 16,
    decoder_attention_heads=lambda w, L: w // 16,
    encoder_ffn_dim=lambda w, L: 2 * w,
    decoder_ffn_dim=lambda w, L: 2 * w,
)
T5 = dict(
    d_model=lambda w, L: w,
    d_kv=16,
    d_ff=lambda w, L: 2 * w,
    num_layers=lambda w, L: L,
    num_decoder_layers=lambda w, L: L,
    num_heads=lambda w, L: w // 16,
    decoder_start_token_id=0,
)
CONV = dict(
    conv_dim=lambda w, L: (w, w),
    conv_stride=(5, 4),
    conv_kernel=(10, 4),
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    mask_time_prob=0.0,
    layerdrop=0.0,
)
GONE = dict(num_hidden_layers=None, hidden_size=None, num_attention_heads=None, head_dim=None)
STAGES = dict(hidden_sizes=lambda w, L: [w, 2 * w], depths=lambda w, L: [L, L])
SWIN = dict(
    embed_dim=lambda w, L: w,
    depths=lambda w, L: [L, L],
    window_size=4,
    image_size=32,
    patch_size=4,
    num_heads=lambda w, L: [w // 16, w // 8],
    **GONE,
)
ENC, PIC, SPEECH = "AutoModelForMaskedLM", "AutoModelForImageClassification", "AutoModelForCTC"
SUM = "AutoModelForSeq2SeqLM"
