"""A motion prior learned in the authors' manner, to compare with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.priors_full.bench import NUM_CLIPS, Bench, new_samples, say_step
from pipelines.backbone import Backbone
from pipelines.prior_draws import draw
from pipelines.prior_loss import Schedule, frame_loss, motion_loss
from pipelines.prior_sample import Sample
from pipelines.prior_weights import new_pairs, parameters_of


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
    loop = PlainLoop(
        bench.backbone, new_samples(bench.backbone, NUM_CLIPS, bench.backbone.num_frames)
    )
    with loop.injected():
        bench.seconds(lambda: loop.step(0, spatial=True))
        both = bench.median(lambda: loop.step(1, spatial=True), 3)
        temporal = bench.median(lambda: loop.step(2, spatial=False), 3)
    say_step(bench, "motion: plain loop, the authors' manner", both, temporal)
