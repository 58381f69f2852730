"""What leaving steps out saves, and what it costs in pictures (`pipelines.step_cache`).

    python -m benchmarks.caching            # the miniature, scenes of examples/puppet_stories
    python -m benchmarks.caching --full     # a CogVideoX-2B with random weights, on one GPU

The miniature: against the same scenes with every step computed, so the error is caching's alone.
At full size speed and equality only: random weights say nothing about quality, nor about how much
would be left out with real ones.
"""

import argparse
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from benchmarks.full_size import CUDA, new_adapters, new_backbone, new_scene, resident
from benchmarks.gpu_report import Report, relative, synchronize
from pipelines.backbone import Backbone
from pipelines.lora import Adapter
from pipelines.plan import Scene
from pipelines.render import RenderOptions, SceneLatents, scene_latents
from pipelines.video import Frames

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3)
FULL_THRESHOLDS = (0.6, 0.9)
"""Random weights change much from step to step."""
NEVER = 1e-12
"""A threshold that no step stays below: caching watches, and leaves nothing out."""


@dataclass(frozen=True, eq=False)
class Take:
    """One scene, once."""

    made: SceneLatents
    frames: Frames
    seconds: float


def take(
    backbone: Backbone,
    scene: Scene,
    adapters: Sequence[Adapter],
    options: RenderOptions,
    seed: int,
    clock: Callable[[], float],
) -> Take:
    synchronize()
    start = clock()
    made = scene_latents(backbone, scene, adapters, options=options, seed=seed)
    frames = backbone.decode(made.latents)[0].cpu().numpy()
    return Take(made, frames, clock() - start)


def squares(frames: Frames, reference: Frames) -> float:
    """The mean squared error, in levels."""
    return float(np.square(frames.astype(np.float64) - reference).mean())


def decibels(error: float) -> float:
    """PSNR of a mean squared error; infinite for the same pictures."""
    return 10 * math.log10(255**2 / error) if error else math.inf


def miniature(report: Report, args: argparse.Namespace) -> None:
    """One scene a story; processor time, for the machine may be shared."""
    # A GPU machine that runs `full` may have no more than the method needs.
    from benchmarks.puppet_stories import chosen_stories
    from cluster.profiles import load_profile

    profile = load_profile("miniature")
    options = TypeAdapter(RenderOptions).validate_python(profile.render)
    backbone = Backbone.load(profile.models.backbone)
    stories = chosen_stories(profile, None)
    chosen = stories[:: max(1, len(stories) // args.scenes)][: args.scenes]
    scenes = [(asked.plan.scenes[0], asked.story.seed) for asked in chosen if asked.plan]

    def takes(threshold: float) -> list[Take]:
        changed = dataclasses.replace(options, caching=threshold)
        return [
            take(backbone, scene, (), changed, seed, time.process_time) for scene, seed in scenes
        ]

    take(backbone, scenes[0][0], (), dataclasses.replace(options, num_steps=2), 0, time.monotonic)
    exact = takes(0.0)
    for threshold in args.thresholds:
        report.add("miniature", threshold=threshold, **compared(takes(threshold), exact, options))


def compared(found: list[Take], exact: list[Take], options: RenderOptions) -> dict[str, Any]:
    pairs = list(zip(found, exact, strict=True))
    mistakes = [squares(one.frames, other.frames) for one, other in pairs]
    errors = [relative(one.made.latents, other.made.latents) for one, other in pairs]
    shares = [one.made.num_reused / options.num_steps for one in found]
    return {
        "reused": statistics.mean(shares),
        "speedup": sum(t.seconds for t in exact) / sum(t.seconds for t in found),
        "psnr": decibels(statistics.mean(mistakes)),
        "psnr_worst": decibels(max(mistakes)),
        "latents_off_mean": statistics.mean(errors),
        "latents_off_max": max(errors),
        "scenes": len(pairs),
    }


def full(report: Report, args: argparse.Namespace) -> None:
    """Every step computed without and with caching to watch, then with steps left out."""
    backbone = new_backbone("tiny" if args.tiny else "2b", "cuda:0" if CUDA else "cpu")
    if CUDA:
        backbone.compile()
    scene = new_scene(2)
    adapters = resident(backbone, new_adapters(backbone, scene))

    def taken(threshold: float, num_steps: int = args.steps) -> Take:
        options = RenderOptions(num_steps=num_steps, caching=threshold)
        return take(backbone, scene, adapters, options, 0, time.perf_counter)

    taken(0.0, 2)
    exact, again = taken(0.0), taken(0.0)
    same = torch.equal(exact.made.latents, again.made.latents)
    report.add("every step", scene_s=min(exact.seconds, again.seconds), equal=same)
    for threshold in (NEVER, *args.thresholds):
        found, again = taken(threshold), taken(threshold)
        report.add(
            "watched" if threshold == NEVER else "cached",
            threshold=threshold,
            steps=args.steps,
            reused=found.made.num_reused / args.steps,
            scene_s=min(found.seconds, again.seconds),
            equal=torch.equal(found.made.latents, again.made.latents),
            as_uncached=torch.equal(found.made.latents, exact.made.latents),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="CogVideoX-2B's size, random weights")
    parser.add_argument("--tiny", action="store_true", help="with --full: does it run?")
    parser.add_argument("--steps", type=int, default=20, help="of a scene, with --full")
    parser.add_argument("--scenes", type=int, default=5, help="of the miniature's stories")
    parser.add_argument("--threads", type=int, default=1, help="of processors, for the miniature")
    parser.add_argument("--thresholds", type=float, nargs="+")
    args = parser.parse_args()
    args.thresholds = args.thresholds or (FULL_THRESHOLDS if args.full else THRESHOLDS)
    report = Report("caching")
    if args.full:
        full(report, args)
    else:
        torch.set_num_threads(args.threads)
        miniature(report, args)
    values = ("reused", "speedup", "psnr", "psnr_worst", "latents_off_mean", "latents_off_max")
    report.table(("threshold",), (*values, "scene_s", "equal", "as_uncached"))


if __name__ == "__main__":
    main()
