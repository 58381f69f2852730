"""Whole scenes, on one GPU and with the guidance's branches on two."""

import dataclasses
import time
from typing import Any

from benchmarks.full_size import new_adapters, new_scene, resident
from benchmarks.gpu_report import median_ms, peak, reset_peak, synchronize
from benchmarks.scene_full.steps import standing
from pipelines.backbone import Backbone
from pipelines.render import RenderOptions, render_scene


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
