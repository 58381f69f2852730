"""The miniature's CLIP: a real open_clip model of 0.9 million parameters, in open_clip's layout.

A video's score is the mean over eight frames of the cosine with the text, so the mean of the
frames' unit vectors is what is trained.
"""

import json
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from miniature.recipes.contrastive import (
    TEXT_LENGTH,
    VOCABULARY,
    Plan,
    evaluate,
    fit,
    train_tokenizer,
)
from miniature.run import Run
from miniature.saving import half
from pipelines.encoders import CLIP_MEAN, CLIP_STD

PLAN = Plan(size_px=80, steps=2500, batch=320, num_views=40_000, mean=CLIP_MEAN, deviation=CLIP_STD)


def config() -> dict[str, Any]:
    """What `open_clip_config.json` holds."""
    return {
        "model_cfg": {
            "embed_dim": 96,
            "vision_cfg": {
                "image_size": PLAN.size_px,
                "patch_size": 8,
                "width": 96,
                "layers": 6,
                "head_width": 32,
            },
            "text_cfg": {
                "context_length": TEXT_LENGTH,
                "vocab_size": VOCABULARY,
                "hf_tokenizer_name": "tokenizer",
                "width": 64,
                "heads": 4,
                "layers": 3,
            },
        },
        "preprocess_cfg": {
            "mean": list(CLIP_MEAN),
            "std": list(CLIP_STD),
            "resize_mode": "squash",
        },
    }


def build() -> CLIP:
    """A freshly initialised model."""
    return CLIP(**config()["model_cfg"])


def save(model: CLIP, folder: Path) -> None:
    """Write the folder that `local-dir:` of open_clip reads, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half(model.state_dict()), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config(), indent=1) + "\n")
    train_tokenizer().save_pretrained(folder)


def train(run: Run) -> dict[str, float]:
    """Train, save and measure."""
    torch.manual_seed(run.seed)
    model = build().to(run.device)
    plan = PLAN.tiny() if run.tiny else PLAN

    def embed_videos(pixels: Tensor) -> Tensor:
        vectors = model.encode_image(rearrange(pixels, "b f c h w -> (b f) c h w"))
        unit = functional.normalize(vectors.float(), dim=-1)
        return rearrange(unit, "(b f) d -> b f d", b=len(pixels)).mean(1)

    def embed_texts(tokens: Tensor) -> Tensor:
        return functional.normalize(model.encode_text(tokens).float(), dim=-1)

    fit(run, plan, model, embed_videos, embed_texts, lambda: model.logit_scale.clamp(max=4).exp())
    model.eval()
    save(model, run.out)
    figures = evaluate(run, plan, embed_videos, embed_texts)
    return figures | {"parameters": float(sum(p.numel() for p in model.parameters()))}
