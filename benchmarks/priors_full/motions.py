"""A motion prior learned by the product's own parts, in several settings."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.priors_full.bench import NUM_CLIPS, Bench, new_samples, say_step
from pipelines.backbone import Backbone
from pipelines.prior_checkpoint import Checkpoint
from pipelines.prior_loss import Balance, HeldOutLoss
from pipelines.prior_options import MotionPriorOptions
from pipelines.prior_steps import motion_backward
from pipelines.prior_training import Course, Trainee
from pipelines.prior_trunk import Trunk
from pipelines.prior_weights import new_pairs, paths_of


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
        self.samples = new_samples(backbone, NUM_CLIPS, self.bench.backbone.num_frames)
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
        say_step(
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
