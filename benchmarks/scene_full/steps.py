"""Guided steps, plain and ours, in one run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.full_size import new_adapters, new_scene, resident
from benchmarks.gpu_report import Report, median_ms, profiled, relative, synchronize
from pipelines.attention import fastest_attention
from pipelines.backbone import Backbone
from pipelines.guidance import GuidedVelocity, guided_velocity
from pipelines.lora import Adapter
from pipelines.plan import Scene
from pipelines.render import RenderOptions, render_conditions


@contextmanager
def standing(
    backbone: Backbone,
    scene: Scene,
    adapters: list[Adapter],
    helper: Backbone | None = None,
    latents: torch.Tensor | None = None,
    options: RenderOptions | None = None,
) -> Iterator[Callable[[], torch.Tensor]]:
    """One guided step of a scene, ready to be called again and again."""
    options = options or RenderOptions()
    conditions = render_conditions(backbone, scene, adapters, options)
    if latents is None:
        latents = torch.randn(1, *backbone.latent_shape(), device=backbone.device)
    with guided_velocity(backbone, conditions, adapters, options, helper) as velocity:
        assert isinstance(velocity, GuidedVelocity)
        yield lambda: velocity(latents, 500)


def compiled_step(backbone: Backbone) -> dict[str, Any]:
    """How far a step moves when its blocks are compiled; they stay so. bf16 on a GPU.

    Both branches guided, as the profile does it, and one alone: guidance multiplies what rounding
    does to either by about itself.
    """
    scene = new_scene(4)
    adapters = resident(backbone, new_adapters(backbone, scene))
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *backbone.latent_shape(), generator=draw).to(backbone.device)
    found, alone = [], []
    for compiled in (False, True):
        if compiled:
            backbone.compile(decoder=False)
        one = RenderOptions(guidance=1)
        with standing(backbone, scene, adapters, latents=latents, options=one) as step:
            alone.append(step())
        with standing(backbone, scene, adapters, latents=latents) as step:
            found.append((step(), median_ms(step, repeats=3, warmup=1)))
    (eager, eager_ms), (fast, fast_ms) = found
    return {
        "off": relative(fast, eager),
        "one_branch_off": relative(alone[1], alone[0]),
        "eager_ms": eager_ms,
        "ms": fast_ms,
        "speedup": eager_ms / fast_ms,
    }


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
