"""Times of a guided step, a scene and a training step at miniature size, with random weights.

    python -m benchmarks.attention_miniature --threads 1

One JSON line per measurement: what, processor milliseconds (median), wall milliseconds. Speeds
only: random weights say nothing about quality.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pipelines.attention import region_attention
from pipelines.backbone import Backbone, default_dtype
from pipelines.backbone_shape import BackboneShape, new_pipeline
from pipelines.lora import Adapter, Kind, StackedAdapters
from pipelines.prior_options import MotionPriorOptions, SubjectPriorOptions
from pipelines.prior_sample import Sample
from pipelines.prior_steps import Lesson, motion_backward, subject_backward
from pipelines.prior_training import Trainee
from pipelines.prior_trunk import PlainTrunk
from pipelines.prior_weights import new_pairs, snapshot
from pipelines.region_layout import RegionLayout
from pipelines.region_transformer import region_tokens

REPEATS = 9


def measure(what: str, work: Callable[[], object]) -> None:
    """Write one line about the median of `REPEATS` runs after a first one."""
    work()
    times = []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        times.append((time.process_time() - processor, time.perf_counter() - wall))
    processor, wall = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    line = {"what": what, "processor_ms": round(processor, 1), "wall_ms": round(wall, 1)}
    sys.stdout.write(json.dumps(line) + "\n")


def two_regions(backbone: Backbone) -> RegionLayout:
    """Two boxes side by side and the background between them."""
    grid = backbone.grid()
    masks = torch.zeros(3, *grid.shape, dtype=torch.bool)
    masks[0, :, :, : grid.width // 2 - 1] = True
    masks[1, :, :, grid.width // 2 + 1 :] = True
    masks[2] = ~masks[:2].any(0)
    return RegionLayout.build(masks, backbone.text_length)


def random_adapter(backbone: Backbone, kind: Kind) -> Adapter:
    pairs = snapshot(new_pairs(backbone.transformer, kind, 32, kind))
    return Adapter(id=kind, kind=kind, target=kind, weights=pairs, rank=32)


@torch.no_grad()
def sampling(backbone: Backbone) -> None:
    """Attention, branches of a guided step, and the autoencoder."""
    layout, text = two_regions(backbone), backbone.encode_text(["a", "b", "c"])
    latents = torch.randn(1, *backbone.latent_shape())
    timestep = torch.tensor([500])
    joint = torch.randn(1, 4, layout.num_text + layout.num_visual, 64, dtype=backbone.dtype)
    measure("attention, factorised", lambda: region_attention(joint, joint, joint, layout))
    measure(
        "attention, dense mask",
        lambda: region_attention(joint, joint, joint, layout, implementation="dense"),
    )
    measure("forward, one prompt", lambda: backbone.velocity(latents, text[:1], timestep))
    measure(
        "forward, one prompt, batch of 2",
        lambda: backbone.velocity(latents.expand(2, -1, -1, -1, -1), text[:2], timestep.expand(2)),
    )
    stacked = StackedAdapters(
        backbone.transformer, [random_adapter(backbone, k) for k in ("motion", "subject")] * 2
    )
    stacked.act(stacked.gates(torch.ones(layout.num_text + layout.num_visual, 4)))
    kwargs = {"region_layout": layout}
    whole = text.flatten(0, 1)[None]

    def regions() -> torch.Tensor:
        return backbone.velocity(latents, whole, timestep, attention_kwargs=kwargs)

    with region_tokens(backbone.transformer, layout):
        measure("forward, 3 captions", regions)
        with stacked.attached():
            measure("forward, 3 captions, 4 adapters", regions)
    measure("decode 49 frames", lambda: backbone.decode(latents))
    pixels = torch.rand(1, 3, backbone.num_frames, *backbone.size_px) * 2 - 1
    measure("encode 49 frames", lambda: backbone.encode_video(pixels))


def training(backbone: Backbone) -> None:
    """Whole training steps."""
    motion = MotionPriorOptions(skip_spatial=0.0)
    looks = SubjectPriorOptions()
    text = backbone.encode_text(["a"])
    clip = Sample("clip", torch.randn(1, *backbone.latent_shape()), text)
    still = Sample("still", torch.randn(1, *backbone.latent_shape(looks.num_frames)), text)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "motion", motion.rank, 0),
        disposable={"clip": new_pairs(backbone.transformer, "subject", motion.rank, 1)},
        options=motion,
    )
    _training_step("motion step", trainee, motion_backward(backbone, trainee, [clip], motion, 0))
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "subject", looks.rank, 0), options=looks
    )
    lesson = Lesson(trainee=trainee, samples=[still], options=looks, seed=0)
    backward = subject_backward(backbone, [lesson], PlainTrunk(backbone))
    _training_step("subject step", trainee, lambda step: backward({0: step}))


def _training_step(what: str, trainee: Trainee, backward: Callable[[int], None]) -> None:
    steps = itertools.count()

    def step() -> None:
        backward(number := next(steps))
        trainee.update(number)

    measure(what, step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu")
    dtype = default_dtype(device)
    if arguments.dtype != "auto":
        dtype = getattr(torch, arguments.dtype)
    pipeline = new_pipeline(BackboneShape(), ["a", "b", "c"], seed=0)
    pipeline.transformer.to(dtype)
    pipeline.vae.to(dtype)
    backbone = Backbone(pipeline, Path("random"), device)
    line = {"torch": torch.__version__, "dtype": str(dtype), "threads": arguments.threads}
    sys.stdout.write(json.dumps(line) + "\n")
    sampling(backbone)
    training(backbone)


if __name__ == "__main__":
    main()
