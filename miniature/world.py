"""The puppet world: articulated 2-D puppets that move in drawn places, with ground truth.

A `Spec` says who does what where; `render` draws batches of them on any device and returns, with
the frames, the box and the joints of every puppet in every frame. Lengths are in frame heights,
y down; the frame is 1.5 wide. Nothing here knows about models.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from miniature.cast import (
    BASE_CHARACTERS,
    BASE_MOTIONS,
    NUM_OUTFITS,
    PLACES,
    TRAVELLING,
)
from miniature.motions import is_improvised
from miniature.painting import paint
from miniature.places import WIDTH, backdrop
from miniature.puppets import JOINT_NAMES, Parts, puppet_parts

NUM_FRAMES = 49
FPS = 8
SIZE_PX = (96, 144)
"""Height and width."""
IMPROVISING = "improvising"
"""What captions call motions without a name."""
MAX_PUPPETS = 2
SWITCH_S = 0.36
"""How long one motion takes to become the next, around the middle of the clip."""


@dataclass(frozen=True, kw_only=True)
class Puppet:
    """One actor: who, which one or two motions in sequence, and its way across the frame."""

    character: str
    motions: tuple[str, ...]
    x0: float
    x1: float
    ground: float
    """Height of the feet, y down."""
    height: float
    speed: float = 1.0
    phase: float = 0.0
    outfit: int = 0
    """Clothes of a "person"; other characters always wear their own."""
    facing: int = 1

    def travels(self) -> bool:
        return any(motion in TRAVELLING for motion in self.motions)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One video: a place (its scenery drawn from `seed`) and up to two puppets, far one first."""

    place: str
    seed: int
    puppets: tuple[Puppet, ...]
    still_s: float | None = None
    """The moment that all frames of a still show; None where things move."""


@dataclass(frozen=True)
class Rendering:
    """Frames and ground truth of a batch of specs."""

    frames: Tensor
    """(B, F, 3, H, W) float32 in [0, 1]."""
    boxes: Tensor
    """(B, 2, F, 4) left, top, right, bottom in 0-1, clipped to the frame; NaN where no puppet."""
    joints: Tensor
    """(B, 2, F, J, 2) x, y in 0-1 for `miniature.puppets.JOINT_NAMES`; NaN where no puppet."""


def _sample_puppet(
    rng: random.Random, character: str, motions: Sequence[str], span: tuple[float, float]
) -> Puppet:
    count = 2 if rng.random() < 0.5 else 1
    chosen = tuple(rng.sample(list(motions), min(count, len(motions))))
    low, high = span
    x0, x1 = rng.uniform(low, high), rng.uniform(low, high)
    if any(motion in TRAVELLING for motion in chosen):
        reach = (high - low) * rng.uniform(0.5, 0.95)
        x0 = rng.uniform(low, high - reach)
        x0, x1 = (x0, x0 + reach) if rng.random() < 0.5 else (x0 + reach, x0)
    return Puppet(
        character=character,
        motions=chosen,
        x0=x0,
        x1=x1,
        ground=rng.uniform(0.88, 0.97),
        height=rng.uniform(0.56, 0.76),
        speed=rng.uniform(0.85, 1.15),
        phase=rng.random(),
        outfit=rng.randrange(NUM_OUTFITS),
        facing=1 if x1 >= x0 else -1,
    )


def sample_spec(
    rng: random.Random,
    *,
    characters: Sequence[str] = BASE_CHARACTERS,
    motions: Sequence[str] = BASE_MOTIONS,
    places: Sequence[str] = PLACES,
    num_puppets: int | None = None,
) -> Spec:
    """Draw a random video; half of them have two puppets unless `num_puppets` says."""
    count = num_puppets if num_puppets is not None else rng.choice((1, 2))
    spans = [(0.25, 1.25)] if count == 1 else [(0.24, 0.62), (0.88, 1.26)]
    names = rng.sample(list(characters), count) if count <= len(characters) else list(characters)
    puppets = [_sample_puppet(rng, name, motions, spans[i]) for i, name in enumerate(names)]
    rng.shuffle(puppets)
    return Spec(place=rng.choice(list(places)), seed=rng.randrange(1 << 30), puppets=tuple(puppets))


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def region_caption(puppet: Puppet, motion: str, place: str) -> str:
    """The caption of one region: one character, one motion, the place."""
    return f"{article(puppet.character)} is {_said(motion)} in the {place}"


def caption(spec: Spec) -> str:
    """The caption of a whole video; a still's says who, and not what they do."""
    if not spec.puppets:
        return f"the {spec.place}"
    if spec.still_s is not None:
        return f"{' and '.join(article(p.character) for p in spec.puppets)} in the {spec.place}"
    acts = (
        f"{article(p.character)} is {' then '.join(map(_said, p.motions))}" for p in spec.puppets
    )
    return f"{' and '.join(acts)} in the {spec.place}"


def _said(motion: str) -> str:
    return IMPROVISING if is_improvised(motion) else motion


def _paint_backdrops(specs: Sequence[Spec], grid: Tensor) -> Tensor:
    """(B, 1, 3, H, W): sky, ground and scenery, the same in all frames."""
    device = grid.device
    drops = [backdrop(spec.place, spec.seed) for spec in specs]
    sky = torch.tensor([d.sky for d in drops], device=device)[:, None, :, None, None]
    ground = torch.tensor([d.ground for d in drops], device=device)[:, None, :, None, None]
    horizon = torch.tensor([d.horizon for d in drops], device=device)[:, None, None, None, None]
    below = ((grid[1] - horizon) / 0.03 + 0.5).clamp(0, 1)
    image = (sky * (1 - below) + ground * below).contiguous()
    longest = max(len(d.shapes) for d in drops)
    rows = [
        [(s.ax, s.ay, s.bx, s.by, s.radius, *s.colour) for s in d.shapes]
        + [(0.0,) * 4 + (-1.0,) + (0.0,) * 3] * (longest - len(d.shapes))
        for d in drops
    ]
    shapes = torch.tensor(rows, device=device)
    return paint(image, grid, shapes[:, None, :, :4], shapes[:, None, :, 4], shapes[..., 5:])


def _boxes(parts: Parts, present: Tensor) -> Tensor:
    """(B, F, 4) boxes in 0-1 from the painted parts of one puppet slot."""
    seen = parts.radius > 0
    r = parts.radius

    def extreme(values: Tensor, sign: float) -> Tensor:
        return sign * torch.where(seen, sign * values, -1e9).amax(-1)

    ends = parts.ends
    box = torch.stack(
        [
            extreme(torch.minimum(ends[..., 0], ends[..., 2]) - r, -1) / WIDTH,
            extreme(torch.minimum(ends[..., 1], ends[..., 3]) - r, -1),
            extreme(torch.maximum(ends[..., 0], ends[..., 2]) + r, 1) / WIDTH,
            extreme(torch.maximum(ends[..., 1], ends[..., 3]) + r, 1),
        ],
        dim=-1,
    ).clamp(0, 1)
    return torch.where(present[:, None, None], box, torch.nan)


def render(
    specs: Sequence[Spec],
    *,
    device: str | torch.device = "cpu",
    size_px: tuple[int, int] = SIZE_PX,
    num_frames: int = NUM_FRAMES,
    frame_indices: Tensor | None = None,
) -> Rendering:
    """Draw a batch of videos.

    Args:
        specs: B videos.
        device: where to draw.
        size_px: height and width; the world is 1.5 wide at height 1, other shapes crop or pad.
        num_frames: length of the video at 8 frames a second.
        frame_indices: (F,) or (B, F) which frames to draw; all when None. One draws a few frames
            of a long video much faster than the whole.

    Returns:
        F is `num_frames`, or the number of frames asked for.
    """
    device = torch.device(device)
    height, width = size_px
    ys = (torch.arange(height, device=device) + 0.5) / height
    xs = (torch.arange(width, device=device) + 0.5) / height
    grid = torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)])
    index = torch.arange(num_frames) if frame_indices is None else frame_indices
    time_s = (index.to(device).float() / FPS).expand(len(specs), index.shape[-1])
    stills = [math.nan if s.still_s is None else s.still_s for s in specs]
    still_s = torch.tensor(stills, device=device)[:, None]
    time_s = torch.where(still_s.isnan(), time_s, still_s)
    length_s = (num_frames - 1) / FPS
    frames = _paint_backdrops(specs, grid).expand(-1, time_s.shape[1], -1, -1, -1).contiguous()
    boxes, joints = [], []
    for slot in range(MAX_PUPPETS):
        actors = [s.puppets[slot] if slot < len(s.puppets) else None for s in specs]
        present = torch.tensor([a is not None for a in actors], device=device)
        if not any(actors):
            boxes.append(torch.full((*time_s.shape, 4), torch.nan, device=device))
            joints.append(
                torch.full((*time_s.shape, len(JOINT_NAMES), 2), torch.nan, device=device)
            )
            continue
        parts = puppet_parts(actors, time_s, length_s, SWITCH_S)
        frames = paint(frames, grid, parts.ends, parts.radius, parts.colours)
        boxes.append(_boxes(parts, present))
        scale = torch.tensor([WIDTH, 1.0], device=device)
        joints.append(torch.where(present[:, None, None, None], parts.joints / scale, torch.nan))
    return Rendering(frames.clamp(0, 1), torch.stack(boxes, 1), torch.stack(joints, 1))
