"""Models of the real classes with random weights, and a small corpus of synthetic videos."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from miniature.recipes import clip as clip_recipe
from miniature.recipes import viclip as viclip_recipe
from miniature.recipes.contrastive import VOCABULARY
from pipelines.detector import DetectorConfig, build_network
from pipelines.viclip import ViClip, ViClipConfig
from pipelines.video import encode
from retrieval_index.options import LibraryModels

CAPTIONS = (
    "a person is walking in the forest",
    "a person is running at the beach",
    "a man in a red shirt is waving",
)


def save_sure_detector(folder: Path) -> None:
    """A YOLOv5 whose biases say "person" in every cell of its coarsest grid, and nowhere else."""
    config = DetectorConfig(depth=0.33, width=0.125, names=("person",))
    network = build_network(config)
    for level, branch in enumerate(network.model[-1].cv3):
        torch.nn.init.zeros_(branch[-1].weight)
        torch.nn.init.constant_(branch[-1].bias, 2.0 if level == 2 else -9.0)
    folder.mkdir()
    save_file(network.state_dict(), folder / "detector.safetensors")
    settings = {"depth": 0.33, "width": 0.125, "names": ["person"]}
    (folder / "detector.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> LibraryModels:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_sure_detector(folder / "detector")
    clip_recipe.save(clip_recipe.build(), folder / "clip")
    viclip_recipe.save(ViClip(ViClipConfig.miniature(VOCABULARY)), folder / "viclip")
    return LibraryModels(
        detector=str(folder / "detector"), clip=str(folder / "clip"), viclip=str(folder / "viclip")
    )


def moving_square(
    seed: int, num_frames: int = 49, size_px: tuple[int, int] = (96, 144)
) -> np.ndarray:
    """A coloured square that wanders over noise, uint8 (F, H, W, 3)."""
    draw = np.random.default_rng(seed)
    frames = np.repeat(draw.integers(0, 90, (1, *size_px, 3), dtype=np.uint8), num_frames, axis=0)
    colour, step = draw.integers(120, 255, 3), draw.uniform(0.2, 1.2)
    for index, frame in enumerate(frames):
        left = int(step * index) % (size_px[1] - 30)
        frame[20:60, left : left + 30] = colour
    return frames


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[int], Path]:
    """Write so many videos and their manifest."""

    def write(count: int) -> Path:
        folder = tmp_path / "corpus"
        folder.mkdir()
        lines = []
        for index in range(count):
            encode(folder / f"{index}.mp4", moving_square(index), 8)
            row = {"path": f"{index}.mp4", "caption": CAPTIONS[index % 3], "licence": "CC0"}
            lines.append(json.dumps(row | {"source": "squares"}))
        manifest = folder / "manifest.jsonl"
        manifest.write_text("\n".join(lines) + "\n")
        return manifest

    return write
