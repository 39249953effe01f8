"""The panel's types that nobody had looked at before, by what they read, in alphabetical order.

Not among them: bark and emu3_vqgan have no forward pass; dinat, layoutlmv2 and pe_video_encoder need
packages (natten, detectron2, timm); jev is a linear head on another type. mllama_text_model and
voxtral_realtime_text take inputs of the model's width, so the whole models stand for them.
"""

from __future__ import annotations

from typing import Any

import torch
from families_configs import (
    TOKENS,
    Family,
    both,
    depth,
    experts,
    heads,
    mla,
    pixels,
    seed,
    some,
    sound,
    sparse,
    types,
    vision,
    width,
)
from families_further import BOX, DETR, MROPE, TEXTS, resnet, tower
from families_more import AUTO
from families_others import BOTH, CONFORMER, marked, picture, text

INKLING = both(
    experts(),
    swa_num_attention_heads=heads(),
    swa_num_key_value_heads=heads(32),
    swa_head_dim=16,
    d_rel=8,
    rel_extent=8,
    unpadded_vocab_size=97,
    layer_types=types("hybrid_sliding"),
    sliding_window_size=4,
    n_layers_per_attn_res_block=2,
)
LEVELS = dict(
    **DETR,
    encoder_hidden_dim=width(),
    encoder_in_channels=lambda w, L: [w, 2 * w],
    feat_strides=[4, 8],
    encode_proj_layers=[1],
    decoder_in_channels=lambda w, L: [w, w],
    num_feature_levels=2,
    num_denoising=0,
)
LWDETR = dict(
    d_model=width(),
    decoder_ffn_dim=width(2),
    decoder_layers=depth,
    decoder_self_attention_heads=heads(),
    decoder_cross_attention_heads=heads(),
    c2f_num_blocks=2,
    projector_scale_factors=[1.0],
    num_queries=5,
    group_detr=1,
    num_hidden_layers=None,
    hidden_size=None,
    num_attention_heads=None,
    num_key_value_heads=None,
)


def swin(w: int, L: int, stages: int) -> dict[str, Any]:
    """A small Swin as a backbone: one stage and the last, or four of them."""
    many = max(stages, 2)
    return dict(
        model_type="swin",
        embed_dim=w // 2,
        depths=[L] * many,
        num_heads=[w * 2**i // 32 for i in range(many)],
        window_size=2,
        image_size=32,
        patch_size=4,
        drop_path_rate=0.0,
        out_features=[f"stage{i + 1}" for i in range(many)],
    )


def windows(w: int, L: int, name: str) -> dict[str, Any]:
    """A small vision transformer that looks through windows."""
    return tower(
        w,
        L,
        model_type=name,
        num_channels=3,
        pretrain_image_size=32,
        num_windows=4,
        out_indices=[L // 2, L],
        out_features=None,
    )


HEARD = {**sound(1, 64), **sound(16, 8, name="input_features")}


def inner(w: int, L: int, **names: Any) -> dict[str, Any]:
    """The settings of a part that hears: no words, and as many keys as queries."""
    known = {k: v for k, v in text(w, L).items() if "token" not in k and k != "vocab_size"}
    return dict(known | dict(num_key_value_heads=w // 16), **names)


def CODEC(w: int, L: int) -> dict[str, Any]:
    """A codec with a reader of meanings beside it."""
    return dict(
        semantic_model_config=inner(
            w,
            L,
            model_type="wav2vec2-bert",
            feature_projection_input_dim=8,
            layerdrop=0.0,
            mask_time_prob=0.0,
            conv_depthwise_kernel_size=3,
            left_max_position_embeddings=4,
            right_max_position_embeddings=2,
        ),
        encoder_hidden_size=w // 4,
        downsampling_ratios=[2, 2],
        quantization_dim=2 * w,
        quantization_levels=[4, 4],
        num_key_value_heads=w // 16,
    )


def uncoded(m: Any) -> None:
    """Without its codec, which stands beside it and is a type of its own."""
    m.codec_model = None


IMAGE = pixels(32)["pixel_values"][:, None]
TEXTS_LATEST = (
    Family("axk1", extra=both(mla(n_shared_experts=1), mlp_layer_types=types("sparse"))),
    Family(
        "blt",
        extra=lambda w, L: dict(
            vocab_size=260,
            hidden_size=None,
            patch_in_forward=False,
            patching_mode="static",
            encoder_hash_byte_group_size=[3],
            encoder_hash_byte_group_vocab=31,
            patcher_config=text(w, L) | dict(vocab_size=260),
            encoder_config=text(w, L, hidden_size_global=2 * w) | dict(vocab_size=260),
            decoder_config=text(w, L, hidden_size_global=2 * w) | dict(vocab_size=260),
            global_config=text(2 * w, L),
        ),
        inputs={"input_ids": TOKENS},
    ),
    Family(
        "cosmos3_edge_text",
        "models.cosmos3_edge.modeling_cosmos3_edge.Cosmos3EdgeTextModel",
        some(rope_parameters=MROPE | dict(mrope_interleaved=True)),
    ),
    Family(
        "diffusion_gemma",
        "DiffusionGemmaForBlockDiffusion",
        lambda w, L: dict(
            text_config=text(
                w,
                L,
                layer_types=["sliding_attention", "full_attention"] * (L // 2),
                num_experts=4,
                top_k_experts=2,
                moe_intermediate_size=w,
                num_global_key_value_heads=w // 32,
                global_head_dim=16,
            ),
            vision_config=picture(w, L)
            | dict(patch_size=4, num_key_value_heads=w // 16, position_embedding_size=8),
            canvas_length=4,
        ),
        inputs={"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :4]},
    ),
    Family("dpr", "DPRQuestionEncoder", some(projection_dim=width())),
    Family("emu3_text_model", "Emu3ForCausalLM", some(attention_dropout=0.0)),
    Family(
        "ernie4_5_vl_moe_text",
        "models.ernie4_5_vl_moe.modeling_ernie4_5_vl_moe.Ernie4_5_VLMoeTextModel",
        some(
            moe_intermediate_size=lambda w, L: [w, w // 2],
            moe_num_experts=4,
            moe_k=2,
            moe_num_shared_experts=1,
            mlp_layer_types=types("sparse"),
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 2, 4]),
        ),
    ),
    Family(
        "evolla",
        "EvollaForProteinText2Text",
        lambda w, L: dict(
            protein_encoder_config={
                k: v for k, v in text(w, L).items() if k not in ("head_dim", "num_key_value_heads")
            },
            aligner_ffn_mult=2,
            aligner_num_add_layers=L,
            resampler_depth=L,
            resampler_dim_head=16,
            resampler_heads=w // 16,
            resampler_num_latents=4,
            resampler_ff_mult=2,
            head_dim=None,
        ),
        inputs={
            "input_ids": TOKENS,
            "attention_mask": torch.ones_like(TOKENS),
            "protein_input_ids": TOKENS,
            "protein_attention_mask": torch.ones_like(TOKENS),
        },
    ),
    Family(
        "fuyu",
        "FuyuForCausalLM",
        lambda w, L: dict(
            text_config=text(w, L, model_type="persimmon"), image_token_id=9, patch_size=4
        ),
    ),
    Family(
        "gemma4_unified_text",
        "Gemma4UnifiedForCausalLM",
        some(
            layer_types=types("sliding_attention", "full_attention"),
            num_global_key_value_heads=heads(32),
            global_head_dim=16,
        ),
    ),
    Family(
        "glm_image_text",
        "GlmImageTextModel",
        some(rope_parameters=MROPE, vision_vocab_size=97),
    ),
    Family(
        "hy_v4_vl_text",
        "models.hy_v4_vl.modeling_hy_v4_vl.HYV4VLTextModel",
        both(
            sparse(n_shared_experts=1),
            mlp_layer_types=types("sparse"),
            indexer_types=types("full"),
            head_dim=None,
            hc_mult=2,
            rope_parameters=MROPE | dict(mrope_section=[2, 1, 1]),
        ),
    ),
    Family(
        "idefics",
        "IdeficsForVisionText2Text",
        lambda w, L: dict(
            vision_config=picture(w, L, embed_dim=w),
            perceiver_config=dict(use_resampler=False),
            additional_vocab_size=3,
            cross_layer_interval=1,
            freeze_text_layers=False,
            freeze_vision_layers=False,
            num_key_value_heads=None,
            head_dim=None,
        ),
        inputs={
            "input_ids": TOKENS,
            "attention_mask": torch.ones_like(TOKENS),
            "pixel_values": IMAGE,
            "image_attention_mask": torch.ones(2, 6, 1, dtype=torch.long),
        },
    ),
    Family("inkling2_text", "Inkling2ForCausalLM", INKLING),
    Family(
        "inkling2_loop_text",
        "Inkling2LoopForCausalLM",
        both(
            INKLING,
            num_hidden_layers=lambda w, L: L + 4,
            layer_types=lambda w, L: ["hybrid_sliding"] * (L + 4),
            loop_layer_index_start=2,
            loop_layer_index_end=lambda w, L: L + 2,
            loop_num_passes=2,
            loop_gate_rank=8,
        ),
    ),
    Family(
        "mllama",
        "MllamaForConditionalGeneration",
        lambda w, L: dict(
            text_config=text(w, 2 * L, cross_attention_layers=[*range(1, 2 * L, 2)]),
            vision_config=picture(
                w,
                L,
                attention_heads=w // 16,
                num_global_layers=L,
                max_num_tiles=2,
                intermediate_layers_indices=[0],
                supported_aspect_ratios=[[1, 1], [1, 2]],
                vision_output_dim=2 * w,
            ),
            image_token_index=9,
        ),
        inputs={
            "input_ids": TOKENS,
            "attention_mask": torch.ones_like(TOKENS),
            "pixel_values": torch.randn(2, 1, 2, 3, 32, 32, generator=seed()),
            "aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(2, 1, 2, dtype=torch.long),
            "cross_attention_mask": torch.ones(2, 6, 1, 2, dtype=torch.long),
        },
    ),
    Family(
        "neomme",
        "models.neomme.modeling_neomme.NeoMMEForMaskedLM",
        some(
            embedding_rank=width(1, 2),
            layer_types=types("sliding_attention", "full_attention"),
            sliding_window=4,
            patch_size=4,
        ),
    ),
    Family(
        "xlstm",
        extra=some(
            num_heads=heads(),
            chunk_size=2,
            qk_dim_factor=1.0,
            ffn_proj_factor=2.0,
            autocast_kernel_dtype="float32",
        ),
    ),
)
SEES = (
    # pictures, and pictures with texts
    Family(
        "aimv2",
        AUTO,
        lambda w, L: dict(text_config=text(w, L), vision_config=picture(w, L), projection_dim=w),
        inputs=BOTH,
    ),
    Family(
        "align",
        AUTO,
        lambda w, L: dict(
            text_config=text(w, L),
            vision_config=dict(
                image_size=64,
                width_coefficient=w / 64,
                depth_coefficient=float(L),
                hidden_dim=w,
                drop_connect_rate=0.0,
                kernel_sizes=[3, 5],
                in_channels=[32, 16],
                out_channels=[16, 32],
                strides=[1, 2],
                num_block_repeats=[1, 1],
                expand_ratios=[1, 2],
            ),
            projection_dim=w // 2,
        ),
        inputs={"input_ids": TOKENS, **pixels(64)},
    ),
    Family(
        "chmv2",
        "CHMv2ForDepthEstimation",
        lambda w, L: dict(
            backbone_config=tower(
                w,
                2 * L,
                model_type="dinov3_vit",
                num_channels=3,
                intermediate_size=2 * w,
                out_features=[f"stage{i * L // 2}" for i in (1, 2, 3, 4)],
                reshape_hidden_states=True,
                apply_layernorm=True,
                return_class_token=True,
            ),
            patch_size=8,
            post_process_channels=[w, w, w, w],
            reassemble_factors=[4, 2, 1, 0.5],
            fusion_hidden_size=w,
            head_hidden_size=w // 2,
            number_output_channels=8,
        ),
        inputs=pixels(32),
    ),
    Family(
        "dab-detr",
        BOX,
        some(**DETR | dict(hidden_size=width(), d_model=None)),
        inputs=pixels(32, 12),
    ),
    Family(
        "d_fine",
        BOX,
        some(**LEVELS, depth_mult=lambda w, L: L / 1.0, lqe_hidden_dim=width(), max_num_bins=4),
        inputs=pixels(32, 12),
    ),
    Family(
        "deimv2",
        BOX,
        some(**LEVELS, depth_mult=lambda w, L: L / 1.0, lqe_hidden_dim=width(), max_num_bins=4),
        inputs=pixels(32, 12),
    ),
    Family(
        "depth_pro",
        "DepthProForDepthEstimation",
        lambda w, L: dict(
            fusion_hidden_size=w,
            patch_size=32,
            intermediate_hook_ids=[L - 1, L // 2 - 1],
            intermediate_feature_dims=[w, w],
            scaled_images_ratios=[0.5, 1],
            scaled_images_overlap_ratios=[0.0, 0.0],
            scaled_images_feature_dims=[w, w],
            merge_padding_value=0,
            use_fov_model=False,
            **{
                f"{part}_model_config": tower(w, L, model_type="dinov2", num_channels=3)
                for part in ("image", "patch", "fov")
            },
        ),
        inputs=pixels(64),
    ),
    Family(
        "efficientloftr",
        "EfficientLoFTRForKeypointMatching",
        some(
            stage_num_blocks=lambda w, L: [1, L, L, L],
            out_features=lambda w, L: [w // 4, w // 4, w // 2, w],
            stage_stride=[2, 1, 2, 2],
            num_attention_layers=depth,
            q_aggregation_kernel_size=2,
            kv_aggregation_kernel_size=2,
            q_aggregation_stride=2,
            kv_aggregation_stride=2,
            rope_parameters=lambda w, L: dict(
                rope_type="default", rope_theta=1e4, partial_rotary_factor=w / 32
            ),
            num_key_value_heads=heads(),
            head_dim=None,
        ),
        inputs={"pixel_values": torch.rand(2, 2, 3, 64, 64, generator=seed())},
    ),
    Family(
        "florence_vision",
        "models.florence2.modeling_florence2.Florence2VisionBackbone",
        some(
            depths=lambda w, L: [L, L],
            patch_size=[7, 3],
            patch_stride=[4, 2],
            patch_padding=[3, 1],
            patch_prenorm=[False, True],
            embed_dim=lambda w, L: [w, 2 * w],
            num_heads=lambda w, L: [w // 16, w // 8],
            num_groups=lambda w, L: [w // 16, w // 8],
            window_size=4,
            drop_path_rate=0.0,
            mlp_ratio=2.0,
            projection_dim=width(),
            head_dim=None,
        ),
        inputs={"hidden_states": pixels(32)["pixel_values"]},
    ),
    Family(
        "grounding-dino",
        "GroundingDinoModel",
        lambda w, L: dict(
            some(**DETR)(w, L),
            backbone_config=swin(w, L, 1),
            text_config=text(w, L, model_type="bert"),
            num_feature_levels=2,
            fusion_dropout=0.0,
            fusion_droppath=0.0,
            dropout=0.0,
        ),
        inputs={"input_ids": TEXTS, **pixels(32, 12)},
    ),
    Family(
        "lw_detr",
        BOX,
        some(**LWDETR, backbone_config=lambda w, L: windows(w, L, "lw_detr_vit")),
        inputs=pixels(32, 12),
    ),
    Family(
        "mask2former",
        "Mask2FormerForUniversalSegmentation",
        lambda w, L: dict(
            backbone_config=swin(w, L, 4),
            feature_size=w,
            mask_feature_size=w,
            hidden_dim=w,
            encoder_feedforward_dim=2 * w,
            dim_feedforward=2 * w,
            encoder_layers=L,
            decoder_layers=L + 1,
            num_queries=5,
            dropout=0.0,
            hidden_size=None,
            num_hidden_layers=None,
        ),
        inputs=pixels(64),
    ),
    Family(
        "maskformer",
        "MaskFormerForInstanceSegmentation",
        lambda w, L: dict(
            backbone_config=swin(w, L, 4),
            decoder_config={
                k: v for k, v in some(**DETR)(w, L).items() if v and k != "backbone_config"
            }
            | dict(model_type="detr", dropout=0.0),
            fpn_feature_size=w,
            mask_feature_size=w,
            hidden_size=None,
        ),
        inputs=pixels(64),
    ),
    Family(
        "oneformer",
        "OneFormerForUniversalSegmentation",
        lambda w, L: dict(
            backbone_config=swin(w, L, 4),
            conv_dim=w,
            mask_dim=w,
            hidden_dim=w,
            encoder_feedforward_dim=2 * w,
            dim_feedforward=2 * w,
            encoder_layers=L,
            decoder_layers=L + 1,
            query_dec_layers=L,
            num_queries=5,
            task_seq_len=6,
            text_encoder_width=w,
            text_encoder_context_length=6,
            text_encoder_num_layers=L,
            text_encoder_vocab_size=97,
            text_encoder_n_ctx=2,
            is_training=False,
            dropout=0.0,
            hidden_size=None,
            num_hidden_layers=None,
        ),
        inputs={**pixels(64), "task_inputs": TOKENS},
    ),
    Family(
        "owlv2",
        "Owlv2ForObjectDetection",
        lambda w, L: dict(
            text_config=text(w, L, initializer_factor=0.02),
            vision_config=picture(w, L, initializer_factor=0.02),
            projection_dim=w,
            initializer_factor=0.02,
        ),
        inputs=BOTH,
    ),
    Family(
        "pp_ocrv5_mobile_rec",
        "PPOCRV5MobileRecForTextRecognition",
        lambda w, L: dict(
            backbone_config=dict(
                model_type="pp_lcnet_v3",
                scale=w / 64,
                stem_channels=64,
                block_configs=[[[3, 64, 64, 1, False]] * L] * 3
                + [[[3, 64, 64, (2, 1), False]] + [[3, 64, 64, 1, True]] * L] * 2,
                out_features=["stage2", "stage3", "stage4", "stage5"],
            ),
            depth=L,
            head_out_channels=11,
            num_hidden_layers=None,
        ),
        inputs=pixels(32, 12),
    ),
    Family(
        "rf_detr",
        BOX,
        some(**LWDETR, backbone_config=lambda w, L: windows(w, L, "rf_detr_dinov2")),
        inputs=pixels(32, 12),
    ),
    Family("rt_detr_v2", BOX, some(**LEVELS, decoder_n_levels=2), inputs=pixels(32, 12)),
    Family(
        "slanet",
        "SLANetForTableRecognition",
        lambda w, L: dict(
            backbone_config=dict(
                model_type="pp_lcnet",
                scale=w / 64,
                stem_channels=64,
                block_configs=[[[3, 64, 64, 2, False]] + [[3, 64, 64, 1, True]] * L] * 5,
                out_features=["stage2", "stage3", "stage4", "stage5"],
            ),
            post_conv_out_channels=w,
            out_channels=11,
            max_text_length=4,
            csp_num_blocks=L,
        ),
        inputs=pixels(64, 12),
    ),
    Family(
        "step3p5_vision",
        "models.step3p7.modeling_step3p7.Step3p7VisionModel",
        vision(mlp_ratio=2.0, max_position_embeddings=16),
        inputs=pixels(32),
    ),
    Family(
        "superglue",
        "SuperGlueForKeypointMatching",
        lambda w, L: dict(
            keypoint_encoder_sizes=[w // 4, w // 2, w],
            gnn_layers_types=["self", "cross"] * L,
            sinkhorn_iterations=3,
            keypoint_detector_config=dict(
                model_type="superpoint",
                encoder_hidden_sizes=[w] * 4,
                decoder_hidden_size=w,
                descriptor_decoder_dim=w,
                max_keypoints=8,
                keypoint_threshold=0.0,
            ),
        ),
        inputs={"pixel_values": torch.rand(2, 2, 3, 32, 32, generator=seed())},
    ),
    Family("tipsv2_vision_model", AUTO, vision(mlp_ratio=2.0), inputs=pixels(32)),
    Family("tipsv2_text_model", AUTO),
    Family(
        "tvp",
        "TvpModel",
        some(
            backbone_config=lambda w, L: resnet(w, L) | dict(out_features=["stage2"]),
            visual_prompt_size=4,
            max_img_size=64,
            num_frames=2,
            max_grid_col_position_embeddings=8,
            max_grid_row_position_embeddings=8,
        ),
        inputs={
            "input_ids": TOKENS[:1],
            "attention_mask": torch.ones_like(TOKENS[:1]),
            "pixel_values": torch.randn(1, 2, 3, 64, 64, generator=seed()),
        },  # one text: with more, the rows of its grid of positions do not fit.
    ),
    Family(
        "uvdoc",
        "UVDocModel",
        lambda w, L: dict(
            backbone_config=dict(
                model_type="uvdoc_backbone",
                resnet_head=[[3, w], [w, w]],
                resnet_configs=[
                    [[w, w, 1, False], *[[w, w, 3, False]] * L],
                    [[w, 2 * w, 1, True], *[[2 * w, 2 * w, 3, False]] * L],
                ],
                stage_configs=[[[2 * w, 1]], [[2 * w, 2], *[[2 * w, 1]] * L]],
                out_features=["stage1", "stage2"],
                kernel_size=5,
            ),
            kernel_size=5,
            bridge_connector=[2 * w, 2 * w],
            out_point_positions2D=[[2 * w, w], [w, 2]],
        ),
        inputs=pixels(64, 6),
    ),
    Family(
        "videomt",
        "VideomtForUniversalSegmentation",
        vision(num_blocks=lambda w, L: L // 2, num_queries=5, mlp_ratio=2, num_upscale_blocks=1),
        inputs={"pixel_values_videos": IMAGE.repeat(1, 2, 1, 1, 1)},
    ),
    Family(
        "videoprism",
        "VideoPrismClipModel",
        lambda w, L: dict(
            text_config=text(w, L),
            vision_config=picture(
                w,
                L,
                num_spatial_layers=L,
                num_temporal_layers=L,
                num_frames=2,
                tubelet_size=[1, 8, 8],
                num_auxiliary_layers=L,
            ),
        ),
        inputs={"input_ids": TOKENS, "pixel_values_videos": IMAGE.repeat(1, 2, 1, 1, 1)},
    ),
)
HEARS = (
    # sound, and sound with texts
    Family(
        "canary",
        "CanaryForConditionalGeneration",
        lambda w, L: dict(
            encoder_config=CONFORMER(w, L) | inner(w, L),
            decoder_config=text(w, L) | dict(num_key_value_heads=w // 16),
        ),
        inputs={**sound(32, 16, name="input_features"), "decoder_input_ids": TOKENS},
    ),
    Family(
        "gemma3n_audio",
        "models.gemma3n.modeling_gemma3n.Gemma3nAudioEncoder",
        some(
            input_feat_size=16,
            conf_attention_chunk_size=4,
            conf_attention_context_left=5,
            conf_num_attention_heads=heads(),
            conf_num_hidden_layers=depth,
            conf_conv_kernel_size=3,
            conf_reduction_factor=1,
            sscp_conv_channel_size=lambda w, L: [w, w // 2],
        ),
        inputs={
            "audio_mel": torch.randn(2, 32, 16, generator=seed()),
            "audio_mel_mask": torch.zeros(2, 32, dtype=torch.bool),
        },
    ),
    Family(
        "granite_speech",
        "GraniteSpeechForConditionalGeneration",
        lambda w, L: dict(
            text_config=text(w, L, model_type="granite"),
            encoder_config=dict(
                input_dim=20,
                num_layers=L,
                hidden_dim=w,
                feedforward_mult=2,
                num_heads=w // 16,
                dim_head=16,
                output_dim=11,
                context_size=4,
                max_pos_emb=8,
                conv_kernel_size=3,
            ),
            projector_config=text(w, L, model_type="blip_2_qformer", encoder_hidden_size=w),
            audio_token_index=9,
            has_lora_adapter=False,
            downsample_rate=2,
            window_size=4,
        ),
        inputs={
            "input_ids": marked(4)["input_ids"],
            **sound(8, 20, name="input_features"),
            "attention_mask": marked(4)["attention_mask"],
        },
    ),
    Family(
        "kyutai_speech_to_text",
        "KyutaiSpeechToTextForConditionalGeneration",
        lambda w, L: dict(
            ffn_dim=4 * w,
            num_codebooks=2,
            codebook_vocab_size=97,
            audio_bos_token_id=1,
            audio_pad_token_id=0,
            num_key_value_heads=w // 16,
            codec_config=dict(
                model_type="mimi",
                num_filters=4,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=1,
                num_key_value_heads=1,
                head_dim=16,
                intermediate_size=16,
                upsampling_ratios=[4, 2],
                codebook_size=16,
                codebook_dim=16,
                vector_quantization_hidden_dimension=16,
                num_quantizers=2,
                upsample_groups=16,
            ),
        ),
        inputs={"input_ids": torch.arange(36).view(2, 6, 3) % 7 + 3},
        edit=uncoded,
    ),
    Family(
        "moss_transcribe_diarize_audio",
        "models.moss_transcribe_diarize.modeling_moss_transcribe_diarize"
        ".MossTranscribeDiarizeAudioModel",
        some(num_mel_bins=16, max_source_positions=16),
        inputs=sound(16, 32, name="input_features"),
    ),
    Family(
        "muse_spark_audio",
        "models.muse_spark.modeling_muse_spark.MuseSparkAudioModel",
        some(
            patch_sizes=[4, 2],
            hidden_sizes=lambda w, L: [w, 2 * w],
            depths=lambda w, L: [L, L],
            num_hidden_layers=2,
            mlp_ratio=2.0,
            conv_kernel_size=3,
            out_hidden_size=width(),
        ),
        inputs=sound(64),
    ),
    Family(
        "musicgen_melody_decoder",
        "MusicgenMelodyForCausalLM",
        some(ffn_dim=width(2), num_codebooks=2, num_key_value_heads=None),
        inputs={"input_ids": TOKENS.view(4, 3)},
    ),
    Family(
        "nemotron_asr_streaming_encoder",
        AUTO,
        both(CONFORMER, sliding_window=8, default_num_lookahead_tokens=2),
        inputs=sound(32, 16, name="input_features"),
    ),
    Family("neucodec", "NeuCodecModel", CODEC, inputs=HEARD),
    Family(
        "pocket_tts",
        "PocketTTSForConditionalGeneration",
        lambda w, L: dict(
            flow_head_config=dict(
                hidden_size=w,
                num_hidden_layers=L,
                latent_dim=4,
                condition_dim=w,
                frequency_embedding_size=8,
                loss_weighting_hidden_size=w,
            ),
            latent_dim=4,
            num_key_value_heads=w // 16,
            audio_prompt_token_id=90,
            audio_latent_token_id=91,
            audio_prompt_bos_token_id=92,
            audio_bos_token_id=93,
        ),
        inputs={
            "input_ids": torch.tensor([[5, 6, 93, 91, 91, 91]] * 2),
            "audio_latents": torch.randn(2, 3, 4, generator=seed()),
        },  # with labels, a loss takes its derivatives forward (torch.func.jvp), which ends python.
    ),
    Family(
        "qwen2_5_omni_audio_encoder",
        "models.qwen2_5_omni.modeling_qwen2_5_omni.Qwen2_5OmniAudioEncoder",
        some(
            num_mel_bins=16,
            max_source_positions=16,
            d_model=width(),
            encoder_layers=depth,
            encoder_attention_heads=heads(),
            encoder_ffn_dim=width(2),
            n_window=4,
            output_dim=width(),
            num_hidden_layers=None,
        ),
        inputs={
            "input_features": torch.randn(16, 32, generator=seed()),
            "feature_lens": torch.tensor([16, 16]),
        },
    ),
    Family(
        "qwen2_5_omni_talker",
        "models.qwen2_5_omni.modeling_qwen2_5_omni.Qwen2_5OmniTalkerModel",
        some(embedding_size=width(), rope_parameters=MROPE),
    ),
    Family(
        "speecht5_hifigan",
        "SpeechT5HifiGan",
        some(
            model_in_dim=8,
            upsample_initial_channel=width(4),
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=lambda w, L: [[1] * L],
        ),
        inputs={"spectrogram": torch.randn(2, 6, 8, generator=seed())},
    ),
    Family(
        "vibevoice_acoustic_tokenizer",
        AUTO,
        some(
            num_filters=width(1, 4),
            downsampling_ratios=[2, 4],
            depths=lambda w, L: [L, L, L],
            ffn_expansion=2,
            layer_scale_init_value=0.1,
            vae_std=0.0,
        ),
        inputs={**sound(1, 64), "sample": False},
    ),
    Family(
        "voxtral_realtime",
        "VoxtralRealtimeForConditionalGeneration",
        lambda w, L: dict(
            text_config=text(w, L),
            audio_config=text(w, L, num_mel_bins=16) | dict(num_key_value_heads=w // 16),
            audio_length_per_tok=4,
            downsample_factor=2,
        ),
        inputs={"input_ids": TOKENS[:, :6], **sound(16, 24, name="input_features")},
    ),
    Family(
        "wavtokenizer",
        "WavTokenizerModel",
        some(
            num_filters=width(1, 4),
            upsampling_ratios=[4, 2],
            num_lstm_layers=1,
            num_residual_layers=depth,
            codebook_size=16,
            codebook_dim=width(),
            decoder_hidden_size=width(),
            decoder_intermediate_size=width(2),
            decoder_num_layers=depth,
            decoder_attention_num_groups=heads(),
        ),
        inputs=sound(1, 64),
    ),
    Family("xcodec2", "Xcodec2Model", CODEC, inputs=HEARD),
)
LATEST: tuple[Family, ...] = (*TEXTS_LATEST, *SEES, *HEARS)
