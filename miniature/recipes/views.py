"""What the miniature's encoders are shown: rendered views of puppets, described and distorted.

A view is eight frames of a stretch of a video, whole or cut around its puppet as retrieval cuts.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from miniature.cast import CHARACTERS, MOTIONS, PERSON, shirt_name
from miniature.phrases import PERSON_NOUNS, SUBJECTS, paraphrase
from miniature.world import NUM_FRAMES, Puppet, Spec, article, caption, render, sample_spec

NUM_VIEWED = 8
NUM_CAPTIONS = 4
SIZES_PX = ((96, 144), (112, 168), (144, 216))


@dataclass(frozen=True)
class Pool:
    """Rendered views with what is seen in them."""

    frames: Tensor
    """(N, 8, 3, S, S) uint8 on the training device."""
    texts: list[list[str]]
    """Several captions of each view."""
    meanings: Tensor
    """(N,) equal where two views deserve the same caption."""
    acts: Tensor
    """(N, subjects, motions) bool: who does what."""


def _sample(rng: random.Random) -> Spec:
    kind = rng.random()
    if kind < 0.08:
        return sample_spec(rng, num_puppets=0)
    if kind < 0.18:
        return sample_spec(rng, characters=(*CHARACTERS, PERSON), motions=MOTIONS, num_puppets=2)
    characters = (PERSON,) if kind < 0.6 else CHARACTERS
    return sample_spec(rng, characters=characters, motions=MOTIONS, num_puppets=1)


def _window(rng: random.Random, spec: Spec) -> tuple[float, float, int]:
    """First and last frame of a view, and which motion it shows (-1: all in sequence)."""
    last = NUM_FRAMES - 1
    if any(len(puppet.motions) > 1 for puppet in spec.puppets):
        part = rng.choice((-1, 0, 1))
        if part < 0:
            return 0.0, float(last), -1
        start = part * last / 2 + (2.0 if part else 0.0)
        return start, start + last / 2 - 2.0, part
    length = rng.uniform(16, last)
    start = rng.uniform(0, last - length)
    return start, start + length, -1


def _shown(puppet: Puppet, part: int) -> tuple[str, ...]:
    return puppet.motions if part < 0 or len(puppet.motions) == 1 else (puppet.motions[part],)


def _noun(rng: random.Random, puppet: Puppet) -> str:
    return rng.choice(PERSON_NOUNS) if puppet.character == PERSON else puppet.character


def _captions(rng: random.Random, spec: Spec, part: int) -> list[str]:
    if not spec.puppets:
        forms = (caption(spec), f"the {spec.place} with no one in it")
        return [rng.choice(forms) for _ in range(NUM_CAPTIONS)]
    if len(spec.puppets) > 1:
        acts = [f"{article(p.character)} is {' then '.join(_shown(p, part))}" for p in spec.puppets]
        return [f"{' and '.join(acts)} in the {spec.place}"] * NUM_CAPTIONS
    puppet = spec.puppets[0]
    motions = _shown(puppet, part)
    plain = f"{article(puppet.character)} is {' then '.join(motions)} in the {spec.place}"
    shirt = shirt_name(puppet.outfit) if puppet.character == PERSON else ""
    others = [
        paraphrase(rng, _noun(rng, puppet), motions, spec.place, shirt)
        for _ in range(NUM_CAPTIONS - 1)
    ]
    return [plain, *others]


def _meaning(spec: Spec, part: int) -> int:
    acts = tuple((p.character, _shown(p, part)) for p in spec.puppets)
    return hash_words((spec.place, *sorted(f"{who}:{' '.join(what)}" for who, what in acts)))


def hash_words(words: Sequence[str]) -> int:
    """A number that is the same in every process."""
    number = 0
    for byte in "|".join(words).encode():
        number = (number * 1000003 + byte) % (1 << 61)
    return number


def _acts(spec: Spec, part: int) -> Tensor:
    acts = torch.zeros(len(SUBJECTS), len(MOTIONS), dtype=torch.bool)
    for puppet in spec.puppets:
        nouns = PERSON_NOUNS if puppet.character == PERSON else (puppet.character,)
        for noun in nouns:
            for motion in _shown(puppet, part):
                acts[SUBJECTS.index(noun), MOTIONS.index(motion)] = True
    return acts


def crop_views(
    rng: random.Random, frames: Tensor, boxes: Tensor, size_px: int, *, whole: float
) -> Tensor:
    """Cut and resize views as retrieval would: a person with a margin, or the whole picture.

    frames (B, F, 3, H, W) in [0, 1]; boxes (B, F, 4) of the one puppet, NaN if there is none or
    more; `whole` is the share of whole pictures. Returns (B, F, 3, S, S).
    """
    height, width = frames.shape[-2:]
    lows, highs = boxes[..., :2].amin(1).cpu(), boxes[..., 2:].amax(1).cpu()
    views = []
    for i in range(len(frames)):
        left, top, right, bottom = 0.0, 0.0, 1.0, 1.0
        if not bool(lows[i].isnan().any()) and rng.random() >= whole:
            left, top = (float(v) for v in lows[i])
            right, bottom = (float(v) for v in highs[i])
            grow_x, grow_y = (right - left) * 0.1, (bottom - top) * 0.1
            short = (0.9 * (bottom - top + 2 * grow_y) * height / width - (right - left)) / 2
            grow_x = max(grow_x, short)
            left, right = left - grow_x, right + grow_x
            top, bottom = top - grow_y, bottom + grow_y
        wobble = [rng.uniform(-0.03, 0.03) for _ in range(4)]
        x0 = round(min(max(left + wobble[0], 0.0), 0.9) * width)
        y0 = round(min(max(top + wobble[1], 0.0), 0.9) * height)
        x1 = max(x0 + 8, round(min(right + wobble[2], 1.0) * width))
        y1 = max(y0 + 8, round(min(bottom + wobble[3], 1.0) * height))
        view = frames[i, :, :, y0:y1, x0:x1]
        views.append(functional.interpolate(view, (size_px, size_px), mode="bilinear"))
    return torch.stack(views)


def make_pool(num_views: int, size_px: int, seed: int, device: str, chunk: int = 96) -> Pool:
    """Render and describe views; one video each."""
    rng = random.Random(seed)
    frames: list[Tensor] = []
    texts: list[list[str]] = []
    meanings: list[int] = []
    acts: list[Tensor] = []
    while len(texts) < num_views:
        specs = [_sample(rng) for _ in range(min(chunk, num_views - len(texts)))]
        windows = [_window(rng, spec) for spec in specs]
        steps = (torch.arange(NUM_VIEWED) + 0.5) / NUM_VIEWED
        index = torch.stack([first + steps * (last - first) for first, last, _ in windows])
        drawn = render(
            specs, device=device, size_px=rng.choice(SIZES_PX), frame_indices=index.to(device)
        )
        several = torch.tensor([len(spec.puppets) > 1 for spec in specs], device=device)
        boxes = torch.where(several[:, None, None], torch.nan, drawn.boxes[:, 0])
        views = crop_views(rng, drawn.frames, boxes, size_px, whole=0.4)
        frames.append((views * 255).round().to(torch.uint8))
        for spec, (_, _, part) in zip(specs, windows, strict=True):
            texts.append(_captions(rng, spec, part))
            meanings.append(_meaning(spec, part))
            acts.append(_acts(spec, part))
    return Pool(torch.cat(frames), texts, torch.tensor(meanings), torch.stack(acts).to(device))


def distort(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, blur and noise: uint8 (B, F, 3, S, S) to float in [0, 1]."""
    batch, device = len(frames), frames.device
    pixels = frames.float() / 255
    knobs = torch.rand(batch, 4, generator=generator).to(device)[:, :, None, None, None, None]
    flat = functional.avg_pool2d(pixels.flatten(0, 1), 3, stride=1, padding=1)
    pixels = torch.lerp(pixels, flat.view_as(pixels), (knobs[:, 0] * 1.6 - 0.6).clamp(min=0))
    pixels = (pixels - 0.5) * (0.85 + 0.3 * knobs[:, 1]) + 0.5 + 0.16 * (knobs[:, 2] - 0.5)
    pixels = pixels + 0.03 * knobs[:, 3] * torch.randn_like(pixels)
    return pixels.clamp(0, 1)
