"""A CogVideoX of any size from its numbers alone, with random weights: to train one, or to test.

The classes are the real ones in their official layout, so what `new_pipeline` returns saves with
``save_pretrained`` and loads through `pipelines.backbone`. Nothing is trained here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer


@dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """The numbers of a CogVideoX; defaults are the miniature's."""

    height_px: int = 96
    width_px: int = 144
    num_frames: int = 49
    num_heads: int = 4
    num_layers: int = 8
    time_embed_dim: int = 64
    rotary: bool = False
    """Rotary positions as in 5B; else sin-cos positions as in 2B."""
    text_length: int = 24
    text_width: int = 128
    text_layers: int = 3
    vae_channels: tuple[int, int, int, int] = (32, 48, 64, 64)
    vae_layers: int = 1
    """Residual layers of each of the VAE's blocks."""
    vae_norm_groups: int = 8
    position_scale: float = 1.0
    """Spatial interpolation of sin-cos positions."""
    snr_shift: float = 1.0
    scaling_factor: float = 1.0


TINY = BackboneShape(
    height_px=32,
    width_px=48,
    num_frames=17,
    num_heads=2,
    num_layers=4,
    text_length=12,
    text_width=32,
    text_layers=1,
    vae_channels=(8, 8, 16, 16),
    scaling_factor=0.7,
)
"""For tests and dry runs."""

COGVIDEOX_2B = BackboneShape(
    height_px=480,
    width_px=720,
    num_heads=30,
    num_layers=30,
    time_embed_dim=512,
    text_length=226,
    text_width=4096,
    text_layers=24,
    vae_channels=(128, 256, 256, 512),
    vae_layers=3,
    vae_norm_groups=32,
    position_scale=1.875,
    snr_shift=3.0,
    scaling_factor=1.15258426,
)
"""Its transformer has 1,693,783,872 parameters. The text encoder is narrower than T5-XXL inside."""


def new_tokenizer(words: Sequence[str]) -> Any:
    """A T5 tokenizer whose tokens are whole words; any other word is ``<unk>``."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), ("▁", -50.0)]
    vocabulary = [*special, *((f"▁{word}", -1.0) for word in dict.fromkeys(words))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0)


def new_pipeline(shape: BackboneShape, words: Sequence[str], *, seed: int) -> Any:
    """A `CogVideoXPipeline` with random fp32 weights drawn from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = new_tokenizer(words)
        return CogVideoXPipeline(
            tokenizer=tokenizer,
            text_encoder=_text_encoder(shape, len(tokenizer)),
            vae=_vae(shape),
            transformer=_transformer(shape),
            scheduler=_scheduler(shape),
        )


def _text_encoder(shape: BackboneShape, vocabulary: int) -> Any:
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=shape.text_width,
            d_kv=32,
            d_ff=2 * shape.text_width,
            num_layers=shape.text_layers,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def _vae(shape: BackboneShape) -> Any:
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=shape.vae_channels,
        layers_per_block=shape.vae_layers,
        latent_channels=16,
        norm_num_groups=shape.vae_norm_groups,
        temporal_compression_ratio=4,
        sample_height=shape.height_px,
        sample_width=shape.width_px,
        scaling_factor=shape.scaling_factor,
    )


def _transformer(shape: BackboneShape) -> Any:
    return CogVideoXTransformer3DModel(
        num_attention_heads=shape.num_heads,
        attention_head_dim=64,
        time_embed_dim=shape.time_embed_dim,
        text_embed_dim=shape.text_width,
        num_layers=shape.num_layers,
        sample_width=shape.width_px // 8,
        sample_height=shape.height_px // 8,
        sample_frames=shape.num_frames,
        max_text_seq_length=shape.text_length,
        spatial_interpolation_scale=shape.position_scale,
        use_rotary_positional_embeddings=shape.rotary,
    )


def _scheduler(shape: BackboneShape) -> Any:
    return CogVideoXDPMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=shape.snr_shift,
        timestep_spacing="trailing",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=True,
    )
