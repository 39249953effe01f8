"""The panel's recent decoders: layers of several kinds, experts, sparse attention."""

from __future__ import annotations

from families_configs import (
    TOKENS,
    WORDS,
    Family,
    both,
    depth,
    experts,
    heads,
    mla,
    some,
    sparse,
    types,
    width,
)

LINEAR = dict(
    linear_num_key_heads=heads(32),
    linear_num_value_heads=heads(16),
    linear_key_head_dim=16,
    linear_value_head_dim=16,
    layer_types=types("linear_attention", "full_attention"),
)
MAMBA = dict(mamba_n_heads=heads(8), mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1)

HYBRIDS = (
    # in alphabetical order
    Family(
        "afmoe",
        extra=both(
            experts(num_shared_experts=1),
            num_dense_layers=0,
            sliding_window=4,
            layer_types=types("sliding_attention", "full_attention"),
        ),
    ),
    Family("apertus1p5_text"),
    Family("bert-generation", extra=some(is_decoder=True)),
    Family("bitnet"),
    Family(
        "cohere2_moe",
        extra=both(experts(), mlp_layer_types=types("sparse"), layer_types=types("full_attention")),
    ),
    Family("cpmant", extra=some(dim_head=16, dim_ff=width(2), prompt_length=4, init_std=0.02)),
    Family(
        "cwm",
        extra=some(layer_types=types("sliding_attention", "full_attention"), sliding_window=4),
    ),
    Family(
        "dbrx",
        extra=lambda w, L: dict(
            d_model=w,
            n_heads=w // 16,
            n_layers=L,
            max_seq_len=64,
            attn_config=dict(kv_n_heads=w // 32, clip_qkv=8.0, rope_theta=1e4),
            ffn_config=dict(
                ffn_hidden_size=w, moe_num_experts=4, moe_top_k=2, ffn_act_fn={"name": "silu"}
            ),
        ),
    ),
    Family("deepseek_v32", extra=both(sparse(n_shared_experts=1), mlp_layer_types=types("sparse"))),
    Family(
        "deepseek_v4",
        extra=both(
            sparse(n_shared_experts=1),
            head_dim=16,
            num_key_value_heads=1,
            layer_types=types("sliding_attention"),
            mlp_layer_types=types("moe"),
            o_groups=2,
            o_lora_rank=width(1, 2),
            sliding_window=4,
            hc_mult=2,
        ),
    ),
    Family("diffllama"),
    Family("doge"),
    Family("exaone", extra=some(num_layers=depth)),
    Family(
        "exaone_moe",
        extra=both(
            experts(num_shared_experts=1),
            sliding_window=4,
            layer_types=types("sliding_attention", "full_attention"),
            mlp_layer_types=types("sparse"),
            n_group=1,
            topk_group=1,
        ),
    ),
    Family(
        "falcon_mamba", extra=some(state_size=8, time_step_rank=heads(), intermediate_size=None)
    ),
    Family("flex_olmo", extra=experts()),
    Family(
        "gemma3n_text",
        extra=some(
            intermediate_size=lambda w, L: [2 * w] * L,
            layer_types=types("sliding_attention", "full_attention"),
            hidden_size_per_layer_input=width(1, 2),
            vocab_size_per_layer_input=97,
            laurel_rank=8,
            num_kv_shared_layers=0,
            activation_sparsity_pattern=lambda w, L: [0.0] * L,
        ),
    ),
    Family(
        "gemma4_text",
        extra=some(
            layer_types=types("sliding_attention", "full_attention"),
            hidden_size_per_layer_input=width(1, 2),
            vocab_size_per_layer_input=97,
            per_layer_config=None,
        ),
    ),
    Family("glm4_moe_lite", extra=both(mla(n_shared_experts=1), mlp_layer_types=types("sparse"))),
    Family("glm_moe_dsa", extra=both(sparse(n_shared_experts=1), mlp_layer_types=types("sparse"))),
    Family("gpt_neox_japanese"),
    Family("granite_swa", extra=some(layer_types=types("full_attention"), sliding_window=4)),
    Family(
        "granitemoehybrid",
        extra=both(
            experts(),
            **MAMBA,
            shared_intermediate_size=width(),
            layer_types=types("linear_attention", "full_attention"),
        ),
    ),
    Family("granitemoeshared", extra=both(experts(), shared_intermediate_size=width())),
    Family("hunyuan_v1_moe", extra=both(experts(), moe_topk=2)),
    Family("hy_v3", extra=both(experts(num_shared_experts=1), mlp_layer_types=types("sparse"))),
    Family(
        "hy_v4",
        extra=both(
            sparse(n_shared_experts=1),
            mlp_layer_types=types("sparse"),
            indexer_types=types("full"),
            head_dim=None,
            hc_mult=2,
        ),
    ),
    Family(
        "inkling_text",
        extra=both(
            experts(n_shared_experts=1),
            swa_num_attention_heads=heads(),
            swa_num_key_value_heads=heads(32),
            swa_head_dim=16,
            d_rel=8,
            rel_extent=8,
            layer_types=types("hybrid_sliding"),
            mlp_layer_types=types("sparse"),
            sliding_window_size=4,
        ),
    ),
    Family("internlm3"),
    Family("iquestcoder"),
    Family("jais2"),
    Family(
        "kimi_linear",
        extra=both(
            mla(num_shared_experts=1), **LINEAR, linear_num_heads=heads(), linear_head_dim=16
        ),
    ),
    Family(
        "laguna",
        extra=both(
            experts(shared_expert_intermediate_size=lambda w: w),
            num_attention_heads_per_layer=lambda w, L: [w // 16] * L,
            mlp_layer_types=types("sparse"),
            layer_types=types("full_attention"),
        ),
    ),
    Family("lara_mini", extra=both(experts(shared_expert_intermediate_size=lambda w: w), **LINEAR)),
    Family(
        "lfm2",
        extra=some(layer_types=types("conv", "full_attention"), block_auto_adjust_ff_dim=False),
    ),
    Family(
        "lfm2_moe",
        extra=both(experts(), layer_types=types("conv", "full_attention"), num_dense_layers=0),
    ),
    Family("lfm3", extra=some(layer_types=types("conv", "full_attention"))),
    Family(
        "llama4_text",
        extra=both(
            experts(),
            intermediate_size_mlp=width(2),
            moe_layers=None,
            interleave_moe_layer_step=1,
            attention_chunk_size=4,
        ),
    ),
    Family(
        "longcat_flash",
        extra=both(
            mla(),
            num_layers=depth,
            num_hidden_layers=None,
            ffn_hidden_size=width(2),
            expert_ffn_hidden_size=width(),
            moe_topk=2,
            zero_expert_num=2,
        ),
    ),
    Family(
        "mellum",
        extra=both(experts(), mlp_layer_types=types("sparse"), layer_types=types("full_attention")),
    ),
    Family(
        "mimo_v2_flash",
        extra=both(
            experts(),
            v_head_dim=16,
            layer_types=types("sliding_attention", "full_attention"),
            mlp_layer_types=types("sparse"),
            n_group=1,
            topk_group=1,
        ),
    ),
    Family("minicpm3", extra=both(mla(), head_dim=None)),
    Family("minimax_m2", extra=experts()),
    Family("ministral"),
    Family("ministral3"),
    Family(
        "modernbert-decoder",
        extra=some(cls_token_id=1, sep_token_id=2, layer_types=types("full_attention")),
    ),
    Family("nanochat", extra=some(num_key_value_heads=heads())),
    Family(
        "nemotron_h",
        extra=both(
            experts(),
            layers_block_type=lambda w, L: (
                ["linear_attention", "moe", "full_attention", "mlp"] * (L // 2)
            ),
            num_hidden_layers=None,
            ssm_state_size=8,
            mamba_num_heads=heads(8),
            mamba_head_dim=16,
            n_groups=1,
            n_group=1,
            moe_shared_expert_intermediate_size=width(),
            use_mamba_kernels=False,
        ),
    ),
    Family("olmo_hybrid", extra=some(**LINEAR)),
    Family(
        "qwen3_5_moe_text",
        extra=both(experts(shared_expert_intermediate_size=lambda w: w), **LINEAR),
    ),
    Family("qwen3_5_text", extra=some(**LINEAR)),
    Family(
        "qwen4_exp_text",
        extra=both(
            experts(shared_expert_intermediate_size=lambda w: w),
            **{**LINEAR, "layer_types": types("linear_attention", "indexed_attention")},
            hc_lowrank=8,
            indexer_n_heads=2,
            indexer_kv_heads=1,
            indexer_head_dim=16,
            indexer_budget=4,
            indexer_compress_ratio=1,
        ),
    ),
    Family("sarvam_mla", extra=mla(n_shared_experts=1)),
    Family(
        "sarvam_moe",
        extra=both(experts(n_shared_experts=1), first_k_dense_replace=0, n_group=1, topk_group=1),
    ),
    Family("solar_open", extra=both(experts(n_shared_experts=1), n_group=1, topk_group=1)),
    Family(
        "trocr",
        extra=some(
            d_model=width(),
            decoder_layers=depth,
            decoder_attention_heads=heads(),
            decoder_ffn_dim=width(2),
        ),
    ),
    Family("vaultgemma", extra=some(layer_types=types("sliding_attention", "full_attention"))),
    Family(
        "xlnet",
        extra=some(
            d_model=width(),
            n_layer=depth,
            n_head=heads(),
            d_inner=width(2),
            max_position_embeddings=None,
        ),
        inputs=WORDS | {"token_type_ids": TOKENS % 2},
    ),
    Family("youtu", extra=both(mla())),
    Family(
        "zamba2",
        extra=some(
            layers_block_type=types("linear_attention", "hybrid"),
            mamba_d_state=8,
            n_mamba_heads=heads(8),
            mamba_headdim=16,
            chunk_size=4,
            use_mamba_kernels=False,
            num_key_value_heads=heads(),
            attention_head_dim=32,
            attention_hidden_size=width(2),
        ),
    ),
    Family("zaya", extra=both(experts(num_experts_per_tok=1), router_hidden_size=width(1, 2))),
)
