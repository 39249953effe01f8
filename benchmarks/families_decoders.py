"""The panel's decoders of texts."""

from __future__ import annotations

from families_configs import (
    GPT,
    Family,
    experts,
    mla,
    some,
)

DECODERS = (
    # dense
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
)
