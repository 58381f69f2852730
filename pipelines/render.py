"""One scene: its plan and its priors become frames (arXiv 2411.16657, SR3AI).

Conditions and masks from the layout, adapters bound to regions by id, then guided sampling in
which every caption and every adapter acts in its own region only. Encoding the frames is
`pipelines.video`'s work, joining scenes `pipelines.film`'s.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pipelines.backbone import Backbone, Sampler
from pipelines.guidance import GuidanceOptions, guided_velocity
from pipelines.lora import Adapter
from pipelines.plan import Scene
from pipelines.progress import Progress, silent
from pipelines.regions import Condition, RegionOptions, scene_conditions, whole_frame
from pipelines.sampling import denoise, initial_noise
from pipelines.scene_captions import merged_caption, with_token
from pipelines.step_cache import CachedVelocity
from pipelines.video import Frames

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RenderOptions(GuidanceOptions):
    """Every number of a scene's sampling; defaults are the paper's."""

    num_steps: int = 50
    sampler: Sampler = "dpm"
    region: RegionOptions = field(default_factory=RegionOptions)
    motion_scale: float = 1.0
    """How strongly motion priors act; 1 as they were learned."""
    subject_scale: float = 1.0
    compiled: bool = False
    """Compile transformer and decoder on first use; worth its minutes at CogVideoX's own size."""
    caching: float = 0.0
    """Leave steps out while no region changes by this share, as `pipelines.step_cache` estimates
    it: sooner done, and not the same film. 0: compute every step."""

    def __post_init__(self) -> None:
        if not 0 <= self.caching < 1:
            raise ValueError(
                f"caching {self.caching}; a share that regions may change by, from 0 to below 1"
            )
        if self.num_steps < 1 or self.guidance < 1:
            raise ValueError(
                f"num_steps {self.num_steps}, guidance {self.guidance}; both must be at least 1"
            )
        if self.learned_guidance is not None and not 1 <= self.learned_guidance <= self.guidance:
            raise ValueError(
                f"learned_guidance {self.learned_guidance}; from 1 to guidance, {self.guidance}"
            )


def render_scene(
    backbone: Backbone,
    scene: Scene,
    adapters: Sequence[Adapter] = (),
    *,
    options: RenderOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
    helper: Backbone | None = None,
) -> Frames:
    """Frames uint8 (F, H, W, 3) of a scene; the same arguments give the same bytes.

    Adapters whose target is not in the scene are left out. ``progress`` counts denoising steps and
    the decoding; what it raises stops the work within one step. A ``helper`` on another device
    (`Backbone.twin`) takes one branch of the guidance. Raises `ValueError` when an
    adapter was made for another base model.
    """
    options = options or RenderOptions()
    made = scene_latents(
        backbone, scene, adapters, options=options, seed=seed, progress=progress, helper=helper
    )
    if options.caching:
        log.info("computed %d of %d steps", options.num_steps - made.num_reused, options.num_steps)
    frames = backbone.decode(made.latents)[0].cpu().numpy()
    num_units = options.num_steps + 1
    progress(num_units, num_units)
    return frames


@dataclass(frozen=True, eq=False)
class SceneLatents:
    """A scene before it is decoded: (1, T, C, h, w), fp32."""

    latents: Tensor
    num_reused: int
    """Steps that were left out."""


@torch.no_grad()
def scene_latents(
    backbone: Backbone,
    scene: Scene,
    adapters: Sequence[Adapter] = (),
    *,
    options: RenderOptions,
    seed: int = 0,
    progress: Progress = silent,
    helper: Backbone | None = None,
) -> SceneLatents:
    """All of `render_scene` but the decoding, which ``progress`` has still to count."""
    adapters = _scaled(bound_adapters(scene, adapters), options)
    conditions = render_conditions(backbone, scene, adapters, options)
    generator = torch.Generator().manual_seed(seed)
    noise = initial_noise((1, *backbone.latent_shape()), generator).to(backbone.device)
    scheduler = backbone.scheduler(options.sampler)
    with guided_velocity(backbone, conditions, adapters, options, helper) as velocity:
        cached = CachedVelocity(
            compute=velocity,
            grid=backbone.grid(),
            layout=velocity.layout,
            products=scheduler.alphas_cumprod,
            threshold=options.caching,
        )
        latents = denoise(
            scheduler,
            cached if options.caching else velocity,
            noise,
            num_steps=options.num_steps,
            generator=generator,
            progress=progress,
            num_units=options.num_steps + 1,
        )
    return SceneLatents(latents, cached.num_reused)


def bound_adapters(scene: Scene, adapters: Sequence[Adapter]) -> tuple[Adapter, ...]:
    """Those that some region of the scene calls for, by motion id or entity id."""
    targets = {("motion", i) for i in scene.motion_ids} | {("subject", i) for i in scene.entity_ids}
    return tuple(a for a in adapters if (a.kind, a.target) in targets)


def _scaled(adapters: Sequence[Adapter], options: RenderOptions) -> tuple[Adapter, ...]:
    scales = {"motion": options.motion_scale, "subject": options.subject_scale}
    return tuple(replace(a, scale=a.scale * scales[a.kind]) for a in adapters)


def render_conditions(
    backbone: Backbone, scene: Scene, adapters: Sequence[Adapter], options: RenderOptions
) -> tuple[Condition, ...]:
    """The scene's conditions, subjects named by their tokens."""
    grid = backbone.grid()
    found = scene_conditions(scene.layout, grid, options.region)
    named = tuple(_named(condition, adapters) for condition in found)
    if options.regions:
        return named
    return whole_frame(merged_caption([c for c in named if c.entity_id] or named), grid)


def _named(condition: Condition, adapters: Sequence[Adapter]) -> Condition:
    caption = condition.caption
    for adapter in adapters:
        if adapter.kind == "subject" and adapter.token and adapter.target == condition.entity_id:
            caption = with_token(caption, adapter.token, adapter.phrase or adapter.target)
    return Condition(caption, condition.mask, condition.entity_id, condition.motion_id)
