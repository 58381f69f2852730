"""The miniature's YOLOv5: every puppet, whatever its character, is a person.

Our own training loop around ultralytics' network and loss: its trainer wants files and downloads.
"""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from miniature.cast import CHARACTERS, MOTIONS, PERSON
from miniature.recipes.steps import learning_rate, steps_left
from miniature.recipes.views import distort
from miniature.run import Run
from miniature.saving import half
from miniature.world import NUM_FRAMES, render, sample_spec
from pipelines.detector import (
    Detections,
    Detector,
    DetectorConfig,
    build_network,
    pad,
    training_batch,
)

CONFIG = DetectorConfig(depth=0.33, width=0.125, names=(PERSON,), long_side_px=320)
STEPS, BATCH, NUM_VIDEOS, PER_VIDEO = 2200, 96, 4_000, 6
LEARNING_RATE = 2e-3
SIZES_PX = ((96, 144), (112, 168), (128, 192), (144, 216), (144, 96), (128, 128))
SMALLEST = 0.03
"""Boxes narrower or lower than this share of the frame's height are cut off: not to be found."""


@dataclass(frozen=True)
class Shelf:
    """Pictures of one size with their boxes."""

    images: Tensor
    """(N, 3, H, W) uint8."""
    boxes: Tensor
    """(N, 2, 4) ltrb in 0-1 of the picture; NaN where there is none."""


def make_shelf(num_videos: int, size_px: tuple[int, int], seed: int, device: str) -> Shelf:
    """Random frames of random videos of up to two puppets."""
    rng = random.Random(seed)
    images, boxes = [], []
    for start in range(0, num_videos, 96):
        specs = [
            sample_spec(
                rng,
                characters=(*CHARACTERS, *(PERSON,) * 10),
                motions=MOTIONS,
                num_puppets=rng.choice((0, 1, 1, 1, 2, 2)),
            )
            for _ in range(min(96, num_videos - start))
        ]
        index = torch.tensor(
            [[rng.uniform(0, NUM_FRAMES - 1) for _ in range(PER_VIDEO)] for _ in specs]
        )
        drawn = render(specs, device=device, size_px=size_px, frame_indices=index.to(device))
        images.append((drawn.frames * 255).round().to(torch.uint8).flatten(0, 1))
        boxes.append(fit_boxes(drawn.boxes, size_px).transpose(1, 2).flatten(0, 1))
    return Shelf(torch.cat(images), torch.cat(boxes))


def fit_boxes(boxes: Tensor, size_px: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) of the world's 1.5-wide frame in another shape of picture; NaN if outside."""
    grow = 1.5 * size_px[0] / size_px[1]
    fitted = (boxes * boxes.new_tensor([grow, 1, grow, 1])).clamp(0, 1)
    sides = fitted[..., 2:] - fitted[..., :2]
    return torch.where((sides > SMALLEST).all(-1, keepdim=True), fitted, torch.nan)


def train(run: Run) -> dict[str, float]:
    """Train, save and measure."""
    torch.manual_seed(run.seed)
    network = build_network(CONFIG).to(run.device)
    steps, batch, videos = (2, 4, 12) if run.tiny else (STEPS, BATCH, NUM_VIDEOS)
    shelves = [
        make_shelf(videos // len(SIZES_PX), size, run.seed * 100 + i, run.device)
        for i, size in enumerate(SIZES_PX)
    ]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
    )
    stride = int(network.stride.max())  # type: ignore[operator]
    network.train()
    for step, done in steps_left(run, network, optimizer, steps):
        generator = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
        shelf = shelves[step % len(shelves)]
        chosen = torch.randperm(len(shelf.images), generator=generator)[:batch].to(run.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(LEARNING_RATE, done)
        images = distort(shelf.images[chosen][:, None], generator)[:, 0]
        loss = _loss(network, images, shelf.boxes[chosen], stride)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
    save(network, run.out)
    return evaluate(run)


def _loss(network: nn.Module, images: Tensor, boxes: Tensor, stride: int) -> Tensor:
    # In float32: bfloat16 would round box sides to half pixels.
    padded = pad(images, stride)
    rows, slots = (~boxes[..., 0].isnan()).nonzero(as_tuple=True)
    shrink = boxes.new_tensor(
        [images.shape[-1] / padded.shape[-1], images.shape[-2] / padded.shape[-2]] * 2
    )
    batch = training_batch(padded, boxes[rows, slots] * shrink, rows, torch.zeros_like(rows))
    loss, _ = network.loss(batch)  # type: ignore[operator]
    total: Tensor = loss.sum() / len(images)
    return total


def save(network: nn.Module, folder: Path) -> None:
    """Write the folder that `Detector.load` reads, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(half(network.state_dict()), folder / "detector.safetensors")
    settings = {**dataclasses.asdict(CONFIG), "names": list(CONFIG.names)}
    (folder / "detector.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def evaluate(run: Run) -> dict[str, float]:
    """mAP50 of the saved folder on renders of another seed."""
    detector = Detector.load(run.out, run.device)
    found: list[Detections] = []
    truths: list[NDArray[np.float32]] = []
    for i, size in enumerate(SIZES_PX):
        shelf = make_shelf(4 if run.tiny else 60, size, run.seed + 7_654_321 + i, run.device)
        found += detector.detect(shelf.images.permute(0, 2, 3, 1).cpu().numpy(), confidence=0.01)
        truths += [boxes[~np.isnan(boxes[:, 0])] for boxes in shelf.boxes.cpu().numpy()]
    return {
        "map50": average_precision(found, truths),
        "recall_at_0.5": recall(found, truths),
        "parameters": float(sum(p.numel() for p in build_network(CONFIG).parameters())),
    }


def _overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of one box with each of (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    overlap: NDArray[np.float32] = shared / (areas - shared)
    return overlap


def _matches(found: Detections, truth: NDArray[np.float32]) -> list[tuple[float, bool]]:
    """Each detection's confidence and whether it is the first to hit some box by half."""
    free, rows = np.ones(len(truth), bool), []
    for box, confidence in zip(found.boxes, found.confidence, strict=True):
        overlap = np.where(free, _overlap(box, truth), 0) if len(truth) else np.zeros(1)
        hit = bool(overlap.max() >= 0.5)
        if hit:
            free[int(overlap.argmax())] = False
        rows.append((float(confidence), hit))
    return rows


def average_precision(found: list[Detections], truths: list[NDArray[np.float32]]) -> float:
    """Area under the precision–recall envelope at an overlap of one half (one class: mAP50)."""
    pairs = zip(found, truths, strict=True)
    rows = sorted((r for f, t in pairs for r in _matches(f, t)), key=lambda r: -r[0])
    hits = np.array([hit for _, hit in rows], dtype=np.float64)
    if not len(hits):
        return 0.0
    total = sum(len(t) for t in truths)
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * hits).sum() / max(total, 1))


def recall(found: list[Detections], truths: list[NDArray[np.float32]]) -> float:
    """Share of people found at confidence one half."""
    pairs = zip(found, truths, strict=True)
    hits = sum(hit for f, t in pairs for confidence, hit in _matches(f, t) if confidence >= 0.5)
    return hits / max(sum(len(t) for t in truths), 1)
