"""The panel's further models of texts, in alphabetical order."""

from __future__ import annotations

import torch
from families_configs import (
    PAIR,
    TOKENS,
    Family,
    both,
    depth,
    experts,
    heads,
    mla,
    seed,
    some,
    sparse,
    types,
    width,
)

AUTO = "AutoModel"
BOXES = torch.arange(48).view(2, 6, 4) % 11

MORE: tuple[Family, ...] = (
    Family("aria_text", extra=some(moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1)),
    Family(
        "axk2",
        extra=both(
            sparse(n_shared_experts=1),
            gated_norm_rank=8,
            mlp_layer_types=types("sparse"),
            layer_types=types("indexed_attention"),
        ),
    ),
    Family(
        "bailing_hybrid",
        extra=both(
            mla(n_shared_experts=1),
            head_dim=16,
            num_mtp_layers=0,
            layer_types=types("linear_attention", "full_attention"),
            mlp_layer_types=types("sparse"),
        ),
    ),
    Family(
        "beam",
        extra=both(
            experts(),
            n_group=1,
            topk_group=1,
            sliding_window=4,
            layer_types=types("sliding_attention", "full_attention"),
            mlp_layer_types=types("sparse"),
        ),
    ),
    Family(
        "bros",
        AUTO,
        extra=some(num_key_value_heads=None, head_dim=None),
        inputs={"input_ids": TOKENS, "bbox": BOXES.float() / 11},
    ),
    Family(
        "chameleon",
        "ChameleonForConditionalGeneration",
        extra=some(
            num_key_value_heads=heads(),
            vocabulary_map={"<image>": 96},
            vq_config=dict(
                embed_dim=8,
                num_embeddings=16,
                latent_channels=8,
                resolution=16,
                base_channels=32,
                channel_multiplier=[1],
                num_res_blocks=1,
            ),
        ),
    ),
    Family(
        "dory",
        extra=some(
            n_input_layers=0,
            n_output_layers=0,
            n_recurrent_layers=depth,
            sliding_window=4,
            layer_types=types("sliding_attention", "full_attention"),
        ),
    ),
    Family(
        "dots3_note_text",
        extra=both(
            sparse(n_shared_experts=1),
            head_dim=24,
            shared_experts_intermediate_size=width(),
            mlp_layer_types=types("sparse"),
            layer_types=types("indexed_attention"),
        ),
    ),
    Family(
        "encoder-decoder",
        "EncoderDecoderModel",
        extra=lambda w, L: dict(
            encoder=dict(
                model_type="bert",
                vocab_size=97,
                hidden_size=w,
                num_hidden_layers=L,
                num_attention_heads=w // 16,
                intermediate_size=2 * w,
            ),
            decoder=dict(
                model_type="bert",
                vocab_size=97,
                hidden_size=w,
                num_hidden_layers=L,
                num_attention_heads=w // 16,
                intermediate_size=2 * w,
                is_decoder=True,
                add_cross_attention=True,
            ),
        ),
        inputs=PAIR,
    ),
    Family(
        "flint",
        extra=both(
            experts(shared_expert_intermediate_size=lambda w: w),
            sliding_window=4,
            mlp_only_layers=[],
            layer_types=types("sliding_attention", "full_attention"),
        ),
    ),
    Family(
        "glm4v_moe_text",
        "Glm4vMoeTextModel",
        extra=experts(
            n_group=1,
            topk_group=1,
            first_k_dense_replace=0,
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 1, 1]),
        ),
    ),
    Family(
        "glm5_next_text",
        "Glm5NextTextModel",
        extra=both(
            sparse(n_shared_experts=1),
            qk_rope_head_dim=0,
            head_dim=0,
            index_kpool=2,
            hc_mult=2,
            linear_head_dim=16,
            linear_num_heads=heads(),
            mlp_layer_types=types("sparse"),
            layer_types=types("linear_attention", "indexed_attention"),
            indexer_types=types("full"),
        ),
    ),
    Family(
        "granitemoe_swa",
        extra=both(
            experts(), layer_types=types("sliding_attention", "full_attention"), sliding_window=4
        ),
    ),
    Family("hrm_text", extra=some(H_cycles=2, L_cycles=2)),
    Family("hyperclovax"),
    Family(
        "kolibri1",
        extra=both(
            experts(shared_expert_intermediate_size=lambda w: w),
            sliding_window=4,
            layer_types=types("sliding_attention", "full_attention"),
        ),
    ),
    Family(
        "lilt",
        AUTO,
        extra=some(
            channel_shrink_ratio=2,
            head_dim=None,
            hidden_size=lambda w, L: 3 * w // 2,
            num_attention_heads=heads(),
        ),
        inputs={"input_ids": TOKENS, "bbox": BOXES.sort(-1).values},
    ),
    Family(
        "lxmert",
        AUTO,
        extra=some(
            l_layers=depth,
            x_layers=depth,
            r_layers=depth,
            num_hidden_layers=None,
            visual_feat_dim=12,
        ),
        inputs={
            "input_ids": TOKENS,
            "visual_feats": torch.randn(2, 5, 12, generator=seed()),
            "visual_pos": torch.rand(2, 5, 4, generator=seed()),
        },
    ),
    Family(
        "markuplm",
        AUTO,
        extra=some(
            max_depth=4,
            max_xpath_tag_unit_embeddings=9,
            tag_pad_id=8,
            subs_pad_id=8,
            max_xpath_subs_unit_embeddings=9,
            xpath_unit_hidden_size=8,
        ),
    ),
    Family(
        "minimax_m3_vl_text",
        "MiniMaxM3VLForCausalLM",
        extra=both(
            experts(),
            dense_intermediate_size=width(2),
            shared_intermediate_size=width(),
            rotary_dim=8,
            mlp_layer_types=types("sparse"),
            layer_types=types("full_attention"),
        ),
    ),
    Family("mistral4", "Mistral4ForCausalLM", extra=mla(n_shared_experts=1)),
    Family(
        "mistral_large4_text",
        "MistralLarge4TextModel",
        extra=both(
            sparse(n_shared_experts=1),
            mlp_layer_types=types("sparse"),
            layer_types=types("indexed_attention"),
            indexer_types=types("full"),
            no_rope_layers=lambda w, L: [1] * L,
        ),
    ),
    Family("molmo2_text", "Molmo2TextModel"),
    Family("moshi", extra=some(ffn_dim=width(4))),
    Family(
        "muse_glimmer_text",
        "MuseGlimmerTextModel",
        extra=some(layer_types=types("sliding_attention", "full_attention"), sliding_window=4),
    ),
    Family(
        "muse_spark_text",
        "MuseSparkTextModel",
        extra=both(
            experts(),
            moe_hidden_size=width(),
            layer_types=types("sliding_attention", "full_attention"),
            sliding_window=4,
            mlp_layer_types=types("sparse"),
        ),
    ),
    Family("openai_privacy_filter", "OpenAIPrivacyFilterForTokenClassification", extra=experts()),
    Family(
        "step3p5",
        "Step3p7TextModel",
        extra=both(
            experts(),
            share_expert_dim=width(),
            sliding_window=4,
            mlp_layer_types=types("sparse"),
            layer_types=types("full_attention"),
        ),
    ),
    Family(
        "visual_bert",
        AUTO,
        extra=some(visual_embedding_dim=12),
        inputs={"input_ids": TOKENS, "visual_embeds": torch.randn(2, 5, 12, generator=seed())},
    ),
    Family(
        "zamba",
        extra=some(
            num_key_value_heads=heads(),
            attention_head_dim=32,
            mamba_d_state=8,
            layers_block_type=lambda w, L: ["linear_attention", "hybrid"] * L,
            num_hidden_layers=lambda w, L: 2 * L,
            use_mamba_kernels=False,
            head_dim=None,
        ),
    ),
)
