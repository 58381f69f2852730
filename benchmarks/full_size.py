"""A full-size CogVideoX with random weights, its scene and adapters: speed, never quality."""

import dataclasses
from pathlib import Path

import torch

from pipelines import backbone_shape
from pipelines.backbone import Backbone
from pipelines.backbone_shape import COGVIDEOX_2B, new_pipeline
from pipelines.lora import Adapter, Kind, adapted_modules, settled
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene
from pipelines.render import bound_adapters

CUDA = torch.cuda.is_available()
_2B = dataclasses.replace(COGVIDEOX_2B, text_layers=1)
"""One layer of a text encoder: its states are cached before anything is timed."""
_5B = dataclasses.replace(
    _2B, num_heads=48, num_layers=42, rotary=True, scaling_factor=0.7, snr_shift=1.0
)
TINY = dataclasses.replace(backbone_shape.TINY, num_frames=9, scaling_factor=1.0)
SIZES = {"2b": _2B, "5b": _5B, "tiny": TINY}
MOTIONS = ("walking", "sitting")


def new_backbone(size: str, device: str) -> Backbone:
    """Of one of the `SIZES`, made on the device itself: drawing billions on CPUs takes long."""
    with torch.device(device):
        pipeline = new_pipeline(SIZES[size], ["a", "person"], seed=0)
    dtype = torch.bfloat16 if CUDA else torch.float32
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        part.to(device, dtype)
    return Backbone(pipeline, Path("random"), torch.device(device))


def new_scene(num_characters: int) -> Scene:
    """Characters side by side, each walking and then sitting: 2 conditions each, and a background.

    Their boxes are a margin apart, so the background keeps some tokens of its own.
    """

    def regions(motion: str) -> tuple[Region, ...]:
        step = 1 / num_characters
        return tuple(
            Region.of(
                f"person {i}",
                motion,
                f"person {i} is {motion} in the park",
                Box(left=i * step, top=0.1, right=(i + 0.95) * step, bottom=1.0),
            )
            for i in range(num_characters)
        )

    frames = [KeyFrame(regions=regions(MOTIONS[k // 3])) for k in range(6)]
    layout = Layout(background="the park", key_frames=tuple(frames))
    return Scene(place="park", narration="They go.", motions=MOTIONS, layout=layout)


def new_adapter(backbone: Backbone, kind: Kind, target: str, seed: int) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for name in adapted_modules(len(backbone.transformer.transformer_blocks), kind):
        rows, columns = backbone.transformer.get_submodule(name).weight.shape
        down = torch.randn(32, columns, generator=draw) / 32
        weights[name] = (down, torch.randn(rows, 32, generator=draw) / 100)
    return Adapter(id=f"{kind} {target}", kind=kind, target=target, weights=weights, rank=32)


def new_adapters(backbone: Backbone, scene: Scene) -> list[Adapter]:
    """Two motions and two characters, bound by the scene's own ids."""
    wanted: list[tuple[Kind, str]] = [("motion", i) for i in sorted(scene.motion_ids)[:2]]
    wanted += [("subject", i) for i in sorted(scene.entity_ids)[:2]]
    found = [new_adapter(backbone, *pair, seed) for seed, pair in enumerate(wanted)]
    assert len(bound_adapters(scene, found)) == 4
    return found


def resident(backbone: Backbone, adapters: list[Adapter]) -> list[Adapter]:
    return [settled(adapter, backbone.device, backbone.dtype) for adapter in adapters]
