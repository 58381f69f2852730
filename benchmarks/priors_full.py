"""Training priors at CogVideoX-2B size on one GPU, with random weights: speeds and memory only.

    python -m benchmarks.priors_full            # an H100 or H200, about four minutes
    python -m benchmarks.priors_full --tiny     # any machine: does it run?

Everything is compared in one run: ceilings of the kernels, a plain loop in the authors' manner, and
this project's steps in several settings; one JSON line per result, also to ``$OUT``. Random
weights say nothing about quality.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import CogVideoXDPMScheduler, CogVideoXTransformer3DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.backbone import Backbone
from pipelines.prior_checkpoint import Checkpoint
from pipelines.prior_draws import draw, generator_of
from pipelines.prior_loss import Balance, HeldOutLoss, Schedule, frame_loss, motion_loss
from pipelines.prior_mode import deterministic
from pipelines.prior_options import MotionPriorOptions, SubjectPriorOptions
from pipelines.prior_sample import Sample
from pipelines.prior_steps import Lesson, motion_backward, subject_backward
from pipelines.prior_training import Course, Trainee
from pipelines.prior_trunk import JointTrunk, PlainTrunk, Trunk
from pipelines.prior_weights import new_pairs, parameters_of, paths_of

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


# Ceilings.


def ceilings(bench: Bench) -> None:
    """Attention of one layer and the largest product, forward and backward: what bounds a step."""
    backbone = bench.backbone
    config, grid = backbone.transformer.config, backbone.grid()
    tokens = config.max_text_seq_length + grid.num_latents * grid.height * grid.width
    heads, width = config.num_attention_heads, config.num_attention_heads * 64
    floor = 0.0
    for kernel in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        q, k, v = (
            torch.randn(
                1, tokens, heads, 64, device=backbone.device, dtype=backbone.dtype
            ).transpose(1, 2)
            for _ in range(3)
        )
        try:
            with sdpa_kernel(kernel):
                forward, backward = _both_ways(
                    bench, [q, k, v], lambda x: F.scaled_dot_product_attention(*x)
                )
        except RuntimeError as error:
            bench.say(f"attention, {kernel.name}", failed=str(error)[:200])
            continue
        flops = 4 * tokens**2 * width
        bench.say(
            f"attention, {kernel.name}",
            forward_ms=forward * 1e3,
            backward_ms=backward * 1e3,
            forward_tflops=flops / forward / 1e12,
            backward_tflops=2.5 * flops / backward / 1e12,
        )
        floor = min(floor or 1e9, forward + backward)
    x = torch.randn(tokens, width, device=backbone.device, dtype=backbone.dtype)
    weight = torch.randn(4 * width, width, device=backbone.device, dtype=backbone.dtype)
    forward, backward = _both_ways(bench, [x], lambda a: F.linear(a[0], weight))
    rate = 2 * tokens * weight.numel() / forward / 1e12
    products = (forward + backward) * 3  # 12 D x D products a block, 4 in this one
    bench.say(
        "product, D to 4 D", forward_ms=forward * 1e3, backward_ms=backward * 1e3, tflops=rate
    )
    bench.say(
        "floor of a temporal path: attention and products alone",
        ms=(floor + products) * config.num_layers * 1e3,
    )


def _both_ways(
    bench: Bench, inputs: list[Tensor], work: Callable[[list[Tensor]], Tensor]
) -> tuple[float, float]:
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = work(inputs)
    grad = torch.randn_like(out)
    torch.autograd.grad(out, inputs, grad, retain_graph=True)
    forward = bench.median(lambda: work(inputs), 5)
    backward = bench.median(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True), 5)
    return forward, backward


# The authors' manner.


class PlainLoop:
    """The authors' manner: every adapter is evaluated always, at scale 0 when it is not due."""

    def __init__(self, backbone: Backbone, samples: list[Sample]) -> None:
        self.backbone, self.samples = backbone, samples
        self.schedule = Schedule(backbone.scheduler())
        kinds = {"motion": "motion"} | {sample.name: "subject" for sample in samples}
        self.scales = dict.fromkeys(kinds, 0.0)
        self.pairs = {
            name: new_pairs(backbone.transformer, kind, 32, name)  # type: ignore[arg-type]
            for name, kind in kinds.items()
        }
        self.optimisers = {
            name: torch.optim.AdamW(parameters_of(pairs), lr=5e-4, weight_decay=1e-4)
            for name, pairs in self.pairs.items()
        }

    def _hook(self, name: str, module: str) -> Callable[..., Tensor]:
        down, up = self.pairs[name][module]

        def add(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            hidden = F.linear(args[0], down.to(out.dtype))
            return out + F.linear(hidden, up.to(out.dtype)) * self.scales[name]

        return add

    @contextmanager
    def injected(self) -> Iterator[None]:
        handles = [
            self.backbone.transformer.get_submodule(module).register_forward_hook(
                self._hook(name, module)
            )
            for name, pairs in self.pairs.items()
            for module in pairs
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def step(self, step: int, spatial: bool) -> None:
        sample = self.samples[step % len(self.samples)]
        chance = draw(sample.latents.shape, self.schedule.num_timesteps, 0, step)
        noisy, target = self.schedule.noised(sample.latents, chance.noise, chance.timestep)
        due = {sample.name: 1.0}
        if spatial:
            self.scales = dict.fromkeys(self.scales, 0.0) | due
            predicted = self.backbone.velocity(noisy, sample.text, chance.timestep)
            frame_loss(predicted, target, chance.latent).backward()
        self.scales = dict.fromkeys(self.scales, 0.0) | due | {"motion": 1.0}
        predicted = self.backbone.velocity(noisy, sample.text, chance.timestep)
        motion_loss(predicted, target, chance.anchor).backward()
        for name in (sample.name, "motion"):
            self.optimisers[name].step()
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()


def plain_loop(bench: Bench) -> None:
    loop = PlainLoop(bench.backbone, new_samples(bench.backbone, NUM_CLIPS, _frames(bench)))
    with loop.injected():
        bench.seconds(lambda: loop.step(0, spatial=True))
        both = bench.median(lambda: loop.step(1, spatial=True), 3)
        temporal = bench.median(lambda: loop.step(2, spatial=False), 3)
    _say_step(bench, "motion: plain loop, the authors' manner", both, temporal)


def _say_step(bench: Bench, what: str, both: float, temporal: float, **more: Any) -> None:
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


def _frames(bench: Bench) -> int:
    return bench.backbone.num_frames


# Ours.


@dataclass
class MotionTraining:
    """A motion prior in training, with all the parts of the product's own."""

    bench: Bench
    trunk: Trunk
    whole: bool
    skip: float = 0.2

    def __post_init__(self) -> None:
        self.steps = count()
        backbone = self.bench.backbone
        path = "whole_clip" if self.whole else "one_latent"
        self.options = MotionPriorOptions(spatial_path=path, num_steps=300)  # type: ignore[arg-type]
        self.samples = new_samples(backbone, NUM_CLIPS, _frames(self.bench))
        self.trainee = Trainee(
            prior=new_pairs(backbone.transformer, "motion", 32, "prior"),
            disposable={
                s.name: new_pairs(backbone.transformer, "subject", 32, s.name) for s in self.samples
            },
            options=self.options,
        )

    def stepper(self, skip: float) -> Callable[[], None]:
        options = MotionPriorOptions(
            spatial_path=self.options.spatial_path, num_steps=300, skip_spatial=skip
        )
        backward = motion_backward(
            self.bench.backbone, self.trainee, self.samples, options, 0, trunk=self.trunk
        )

        def step() -> None:
            backward(number := next(self.steps))
            self.trainee.update(number)

        return step


def _where_time_goes(bench: Bench, what: str, step: Callable[[], None]) -> None:
    """The kernels of one step that take longest, and all of them together."""
    if not bench.on_gpu:
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        bench.wait()
    kernels = sorted(profile.key_averages(), key=lambda e: -e.self_device_time_total)
    bench.say(
        f"motion: {what}, kernels of a step without its spatial path",
        all_ms=sum(e.self_device_time_total for e in kernels) / 1e3,
        longest={
            e.key[:90]: [round(e.self_device_time_total / 1e3, 1), e.count] for e in kernels[:24]
        },
    )


def _looks_and_saves(bench: Bench, what: str, training: "MotionTraining") -> None:
    look = HeldOutLoss(bench.backbone, training.samples[:1], 1, 0, training.trunk)

    def once() -> None:
        look(paths_of(training.trainee.prior, learn=False), lambda *_: None, (0, 1))

    bench.seconds(once)
    bench.say(f"motion: {what}, held-out clip at one timestep", ms=bench.median(once) * 1e3)
    with TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "training.safetensors", "")
        balance = Balance(look.timesteps, [1.0])
        course = Course(trainee=training.trainee, evaluate=look, balance=balance)
        saved = bench.seconds(lambda: checkpoint.save([course]))
        bench.say("a checkpoint", s=saved, mib=checkpoint.path.stat().st_size / 2**20)


def motion(
    what: str,
    trunk: Callable[[Backbone], Trunk],
    *,
    whole: bool,
    steps: int = 0,
    looks: bool = False,
) -> tuple[str, Callable[[Bench], None]]:
    def run(bench: Bench) -> None:
        training = MotionTraining(bench, trunk(bench.backbone), whole)
        both, temporal = training.stepper(0.0), training.stepper(1.0)
        first = bench.seconds(both)
        second = bench.seconds(both)
        _say_step(
            bench,
            f"motion: {what}",
            bench.median(both),
            bench.median(temporal),
            first_step_s=first,
            second_step_s=second,
        )
        if steps:
            natural = training.stepper(0.2)
            times = [bench.seconds(natural) for _ in range(steps)]
            mean = statistics.mean(times)
            bench.say(
                f"motion: {what}, {steps} steps as they are drawn",
                step_ms=mean * 1e3,
                steps_300_s=300 * mean,
            )
        if looks:
            _where_time_goes(bench, what, temporal)
            _looks_and_saves(bench, what, training)

    return f"motion: {what}", run


def subjects(
    what: str, trunk: Callable[[Backbone], Trunk], *, together: bool
) -> tuple[str, Callable[[Bench], None]]:
    """Four subjects: a step of each, in one forward or one after another."""

    def run(bench: Bench) -> None:
        backbone = bench.backbone
        lessons = [_lesson(backbone, k) for k in range(NUM_SUBJECTS)]
        calls = trunk(backbone)
        groups = [lessons] if together else [[lesson] for lesson in lessons]
        backwards = [subject_backward(backbone, group, calls) for group in groups]
        steps = count()

        def step() -> None:
            number = next(steps)
            for group, backward in zip(groups, backwards, strict=True):
                backward(dict.fromkeys(range(len(group)), number))
                for lesson in group:
                    lesson.trainee.update(number)

        first = bench.seconds(step)
        bench.seconds(step)
        bench.say(
            f"subjects: {what}",
            step_of_all_ms=bench.median(step) * 1e3,
            first_step_s=first,
            peak_gib=bench.peak(),
        )

    return f"subjects: {what}", run


def _lesson(backbone: Backbone, k: int) -> Lesson:
    options = SubjectPriorOptions(num_frames=min(17, backbone.num_frames), flip=0.0)
    return Lesson(
        trainee=Trainee(
            prior=new_pairs(backbone.transformer, "subject", 32, "subject", k), options=options
        ),
        samples=new_samples(backbone, 3, options.num_frames),
        options=options,
        seed=k,
    )


def agreement(compiled: bool) -> Callable[[Bench], None]:
    """The fast trunk against the plain one in bf16, and the fast one against itself."""

    def run(bench: Bench) -> None:
        trunks = {
            "plain": PlainTrunk(bench.backbone),
            "fast": JointTrunk(bench.backbone, compiled=compiled),
        }
        found = {name: _gradients(bench, trunks[name]) for name in trunks}
        again = _gradients(bench, trunks["fast"])
        bench.say(
            "gradients of the temporal path",
            fast_against_plain=_distance(found["fast"], found["plain"]),
            fast_again_same_bits=all(
                torch.equal(a, b) for a, b in zip(found["fast"], again, strict=True)
            ),
        )

    return run


def _gradients(bench: Bench, trunk: Trunk) -> list[Tensor]:
    training = MotionTraining(bench, trunk, whole=False)
    for pairs in (training.trainee.prior, *training.trainee.disposable.values()):
        for _, up in pairs.values():
            nn.init.constant_(up, 0.01)
    options = MotionPriorOptions(skip_spatial=1.0)
    backward = motion_backward(
        bench.backbone, training.trainee, training.samples, options, 0, trunk=trunk
    )
    backward(0)
    return [p.grad.clone() for p in parameters_of(training.trainee.prior) if p.grad is not None]


def _distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    difference = torch.stack([(a - b).norm() for a, b in zip(ours, theirs, strict=True)]).norm()
    return float(difference / torch.stack([b.norm() for b in theirs]).norm())


def in_fixed_order(
    named: tuple[str, Callable[[Bench], None]],
) -> tuple[str, Callable[[Bench], None]]:
    def run(bench: Bench) -> None:
        with deterministic(bench.on_gpu):
            named[1](bench)

    return named[0], run


def variants(compiled: bool) -> list[tuple[str, Callable[[Bench], None]]]:
    """What is compared, what matters most first."""

    def fast(backbone: Backbone) -> Trunk:
        return JointTrunk(backbone, compiled=compiled)

    def thrifty(backbone: Backbone) -> Trunk:
        return JointTrunk(backbone, compiled=compiled, checkpointing=True)

    def eager(backbone: Backbone) -> Trunk:
        return JointTrunk(backbone, compiled=False)

    return [
        ("ceilings", ceilings),
        ("motion: plain loop, the authors' manner", plain_loop),
        motion("one latent, compiled", fast, whole=False, steps=30, looks=True),
        motion("one latent, hooks", PlainTrunk, whole=False),
        subjects("one after another, hooks", PlainTrunk, together=False),
        subjects("one after another, compiled", fast, together=False),
        subjects("side by side, compiled", fast, together=True),
        ("agreement", agreement(compiled)),
        motion("one latent, compiled, thrifty", thrifty, whole=False),
        motion("whole clip, compiled", fast, whole=True),
        motion("whole clip, hooks", PlainTrunk, whole=True),
        motion("one latent, joint, not compiled", eager, whole=False),
        in_fixed_order(motion("one latent, compiled, deterministic", fast, whole=False)),
    ]


def summary(bench: Bench) -> None:
    """The bars, from what was measured."""
    found = {line["what"]: line for line in bench.lines}

    def of(what: str, key: str) -> float:
        return float(found.get(what, {}).get(key, float("nan")))

    ours = of("motion: one latent, compiled", "step_ms")
    plain = of("motion: plain loop, the authors' manner", "step_ms")
    whole = of("motion: whole clip, compiled", "step_ms")
    together = of("subjects: side by side, compiled", "step_of_all_ms")
    rows = [
        ("motion, 300 steps, s (bar 240)", ours * 0.3),
        ("motion, plain loop over ours (bar 2)", plain / ours),
        ("motion, plain loop over ours, whole clip", plain / whole),
        (
            "4 subjects, one after another by hooks over side by side (bar 1.8)",
            of("subjects: one after another, hooks", "step_of_all_ms") / together,
        ),
        (
            "4 subjects, one after another compiled over side by side",
            of("subjects: one after another, compiled", "step_of_all_ms") / together,
        ),
    ]
    for what, value in rows:
        bench.say(f"= {what}", value=value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--only", default="", help="variants whose name has these words in it")
    parser.add_argument("--seconds", type=float, default=215, help="start no variant after these")
    arguments = parser.parse_args()
    if arguments.tiny:
        torch.set_num_threads(1)
    began = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = new_backbone(TINY if arguments.tiny else FULL, device)
    bench = Bench(backbone, 2 if arguments.tiny else 4, began + arguments.seconds)
    bench.say(
        "machine",
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if bench.on_gpu else "cpu",
        parameters=sum(p.numel() for p in backbone.transformer.parameters()),
        built_s=time.monotonic() - began,
    )
    for name, work in variants(not arguments.no_compile):
        if arguments.only in name:
            bench.attempt(name, work)
    summary(bench)
    bench.say("all", s=time.monotonic() - began)


if __name__ == "__main__":
    main()
