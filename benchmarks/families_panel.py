"""The configs of the panel: how small models of each ``model_type`` are built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Extra = Callable[[int, int], dict[str, Any]]
TOKENS = torch.arange(12).view(2, 6) % 7 + 3
WORDS = {"input_ids": TOKENS}
PAIR = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :4]}


def pixels(side: int) -> dict[str, torch.Tensor]:
    """Two pictures."""
    return {
        "pixel_values": torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    }


def sound(*shape: int, name: str = "input_values") -> dict[str, torch.Tensor]:
    """Two sounds, raw or as features."""
    return {name: torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))}


@dataclass(frozen=True)
class Family:
    """How a ``model_type`` is built."""

    type: str
    head: str = "AutoModelForCausalLM"
    extra: Extra = lambda w, L: {}
    inputs: Any = field(default_factory=lambda: WORDS)

    def build(self, width: int, depth: int) -> nn.Module:
        """The model."""
        import transformers

        known = common(width, depth) | self.extra(width, depth)
        known = {k: v for k, v in known.items() if v is not None}
        config = transformers.AutoConfig.for_model(self.type, **known)
        return getattr(transformers, self.head).from_config(config)


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
GONE = dict(num_hidden_layers=None, hidden_size=None, num_attention_heads=None)
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

PANEL = (
    # decoders
    Family("gpt2", extra=some(**GPT)),
    Family("gptj", extra=some(**GPT, rotary_dim=8)),
    Family(
        "gpt_neo",
        extra=some(
            num_layers=lambda w, L: L,
            num_heads=lambda w, L: w // 16,
            attention_types=lambda w, L: [[["global"], L]],
        ),
    ),
    Family("gpt_neox"),
    Family("gpt_bigcode", extra=some(**GPT)),
    Family("codegen", extra=some(**GPT, rotary_dim=8)),
    Family("opt", extra=some(ffn_dim=lambda w, L: 2 * w, word_embed_proj_dim=lambda w, L: w)),
    Family("bloom", extra=some(n_layer=lambda w, L: L, n_head=lambda w, L: w // 16)),
    Family(
        "mpt",
        extra=some(
            d_model=lambda w, L: w,
            n_layers=lambda w, L: L,
            n_heads=lambda w, L: w // 16,
            max_seq_len=64,
        ),
    ),
    Family(
        "falcon",
        extra=some(new_decoder_architecture=True, head_dim=None, num_kv_heads=lambda w, L: w // 32),
    ),
    Family("llama"),
    Family("mistral"),
    Family("qwen2"),
    Family("qwen3"),
    Family("phi"),
    Family("phi3"),
    Family("stablelm"),
    Family("starcoder2"),
    Family("cohere"),
    Family("cohere2"),
    Family("olmo"),
    Family("olmo2"),
    Family("olmo3"),
    Family("gemma"),
    Family("gemma2"),
    Family("gemma3_text"),
    Family("granite"),
    Family("glm"),
    Family("glm4"),
    Family("smollm3"),
    Family("nemotron"),
    Family("persimmon"),
    Family("helium"),
    Family("exaone4"),
    Family("seed_oss"),
    Family("ernie4_5"),
    Family("arcee"),
    Family("hunyuan_v1_dense"),
    Family("apertus"),
    Family("biogpt"),
    Family(
        "xglm",
        extra=some(
            d_model=lambda w, L: w,
            num_layers=lambda w, L: L,
            ffn_dim=lambda w, L: 2 * w,
            attention_heads=lambda w, L: w // 16,
        ),
    ),
    # mixtures of experts, latent attention
    Family("mixtral", extra=experts()),
    Family("qwen2_moe", extra=experts(shared_expert_intermediate_size=lambda w: w)),
    Family("qwen3_moe", extra=experts()),
    Family("olmoe", extra=experts()),
    Family("gpt_oss", extra=experts()),
    Family("phimoe", extra=experts()),
    Family("granitemoe", extra=experts()),
    Family("deepseek_v2", extra=mla()),
    Family("deepseek_v3", extra=mla()),
    Family("glm4_moe", extra=experts(n_group=1, topk_group=1, first_k_dense_replace=0)),
    Family(
        "dots1", extra=experts(n_group=1, topk_group=1, first_k_dense_replace=0, n_shared_experts=1)
    ),
    Family("ernie4_5_moe", extra=experts(moe_num_experts=4, moe_k=2, moe_layer_start_index=0)),
    Family("minimax", extra=experts()),
    Family(
        "jetmoe",
        extra=some(num_local_experts=4, kv_channels=16, num_key_value_heads=lambda w, L: w // 16),
    ),
    Family(
        "qwen3_next",
        extra=lambda w, L: (
            experts(shared_expert_intermediate_size=lambda w: w)(w, L)
            | {
                "linear_num_key_heads": w // 32,
                "linear_num_value_heads": w // 16,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                "layer_types": ["linear_attention", "full_attention"] * (L // 2),
            }
        ),
    ),
    # state spaces
    Family("mamba", extra=some(state_size=8, time_step_rank=lambda w, L: w // 16)),
    Family(
        "mamba2", extra=some(num_heads=lambda w, L: w // 8, head_dim=16, state_size=8, n_groups=1)
    ),
    Family("rwkv", extra=some(attention_hidden_size=lambda w, L: w)),
    Family(
        "falcon_h1",
        extra=some(
            mamba_d_ssm=lambda w, L: 2 * w,
            mamba_n_heads=lambda w, L: w // 8,
            mamba_d_head=16,
            mamba_d_state=8,
        ),
    ),
    Family(
        "bamba",
        extra=some(
            mamba_n_heads=lambda w, L: w // 8,
            mamba_d_head=16,
            mamba_d_state=8,
            attn_layer_indices=lambda w, L: list(range(1, L, 2)),
        ),
    ),
    Family(
        "recurrent_gemma",
        extra=some(lru_width=lambda w, L: w, num_hidden_layers=lambda w, L: 3 * L // 2),
    ),
    # encoders
    Family("bert", ENC),
    Family("roberta", ENC),
    Family("electra", ENC, extra=some(embedding_size=lambda w, L: w)),
    Family("albert", ENC),
    Family("deberta", ENC),
    Family("deberta-v2", ENC),
    Family(
        "distilbert",
        ENC,
        extra=some(
            dim=lambda w, L: w,
            hidden_dim=lambda w, L: 2 * w,
            n_layers=lambda w, L: L,
            n_heads=lambda w, L: w // 16,
        ),
    ),
    Family("modernbert", ENC, extra=some(cls_token_id=1, sep_token_id=2)),
    Family("mpnet", ENC),
    Family("camembert", ENC),
    Family("xlm-roberta", ENC),
    Family("esm", ENC, extra=some(mask_token_id=3)),
    Family("roformer", ENC),
    Family("megatron-bert", ENC),
    Family("convbert", ENC, extra=some(embedding_size=lambda w, L: w)),
    Family("fnet", ENC),
    Family("nystromformer", ENC, extra=some(num_landmarks=6, segment_means_seq_len=6)),
    Family(
        "openai-gpt",
        extra=some(**GPT),
    ),
    Family("big_bird", ENC, extra=some(attention_type="original_full")),
    Family(
        "rembert",
        ENC,
        extra=some(input_embedding_size=lambda w, L: w, output_embedding_size=lambda w, L: w),
    ),
    Family("ernie", ENC),
    Family(
        "xlm",
        ENC,
        extra=some(
            emb_dim=lambda w, L: w,
            n_layers=lambda w, L: L,
            n_heads=lambda w, L: w // 16,
            n_words=97,
        ),
    ),
    Family(
        "xlnet",
        extra=some(
            d_model=lambda w, L: w,
            n_layer=lambda w, L: L,
            n_head=lambda w, L: w // 16,
            d_inner=lambda w, L: 2 * w,
        ),
    ),
    Family("ctrl", extra=some(**GPT, dff=lambda w, L: 2 * w)),
    Family(
        "jamba",
        extra=lambda w, L: {
            **experts()(w, L),
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": w // 16,
            "use_mamba_kernels": False,
        },
    ),
    Family(
        "dbrx",
        extra=some(
            d_model=lambda w, L: w,
            n_heads=lambda w, L: w // 16,
            n_layers=lambda w, L: L,
            max_seq_len=64,
        ),
    ),
    Family(
        "switch_transformers",
        SUM,
        extra=some(
            **T5,
            num_sparse_encoder_layers=lambda w, L: L // 2,
            num_sparse_decoder_layers=lambda w, L: L // 2,
            num_experts=4,
        ),
        inputs=PAIR,
    ),
    Family("longt5", SUM, extra=some(**T5), inputs=PAIR),
    Family("blenderbot-small", SUM, extra=some(**SEQ), inputs=PAIR),
    Family("blenderbot", SUM, extra=some(**SEQ), inputs=PAIR),
    Family(
        "prophetnet",
        SUM,
        extra=some(
            num_encoder_layers=lambda w, L: L,
            num_decoder_layers=lambda w, L: L,
            encoder_ffn_dim=lambda w, L: 2 * w,
            decoder_ffn_dim=lambda w, L: 2 * w,
            num_encoder_attention_heads=lambda w, L: w // 16,
            num_decoder_attention_heads=lambda w, L: w // 16,
        ),
        inputs=PAIR,
    ),
    # sequence to sequence
    Family("t5", SUM, extra=some(**T5), inputs=PAIR),
    Family("mt5", SUM, extra=some(**T5), inputs=PAIR),
    Family("umt5", SUM, extra=some(**T5), inputs=PAIR),
    Family("bart", SUM, extra=some(**SEQ), inputs=PAIR),
    Family("mbart", SUM, extra=some(**SEQ), inputs=PAIR),
    Family("marian", SUM, extra=some(**SEQ, decoder_start_token_id=0), inputs=PAIR),
    Family("pegasus", SUM, extra=some(**SEQ), inputs=PAIR),
    Family("m2m_100", SUM, extra=some(**SEQ), inputs=PAIR),
    # pictures
    Family("vit", PIC, vision(), inputs=pixels(32)),
    Family("deit", PIC, vision(), inputs=pixels(32)),
    Family("dinov2", PIC, vision(mlp_ratio=2), inputs=pixels(32)),
    Family("dinov3_vit", "AutoModel", vision(), inputs=pixels(32)),
    Family("beit", PIC, vision(use_relative_position_bias=True), inputs=pixels(32)),
    Family("ijepa", PIC, vision(), inputs=pixels(32)),
    Family("vit_msn", PIC, vision(), inputs=pixels(32)),
    Family("siglip_vision_model", "AutoModel", vision(), inputs=pixels(32)),
    Family("clip_vision_model", "AutoModel", vision(), inputs=pixels(32)),
    Family(
        "convnext",
        PIC,
        some(**STAGES, num_stages=2, num_hidden_layers=None, patch_size=4),
        inputs=pixels(32),
    ),
    Family(
        "resnet",
        PIC,
        some(
            embedding_size=lambda w, L: w,
            **STAGES,
            layer_type="basic",
        ),
        inputs=pixels(32),
    ),
    Family(
        "swin",
        PIC,
        some(**SWIN),
        inputs=pixels(32),
    ),
    Family(
        "poolformer",
        PIC,
        some(
            num_encoder_blocks=2,
            **STAGES,
            patch_sizes=[7, 3],
            strides=[4, 2],
            padding=[2, 1],
        ),
        inputs=pixels(32),
    ),
    Family(
        "swinv2",
        PIC,
        some(**SWIN),
        inputs=pixels(32),
    ),
    Family(
        "convnextv2",
        PIC,
        some(**STAGES, num_stages=2, num_hidden_layers=None, patch_size=4),
        inputs=pixels(32),
    ),
    Family(
        "regnet",
        PIC,
        some(
            embedding_size=lambda w, L: w,
            **STAGES,
            groups_width=16,
        ),
        inputs=pixels(32),
    ),
    Family(
        "segformer",
        PIC,
        some(
            num_encoder_blocks=2,
            **STAGES,
            sr_ratios=[2, 1],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=lambda w, L: [w // 16, w // 8],
            mlp_ratios=[2, 2],
            num_hidden_layers=None,
            hidden_size=None,
        ),
        inputs=pixels(32),
    ),
    Family(
        "pvt",
        PIC,
        some(
            image_size=32,
            num_encoder_blocks=2,
            **STAGES,
            sequence_reduction_ratios=[2, 1],
            patch_sizes=[4, 2],
            strides=[4, 2],
            num_attention_heads=lambda w, L: [w // 16, w // 8],
            mlp_ratios=[2, 2],
            num_hidden_layers=None,
            hidden_size=None,
        ),
        inputs=pixels(32),
    ),
    Family(
        "yolos",
        "AutoModelForObjectDetection",
        vision(image_size=[32, 32], num_detection_tokens=5),
        inputs=pixels(32),
    ),
    Family(
        "videomae",
        "AutoModelForVideoClassification",
        vision(num_frames=2, tubelet_size=2),
        inputs={"pixel_values": pixels(32)["pixel_values"][:, None].repeat(1, 2, 1, 1, 1)},
    ),
    Family(
        "hiera",
        PIC,
        some(
            image_size=[32, 32],
            embed_dim=lambda w, L: w,
            depths=lambda w, L: [L, L],
            num_heads=lambda w, L: [w // 16, w // 8],
            patch_size=[7, 7],
            patch_stride=[4, 4],
            patch_padding=[3, 3],
            query_stride=[2, 2],
            masked_unit_size=[4, 4],
            num_query_pool=1,
            **GONE,
        ),
        inputs=pixels(32),
    ),
    # sound
    Family(
        "whisper",
        "AutoModelForSpeechSeq2Seq",
        some(**SEQ, num_mel_bins=8, max_source_positions=16, max_target_positions=16),
        inputs={**sound(8, 32, name="input_features"), "decoder_input_ids": TOKENS},
    ),
    Family("wav2vec2", SPEECH, some(**CONV), inputs=sound(400)),
    Family("wavlm", SPEECH, some(**CONV), inputs=sound(400)),
    Family(
        "data2vec-audio",
        SPEECH,
        some(**{**CONV, "conv_pos_kernel_size": 3, "num_conv_pos_embeddings": 2}),
        inputs=sound(400),
    ),
    Family(
        "speech_to_text",
        "AutoModelForSpeechSeq2Seq",
        some(
            **SEQ,
            conv_channels=lambda w, L: w,
            input_feat_per_channel=8,
            max_source_positions=64,
            max_target_positions=64,
        ),
        inputs={**sound(32, 8, name="input_features"), "decoder_input_ids": TOKENS},
    ),
    Family("hubert", SPEECH, some(**CONV), inputs=sound(400)),
    Family(
        "audio-spectrogram-transformer",
        "AutoModelForAudioClassification",
        some(max_length=32, num_mel_bins=32, patch_size=16),
        inputs=sound(32, 32),
    ),
)
