"""A profile of real classes with random weights, so small that a film takes a minute."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from miniature.recipes import clip as clip_recipe
from miniature.recipes import viclip as viclip_recipe
from miniature.recipes.contrastive import VOCABULARY
from pipelines.backbone_shape import TINY, new_pipeline
from pipelines.detector import DetectorConfig, build_network
from pipelines.viclip import ViClip, ViClipConfig

CORPUS = Path(__file__).with_name("tiny_corpus.py")
WORDS = [
    "a",
    "an",
    "the",
    "and",
    "is",
    "in",
    "then",
    "[v1]",
    "person",
    "pirate",
    "witch",
    "walking",
    "bowing",
    "kicking",
    "forest",
    "city",
    "beach",
]
SHAPE = replace(TINY, num_layers=2)


def write_studio(folder: Path) -> Path:
    """Models, cast and profile in a folder; gives the profile's file."""
    torch.manual_seed(0)
    new_pipeline(SHAPE, WORDS, seed=0).save_pretrained(folder / "backbone")
    clip_recipe.save(clip_recipe.build(), folder / "clip")
    viclip_recipe.save(ViClip(ViClipConfig.miniature(VOCABULARY)), folder / "viclip")
    _write_detector(folder / "detector")
    _write_cast(folder / "cast")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(_profile()))
    return file


def _write_detector(folder: Path) -> None:
    """A YOLOv5 whose biases say "person" in every cell of its coarsest grid, and nowhere else."""
    network = build_network(DetectorConfig(depth=0.33, width=0.125, names=("person",)))
    for level, branch in enumerate(network.model[-1].cv3):
        torch.nn.init.zeros_(branch[-1].weight)
        torch.nn.init.constant_(branch[-1].bias, 2.0 if level == 2 else -9.0)
    folder.mkdir()
    save_file(network.state_dict(), folder / "detector.safetensors")
    settings = {"depth": 0.33, "width": 0.125, "names": ["person"]}
    (folder / "detector.yaml").write_text(yaml.safe_dump(settings))


def _write_cast(folder: Path) -> None:
    for number, name in enumerate(("pirate", "witch")):
        (folder / name).mkdir(parents=True)
        (folder / name / "character.yaml").write_text(f"name: {name}\nphrase: {name}\n")
        if name == "pirate":
            pixels = np.full((48, 32, 3), 60 * number + 40, np.uint8)
            Image.fromarray(pixels).save(folder / name / "1.png")


def _profile() -> dict[str, object]:
    few = {"rank": 2, "num_steps": 3, "evaluate_every": 2, "num_evaluations": 1}
    return {
        "extends": "miniature",
        "name": "tiny",
        "models": {
            **{name: name for name in ("backbone", "clip", "viclip", "detector")},
            "planner": "nobody",
        },
        "engine": "http://127.0.0.1:9/v1",
        "cast": "cast",
        "corpus": {"make": ["python", str(CORPUS), "OUT"], "sources": [str(CORPUS)]},
        "motion_prior": {**few, "checkpoint_every": 1, "min_gain": -1.0},
        "subject_prior": {**few, "checkpoint_every": 1, "num_frames": 5, "min_gain": -1.0},
        "render": {"num_steps": 2},
        # A process begins by importing for ten seconds: one trainer, and a thread each, for what
        # is over in no time and has another test beside it.
        "resources": {
            "pools": {
                "helper": {"threads": 1},
                "trainer": {"workers": 1},
                "renderer": {"threads": 1},
            },
        },
    }
