"""ViCLIP, a video–text encoder: the network by its official key names, its loader, its use.

No package ships this model, so the network is written here after the description in InternVid
(arXiv 2307.06942); the same code takes the official L and B weights and the miniature's. Weights
are read from safetensors alone. A folder holds `config.json`, `viclip.safetensors` and, if it does
not use CLIP's vocabulary, a tokenizer.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from pipelines.encoders import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, uniform_indices
from pipelines.video import Frames as Video

Preprocessing = Literal["imagenet", "clip"]


@dataclass(frozen=True, kw_only=True)
class ViClipConfig:
    """Sizes of one ViCLIP."""

    image_px: int
    patch_px: int
    num_frames: int = 8
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    text_length: int = 32
    vocabulary: int = 49408
    embed_dim: int
    preprocessing: Preprocessing = "imagenet"
    """`imagenet`: its mean and deviation, straight resize; `clip`: CLIP's, short side and crop."""

    @classmethod
    def large(cls) -> "ViClipConfig":
        """ViT-L/14: 427,590,145 parameters."""
        return cls(
            image_px=224,
            patch_px=14,
            vision_width=1024,
            vision_layers=24,
            vision_heads=16,
            text_width=768,
            text_layers=12,
            text_heads=12,
            embed_dim=768,
        )

    @classmethod
    def base(cls) -> "ViClipConfig":
        """ViT-B/16: 149,603,841 parameters."""
        return cls(
            image_px=224,
            patch_px=16,
            vision_width=768,
            vision_layers=12,
            vision_heads=12,
            text_width=512,
            text_layers=12,
            text_heads=8,
            embed_dim=512,
        )

    @classmethod
    def miniature(cls, vocabulary: int) -> "ViClipConfig":
        """About 1.2 million parameters, for the puppet world."""
        return cls(
            image_px=80,
            patch_px=10,
            vision_width=128,
            vision_layers=4,
            vision_heads=4,
            text_width=96,
            text_layers=3,
            text_heads=3,
            vocabulary=vocabulary,
            embed_dim=96,
        )


class _Attention(nn.Module):
    """Self-attention under the key names of torch's multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """(B, L, width) to (B, L, width)."""
        qkv = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.heads)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        out: Tensor = self.out_proj(rearrange(y, "b h l d -> b l (h d)"))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """QuickGELU between two linear layers."""
        hidden = self.c_fc(x)
        out: Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = _Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, self.causal)
        return x


class _VisionEncoder(nn.Module):
    def __init__(self, config: ViClipConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_px
        num_patches = (config.image_px // patch) ** 2
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), stride=(1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(num_patches + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, config.num_frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Transformer(
            width, config.vision_layers, config.vision_heads, causal=False
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, 3, S, S) to (B, embed_dim): one CLS attends with all patches of all frames."""
        patches = self.conv1(rearrange(frames, "b t c h w -> b c t h w"))
        patches = rearrange(patches, "b w t y x -> b t (y x) w")
        patches = patches + self.positional_embedding[1:]
        patches = patches + self.temporal_positional_embedding[:, :, None]
        summary = self.class_embedding + self.positional_embedding[0]
        summary = summary.to(patches.dtype).expand(len(frames), 1, -1)
        x = torch.cat([summary, rearrange(patches, "b t n w -> b (t n) w")], dim=1)
        x = self.transformer(self.ln_pre(x))
        out: Tensor = self.ln_post(x[:, 0]) @ self.proj
        return out


class _TextEncoder(nn.Module):
    def __init__(self, config: ViClipConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.text_length, width))
        self.transformer = _Transformer(width, config.text_layers, config.text_heads, causal=True)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) to (B, embed_dim), pooled at the end-of-text token, which has the highest id."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.ln_final(self.transformer(x))
        pooled = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)]
        out: Tensor = pooled @ self.text_projection
        return out


class ViClip(nn.Module):
    """Both towers and the temperature, freshly initialised as CLIP's are."""

    def __init__(self, config: ViClipConfig) -> None:
        super().__init__()
        self.config = config
        self.temp = nn.Parameter(torch.tensor(1 / 100.0))
        self.vision_encoder = _VisionEncoder(config)
        self.text_encoder = _TextEncoder(config)
        self._initialise()

    def _initialise(self) -> None:
        for tower in (self.vision_encoder, self.text_encoder):
            layers = len(tower.transformer.resblocks)
            for name, parameter in tower.named_parameters():
                width = parameter.shape[-1]
                if "temporal" in name:
                    nn.init.zeros_(parameter)
                elif "embedding" in name:
                    nn.init.normal_(parameter, std=0.02)
                elif name.endswith(("out_proj.weight", "c_proj.weight")):
                    nn.init.normal_(parameter, std=width**-0.5 * (2 * layers) ** -0.5)
                elif parameter.ndim == 2:
                    nn.init.normal_(parameter, std=width**-0.5)

    def encode_videos(self, frames: Tensor) -> Tensor:
        """Normalised frames (B, T, 3, S, S) to unit vectors (B, D)."""
        return functional.normalize(self.vision_encoder(frames).float(), dim=-1)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L) to unit vectors (B, D)."""
        return functional.normalize(self.text_encoder(tokens).float(), dim=-1)


def load_viclip(path: Path, config: ViClipConfig) -> ViClip:
    """A ViCLIP with the weights of a safetensors file, in float32, ready for inference.

    Official key names, with or without the `model` wrapper.

    Raises:
        ValueError: not safetensors, or its tensors are not those of this configuration.
    """
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path} is not safetensors; pickled weights are never loaded: "
            "convert it with `python -m pipelines.convert viclip`"
        )
    weights = fitting_weights(load_file(path), config, str(path))
    with torch.device("meta"):
        model = ViClip(config)
    model.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


def fitting_weights(
    weights: Mapping[str, Tensor], config: ViClipConfig, origin: str
) -> dict[str, Tensor]:
    """Weights under their official names, without the `model` wrapper.

    Raises `ValueError`, which names the origin, if they are not those of this configuration.
    """
    plain = {key.removeprefix("model."): value for key, value in weights.items()}
    with torch.device("meta"):
        expected = {key: value.shape for key, value in ViClip(config).state_dict().items()}
    wrong = sorted(
        key
        for key in expected.keys() | plain.keys()
        if key not in expected or key not in plain or plain[key].shape != expected[key]
    )
    if wrong:
        raise ValueError(
            f"{origin} does not fit this ViCLIP configuration: {len(wrong)} of {len(expected)} "
            f"tensors are missing, unknown or of another shape, first {wrong[0]!r}"
        )
    return plain


def preprocess(frames: Tensor, size_px: int, preprocessing: Preprocessing) -> Tensor:
    """uint8 frames (..., 3, H, W) to normalised float (..., 3, S, S).

    `imagenet` resizes straight, as the reference demo does; `clip` takes the short side bicubic
    and crops the centre, as VBench does.
    """
    lead, flat = frames.shape[:-3], frames.reshape(-1, *frames.shape[-3:]).float() / 255
    if preprocessing == "imagenet":
        flat = functional.interpolate(flat, (size_px, size_px), mode="bilinear")
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    else:
        flat = _short_side_and_crop(flat, size_px)
        mean, std = CLIP_MEAN, CLIP_STD
    shift, scale = (flat.new_tensor(values)[:, None, None] for values in (mean, std))
    return ((flat - shift) / scale).reshape(*lead, 3, size_px, size_px)


def _short_side_and_crop(frames: Tensor, size_px: int) -> Tensor:
    height, width = frames.shape[-2:]
    grow = size_px / min(height, width)
    size = (max(size_px, round(height * grow)), max(size_px, round(width * grow)))
    frames = functional.interpolate(frames, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (size[0] - size_px) // 2, (size[1] - size_px) // 2
    return frames[..., top : top + size_px, left : left + size_px]


class ViClipEncoder:
    """Videos and texts to one space of unit vectors; a score is a dot product."""

    def __init__(self, model: ViClip, tokenizer: Any, model_id: str, device: str) -> None:
        self._model = model.to(device)
        self._tokenizer = tokenizer
        self._device = device
        self.model_id = model_id
        self.preprocessing = model.config.preprocessing
        """Which of the two preprocessings the vectors were made with; every result names it."""

    @property
    def config(self) -> ViClipConfig:
        """Its sizes."""
        return self._model.config

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "ViClipEncoder":
        """Load a folder of `config.json`, `viclip.safetensors` and perhaps a tokenizer.

        Raises:
            ValueError: the files do not fit together.
            FileNotFoundError: one is missing.
        """
        settings = json.loads((folder / "config.json").read_text())
        known = {field.name for field in dataclasses.fields(ViClipConfig)}
        if unknown := sorted(settings.keys() - known):
            raise ValueError(f"{folder / 'config.json'} has unknown keys: {', '.join(unknown)}")
        config = ViClipConfig(**settings)
        model = load_viclip(folder / "viclip.safetensors", config)
        return cls(model, load_tokenizer(folder, config), f"viclip:{folder.name}", device)

    @torch.inference_mode()
    def embed_videos(self, videos: Sequence[Video], batch_size: int = 16) -> np.ndarray:
        """uint8 (F, H, W, 3) each, of any length and size, to unit float32 (N, D)."""
        config = self._model.config
        batches = []
        for start in range(0, len(videos), batch_size):
            clips = [
                _eight(video, config, self._device) for video in videos[start : start + batch_size]
            ]
            batches.append(self._model.encode_videos(torch.stack(clips)).cpu().numpy())
        return np.concatenate(batches) if batches else np.zeros((0, config.embed_dim), np.float32)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts (cut at the model's text length) to unit float32 (N, D)."""
        tokens = self._tokenizer(list(texts)).to(self._device)
        vectors: np.ndarray = self._model.encode_texts(tokens).cpu().numpy()
        return vectors


def load_tokenizer(folder: Path, config: ViClipConfig) -> Any:
    """The folder's own tokenizer, or CLIP's byte-pair one if it carries none."""
    if (folder / "tokenizer.json").exists():
        return HFTokenizer(str(folder), context_length=config.text_length)
    return SimpleTokenizer(context_length=config.text_length)


def _eight(video: Video, config: ViClipConfig, device: str) -> Tensor:
    chosen = video[uniform_indices(len(video), config.num_frames)]
    frames = rearrange(torch.from_numpy(chosen).to(device), "t h w c -> t c h w")
    return preprocess(frames, config.image_px, config.preprocessing)
