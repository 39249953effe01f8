"""The panel's types that were added last, in alphabetical order: the reader had not seen them."""

from __future__ import annotations

from typing import Any

import torch
from families_configs import (
    CONV,
    PAIR,
    SEQ,
    T5,
    TOKENS,
    Family,
    both,
    depth,
    experts,
    heads,
    pixels,
    seed,
    some,
    sound,
    vision,
    width,
)
from families_more import AUTO, BOXES
from families_others import BOTH, CONFORMER, marked, picture, text
from families_seen import QWEN, patches

MROPE = dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3])
BOX = "AutoModelForObjectDetection"
ROWS = BOXES.sort(-1).values
TEXTS = torch.arange(72).view(12, 6) * 5 % 89 + 3
CODES = torch.arange(24).view(2, 6, 2) % 7 + 3


def resnet(w: int, L: int) -> dict[str, Any]:
    """A small ResNet."""
    return dict(
        model_type="resnet",
        embedding_size=w,
        hidden_sizes=[w, 2 * w],
        depths=[2, 2],
        layer_type="basic",
        out_features=["stage1", "stage2"],
    )


def tower(w: int, L: int, **names: Any) -> dict[str, Any]:
    """A small vision transformer as a backbone."""
    return dict(
        hidden_size=w,
        num_hidden_layers=L,
        num_attention_heads=w // 16,
        mlp_ratio=2,
        image_size=32,
        patch_size=8,
        **names,
    )


DETR = dict(
    d_model=width(),
    encoder_layers=depth,
    decoder_layers=depth,
    encoder_attention_heads=heads(),
    decoder_attention_heads=heads(),
    encoder_ffn_dim=width(2),
    decoder_ffn_dim=width(2),
    num_queries=5,
    backbone_config=resnet,
    num_hidden_layers=None,
    hidden_size=None,
    num_attention_heads=None,
)
FURTHER: tuple[Family, ...] = (
    Family("blip_vision_model", "BlipVisionModel", vision(), inputs=pixels(32)),
    Family(
        "bridgetower",
        "BridgeTowerModel",
        lambda w, L: dict(text_config=text(w, L), vision_config=picture(w, L)),
        inputs=BOTH,
    ),
    Family(
        "clap",
        "ClapModel",
        lambda w, L: dict(
            text_config=text(w, L, projection_dim=w),
            audio_config=dict(
                hidden_size=2 * w,
                patch_embeds_hidden_size=w,
                depths=[L, L],
                num_attention_heads=[w // 16, w // 8],
                num_hidden_layers=2,
                spec_size=32,
                num_mel_bins=16,
                window_size=4,
                projection_dim=w,
            ),
            projection_dim=w,
        ),
        inputs={"input_ids": TEXTS, "input_features": torch.randn(12, 1, 64, 16, generator=seed())},
    ),
    Family(
        "clvp_decoder",
        "ClvpForCausalLM",
        some(n_inner=width(2), num_mel_attn_blocks=1, feature_size=8),
    ),
    Family("conditional_detr", BOX, some(**DETR), inputs=pixels(32, 12)),
    Family(
        "csm",
        "models.csm.modeling_csm.CsmBackboneModel",
        some(num_codebooks=2, text_vocab_size=97),
        inputs={"input_ids": CODES},
    ),
    Family(
        "csm_depth_decoder_model",
        "CsmDepthDecoderForCausalLM",
        some(backbone_hidden_size=width(), num_codebooks=8),
        inputs={"input_ids": TOKENS},
    ),
    Family("deformable_detr", BOX, some(**DETR, num_feature_levels=2), inputs=pixels(32, 12)),
    Family(
        "dia",
        "DiaForConditionalGeneration",
        lambda w, L: dict(
            encoder_config=text(w, L),
            decoder_config=text(
                w,
                L,
                cross_num_attention_heads=w // 16,
                cross_head_dim=16,
                cross_num_key_value_heads=w // 16,
                cross_hidden_size=w,
                num_channels=2,
            ),
            delay_pattern=[0, 1],
        ),
        inputs={"input_ids": TOKENS, "decoder_input_ids": CODES},
    ),
    Family(
        "fastspeech2_conformer",
        "FastSpeech2ConformerModel",
        some(
            num_mel_bins=8,
            encoder_num_attention_heads=heads(),
            decoder_num_attention_heads=heads(),
            encoder_layers=depth,
            decoder_layers=depth,
            encoder_linear_units=width(2),
            decoder_linear_units=width(2),
            encoder_kernel_size=3,
            decoder_kernel_size=3,
            duration_predictor_channels=width(),
            pitch_predictor_channels=width(),
            energy_predictor_channels=width(),
            speech_decoder_postnet_units=width(),
            **dict.fromkeys(
                (
                    "encoder_dropout_rate",
                    "decoder_dropout_rate",
                    "speech_decoder_postnet_dropout",
                    "duration_predictor_dropout_rate",
                    "pitch_predictor_dropout",
                    "energy_predictor_dropout",
                    "pitch_embed_dropout",
                    "energy_embed_dropout",
                    "encoder_positional_dropout_rate",
                    "decoder_positional_dropout_rate",
                    "encoder_attention_dropout_rate",
                    "decoder_attention_dropout_rate",
                ),
                0.0,
            ),
        ),
        inputs={
            "input_ids": TEXTS,
            "attention_mask": torch.ones_like(TEXTS),
            "spectrogram_labels": torch.randn(12, 12, 8, generator=seed()),
            "duration_labels": torch.full((12, 6), 2),
            "pitch_labels": torch.randn(12, 6, 1, generator=seed()),
            "energy_labels": torch.randn(12, 6, 1, generator=seed()),
        },
    ),
    Family(
        "gemma4_audio",
        AUTO,
        some(
            subsampling_conv_channels=lambda w, L: (16, w),
            attention_chunk_size=4,
            attention_context_left=5,
            output_proj_dims=width(),
        ),
        inputs={**sound(32, 16, name="input_features"), "attention_mask": torch.ones(2, 32).bool()},
    ),
    Family(
        "gemma4_vision",
        AUTO,
        some(
            num_key_value_heads=heads(),
            patch_size=4,
            position_embedding_size=8,
            pooling_kernel_size=2,
        ),
        inputs={
            "pixel_values": torch.rand(2, 16, 48, generator=seed()),
            "pixel_position_ids": torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(
                2, 1, 1
            ),
        },
    ),
    Family("glm4v_text", "Glm4vTextModel", some(rope_parameters=MROPE)),
    Family(
        "got_ocr2",
        "GotOcr2ForConditionalGeneration",
        lambda w, L: dict(
            text_config=text(w, L, model_type="qwen2"),
            vision_config=picture(
                w, L, output_channels=w, mlp_dim=2 * w, window_size=2, global_attn_indexes=[L - 1]
            )
            | dict(patch_size=4),
            image_token_index=9,
        ),
        inputs=marked(4),
    ),
    Family(
        "granite_speech5_encoder",
        AUTO,
        some(
            num_mel_bins=4,
            context_size=4,
            conv_kernel_size=3,
            max_position_embeddings=8,
            num_key_value_heads=heads(),
            subsample_layers=[0],
        ),
        inputs=sound(16, 16, name="input_features"),
    ),
    Family(
        "groupvit",
        "GroupViTModel",
        lambda w, L: dict(
            text_config=text(w, L),
            vision_config=picture(
                w, L, depths=[L, L, L], num_group_tokens=[8, 4, 0], num_output_groups=[8, 4, 4]
            )
            | dict(num_hidden_layers=3 * L),
            projection_dim=w,
            projection_intermediate_dim=2 * w,
        ),
        inputs={"input_ids": TEXTS, **pixels(32, 12)},
    ),
    Family("hunyuan_vl_text", "HunYuanVLTextModel", some(rope_parameters=MROPE)),
    Family(
        "idefics2_vision",
        "models.idefics2.modeling_idefics2.Idefics2VisionTransformer",
        vision(),
        inputs=pixels(32),
    ),
    Family(
        "instructblip_qformer",
        "InstructBlipQFormerModel",
        some(encoder_hidden_size=24),
        inputs=lambda w, L: {
            "input_ids": TOKENS,
            **sound(4, w, name="query_embeds"),
            **sound(5, 24, name="encoder_hidden_states"),
        },
    ),
    Family(
        "internvl",
        "InternVLForConditionalGeneration",
        lambda w, L: dict(
            text_config=text(w, L, model_type="qwen2"),
            vision_config=picture(w, L),
            image_token_id=9,
            image_seq_length=4,
        ),
        inputs=marked(4),
    ),
    Family("jina_embeddings_v3", "AutoModelForMaskedLM"),
    Family(
        "kosmos_2_text_model",
        "models.kosmos2.modeling_kosmos2.Kosmos2TextForCausalLM",
        some(
            embed_dim=width(),
            layers=depth,
            ffn_dim=width(2),
            attention_heads=heads(),
            hidden_size=None,
            num_hidden_layers=None,
            num_attention_heads=None,
        ),
    ),
    Family(
        "kosmos_2_vision_model",
        "models.kosmos2.modeling_kosmos2.Kosmos2VisionModel",
        vision(),
        inputs=pixels(32),
    ),
    Family("layoutlm", "AutoModelForMaskedLM", inputs={"input_ids": TOKENS, "bbox": ROWS}),
    Family(
        "layoutlmv3",
        "LayoutLMv3ForTokenClassification",
        some(
            coordinate_size=width(1, 8),
            shape_size=width(1, 4),
            max_2d_position_embeddings=16,
            input_size=32,
            patch_size=8,
            head_dim=None,
        ),
        inputs={**BOTH, "bbox": ROWS},
    ),
    Family(
        "lightglue",
        "LightGlueForKeypointMatching",
        lambda w, L: dict(
            descriptor_dim=w,
            num_key_value_heads=w // 16,
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
    Family(
        "moonshine_streaming_encoder",
        "models.moonshine_streaming.modeling_moonshine_streaming.MoonshineStreamingEncoder",
        some(num_key_value_heads=heads(), sliding_windows=lambda w, L: ((4, 2),) * L),
        inputs=sound(1600),
    ),
    Family(
        "moshi_depth",
        "models.moshi.modeling_moshi.MoshiDepthDecoder",
        some(
            input_size=24,
            num_key_value_heads=heads(),
            audio_vocab_size=97,
            ffn_dim=width(4),
            num_codebooks=6,
        ),
        inputs={"input_ids": TOKENS, **sound(6, 24, name="last_hidden_state")},
    ),
    Family(
        "musicgen_decoder",
        "MusicgenForCausalLM",
        some(ffn_dim=width(2), num_codebooks=2, num_key_value_heads=None),
        inputs={"input_ids": TOKENS.view(4, 3)},
    ),
    Family(
        "omniasr_audio",
        AUTO,
        some(**CONV, conv_bias=True, hidden_dropout=0.0),
        inputs=sound(1, 400),
    ),
    Family(
        "owlvit",
        "OwlViTForObjectDetection",
        lambda w, L: {
            "text_config": text(w, L) | {"initializer_factor": 0.02},
            "vision_config": picture(w, L) | {"initializer_factor": 0.02},
            "projection_dim": w,
            "initializer_factor": 0.02,
        },
        inputs=BOTH,
    ),
    Family(
        "parakeet_ctc",
        "ParakeetForCTC",
        lambda w, L: dict(
            encoder_config=CONFORMER(w, L)
            | {k: v for k, v in text(w, L).items() if "token" not in k and k != "vocab_size"}
            | dict(num_key_value_heads=w // 16)
        ),
        inputs=sound(32, 16, name="input_features"),
    ),
    Family(
        "pe_audio_encoder",
        AUTO,
        some(
            num_key_value_heads=heads(),
            dac_config=lambda w, L: dict(
                encoder_hidden_size=w // 4, downsampling_ratios=[2, 4], codebook_dim=w
            ),
        ),
        inputs=sound(1, 64),
    ),
    Family(
        "phi4_multimodal_audio",
        "Phi4MultimodalAudioModel",
        some(
            num_blocks=depth,
            input_size=16,
            ext_pw_out_channel=width(),
            left_chunk=4,
            chunk_size=8,
            depthwise_separable_out_channel=width(),
            nemo_conv_channels=width(),
            time_reduction=4,
            bias_max_distance=8,
        ),
        inputs=(lambda x: {"hidden_states": x["h"], "mask": None})(sound(32, 16, name="h")),
    ),
    Family(
        "pix2struct",
        "Pix2StructForConditionalGeneration",
        lambda w, L: dict(
            text_config=dict(
                vocab_size=97,
                hidden_size=w,
                d_kv=16,
                d_ff=2 * w,
                num_layers=L,
                num_heads=w // 16,
                is_decoder=True,
            ),
            vision_config=dict(
                hidden_size=w,
                patch_embed_hidden_size=50,
                d_ff=2 * w,
                d_kv=16,
                num_hidden_layers=L,
                num_attention_heads=w // 16,
                seq_len=16,
            ),
        ),
        inputs={
            "decoder_input_ids": TOKENS,
            "flattened_patches": torch.cat(
                (torch.ones(2, 9, 2), torch.randn(2, 9, 50, generator=seed())), -1
            ),
        },
    ),
    Family(
        "pix2struct_text_model",
        "Pix2StructTextModel",
        some(
            d_kv=16,
            d_ff=width(2),
            num_layers=depth,
            num_heads=heads(),
            num_hidden_layers=None,
            num_attention_heads=None,
            is_decoder=True,
            initializer_range=0.02,
        ),
    ),
    Family(
        "qwen2_5_omni_dit",
        "Qwen2_5OmniToken2WavDiTModel",
        some(
            ff_mult=2,
            emb_dim=width(),
            block_size=4,
            look_ahead_layers=[0],
            look_backward_layers=[1],
            num_embeds=97,
            mel_dim=8,
            enc_emb_dim=12,
            enc_dim=width(),
            enc_channels=lambda w, L: (w, w, w, 2 * w),
            enc_kernel_sizes=(3, 3, 3, 1),
            enc_dilations=(1, 2, 3, 1),
            enc_attention_channels=width(),
            enc_se_channels=width(),
        ),
        inputs={
            **sound(12, 8, name="hidden_states"),
            **sound(12, 8, name="condition_vector"),
            **sound(12, 12, name="speaker_embedding"),
            "quantized_code": TOKENS,
            "time_step": torch.tensor([0.2, 0.7]),
            "apply_cfg": False,
        },
    ),
    Family("qwen2_5_vl_text", "Qwen2_5_VLTextModel", some(rope_parameters=MROPE)),
    Family(
        "qwen2_vl_vision",
        "models.qwen2_vl.modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel",
        some(**{**QWEN, "hidden_size": width(), "embed_dim": width(), "mlp_ratio": 2}),
        inputs=patches(96),
    ),
    Family(
        "qwen3_omni_moe_text",
        "Qwen3OmniMoeThinkerTextModel",
        both(experts(), rope_parameters=MROPE),
    ),
    Family("qwen3_vl_text", "Qwen3VLTextModel", some(rope_parameters=MROPE)),
    Family(
        "rt_detr",
        BOX,
        some(
            **DETR,
            encoder_hidden_dim=width(),
            encoder_in_channels=lambda w, L: [w, 2 * w],
            feat_strides=[4, 8],
            encode_proj_layers=[1],
            decoder_in_channels=lambda w, L: [w, w],
            num_feature_levels=2,
            num_denoising=0,
        ),
        inputs=pixels(32, 12),
    ),
    Family(
        "sam",
        "SamModel",
        lambda w, L: dict(
            vision_config=picture(
                w,
                L,
                output_channels=w,
                window_size=2,
                global_attn_indexes=[],
                num_pos_feats=w // 2,
                mlp_dim=2 * w,
                initializer_range=0.02,
            ),
            prompt_encoder_config=dict(hidden_size=w, image_size=32, patch_size=8),
            mask_decoder_config=dict(
                hidden_size=w,
                mlp_dim=2 * w,
                num_hidden_layers=L,
                num_attention_heads=w // 16,
                iou_head_hidden_dim=w,
            ),
        ),
        inputs={
            **pixels(32),
            "input_points": torch.rand(2, 1, 2, 2, generator=seed()) * 32,
            "input_labels": torch.tensor([[[0, 1]], [[1, 0]]]),
        },
    ),
    Family(
        "sam2_vision_model",
        AUTO,
        lambda w, L: dict(
            backbone_config=dict(
                model_type="sam2_hiera_det_model",
                hidden_size=w,
                image_size=[64, 64],
                num_attention_heads=1,
                blocks_per_stage=[L, L],
                embed_dim_per_stage=[w, 2 * w],
                num_attention_heads_per_stage=[w // 16, w // 8],
                window_size_per_stage=[4, 2],
                global_attention_blocks=[],
                num_query_pool_stages=1,
            ),
            backbone_channel_list=[2 * w, w],
            backbone_feature_sizes=[[16, 16], [8, 8]],
            fpn_hidden_size=w,
            fpn_top_down_levels=[0, 1],
            num_feature_levels=2,
        ),
        inputs=pixels(64),
    ),
    Family(
        "seamless_m4t_v2",
        "AutoModelForSpeechSeq2Seq",
        some(
            **SEQ,
            speech_encoder_layers=depth,
            speech_encoder_attention_heads=heads(),
            speech_encoder_intermediate_size=width(2),
            feature_projection_input_dim=8,
            num_adapter_layers=1,
            encoder_layerdrop=0.0,
            decoder_layerdrop=0.0,
            speech_encoder_layerdrop=0.0,
            conv_depthwise_kernel_size=3,
        ),
        inputs={**sound(16, 8, name="input_features"), "decoder_input_ids": TOKENS},
    ),
    Family(
        "siglip2",
        AUTO,
        lambda w, L: dict(
            text_config=text(w, L, projection_size=w), vision_config=picture(w, L, num_patches=16)
        ),
        inputs={
            "input_ids": TOKENS,
            "pixel_values": torch.randn(2, 16, 192, generator=seed()),
            "pixel_attention_mask": torch.ones(2, 16),
            "spatial_shapes": torch.tensor([[4, 4]] * 2),
        },
    ),
    Family(
        "t5gemma2",
        "T5Gemma2ForConditionalGeneration",
        lambda w, L: dict(
            encoder=dict(
                text_config=text(w, L, layer_types=["full_attention"] * L),
                vision_config=picture(
                    w, L, model_type="siglip_vision_model", vision_use_head=False
                ),
                mm_tokens_per_image=4,
                boi_token_index=10,
                eoi_token_index=11,
            ),
            decoder=text(w, L, layer_types=["full_attention"] * L),
            image_token_index=9,
        ),
        inputs={**marked(4), "decoder_input_ids": TOKENS},
    ),
    Family("table-transformer", BOX, some(**DETR), inputs=pixels(32, 12)),
    Family(
        "tapas",
        "AutoModelForMaskedLM",
        inputs={"input_ids": TOKENS, "token_type_ids": torch.zeros(2, 6, 7, dtype=torch.long)},
    ),
    Family(
        "udop",
        "UdopForConditionalGeneration",
        some(**T5, max_2d_position_embeddings=16, image_size=32, patch_size=8),
        inputs={**PAIR, "bbox": ROWS / 16, **pixels(32)},
    ),
    Family(
        "univnet",
        "UnivNetModel",
        some(
            model_in_channels=width(),
            model_hidden_channels=width(1, 4),
            num_mel_bins=8,
            resblock_kernel_sizes=[3, 3],
            resblock_stride_sizes=[2, 2],
            resblock_dilation_sizes=lambda w, L: [[1] * L] * 2,
            kernel_predictor_hidden_channels=width(),
        ),
        inputs=sound(6, 8, name="input_features"),
    ),
    Family(
        "upernet",
        "UperNetForSemanticSegmentation",
        lambda w, L: dict(
            backbone_config=dict(
                model_type="resnet",
                embedding_size=w,
                hidden_sizes=[w, w, w, 2 * w],
                depths=[L] * 4,
                layer_type="basic",
                out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
            ),
            hidden_size=w,
            auxiliary_in_channels=w,
            auxiliary_channels=w,
            pool_scales=[1, 2],
        ),
        inputs=pixels(64, 12),
    ),
    Family(
        "vitmatte",
        "VitMatteForImageMatting",
        lambda w, L: dict(
            backbone_config={
                **tower(
                    w,
                    L,
                    model_type="vitdet",
                    num_channels=4,
                    pretrain_image_size=64,
                    out_features=[f"stage{L}"],
                ),
                "image_size": 64,
                "patch_size": 16,
            },
            hidden_size=w,
            convstream_hidden_sizes=[w, w, w],
            fusion_hidden_sizes=[w, w, w, w],
        ),
        inputs={"pixel_values": torch.randn(12, 4, 64, 64, generator=seed())},
    ),
    Family(
        "vitpose",
        "VitPoseForPoseEstimation",
        lambda w, L: dict(
            backbone_config={
                **tower(w, L, model_type="vitpose_backbone", num_channels=3),
                "image_size": [32, 32],
                "patch_size": [8, 8],
            },
            num_labels=5,
        ),
        inputs=pixels(32, 12),
    ),
    Family(
        "vits",
        "VitsModel",
        some(
            ffn_dim=width(2),
            flow_size=width(),
            spectrogram_bins=9,
            upsample_initial_channel=width(4),
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            duration_predictor_filter_channels=width(),
            prior_encoder_num_wavenet_layers=depth,
            posterior_encoder_num_wavenet_layers=depth,
            layerdrop=0.0,
        ),
    ),
    Family(
        "xcodec",
        "XcodecModel",
        lambda w, L: dict(
            hidden_size=None,
            target_bandwidths=[8.0],
            codebook_size=16,
            acoustic_model_config=dict(
                encoder_hidden_size=w // 4,
                hidden_size=w,
                decoder_hidden_size=4 * w,
                downsampling_ratios=[4, 5],
                upsampling_ratios=[5, 4],
                n_codebooks=2,
                codebook_size=16,
            ),
            semantic_model_config={
                **{k: v(w, L) if callable(v) else v for k, v in CONV.items()},
                **{k: v for k, v in text(w, L).items() if "token" not in k},
                **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout"), 0.0),
            },
        ),
        inputs=sound(1, 400),
    ),
    Family(
        "zoedepth",
        "ZoeDepthForDepthEstimation",
        lambda w, L: dict(
            backbone_config=dict(
                model_type="beit",
                hidden_size=w,
                num_hidden_layers=2 * L,
                num_attention_heads=w // 16,
                intermediate_size=2 * w,
                image_size=32,
                patch_size=8,
                use_relative_position_bias=True,
                reshape_hidden_states=False,
                out_features=[f"stage{i}" for i in (L // 2, L, 3 * L // 2, 2 * L)],
            ),
            neck_hidden_sizes=[w] * 4,
            fusion_hidden_size=w,
            bottleneck_features=w,
            bin_embedding_dim=w,
            num_relative_features=w // 2,
            bin_configurations=[dict(n_bins=8, min_depth=0.1, max_depth=10.0, name="nyu")],
        ),
        inputs=pixels(32, 12),
    ),
)
