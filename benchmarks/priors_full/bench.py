"""What every part measures with, and on: a transformer alone, latents and texts at random."""

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from torch import nn

from pipelines.backbone import Backbone
from pipelines.prior_draws import generator_of
from pipelines.prior_sample import Sample

FULL = {"num_attention_heads": 30, "num_layers": 30, "time_embed_dim": 512}
FULL |= {"text_embed_dim": 4096, "max_text_seq_length": 226, "sample_height": 60}
FULL |= {"sample_width": 90, "sample_frames": 49, "spatial_interpolation_scale": 1.875}
TINY = {"num_attention_heads": 2, "num_layers": 4, "time_embed_dim": 32}
TINY |= {"text_embed_dim": 32, "max_text_seq_length": 12, "sample_height": 4}
TINY |= {"sample_width": 6, "sample_frames": 17}
SCHEDULE = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
SCHEDULE |= {"snr_shift_scale": 3.0, "timestep_spacing": "trailing", "clip_sample": False}
SCHEDULE |= {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NUM_CLIPS, NUM_SUBJECTS = 8, 4
SPATIAL_SHARE = 0.8


@dataclass
class Bench:
    """What is measured with, and what was measured."""

    backbone: Backbone
    repeats: int
    deadline: float
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        return self.backbone.device.type == "cuda"

    def say(self, what: str, **values: Any) -> None:
        """One line to the output, at once."""
        line = {"what": what} | {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in values.items()
        }
        self.lines.append(line)
        text = json.dumps(line)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if out := os.environ.get("OUT"):
            with (Path(out) / "priors_full.jsonl").open("a") as file:
                file.write(text + "\n")

    def seconds(self, work: Callable[[], object]) -> float:
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def median(self, work: Callable[[], object], repeats: int | None = None) -> float:
        return statistics.median(self.seconds(work) for _ in range(repeats or self.repeats))

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def attempt(self, what: str, work: Callable[["Bench"], None]) -> None:
        """One variant; its failure, or lack of time, is a line too."""
        if time.monotonic() > self.deadline:
            self.say(what, skipped="out of time")
            return
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        try:
            work(self)
        except (RuntimeError, ValueError) as error:
            self.say(what, failed=f"{type(error).__name__}: {error}"[:600])
        self.say(what + ": all of it", s=time.monotonic() - began, peak_gib=self.peak())

    def peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else 0.0


def new_backbone(numbers: dict[str, Any], device: torch.device) -> Backbone:
    """A backbone of a transformer alone: latents and text are random here."""
    torch.manual_seed(0)
    with device:
        transformer = CogVideoXTransformer3DModel(**numbers).to(device, torch.bfloat16)
    pipeline = SimpleNamespace(
        transformer=transformer,
        vae=nn.Module(),
        text_encoder=nn.Module(),
        tokenizer=None,
        scheduler=CogVideoXDPMScheduler(**SCHEDULE),
    )
    return Backbone(pipeline, Path("random"), device)


def new_samples(backbone: Backbone, count: int, num_frames: int) -> list[Sample]:
    config = backbone.transformer.config
    shape = 1, *backbone.latent_shape(num_frames)
    text = 1, config.max_text_seq_length, config.text_embed_dim
    device = backbone.device
    return [
        Sample(
            str(i),
            torch.randn(shape, generator=generator_of("latents", i)).to(device),
            torch.randn(text, generator=generator_of("text", i)).to(device, backbone.dtype),
        )
        for i in range(count)
    ]


def say_step(bench: Bench, what: str, both: float, temporal: float, **more: Any) -> None:
    step = temporal + SPATIAL_SHARE * (both - temporal)
    bench.say(
        what,
        step_ms=step * 1e3,
        temporal_ms=temporal * 1e3,
        spatial_ms=(both - temporal) * 1e3,
        steps_300_s=300 * step,
        peak_gib=bench.peak(),
        **more,
    )
