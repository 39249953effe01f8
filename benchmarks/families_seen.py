"""More of the panel's models of pictures, of sound, and of pictures with texts."""

from __future__ import annotations

import torch
from families_configs import (
    CONV,
    PIC,
    SPEECH,
    SWIN,
    Family,
    depth,
    heads,
    pixels,
    seed,
    some,
    sound,
    vision,
    width,
)

PARTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "head_dim",
    "num_key_value_heads",
)
"""Sizes of the parts of a model that has none of its own."""
QWEN = dict(
    depth=depth,
    num_heads=heads(),
    in_channels=3,
    patch_size=4,
    spatial_merge_size=2,
    temporal_patch_size=2,
    out_hidden_size=width(),
    num_hidden_layers=None,
    num_attention_heads=None,
    head_dim=None,
)
"""Towers that read patches in a row."""


def patches(size: int) -> dict[str, torch.Tensor]:
    """Two pictures of four by four patches, in a row."""
    return {
        "hidden_states": torch.randn(32, size, generator=seed()),
        "grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
    }


SEEN = (
    Family("owlvit_vision_model", "OwlViTVisionModel", vision(), inputs=pixels(32)),
    Family(
        "vitpose_backbone",
        "VitPoseBackbone",
        vision(image_size=[32, 32], patch_size=[8, 8], mlp_ratio=2),
        inputs=pixels(32),
    ),
    Family(
        "videoprism_vision_model",
        "VideoPrismVisionModel",
        vision(
            num_spatial_layers=depth,
            num_temporal_layers=depth,
            num_frames=2,
            tubelet_size=[1, 8, 8],
            num_auxiliary_layers=1,
        ),
        inputs={"pixel_values_videos": pixels(32)["pixel_values"][:, None].repeat(1, 2, 1, 1, 1)},
    ),
    Family(
        "sam2_hiera_det_model",
        "Sam2HieraDetModel",
        some(
            image_size=[64, 64],
            num_attention_heads=1,
            blocks_per_stage=lambda w, L: [L, L],
            embed_dim_per_stage=lambda w, L: [w, 2 * w],
            num_attention_heads_per_stage=lambda w, L: [w // 16, w // 8],
            window_size_per_stage=[4, 2],
            global_attention_blocks=[],
            num_query_pool_stages=1,
        ),
        inputs=pixels(64),
    ),
    Family(
        "sam3_vit_model",
        "Sam3ViTModel",
        vision(pretrain_image_size=32, window_size=2, global_attn_indexes=lambda w, L: [L - 1]),
        inputs=pixels(32),
    ),
    Family(
        "sapiens2",
        "Sapiens2Model",
        vision(
            num_key_value_heads_per_layer=lambda w, L: [w // 16] * L,
            num_first_full_attention_layers=1,
            num_last_full_attention_layers=1,
            num_key_value_attention_heads=heads(32),
        ),
        inputs=pixels(32),
    ),
    Family(
        "lw_detr_vit",
        "LwDetrViTBackbone",
        vision(mlp_ratio=2, pretrain_image_size=32, num_windows=4),
        inputs=pixels(32),
    ),
    Family("radio", "RadioModel", vision(mlp_ratio=2.0, max_img_size=64), inputs=pixels(32)),
    Family(
        "mllama_vision_model",
        "MllamaVisionModel",
        vision(
            attention_heads=heads(),
            num_attention_heads=None,
            num_global_layers=depth,
            max_num_tiles=2,
            intermediate_layers_indices=[0],
            supported_aspect_ratios=[[1, 1], [1, 2]],
            vision_output_dim=width(2),
        ),
        inputs={
            "pixel_values": torch.randn(2, 1, 2, 3, 32, 32, generator=seed()),
            "aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(2, 1, 2, dtype=torch.long),
        },
    ),
    Family("pixtral", "PixtralVisionModel", vision(), inputs=pixels(32)),
    Family(
        "seggpt",
        "SegGptModel",
        vision(
            image_size=[32, 16],
            patch_size=4,
            pretrain_image_size=16,
            mlp_dim=width(2),
            intermediate_hidden_state_indices=lambda w, L: [L - 1],
            merge_index=0,
            decoder_hidden_size=width(),
        ),
        inputs={
            "pixel_values": pixels(16)["pixel_values"],
            "prompt_pixel_values": pixels(16)["pixel_values"],
            "prompt_masks": pixels(16)["pixel_values"],
        },
    ),
    Family(
        "eomt",
        "EomtForUniversalSegmentation",
        vision(num_blocks=lambda w, L: L // 2, num_queries=5, mlp_ratio=2, num_upscale_blocks=1),
        inputs=pixels(32),
    ),
    Family(
        "xclip_vision_model",
        "XCLIPVisionModel",
        vision(
            num_frames=2,
            mit_hidden_size=width(),
            mit_intermediate_size=width(2),
            mit_num_attention_heads=heads(),
        ),
        inputs=pixels(32),
    ),
    Family(
        "groupvit_vision_model",
        "GroupViTVisionModel",
        vision(
            depths=lambda w, L: [L, L, L],
            num_hidden_layers=None,
            num_group_tokens=[8, 4, 0],
            num_output_groups=[8, 4, 4],
            num_attention_heads=heads(),
        ),
        inputs=pixels(32),
    ),
    Family(
        "phi4_multimodal_vision",
        "Phi4MultimodalVisionModel",
        vision(crop_size=32),
        inputs=pixels(32),
    ),
    Family("janus_vision_model", "JanusVisionModel", vision(mlp_ratio=2.0), inputs=pixels(32)),
    Family(
        "llama4_vision_model",
        "Llama4VisionModel",
        vision(
            vision_output_dim=width(2),
            projector_input_dim=width(2),
            projector_output_dim=width(2),
            intermediate_size=width(4),
            multi_modal_projector_bias=False,
        ),
        inputs=pixels(32),
    ),
    Family(
        "qwen2_5_vl_vision",
        "Qwen2_5_VisionTransformerPretrainedModel",
        some(**QWEN, window_size=16, fullatt_block_indexes=lambda w, L: [*range(1, L, 2)]),
        inputs=patches(96),
    ),
    Family(
        "qwen3_vl_vision",
        "Qwen3VLVisionModel",
        some(**QWEN, num_position_embeddings=16, deepstack_visual_indexes=[0]),
        inputs=patches(96),
    ),
    Family("glm4v_vision", "Glm4vVisionModel", some(**QWEN, image_size=16), inputs=patches(96)),
    Family(
        "pix2struct_vision_model",
        "Pix2StructVisionModel",
        some(
            patch_embed_hidden_size=50, d_ff=width(2), d_kv=16, seq_len=16, initializer_range=0.02
        ),  # 1e-10 by default: weights are loaded.
        inputs={
            "flattened_patches": torch.cat(
                (torch.ones(2, 9, 2), torch.randn(2, 9, 50, generator=seed())), -1
            )
        },
    ),
    Family(
        "dpt",
        "DPTForDepthEstimation",
        vision(
            patch_size=4,
            backbone_out_indices=lambda w, L: [L // 2 - 1, L - 1],
            neck_hidden_sizes=lambda w, L: [w, w],
            reassemble_factors=[2, 1],
            neck_ignore_stages=[],
            fusion_hidden_size=width(),
        ),
        inputs=pixels(32),
    ),
    Family(
        "depth_anything",
        "DepthAnythingForDepthEstimation",
        lambda w, L: dict(
            backbone_config=dict(
                model_type="dinov2",
                hidden_size=w,
                num_hidden_layers=L,
                num_attention_heads=w // 16,
                mlp_ratio=2,
                image_size=32,
                patch_size=8,
                out_indices=[L - 1, L],
                apply_layernorm=True,
                reshape_hidden_states=False,
            ),
            reassemble_hidden_size=w,
            patch_size=8,
            neck_hidden_sizes=[w] * 2,
            reassemble_factors=[2, 1],
            fusion_hidden_size=w,
            head_hidden_size=w // 2,
            **dict.fromkeys(PARTS),
        ),
        inputs=pixels(32),
    ),
    Family(
        "levit",
        PIC,
        some(
            image_size=64,
            hidden_sizes=lambda w, L: [w, 2 * w, 2 * w],
            num_attention_heads=lambda w, L: [w // 16, w // 8, w // 8],
            depths=lambda w, L: [L, L, L],
            num_hidden_layers=None,
            architectures=[],
        ),
        inputs=pixels(64, 12),
    ),
    Family(
        "mobilenet_v2",
        PIC,
        some(image_size=32, depth_multiplier=lambda w, L: w / 64, num_hidden_layers=None),
        inputs=pixels(32),
        deep=False,
    ),
    Family(
        "mobilevitv2",
        PIC,
        some(
            image_size=64,
            width_multiplier=lambda w, L: w / 64,
            n_attn_blocks=lambda w, L: [L, L, L],
            base_attn_unit_dims=[64, 64, 64],
            num_hidden_layers=None,
        ),
        inputs=pixels(64),
    ),
    Family(
        "efficientnet",
        PIC,
        some(
            image_size=64,
            width_coefficient=lambda w, L: w / 64,
            depth_coefficient=lambda w, L: float(L),
            hidden_dim=lambda w, L: w * 1280 // 64,
            drop_connect_rate=0.0,
            kernel_sizes=[3, 5],
            in_channels=[32, 16],
            out_channels=[16, 32],
            strides=[1, 2],
            num_block_repeats=[1, 1],
            expand_ratios=[1, 2],
        ),
        inputs=pixels(64),
    ),
    Family(
        "textnet",
        PIC,
        some(
            stem_out_channels=width(),
            image_size=[32, 32],
            hidden_sizes=lambda w, L: [w, w, w],
            conv_layer_kernel_sizes=lambda w, L: [[[3, 3]] * L, [[3, 3]] * L],
            conv_layer_strides=lambda w, L: [[1] * L, [2] + [1] * (L - 1)],
        ),
        inputs=pixels(32, 12),
    ),
    Family(
        "superpoint",
        "SuperPointForKeypointDetection",
        some(
            encoder_hidden_sizes=lambda w, L: [w] * L,
            decoder_hidden_size=width(),
            descriptor_decoder_dim=width(),
        ),
        inputs=pixels(32),
    ),
    Family("maskformer-swin", "MaskFormerSwinModel", some(**SWIN), inputs=pixels(32)),
    Family(
        "mgp-str",
        "MgpstrForSceneTextRecognition",
        vision(
            image_size=[32, 32],
            mlp_ratio=2.0,
            max_token_length=5,
            num_character_labels=11,
            num_bpe_labels=13,
            num_wordpiece_labels=17,
        ),
        inputs=pixels(32),
    ),
    Family(
        "clap_audio_model",
        "ClapAudioModel",
        some(
            hidden_size=width(2),
            patch_embeds_hidden_size=width(),
            depths=lambda w, L: [L, L],
            num_attention_heads=lambda w, L: [w // 16, w // 8],
            num_hidden_layers=2,
            spec_size=32,
            num_mel_bins=16,
            window_size=4,
            hidden_dropout_prob=0.0,
        ),
        inputs={"input_features": torch.randn(2, 1, 64, 16, generator=seed())},
    ),
    Family(
        "sew-d",
        SPEECH,
        some(**CONV, squeeze_factor=2, feat_extract_norm="group", position_buckets=8),
        inputs=sound(400),
    ),
    Family(
        "voxtral_encoder",
        "VoxtralEncoder",
        some(num_mel_bins=16, max_source_positions=16),
        inputs=sound(16, 32, name="input_features"),
    ),
    Family(
        "qwen2_audio_encoder",
        "Qwen2AudioEncoder",
        some(
            num_mel_bins=16,
            max_source_positions=16,
            d_model=width(),
            encoder_layers=depth,
            encoder_attention_heads=heads(),
            encoder_ffn_dim=width(2),
            num_hidden_layers=None,
        ),
        inputs=sound(16, 32, name="input_features"),
    ),
    Family(
        "granite_speech_encoder",
        "GraniteSpeechCTCEncoder",
        some(
            input_dim=20,
            num_layers=depth,
            hidden_dim=width(),
            feedforward_mult=2,
            num_heads=heads(),
            dim_head=16,
            output_dim=11,
            context_size=4,
            max_pos_emb=8,
            conv_kernel_size=3,
        ),
        inputs=sound(8, 20, name="hidden_states"),
    ),
    Family(
        "encodec",
        "EncodecModel",
        some(
            num_filters=width(1, 4),
            upsampling_ratios=[4, 2],
            num_lstm_layers=1,
            codebook_size=16,
            num_residual_layers=depth,
        ),
        inputs=sound(1, 64),
    ),
    Family(
        "dac",
        "DacModel",
        some(
            encoder_hidden_size=width(1, 4),
            decoder_hidden_size=width(4),
            downsampling_ratios=[2, 4],
            upsampling_ratios=[4, 2],
            n_codebooks=2,
            codebook_size=16,
            hidden_size=None,
        ),
        inputs=sound(1, 64),
        deep=False,
    ),
    Family(
        "mimi",
        "MimiModel",
        some(
            num_filters=width(1, 4),
            upsampling_ratios=[4, 2],
            codebook_size=16,
            codebook_dim=16,
            vector_quantization_hidden_dimension=16,
            num_quantizers=2,
            upsample_groups=width(),
            num_key_value_heads=heads(),
        ),
        inputs=sound(1, 256),
    ),
    Family(
        "timesfm2_5",
        "TimesFm2_5ModelForPrediction",
        some(
            patch_length=4,
            context_length=16,
            horizon_length=4,
            output_quantile_len=8,
            num_key_value_heads=heads(),
            intermediate_size=width(),
        ),
        inputs={"past_values": torch.randn(2, 16, generator=seed())},
    ),
    Family(
        "pp_lcnet",
        PIC,
        some(
            scale=lambda w, L: w / 64,
            stem_channels=64,
            block_configs=lambda w, L: (
                [[[3, 64, 64, 1, False]] * L] * 3
                + [[[3, 64, 64, 2, False]] + [[3, 64, 64, 1, True]] * L] * 2
            ),
            hidden_dropout_prob=0.0,
            class_expand=width(2),
        ),
        inputs=pixels(32),
    ),
)
