"""Steps and whole scenes of a CogVideoX-2B with random weights: speed and memory, never quality.

    python -m benchmarks.scene_full                    # one GPU
    python -m benchmarks.scene_full --gpus 2           # the guidance split, and two replicas
    python -m benchmarks.scene_full --parts step       # of: adapters step vae scene
                                                       # with two GPUs: split replicas

A plain compiled step and ours (9 conditions, 4 adapters of rank 32) in one run; a scene of 50
steps, 49 frames, 480 x 720, 5 conditions and 4 adapters, decoding included. ``--tiny`` runs it
anywhere, to see that it runs.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_report import Report, median_ms, synchronize
from pipelines.adapter_file import load_adapter, save_adapter
from pipelines.attention import fastest_attention
from pipelines.backbone import Backbone
from pipelines.backbone_shape import COGVIDEOX_2B, BackboneShape, new_pipeline
from pipelines.guidance import GuidedVelocity, guided_velocity
from pipelines.lora import Adapter, Kind, StackedAdapters, adapted_modules, settled
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene
from pipelines.render import RenderOptions, bound_adapters, render_conditions, render_scene

CUDA = torch.cuda.is_available()
SHAPE = dataclasses.replace(COGVIDEOX_2B, text_layers=1)
"""The text encoder is not measured: its states are cached before anything is timed."""
TINY = BackboneShape(
    height_px=32,
    width_px=48,
    num_frames=9,
    num_heads=2,
    num_layers=4,
    text_length=12,
    text_width=32,
    text_layers=1,
    vae_channels=(8, 8, 16, 16),
)
MOTIONS = ("walking", "sitting")
PARTS = ["adapters", "step", "vae", "scene", "split", "replicas"]


def new_backbone(tiny: bool, device: str) -> Backbone:
    """Random weights, made on the device itself: drawing 1.7 billion on CPUs takes long."""
    with torch.device(device):
        pipeline = new_pipeline(TINY if tiny else SHAPE, ["a", "person"], seed=0)
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


@contextmanager
def standing(
    backbone: Backbone, scene: Scene, adapters: list[Adapter], helper: Backbone | None = None
) -> Iterator[Callable[[], torch.Tensor]]:
    """One guided step of a scene, ready to be called again and again."""
    options = RenderOptions()
    conditions = render_conditions(backbone, scene, adapters, options)
    latents = torch.randn(1, *backbone.latent_shape(), device=backbone.device)
    timestep = torch.tensor([500], device=backbone.device)
    with guided_velocity(backbone, conditions, adapters, options, helper) as velocity:
        assert isinstance(velocity, GuidedVelocity)
        yield lambda: velocity(latents, timestep)


class Steps:
    """Guided steps, plain and ours, of one compiled backbone."""

    def __init__(self, report: Report, backbone: Backbone, repeats: int) -> None:
        self.report, self.backbone, self.repeats = report, backbone, repeats
        self.scene = new_scene(4)
        self.adapters = resident(backbone, new_adapters(backbone, self.scene))
        self.plain_ms = self.bare_ms = float("nan")

    def run(self) -> None:
        self.report.attempt("step: plain", self.plain)
        self.report.attempt("step: 9 conditions", self.without_adapters)
        self.report.attempt("step: 9 conditions + 4 adapters", self.with_adapters)
        self.report.attempt("step: plain, once more", self.plain)

    @torch.no_grad()
    def plain(self) -> dict[str, Any]:
        """As the stock pipeline does it, with the same attention kernel and the same compiling."""
        backbone = self.backbone
        latents = torch.randn(2, *backbone.latent_shape(), device=backbone.device)
        text = backbone.encode_text(["a person"]).expand(2, -1, -1).contiguous()
        timestep = torch.tensor([500] * 2, device=backbone.device)
        with fastest_attention():
            found = self._timed(lambda: backbone.velocity(latents, text, timestep))
        self.plain_ms = found["ms"]
        return found

    @torch.no_grad()
    def without_adapters(self) -> dict[str, Any]:
        with standing(self.backbone, self.scene, []) as step:
            found = self._timed(step)
        self.bare_ms = found["ms"]
        return found | {"ratio": found["ms"] / self.plain_ms}

    @torch.no_grad()
    def with_adapters(self) -> dict[str, Any]:
        with standing(self.backbone, self.scene, self.adapters) as step:
            found = self._timed(step)
            profiled("step_ours", step)
        ms = found["ms"]
        return found | {"ratio": ms / self.plain_ms, "adapters_share": (ms - self.bare_ms) / ms}

    def _timed(self, step: Callable[[], object]) -> dict[str, Any]:
        start = time.perf_counter()
        step()
        synchronize()
        first_s = time.perf_counter() - start
        return {"ms": median_ms(step, repeats=self.repeats, warmup=1), "first_s": first_s}


def profiled(name: str, work: Callable[[], object]) -> None:
    """Which kernels its time goes to, as a file beside the report's."""
    if not CUDA or "OUT" not in os.environ:
        return
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        synchronize()
    table = found.key_averages().table(sort_by="self_cuda_time_total", row_limit=40)
    Path(os.environ["OUT"], f"{name}.txt").write_text(table)


@torch.no_grad()
def adapter_times(backbone: Backbone) -> dict[str, Any]:
    """An adapter from its file to the device, and four resident ones put in place."""
    scene = new_scene(2)
    adapters = new_adapters(backbone, scene)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "adapter.safetensors")
        save_adapter(adapters[0], path)

        def load() -> Adapter:
            found = settled(load_adapter(path), backbone.device, backbone.dtype)
            synchronize()
            return found

        load_ms = _wall_median(load)
        size = path.stat().st_size
    ready = resident(backbone, adapters)

    def swap() -> None:
        stacked = StackedAdapters(backbone.transformer, ready)
        with stacked.attached():
            synchronize()

    return {"load_ms": load_ms, "swap_ms": _wall_median(swap), "file_mb": size / 1e6}


def _wall_median(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[repeats // 2]


class Scenes:
    """Whole scenes: 5 conditions, 4 adapters."""

    def __init__(self, backbone: Backbone, num_steps: int) -> None:
        self.backbone = backbone
        self.options = RenderOptions(num_steps=num_steps)
        self.scene = new_scene(2)
        self.adapters = resident(backbone, new_adapters(backbone, self.scene))

    def render(self, num_steps: int | None = None, helper: Backbone | None = None) -> float:
        """Seconds of a scene, its frames on the host at the end."""
        options = dataclasses.replace(self.options, num_steps=num_steps or self.options.num_steps)
        synchronize()
        start = time.perf_counter()
        render_scene(self.backbone, self.scene, self.adapters, options=options, helper=helper)
        return time.perf_counter() - start

    def measure(self) -> dict[str, Any]:
        """A short scene to compile, then one whole."""
        warm_s = self.render(2)
        reset_peak()
        scene_s = self.render()
        return {"scene_s": scene_s, "first_s": warm_s, "steps": self.options.num_steps} | peak()

    def split(self, helper: Backbone) -> dict[str, Any]:
        """One scene on one GPU, and with its guidance's branches on two."""
        self.render(2)
        self.render(2, helper)
        one_s, two_s = self.render(), self.render(helper=helper)
        return {"one_s": one_s, "two_s": two_s, "speedup": one_s / two_s}

    def split_steps(self, helper: Backbone, repeats: int) -> dict[str, Any]:
        """The same of single steps, without decoding."""
        found = []
        for other in (None, helper):
            with standing(self.backbone, self.scene, self.adapters, other) as step:
                found.append(median_ms(step, repeats=repeats))
        return {"one_ms": found[0], "two_ms": found[1], "speedup": found[0] / found[1]}


class Decoding:
    """49 frames from latents, with the autoencoder's decoder as it is and compiled."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        draw = torch.Generator().manual_seed(0)
        self.latents = torch.randn(1, *backbone.latent_shape(), generator=draw).to(backbone.device)
        self.frames, self.eager_ms = torch.empty(0), float("nan")

    def __call__(self) -> torch.Tensor:
        return self.backbone.decode(self.latents)

    def eager(self) -> dict[str, Any]:
        self.frames = self().cpu()
        found = self._measured("decode_eager")
        self.eager_ms = found["ms"]
        return found

    def compiled(self) -> dict[str, Any]:
        """Leaves the decoder compiled only if that is faster."""
        self.backbone.compile_decoder()
        faster = False
        try:
            start = time.perf_counter()
            frames = self().cpu()
            first_s = time.perf_counter() - start
            found = self._measured("decode_compiled")
            faster = found["ms"] < self.eager_ms
        finally:
            if not faster:
                for module in self.backbone.vae.decoder.modules():
                    module._compiled_call_impl = None
        off = (frames.int() - self.frames.int()).abs()
        levels = {"levels_off_mean": off.float().mean().item(), "levels_off_max": int(off.max())}
        return found | {"first_s": first_s, "ratio": found["ms"] / self.eager_ms} | levels

    def _measured(self, name: str) -> dict[str, Any]:
        reset_peak()
        ms = median_ms(self, repeats=3, warmup=0)
        found = {"ms": ms} | peak()
        profiled(name, self)
        return found


def reset_peak() -> None:
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> dict[str, Any]:
    if not CUDA:
        return {}
    return {
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def replicas(report: Report, args: argparse.Namespace) -> dict[str, Any]:
    """Scenes a minute of one process with one GPU, and of two with one each."""
    workers = [_start_replica(args, number) for number in range(2)]
    try:
        for worker in workers:
            assert _answer(worker) == "ready"
        alone_s = _together(workers[:1])
        both_s = _together(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    report.add("replicas: seconds of a scene", alone_s=alone_s, both_s=both_s)
    return {"speedup": 2 * alone_s / both_s}


def _start_replica(args: argparse.Namespace, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.scene_full", "--replica"]
    command += ["--steps", str(args.replica_steps), *(["--tiny"] if args.tiny else [])]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(number)}
    environment.pop("OUT", None)
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _answer(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _together(workers: list["subprocess.Popen[str]"]) -> float:
    """Wall seconds until each has rendered one scene."""
    start = time.perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        assert _answer(worker) == "done"
    return time.perf_counter() - start


def replica(args: argparse.Namespace) -> None:
    """One process of `replicas`: a scene for every line."""
    scenes = Scenes(_backbone(args), args.steps)
    scenes.render(2)
    for word in ("ready", *("done" for _ in iter(sys.stdin.readline, "") if scenes.render())):
        sys.stdout.write(word + "\n")
        sys.stdout.flush()


def _backbone(args: argparse.Namespace) -> Backbone:
    backbone = new_backbone(args.tiny, "cuda:0" if CUDA else "cpu")
    if CUDA or args.compile:
        backbone.compile(decoder=args.compile_decoder)
    return backbone


def one_gpu(report: Report, args: argparse.Namespace) -> None:
    backbone = _backbone(args)
    num_parameters = sum(p.numel() for p in backbone.transformer.parameters())
    report.add("transformer", parameters=num_parameters)
    if "adapters" in args.parts:
        report.attempt("adapters", lambda: adapter_times(backbone))
    if "step" in args.parts:
        Steps(report, backbone, args.repeats).run()
    if "vae" in args.parts:
        decoding = Decoding(backbone)
        report.attempt("decoding", decoding.eager)
        if backbone.compiled:
            report.attempt("decoding, compiled", decoding.compiled)
    if "scene" in args.parts:
        report.attempt("scene", lambda: Scenes(backbone, args.steps).measure())


def two_gpus(report: Report, args: argparse.Namespace) -> None:
    if "replicas" in args.parts:
        report.attempt("replicas", lambda: replicas(report, args))
    if "split" not in args.parts:
        return
    scenes = Scenes(_backbone(args), args.steps)
    helper = scenes.backbone.twin("cuda:1" if CUDA else "cpu")
    report.attempt("guidance split: step", lambda: scenes.split_steps(helper, args.repeats))
    report.attempt("guidance split: scene", lambda: scenes.split(helper))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true", help="a small model, on any machine")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument("--compile-decoder", action="store_true", help="from the start")
    parser.add_argument("--gpus", type=int, choices=[1, 2], default=1)
    parser.add_argument("--parts", nargs="+", default=PARTS)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--replica-steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--replica", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replica:
        replica(args)
        return
    report = Report("scene_full")
    (one_gpu if args.gpus == 1 else two_gpus)(report, args)
    values = ("ms", "ratio", "adapters_share", "first_s", "scene_s", "peak_gib", "speedup")
    report.table((), (*values, "load_ms", "swap_ms", "failed"))


if __name__ == "__main__":
    main()
