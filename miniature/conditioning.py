"""What the video model is told in training: a caption, or regions with a caption each.

A region batch has `SLOTS` captions: both puppets' first and second motion, then the place. A
slot that a video has no use for stays empty and no visual token sees it. Strangers and improvised
motions are told by `STRANGE_TOKEN`, which the recipe makes a new word each time: ``a [v1] person is
[v1] in the park``. That is how a subject prior's caption goes, too.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from miniature.cast import PERSON, STRANGER, shirt_name
from miniature.motions import is_improvised
from miniature.phrases import paraphrase
from miniature.text import SUBJECT_TOKENS
from miniature.world import IMPROVISING, Spec, article, caption, region_caption
from pipelines.regions import token_span

NUM_LATENTS = 13
GRID = (6, 9)
"""Token rows and columns of a latent frame."""
SLOTS = 5
STRANGE_TOKEN = SUBJECT_TOKENS[0]
SECOND_HALF = 7
"""The first latent frame of the second half: key frames 3 to 5."""


@dataclass(frozen=True)
class Conditioning:
    """The texts of one video, whole and by region, and who owns which token."""

    caption: str
    captions: tuple[str, ...]
    """`SLOTS` of them."""
    owned: Tensor
    """(SLOTS, 13 * 6 * 9) bool."""


def told(text: str) -> str:
    """A caption of the world as the video model is told it."""
    text = text.replace(STRANGER, f"{STRANGE_TOKEN} {PERSON}")
    return text.replace(IMPROVISING, STRANGE_TOKEN)


def _whole_caption(spec: Spec, rng: random.Random) -> str:
    if len(spec.puppets) != 1:
        return caption(spec)
    actor = spec.puppets[0]
    if spec.still_s is not None:
        return article(actor.character) if rng.random() < 0.5 else caption(spec)
    if rng.random() > (0.6 if actor.character == PERSON else 0.25):
        return caption(spec)
    if any(map(is_improvised, actor.motions)):
        return caption(spec)
    shirt = shirt_name(actor.outfit) if actor.character == PERSON else ""
    return paraphrase(rng, actor.character, actor.motions, spec.place, shirt)


def latent_frame_spans(num_frames: int) -> list[tuple[int, int]]:
    """The pixel frames, half open, that each latent frame stands for."""
    return [(0, 1)] + [(4 * j - 3, 4 * j + 1) for j in range(1, (num_frames - 1) // 4 + 1)]


def _latent_boxes(boxes: Tensor, rng: random.Random) -> Tensor:
    """(F, 4) true boxes -> (13, 4) planned-looking ones: looser, and steady or following."""
    spans = latent_frame_spans(boxes.shape[0])
    if rng.random() < 0.5:
        spans = [(0, 25) if j < SECOND_HALF else (25, boxes.shape[0]) for j in range(NUM_LATENTS)]
    union = torch.stack(
        [torch.cat([boxes[a:b, :2].amin(0), boxes[a:b, 2:].amax(0)]) for a, b in spans]
    )
    reach = (0.2, 0.3, 0.2, 0.08)
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    margin = torch.tensor([rng.uniform(0, r) for r in reach])
    return (union + signs * margin).clamp(0, 1)


def box_tokens(boxes: Tensor) -> Tensor:
    """(T, 4) boxes -> (T, 6, 9) bool: the tokens inside, never none."""
    rows, columns = GRID
    owned = torch.zeros(len(boxes), rows, columns, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(owned, boxes.tolist(), strict=True):
        mask[token_span(top, bottom, rows), token_span(left, right, columns)] = True
    return owned


def _puppet_slots(spec: Spec, slot: int, tokens: Tensor) -> tuple[list[str], list[Tensor]]:
    first = torch.arange(NUM_LATENTS)[:, None, None] < SECOND_HALF
    actor = spec.puppets[slot]
    if spec.still_s is not None:
        text = f"{article(actor.character)} in the {spec.place}"
        return [text, ""], [tokens, torch.zeros_like(tokens)]
    texts = [region_caption(actor, motion, spec.place) for motion in actor.motions]
    if len(texts) == 1:
        return [*texts, ""], [tokens, torch.zeros_like(tokens)]
    return texts, [tokens & first, tokens & ~first]


def conditioning(spec: Spec, boxes: Tensor, rng: random.Random) -> Conditioning:
    """The conditioning of one rendered video.

    Args:
        spec: what was rendered.
        boxes: (2, F, 4) its puppets' true boxes.
        rng: draws the wording and how loose the regions are.
    """
    texts: list[str] = []
    owned: list[Tensor] = []
    for slot in range(2):
        if slot < len(spec.puppets):
            tokens = box_tokens(_latent_boxes(boxes[slot], rng))
            more, masks = _puppet_slots(spec, slot, tokens)
        else:
            nothing = torch.zeros(NUM_LATENTS, *GRID, dtype=torch.bool)
            more, masks = ["", ""], [nothing, nothing]
        texts += more
        owned += masks
    background = ~torch.stack(owned).any(0)
    texts.append(f"the {spec.place}")
    return Conditioning(
        told(_whole_caption(spec, rng)),
        tuple(map(told, texts)),
        torch.stack([*owned, background]).flatten(1),
    )


def attention_bias(owned: Tensor, text_length: int, dtype: torch.dtype) -> Tensor:
    """The additive mask of DreamRunner's region attention, dense, for training.

    Args:
        owned: (B, SLOTS, V) bool, which visual tokens see which caption.
        text_length: tokens a caption.

    Returns:
        (B, 1, S, S) zeros and minus infinities, S = SLOTS * text_length + V.
    """
    batch, slots, visual = owned.shape
    text = slots * text_length
    sees = torch.zeros(batch, text + visual, text + visual, dtype=torch.bool, device=owned.device)
    slot = torch.arange(text, device=owned.device) // text_length
    sees[:, :text, :text] = slot[:, None] == slot[None]
    wide = owned.repeat_interleave(text_length, 1)
    sees[:, :text, text:] = wide
    sees[:, text:, :text] = wide.mT
    sees[:, text:, text:].fill_(True)
    # Rows start at multiples of 16 numbers, so that fused attention takes the mask as it is.
    length = text + visual
    rows = torch.zeros(batch, length, -(-length // 16) * 16, dtype=dtype, device=owned.device)
    return rows[..., :length].masked_fill_(~sees, float("-inf"))[:, None]
