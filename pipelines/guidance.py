"""Classifier-free guidance over regions: two branches, each with its text, regions and adapters.

The branches differ in text length, so they are two forwards: one after the other on one device
(a batch of two takes as long), or at the same time on two. Sampling is `pipelines.sampling`'s work,
what to show `pipelines.render`'s. Shapes: S tokens, K adapters, L text tokens, D text width.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pipelines.attention import Implementation, fastest_attention
from pipelines.backbone import Backbone
from pipelines.lora import Adapter, Gates, StackedAdapters
from pipelines.region_layout import RegionLayout
from pipelines.region_transformer import region_tokens, sort_rotary
from pipelines.regions import Condition


@dataclass(frozen=True, kw_only=True)
class LateStrengths:
    """How strongly priors act in the last steps, as a share of how strongly they act before.

    The last steps draw details. What a motion prior knows of those are the people in its clips;
    without it, though, a figure goes back to motions that the base model knows. Nothing of this is
    in the paper.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    below: int = 0
    """The timestep, of the schedule's thousand, below which steps are late; 0: none is."""
    motion: float = 1.0
    subject: float = 1.0

    def __post_init__(self) -> None:
        if self.below < 0 or min(self.motion, self.subject) < 0:
            raise ValueError(
                f"late below {self.below}, motion {self.motion}, subject {self.subject}; "
                "none may be negative"
            )


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """How the two branches are made and joined; `pipelines.render.RenderOptions` adds to these."""

    # Read from a profile by pydantic: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    guidance: float = 9.0
    """Classifier-free guidance; 1 leaves the unconditional branch out."""
    learned_guidance: float | None = None
    """Guidance where a motion prior acts, from 1 to ``guidance``; None: as everywhere. Guidance
    also multiplies what a prior adds, and more of that than was learned breaks figures. Nothing of
    this is in the paper."""
    regions: bool = True
    """False: one caption for the whole frame and adapters everywhere, for comparison."""
    unconditional: Literal["single", "per_region"] = "single"
    """One empty prompt seen by all, or one a condition under the scene's own layout."""
    adapters_in: Literal["both", "conditional"] = "both"
    """The guidance branches in which adapters act."""
    late: LateStrengths = field(default_factory=LateStrengths)
    attention: Implementation = "factorised"


@dataclass(frozen=True, eq=False)
class Branch:
    """One side of the guidance: text (1, n * L, D), who sees it, where adapters act."""

    text: Tensor
    layout: RegionLayout | None
    gates: Gates | None
    late_gates: Gates | None
    """The same for late steps."""
    adapters_act: bool


@dataclass(eq=False)
class Stage:
    """One device's copy of the model, prepared for one scene; adapters lie on its device."""

    backbone: Backbone
    layout: RegionLayout
    masks: Tensor | None
    """Where each adapter acts, 0/1 (S, K); None: everywhere."""
    adapters: Sequence[Adapter]
    options: GuidanceOptions
    stacked: StackedAdapters = field(init=False)

    def __post_init__(self) -> None:
        backbone = self.backbone
        self.layout = self.layout.to(backbone.device)
        self.stacked = StackedAdapters(backbone.transformer, self.adapters)
        self._rotary = sort_rotary(backbone.rotary(backbone.grid().num_latents), self.layout)

    def conditional(self, text: Tensor) -> Branch:
        """``text`` (N, L, D), a caption each."""
        joint = text.flatten(0, 1)[None]
        return self._branch(joint, self.layout, self.masks, adapters_act=True)

    def unconditional(self, empty: Tensor) -> Branch:
        """``empty`` (1, L, D), the empty prompt."""
        layout, masks = self.layout, self.masks
        act = self.options.adapters_in == "both"
        if self.options.unconditional == "per_region":
            return self._branch(empty.repeat(1, layout.num_conditions, 1), layout, masks, act)
        if masks is not None:
            no_words = masks.new_zeros(layout.text_length, masks.shape[1])
            masks = torch.cat([no_words, masks[layout.num_text :]])
        return self._branch(empty, None, masks, act)

    def _branch(
        self, text: Tensor, layout: RegionLayout | None, masks: Tensor | None, adapters_act: bool
    ) -> Branch:
        gates = late_gates = None if masks is None else self.stacked.gates(masks)
        late = self.options.late
        strengths = [getattr(late, adapter.kind) for adapter in self.adapters]
        if late.below and any(strength != 1 for strength in strengths):
            if masks is None:
                masks = torch.ones(text.shape[1] + self.layout.num_visual, len(strengths))
            late_gates = self.stacked.gates(masks * masks.new_tensor(strengths))
        return Branch(text.to(self.backbone.device), layout, gates, late_gates, adapters_act)

    @torch.no_grad()
    def velocity(self, branch: Branch, latents: Tensor, timestep: int) -> Tensor:
        """One forward; within `region_tokens` of this stage's model and layout."""
        late = timestep < self.options.late.below
        self.stacked.act(branch.late_gates if late else branch.gates)
        with self.stacked.attached(branch.adapters_act):
            return self.backbone.velocity(
                latents,
                branch.text,
                torch.full((1,), timestep, device=latents.device),
                rotary=self._rotary,
                attention_kwargs=self._attention(branch.layout),
            )

    def _attention(self, layout: RegionLayout | None) -> dict[str, Any]:
        if layout is None or layout.unmasked:
            return {}
        if self.backbone.compiled and self.options.attention == "factorised":
            for table in layout.tables.tensors:
                torch._dynamo.maybe_mark_dynamic(table, 0)
            return {"region_tables": layout.tables}
        return {"region_layout": layout, "region_implementation": self.options.attention}


Half = tuple[Stage, Branch]


class GuidedVelocity:
    """Velocity of a step: both branches, and guidance between them."""

    def __init__(
        self,
        conditional: Half,
        unconditional: Half | None,
        guidance: float | Tensor,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.conditional, self.unconditional = conditional, unconditional
        self.guidance, self.pool = guidance, pool
        self._together = False

    @property
    def layout(self) -> RegionLayout:
        """The scene's, on the device of the conditional branch."""
        return self.conditional[0].layout

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        (stage, branch), other = self.conditional, self.unconditional
        if other is None:
            return stage.velocity(branch, latents, timestep)
        if other[0] is stage:
            guided = stage.velocity(branch, latents, timestep)
            free = stage.velocity(other[1], latents, timestep)
        else:
            device = other[0].backbone.device
            there = latents.to(device)
            waiting = self.pool.submit(other[0].velocity, other[1], there, timestep)
            if not self._together:
                waiting.result()  # the first may compile, which two threads cannot do at once
                self._together = True
            guided = stage.velocity(branch, latents, timestep)
            free = waiting.result().to(guided.device)
        return free + self.guidance * (guided - free)


@contextmanager
def guided_velocity(
    backbone: Backbone,
    conditions: Sequence[Condition],
    adapters: Sequence[Adapter],
    options: GuidanceOptions,
    helper: Backbone | None = None,
) -> Iterator[GuidedVelocity]:
    """A scene's velocity, while its model stands ready for it.

    With a ``helper``, a `Backbone.twin` on another device, that computes the unconditional branch
    meanwhile. Raises `ValueError` when an adapter was made for another base model.
    """
    conditions = adapted_last(conditions, adapters)
    masks = torch.stack([c.mask for c in conditions]).to(backbone.device)
    layout = RegionLayout.build(masks, backbone.text_length)
    acts = adapter_masks(conditions, layout, adapters) if options.regions else None
    text = backbone.encode_text([c.caption for c in conditions])
    here = Stage(backbone, layout, acts, adapters, options)
    there = here if helper is None else Stage(helper, layout, acts, adapters, options)
    free = None
    if options.guidance != 1:
        free = (there, there.unconditional(backbone.encode_text([""])))
    with ExitStack() as stack:
        stack.enter_context(fastest_attention())
        for stage in {id(here): here, id(there): there}.values():
            stack.enter_context(region_tokens(stage.backbone.transformer, stage.layout))
        pool = ThreadPoolExecutor(
            1,
            thread_name_prefix="guidance",
            # A thread has its own number of them, and sums follow it.
            initializer=torch.set_num_threads,
            initargs=(torch.get_num_threads(),),
        )
        stack.enter_context(pool)
        strength = guidance_map(conditions, adapters, options, backbone)
        yield GuidedVelocity((here, here.conditional(text)), free, strength, pool)


def guidance_map(
    conditions: Sequence[Condition],
    adapters: Sequence[Adapter],
    options: GuidanceOptions,
    backbone: Backbone,
) -> float | Tensor:
    """How strong guidance is: everywhere alike, or by place, (1, T, 1, h, w) of latents."""
    motions = [adapter for adapter in adapters if adapter.kind == "motion"]
    learned = [c.mask for c in conditions if any(_binds(motion, c) for motion in motions)]
    if options.learned_guidance is None or not learned:
        return options.guidance
    here = torch.stack(learned).any(0) if options.regions else torch.ones_like(learned[0])
    patch = backbone.transformer.config.patch_size
    places = here.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[None, :, None]
    return torch.where(places, options.learned_guidance, options.guidance).to(backbone.device)


def adapted_last(
    conditions: Sequence[Condition], adapters: Sequence[Adapter]
) -> Sequence[Condition]:
    """The conditions in an order that puts what adapters act on side by side.

    Visual tokens follow the captions, those of the last caption first. So the captions and the
    visual tokens of an adapter are one range of rows, or little more: the only ones it costs.
    """
    return sorted(conditions, key=lambda c: sum(_binds(a, c) for a in adapters))


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
