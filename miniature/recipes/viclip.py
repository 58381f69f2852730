"""The miniature's ViCLIP: `pipelines.viclip` at 1.2 million parameters, trained on puppet clips."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from miniature.recipes.contrastive import VOCABULARY, Plan, evaluate, fit, train_tokenizer
from miniature.run import Run
from miniature.saving import half
from pipelines.encoders import IMAGENET_MEAN, IMAGENET_STD
from pipelines.viclip import ViClip, ViClipConfig

PLAN = Plan(
    size_px=80, steps=3500, batch=320, num_views=40_000, mean=IMAGENET_MEAN, deviation=IMAGENET_STD
)


def save(model: ViClip, folder: Path) -> None:
    """Write the folder that `ViClipEncoder.load` reads, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half(model.state_dict()), folder / "viclip.safetensors")
    config = json.dumps(dataclasses.asdict(model.config), indent=1)
    (folder / "config.json").write_text(config + "\n")
    train_tokenizer().save_pretrained(folder)


def train(run: Run) -> dict[str, float]:
    """Train, save and measure."""
    torch.manual_seed(run.seed)
    model = ViClip(ViClipConfig.miniature(VOCABULARY)).to(run.device)
    plan = PLAN.tiny() if run.tiny else PLAN

    def scale() -> torch.Tensor:
        return 1 / model.temp.clamp(min=0.02)

    with torch.no_grad():
        model.temp.fill_(0.07)
    fit(run, plan, model, model.encode_videos, model.encode_texts, scale)
    model.eval()
    save(model, run.out)
    figures = evaluate(run, plan, model.encode_videos, model.encode_texts)
    return figures | {"parameters": float(sum(p.numel() for p in model.parameters()))}
