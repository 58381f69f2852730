"""One scene: its plan and its priors become frames (arXiv 2411.16657, SR3AI).

Conditions and masks from the layout, adapters bound to regions by id, then guided sampling in
which every caption and every adapter acts in its own region only. Encoding the frames is
`pipelines.video`'s work, joining scenes `pipelines.film`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.attention import Implementation
from pipelines.backbone import Backbone, Sampler
from pipelines.lora import Adapter, Gates, StackedAdapters
from pipelines.plan import Scene
from pipelines.progress import Progress, silent
from pipelines.region_layout import RegionLayout
from pipelines.region_transformer import region_tokens, sort_rotary
from pipelines.regions import Condition, RegionOptions, scene_conditions, whole_frame
from pipelines.sampling import denoise, initial_noise
from pipelines.scene_captions import merged_caption, with_token

Frames = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Every number of a scene's sampling; defaults are the paper's."""

    # Read from a profile by pydantic: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    num_steps: int = 50
    guidance: float = 9.0
    """Classifier-free guidance; 1 leaves the unconditional branch out."""
    sampler: Sampler = "dpm"
    regions: bool = True
    """False: one caption for the whole frame and adapters everywhere, for comparison."""
    region: RegionOptions = field(default_factory=RegionOptions)
    unconditional: Literal["single", "per_region"] = "single"
    """One empty prompt seen by all, or one a condition under the scene's own layout."""
    adapters_in: Literal["both", "conditional"] = "both"
    """The guidance branches in which adapters act."""
    attention: Implementation = "factorised"

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.guidance < 1:
            raise ValueError(
                f"num_steps {self.num_steps}, guidance {self.guidance}; both must be at least 1"
            )


@dataclass(frozen=True, eq=False)
class Branch:
    """One side of the guidance: text (1, n * L, D), who sees it, where adapters act."""

    text: Tensor
    layout: RegionLayout | None
    gates: Gates | None
    adapters_act: bool


def render_scene(
    backbone: Backbone,
    scene: Scene,
    adapters: Sequence[Adapter] = (),
    *,
    options: RenderOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Frames:
    """Frames uint8 (F, H, W, 3) of a scene; the same arguments give the same bytes.

    Adapters whose target is not in the scene are left out. ``progress`` counts denoising steps and
    the decoding; what it raises stops the work within one step. Raises `ValueError` when an
    adapter was made for another base model.
    """
    options = options or RenderOptions()
    adapters = bound_adapters(scene, adapters)
    conditions = render_conditions(backbone, scene, adapters, options)
    masks = torch.stack([c.mask for c in conditions]).to(backbone.device)
    layout = RegionLayout.build(masks, backbone.text_length)
    generator = torch.Generator().manual_seed(seed)
    num_units = options.num_steps + 1
    noise = initial_noise((1, *backbone.latent_shape()), generator).to(backbone.device)
    with torch.no_grad():
        stacked = StackedAdapters(backbone.transformer, adapters)
        branches = make_branches(backbone, conditions, layout, adapters, stacked, options)
        with region_tokens(backbone.transformer, layout):
            latents = denoise(
                backbone.scheduler(options.sampler),
                GuidedVelocity(backbone, layout, branches, stacked, options),
                noise,
                num_steps=options.num_steps,
                generator=generator,
                progress=progress,
                num_units=num_units,
            )
        frames = backbone.decode(latents)[0].cpu().numpy()
    progress(num_units, num_units)
    return frames


def bound_adapters(scene: Scene, adapters: Sequence[Adapter]) -> tuple[Adapter, ...]:
    """Those that some region of the scene calls for, by motion id or entity id."""
    targets = {("motion", i) for i in scene.motion_ids} | {("subject", i) for i in scene.entity_ids}
    return tuple(a for a in adapters if (a.kind, a.target) in targets)


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


def make_branches(
    backbone: Backbone,
    conditions: Sequence[Condition],
    layout: RegionLayout,
    adapters: Sequence[Adapter],
    stacked: StackedAdapters,
    options: RenderOptions,
) -> tuple[Branch, Branch | None]:
    """The conditional branch, and the unconditional one unless guidance is 1."""
    masks = adapter_masks(conditions, layout, adapters) if options.regions else None
    gates = None if masks is None else stacked.gates(masks)
    text = backbone.encode_text([c.caption for c in conditions]).flatten(0, 1)[None]
    conditional = Branch(text, layout, gates, adapters_act=True)
    if options.guidance == 1:
        return conditional, None
    act = options.adapters_in == "both"
    empty = backbone.encode_text([""])
    if options.unconditional == "per_region":
        every = empty.repeat(1, layout.num_conditions, 1)
        return conditional, Branch(every, layout, gates, act)
    if masks is not None:
        no_words = masks.new_zeros(layout.text_length, masks.shape[1])
        gates = stacked.gates(torch.cat([no_words, masks[layout.num_text :]]))
    return conditional, Branch(empty, None, gates, act)


def adapter_masks(
    conditions: Sequence[Condition], layout: RegionLayout, adapters: Sequence[Adapter]
) -> Tensor:
    """Where each adapter acts, 0/1 (S, K) over [captions | sorted visual tokens].

    The union of its regions, clamped to 1, and the words of their captions.
    """
    device = layout.order.device
    bound = torch.tensor(
        [[_binds(adapter, c) for adapter in adapters] for c in conditions], device=device
    ).view(len(conditions), len(adapters))
    covers = torch.stack([c.mask.flatten() for c in conditions]).to(device)[:, layout.order]
    visual = (covers.T.float() @ bound.float()).clamp(max=1)
    words = bound.float().repeat_interleave(layout.text_length, 0)
    return torch.cat([words, visual])


def _binds(adapter: Adapter, condition: Condition) -> bool:
    if adapter.kind == "motion":
        return adapter.target == condition.motion_id
    return adapter.target == condition.entity_id


class GuidedVelocity:
    """Velocity of a step: both branches, one after the other, and guidance between them.

    The branches differ in text length, so they are two forwards; on one device a batch of two
    takes as long.
    """

    def __init__(
        self,
        backbone: Backbone,
        layout: RegionLayout,
        branches: tuple[Branch, Branch | None],
        stacked: StackedAdapters,
        options: RenderOptions,
    ) -> None:
        self.backbone, self.branches, self.stacked = backbone, branches, stacked
        self.options = options
        self.rotary = sort_rotary(backbone.rotary(backbone.grid().num_latents), layout)

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        conditional, unconditional = self.branches
        guided = self._velocity(conditional, latents, timestep)
        if unconditional is None:
            return guided
        free = self._velocity(unconditional, latents, timestep)
        return free + self.options.guidance * (guided - free)

    def _velocity(self, branch: Branch, latents: Tensor, timestep: Tensor) -> Tensor:
        kwargs = {
            "region_layout": branch.layout,
            "region_implementation": self.options.attention,
        }
        self.stacked.act(branch.gates)
        with self.stacked.attached(branch.adapters_act):
            return self.backbone.velocity(
                latents, branch.text, timestep, rotary=self.rotary, attention_kwargs=kwargs
            )
