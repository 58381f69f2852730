"""The miniature's DINOv2: transformers' `Dinov2Model` at half a million parameters.

Not self-distilled as the real one is: supervised contrastive learning, where views of one
character (or of one person in the same clothes) are alike and all others are not, plus a term that
pins the two kinds of cosines near 1 and near 0. What it is for is the same: telling whether two
pictures show the same subject, whatever the place and the pose.
"""

import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from miniature.cast import CHARACTERS, MOTIONS, PERSON
from miniature.recipes.steps import learning_rate, steps_left
from miniature.recipes.views import crop_views, distort
from miniature.run import Run
from miniature.saving import half
from miniature.world import NUM_FRAMES, SIZE_PX, render, sample_spec
from pipelines.encoders import IMAGENET_MEAN, IMAGENET_STD

SIZE_PX_IN = 72
STEPS, BATCH, NUM_VIDEOS, VIEWS = 1800, 512, 12_000, 4
LEARNING_RATE = 1e-3
TEMPERATURE = 0.1


def config() -> Dinov2Config:
    """Four layers of width 96 over 9×9 patches."""
    return Dinov2Config(
        image_size=SIZE_PX_IN,
        patch_size=8,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
    )


def save(model: Dinov2Model, folder: Path) -> None:
    """Write the folder that `from_pretrained` reads, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    save_file(half(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    BitImageProcessor(
        size={"height": SIZE_PX_IN, "width": SIZE_PX_IN},
        do_center_crop=False,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    ).save_pretrained(folder)


def make_pool(num_videos: int, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """Views uint8 (N, VIEWS, 3, S, S) and the identity (N,) of who is in them."""
    rng = random.Random(seed)
    views: list[Tensor] = []
    identities: list[int] = []
    while len(identities) < num_videos:
        specs = []
        for _ in range(min(96, num_videos - len(identities))):
            cast = (PERSON,) if rng.random() < 0.25 else CHARACTERS
            specs.append(sample_spec(rng, characters=cast, motions=MOTIONS, num_puppets=1))
        index = torch.tensor(
            [[rng.uniform(0, NUM_FRAMES - 1) for _ in range(VIEWS)] for _ in specs]
        )
        drawn = render(specs, device=device, size_px=SIZE_PX, frame_indices=index.to(device))
        one_by_one = [
            crop_views(rng, drawn.frames[:, k : k + 1], boxes, SIZE_PX_IN, whole=0.4)
            for k in range(VIEWS)
            for boxes in (drawn.boxes[:, 0, k : k + 1],)
        ]
        views.append((torch.cat(one_by_one, 1) * 255).round().to(torch.uint8))
        for spec in specs:
            who = spec.puppets[0]
            known = CHARACTERS.index(who.character) if who.character != PERSON else -1
            identities.append(known if known >= 0 else len(CHARACTERS) + who.outfit)
    return torch.cat(views), torch.tensor(identities, device=device)


def contrast(vectors: Tensor, identities: Tensor) -> Tensor:
    """Supervised contrastive loss of unit vectors (B, D), plus the pinned cosines."""
    cosines = vectors @ vectors.T
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    same = (identities[:, None] == identities[None]) & ~itself
    other = ~same & ~itself
    logs = torch.log_softmax((cosines / TEMPERATURE).masked_fill(itself, -1e9), dim=1)
    loss = -(logs * same).sum(1) / same.sum(1).clamp(min=1)
    apart = (cosines - 0.1).clamp(min=0).square()[other].mean()
    alike = (1 - cosines).square()[same].mean()
    return loss.mean() + apart + alike


def embed(model: Dinov2Model, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, S, S) in [0, 1] to unit vectors (B, D)."""
    mean, std = (pixels.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return functional.normalize(model((pixels - mean) / std).pooler_output.float(), dim=-1)


def train(run: Run) -> dict[str, float]:
    """Train, save and measure."""
    torch.manual_seed(run.seed)
    model = Dinov2Model(config()).to(run.device)
    steps, batch, videos = (3, 8, 16) if run.tiny else (STEPS, BATCH, NUM_VIDEOS)
    frames, identities = make_pool(videos, run.seed, run.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05
    )
    for step, done in steps_left(run, model, optimizer, steps):
        generator = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
        chosen = torch.randperm(len(frames), generator=generator)[: batch // 2].to(run.device)
        pair = torch.randperm(VIEWS, generator=generator)[:2].to(run.device)
        pixels = distort(frames[chosen][:, pair].transpose(0, 1).flatten(0, 1)[:, None], generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(LEARNING_RATE, done)
        with torch.autocast(run.device.split(":")[0], torch.bfloat16):
            vectors = embed(model, pixels[:, 0])
        loss = contrast(vectors, identities[chosen].repeat(2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    save(model, run.out)
    return evaluate(run, model)


@torch.inference_mode()
def evaluate(run: Run, model: Dinov2Model) -> dict[str, float]:
    """Cosines of the same and of different characters on renders of another seed."""
    frames, identities = make_pool(16 if run.tiny else 512, run.seed + 7_654_321, run.device)
    pixels = frames[:, 0].float() / 255
    vectors = torch.cat([embed(model, part) for part in torch.split(pixels, 128)])
    named = identities < len(CHARACTERS)
    cosines = (vectors @ vectors.T)[named][:, named]
    same = identities[named][:, None] == identities[named][None]
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    nearest = cosines.masked_fill(itself, -2).argmax(1)
    right = identities[named][nearest] == identities[named]
    return {
        "cosine_same_character": float(cosines[same & ~itself].mean()),
        "cosine_different_character": float(cosines[~same].mean()),
        "nearest_is_same_character": float(right.float().mean()),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }
