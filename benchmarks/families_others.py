"""The panel's models of sound, of pictures with texts, and of series."""

from __future__ import annotations

from typing import Any

import torch
from families_configs import (
    CONV,
    GPT,
    PAIR,
    SEQ,
    SPEECH,
    T5,
    TOKENS,
    Family,
    common,
    depth,
    heads,
    pixels,
    seed,
    some,
    sound,
    vision,
    width,
)


def text(w: int, L: int, **names: Any) -> dict[str, Any]:
    """The settings of a part that reads texts."""
    return dict(common(w, L), **names)


def picture(w: int, L: int, **names: Any) -> dict[str, Any]:
    """The settings of a part that sees pictures."""
    known = {
        k: v for k, v in common(w, L).items() if k not in ("vocab_size", "num_key_value_heads")
    }
    return dict(known, image_size=32, patch_size=8, num_channels=3, **names)


def marked(places: int, token: int = 9) -> dict[str, torch.Tensor]:
    """Two texts with places for a picture."""
    ids = torch.full((2, places + 3), 5)
    ids[:, 1 : 1 + places] = token
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels(32)}


BOTH = {"input_ids": TOKENS, **pixels(32)}
VALUES = torch.randn(2, 16, 3, generator=seed())
SERIES = dict(
    d_model=width(),
    encoder_layers=depth,
    decoder_layers=depth,
    encoder_attention_heads=heads(),
    decoder_attention_heads=heads(),
    encoder_ffn_dim=width(2),
    decoder_ffn_dim=width(2),
    prediction_length=4,
    context_length=8,
    num_time_features=1,
    lags_sequence=[1, 2],
    vocab_size=None,
)
PAST = {
    "past_values": torch.randn(2, 10, generator=seed()),
    "past_time_features": torch.randn(2, 10, 1, generator=seed()),
    "past_observed_mask": torch.ones(2, 10),
    "future_values": torch.randn(2, 4, generator=seed()),
    "future_time_features": torch.randn(2, 4, 1, generator=seed()),
}

CONFORMER = some(
    subsampling_conv_channels=width(),
    num_mel_bins=16,
    conv_kernel_size=3,
    layerdrop=0.0,
    num_key_value_heads=heads(),
)
OTHERS = (
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
    Family("pop2piano", "AutoModelForSpeechSeq2Seq", extra=some(**T5), inputs=PAIR),
    Family(
        "moonshine",
        "AutoModelForSpeechSeq2Seq",
        extra=some(
            encoder_num_hidden_layers=depth,
            decoder_num_hidden_layers=depth,
            encoder_num_attention_heads=heads(),
            decoder_num_attention_heads=heads(),
            encoder_num_key_value_heads=heads(),
            decoder_num_key_value_heads=heads(),
        ),
        inputs={**sound(1200), "decoder_input_ids": TOKENS},
    ),
    Family(
        "speecht5",
        "AutoModelForSpeechSeq2Seq",
        extra=some(
            **{**CONV, **SEQ}, mask_feature_prob=0.0, encoder_layerdrop=0.0, decoder_layerdrop=0.0
        ),
        inputs={**sound(400), "decoder_input_ids": TOKENS},
    ),
    Family("sew", SPEECH, some(**CONV, squeeze_factor=2), inputs=sound(400)),
    Family("unispeech", SPEECH, some(**CONV), inputs=sound(400)),
    Family("unispeech-sat", SPEECH, some(**CONV), inputs=sound(400)),
    Family(
        "wav2vec2-conformer",
        SPEECH,
        some(**CONV, conv_depthwise_kernel_size=3, max_source_positions=64),
        inputs=sound(400),
    ),
    Family(
        "wav2vec2-bert",
        SPEECH,
        some(
            feature_projection_input_dim=8,
            layerdrop=0.0,
            mask_time_prob=0.0,
            conv_depthwise_kernel_size=3,
            left_max_position_embeddings=4,
            right_max_position_embeddings=2,
        ),
        inputs=sound(12, 8, name="input_features"),
    ),
    Family(
        "parakeet_encoder",
        "AutoModel",
        CONFORMER,
        inputs=sound(32, 16, name="input_features"),
    ),
    Family(
        "lasr_encoder",
        "AutoModel",
        CONFORMER,
        inputs=sound(32, 16, name="input_features"),
    ),
    Family(
        "seamless_m4t",
        "AutoModelForSpeechSeq2Seq",
        some(
            **SEQ,
            speech_encoder_layers=depth,
            speech_encoder_attention_heads=heads(),
            speech_encoder_intermediate_size=width(2),
            feature_projection_input_dim=8,
            max_source_positions=64,
            layerdrop=0.0,
            num_adapter_layers=1,
            encoder_layerdrop=0.0,
            decoder_layerdrop=0.0,
            speech_encoder_layerdrop=0.0,
        ),
        inputs={**sound(16, 8, name="input_features"), "decoder_input_ids": TOKENS},
    ),
    # pictures and texts
    Family(
        "clip",
        "AutoModel",
        lambda w, L: {
            "text_config": text(w, L),
            "vision_config": picture(w, L),
            "projection_dim": w,
        },
        inputs=BOTH,
    ),
    Family(
        "siglip",
        "AutoModel",
        lambda w, L: {"text_config": text(w, L, projection_size=w), "vision_config": picture(w, L)},
        inputs=BOTH,
    ),
    Family(
        "blip",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, encoder_hidden_size=w),
            "vision_config": picture(w, L),
            "projection_dim": w,
        },
        inputs=BOTH,
    ),
    Family(
        "chinese_clip",
        "AutoModel",
        lambda w, L: {
            "text_config": text(w, L),
            "vision_config": picture(w, L),
            "projection_dim": w,
        },
        inputs=BOTH,
    ),
    Family(
        "clipseg",
        "AutoModelForZeroShotImageClassification",
        lambda w, L: {
            "text_config": text(w, L),
            "vision_config": picture(w, L),
            "projection_dim": w,
        },
        inputs=BOTH,
    ),
    Family(
        "git", "AutoModelForCausalLM", lambda w, L: {"vision_config": picture(w, L)}, inputs=BOTH
    ),
    Family(
        "vilt",
        "AutoModel",
        vision(modality_type_vocab_size=2),
        inputs={**BOTH, "pixel_mask": torch.ones(2, 32, 32, dtype=torch.long)},
    ),
    Family(
        "llava",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, model_type="llama"),
            "vision_config": picture(w, L, model_type="clip_vision_model"),
            "image_token_index": 9,
            "image_token_id": 9,
            "vision_feature_layer": -1,
        },
        inputs=marked(16),
    ),
    Family(
        "paligemma",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, model_type="gemma"),
            "vision_config": picture(
                w, L, model_type="siglip_vision_model", projection_dim=w, vision_use_head=False
            ),
            "image_token_index": 9,
            "image_token_id": 9,
            "projection_dim": w,
        },
        inputs=marked(16),
    ),
    Family(
        "gemma3",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, layer_types=["full_attention"] * L),
            "vision_config": picture(w, L, model_type="siglip_vision_model", vision_use_head=False),
            "image_token_index": 9,
            "image_token_id": 9,
            "mm_tokens_per_image": 4,
        },
        inputs={**marked(4), "token_type_ids": torch.zeros(2, 7, dtype=torch.long)},
    ),
    Family(
        "idefics3",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, model_type="llama"),
            "vision_config": picture(w, L),
            "image_token_id": 9,
            "scale_factor": 2,
        },
        inputs={**marked(4), "pixel_values": pixels(32)["pixel_values"][:, None]},
    ),
    Family(
        "mistral3",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, model_type="mistral"),
            "vision_config": picture(w, L, model_type="pixtral"),
            "image_token_index": 9,
            "image_token_id": 9,
            "spatial_merge_size": 2,
            "vision_feature_layer": -1,
        },
        inputs={**marked(4), "image_sizes": torch.tensor([[32, 32], [32, 32]])},
    ),
    Family(
        "qwen2_vl",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(
                w,
                L,
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [2, 3, 3],
                },
            ),
            "vision_config": dict(
                depth=L,
                embed_dim=w,
                hidden_size=w,
                num_heads=w // 16,
                mlp_ratio=2,
                patch_size=4,
                temporal_patch_size=2,
                spatial_merge_size=2,
            ),
            "image_token_id": 9,
            "video_token_id": 10,
            "vision_start_token_id": 11,
            "vision_end_token_id": 12,
        },
        inputs={
            "input_ids": torch.tensor([[11] + [9] * 4 + [12, 5], [11] + [9] * 4 + [12, 6]]),
            "attention_mask": torch.ones(2, 7, dtype=torch.long),
            "mm_token_type_ids": torch.tensor([[0] + [1] * 4 + [0, 0]] * 2),
            "pixel_values": torch.randn(32, 3 * 2 * 16, generator=seed()),
            "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
        },
    ),
    Family(
        "flava",
        "AutoModel",
        lambda w, L: {
            "text_config": text(w, L),
            "image_config": picture(w, L),
            "multimodal_config": picture(w, L),
        },
        inputs=BOTH,
    ),
    Family(
        "altclip",
        "AutoModel",
        lambda w, L: {
            "text_config": text(w, L, project_dim=w),
            "vision_config": picture(w, L),
            "projection_dim": w,
        },
        inputs=BOTH,
    ),
    Family(
        "blip-2",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, model_type="opt", ffn_dim=2 * w, word_embed_proj_dim=w),
            "vision_config": picture(w, L),
            "qformer_config": text(w, L, encoder_hidden_size=w),
            "num_query_tokens": 4,
            "image_token_id": 9,
            "image_token_index": 9,
        },
        inputs=marked(4),
    ),
    Family(
        "vipllava",
        "AutoModelForImageTextToText",
        lambda w, L: {
            "text_config": text(w, L, model_type="llama"),
            "vision_config": picture(w, L, model_type="clip_vision_model"),
            "image_token_index": 9,
            "image_token_id": 9,
            "vision_feature_layers": [-1, -2],
        },
        inputs=marked(16),
    ),
    # series
    Family(
        "patchtst",
        "PatchTSTForPrediction",
        some(
            num_input_channels=3,
            context_length=16,
            patch_length=4,
            patch_stride=4,
            d_model=width(),
            ffn_dim=width(2),
            prediction_length=4,
        ),
        inputs={"past_values": VALUES},
    ),
    Family(
        "patchtsmixer",
        "PatchTSMixerForPrediction",
        some(
            num_input_channels=3,
            context_length=16,
            patch_length=4,
            patch_stride=4,
            d_model=width(),
            num_layers=depth,
            prediction_length=4,
        ),
        inputs={"past_values": VALUES},
    ),
    Family(
        "timesfm",
        "AutoModelForTimeSeriesPrediction",
        some(
            patch_length=4, context_length=16, horizon_length=4, freq_size=3, quantiles=[0.1, 0.5]
        ),
        inputs={"past_values": VALUES[:, :, 0], "freq": torch.zeros(2, dtype=torch.long)},
    ),
    Family("informer", "InformerForPrediction", some(**SERIES), inputs=PAST),
    Family("autoformer", "AutoformerForPrediction", some(**SERIES, label_length=4), inputs=PAST),
    Family(
        "time_series_transformer", "TimeSeriesTransformerForPrediction", some(**SERIES), inputs=PAST
    ),
    Family(
        "decision_transformer",
        "AutoModel",
        some(**GPT, hidden_size=width(), state_dim=5, act_dim=3, max_ep_len=64),
        inputs={
            "states": torch.randn(2, 4, 5, generator=seed()),
            "actions": torch.randn(2, 4, 3, generator=seed()),
            "rewards": torch.randn(2, 4, 1, generator=seed()),
            "returns_to_go": torch.randn(2, 4, 1, generator=seed()),
            "timesteps": torch.arange(4)[None].repeat(2, 1),
            "attention_mask": torch.ones(2, 4),
        },
    ),
)
