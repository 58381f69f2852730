"""Boxes become token masks: which caption may act where (arXiv 2411.16657, region masks).

Pure functions from a `Layout` and a token grid to boolean tensors. Shapes: T latent frames, H and
W token rows and columns, N conditions. Attention over the masks is `pipelines.attention`'s work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pipelines.plan import Box, KeyFrame, Layout, Region

Interpolation = Literal["linear", "hold"]
Overlap = Literal["union", "top"]
Background = Literal["complement", "everywhere"]


@dataclass(frozen=True)
class TokenGrid:
    """The visual tokens of a clip: T latent frames of H x W, flattened in t, h, w order."""

    num_latents: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.num_latents, self.height, self.width)

    @property
    def num_tokens(self) -> int:
        return self.num_latents * self.height * self.width


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """How boxes become masks."""

    # Read from a profile by pydantic: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    interpolation: Interpolation = "linear"
    """Boxes between key frames: straight lines at latent centres, or held from the key frame."""
    overlap: Overlap = "union"
    """A token under two boxes: both captions, or the later region's alone. A plan whose overlaps
    were merged (the intersection listed last, as a region of its own) is drawn with ``top``."""
    background: Background = "complement"
    """The background's caption: the tokens that no box covers, or every token."""
    first_latent_alone: bool = True
    """4n+1 frames, the first latent holds one frame. False: for a model whose clips have 4n frames
    (``sample_frames`` in its transformer's config), such as the authors' 48 in 12 latents."""


@dataclass(frozen=True, eq=False)
class Condition:
    """One caption and the tokens it may act on: bool (T, H, W), never empty."""

    caption: str
    mask: Tensor
    entity_id: str | None = None
    motion_id: str | None = None


def box_tokens(box: Box, grid: TokenGrid) -> tuple[slice, slice]:
    """Rows and columns of a box: edges rounded to tokens, half-open, at least one token each."""
    rows = token_span(box.top, box.bottom, grid.height)
    return rows, token_span(box.left, box.right, grid.width)


def token_span(low: float, high: float, size: int) -> slice:
    """Of ``size`` tokens in a row those between two edges in 0-1; at least one."""
    start, stop = round(low * size), round(high * size)
    if start >= stop:  # rounding swallowed a thin box: keep the token its centre lies in
        start = min(int((low + high) / 2 * size), size - 1)
        stop = start + 1
    return slice(start, stop)


def key_frame_of_latents(
    num_latents: int, num_key_frames: int, *, first_latent_alone: bool = True
) -> tuple[int, ...]:
    """The key frame whose regions each latent frame shows: 0, 0, 0, 1, 1, ... 5, 5 over 13."""
    alone = 1 if first_latent_alone and num_latents > 1 else 0
    spread = num_latents - alone
    return tuple(max(j - alone, 0) * num_key_frames // spread for j in range(num_latents))


def latent_centres(num_latents: int, *, first_latent_alone: bool = True) -> tuple[float, ...]:
    """The middle frame number of each latent frame: 0, 2.5, 6.5, ... (four frames a latent)."""
    shift = -1.5 if first_latent_alone else 1.5
    return tuple(max(4 * j + shift, 0.0) for j in range(num_latents))


@dataclass(frozen=True)
class _Moment:
    """A latent frame between key frames: ``here`` blended with ``there`` by ``weight``."""

    here: int
    there: int
    weight: float


def _moments(num_latents: int, num_key_frames: int, options: RegionOptions) -> list[_Moment]:
    alone = options.first_latent_alone
    owner = key_frame_of_latents(num_latents, num_key_frames, first_latent_alone=alone)
    if options.interpolation == "hold":
        return [_Moment(k, k, 0.0) for k in owner]
    centres = latent_centres(num_latents, first_latent_alone=alone)
    lone = 1 if alone and num_latents > 1 else 0
    times = [
        _mean([c for j, c in enumerate(centres) if owner[j] == k and j >= lone])
        for k in range(num_key_frames)
    ]
    return [_between(owner[j], centres[j], times) for j in range(num_latents)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _between(here: int, centre: float, times: Sequence[float | None]) -> _Moment:
    own = times[here]
    there = here if own is None or centre == own else here + (1 if centre > own else -1)
    other = times[there] if 0 <= there < len(times) else None
    if own is None or other is None or there == here:
        return _Moment(here, here, 0.0)
    return _Moment(here, there, (centre - own) / (other - own))


def _counterpart(region: Region, occurrence: int, frame: KeyFrame) -> Region | None:
    same = [r for r in frame.regions if r.entity_id == region.entity_id]
    return same[occurrence] if occurrence < len(same) else None


def blend(a: Box, b: Box, weight: float) -> Box:
    """The box ``weight`` of the way from a to b."""
    left, top, right, bottom = (x + (y - x) * weight for x, y in zip(a.edges, b.edges, strict=True))
    return Box(left=left, top=top, right=right, bottom=bottom)


def _boxes_at(layout: Layout, moment: _Moment) -> list[tuple[Region, Box]]:
    """Every region of one latent frame with its box there; an entity moves between key frames."""
    found: list[tuple[Region, Box]] = []
    seen: dict[str, int] = {}
    for region in layout.key_frames[moment.here].regions:
        occurrence = seen.get(region.entity_id, 0)
        seen[region.entity_id] = occurrence + 1
        other = _counterpart(region, occurrence, layout.key_frames[moment.there])
        box = blend(region.box, other.box, moment.weight) if other else region.box
        found.append((region, box))
    return found


def scene_boxes(
    layout: Layout, num_latents: int, options: RegionOptions | None = None
) -> list[list[tuple[Region, Box]]]:
    """Regions and boxes of each latent frame, bottom to top."""
    options = options or RegionOptions()
    moments = _moments(num_latents, len(layout.key_frames), options)
    return [_boxes_at(layout, moment) for moment in moments]


def scene_conditions(
    layout: Layout, grid: TokenGrid, options: RegionOptions | None = None
) -> tuple[Condition, ...]:
    """The N conditions of a scene: one per entity, motion and caption, then the background.

    A condition that owns no token (a region hidden under later ones with ``top``, a background
    with boxes all over it) is left out.
    """
    options = options or RegionOptions()
    found: dict[tuple[str, str | None, str], Condition] = {}
    covered = torch.zeros(grid.shape, dtype=torch.bool)
    for j, regions in enumerate(scene_boxes(layout, grid.num_latents, options)):
        for region, box in regions:
            rows, columns = box_tokens(box, grid)
            covered[j, rows, columns] = True
            if options.overlap == "top":
                for condition in found.values():
                    condition.mask[j, rows, columns] = False
            _condition_of(region, found, grid).mask[j, rows, columns] = True
    complement = torch.ones_like(covered) if options.background == "everywhere" else ~covered
    conditions = [*found.values(), Condition(layout.background, complement)]
    return tuple(condition for condition in conditions if condition.mask.any())


def _condition_of(
    region: Region, found: dict[tuple[str, str | None, str], Condition], grid: TokenGrid
) -> Condition:
    key = (region.entity_id, region.motion_id, region.caption)
    if key not in found:
        mask = torch.zeros(grid.shape, dtype=torch.bool)
        found[key] = Condition(region.caption, mask, region.entity_id, region.motion_id)
    return found[key]


def whole_frame(caption: str, grid: TokenGrid) -> tuple[Condition, ...]:
    """One caption for every token: what a scene is without regions."""
    return (Condition(caption, torch.ones(grid.shape, dtype=torch.bool)),)
