"""What a prior learns from: clips and images become latents and text, once, before training."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.backbone import Backbone
from pipelines.plan import Box
from pipelines.prior_cache import Encoder
from pipelines.prior_options import MotionPriorOptions, SubjectPriorOptions
from pipelines.prior_sample import Sample
from pipelines.progress import Progress
from pipelines.video import Frames, fit_frames


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingClip:
    """A clip of a motion: frames uint8 (F, H, W, 3) at the model's frame rate, any size."""

    frames: Frames
    """The clip; its other ``cuts`` show more or less of the same pictures around its person."""
    caption: str
    name: str
    """Who the clip is; its own spatial adapter is kept under this."""
    cuts: tuple[Frames, ...] = ()


def to_pixels(frames: Frames) -> Tensor:
    """uint8 (F, H, W, 3) to (1, 3, F, H, W) in [-1, 1], as the VAE was trained."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def clip_samples(
    backbone: Backbone,
    clips: Sequence[TrainingClip],
    options: MotionPriorOptions,
    progress: Progress,
    encoder: Encoder | None = None,
) -> list[Sample]:
    """Every cut of clips cropped and resized without squashing, filled or cut to the model's
    frames; the cuts of a clip bear its name.

    ``encoder``: the backbone's own, or a `CachedEncoder` of it.
    """
    encoder = encoder or backbone
    samples = []
    for clip, text in zip(clips, encoder.encode_text([c.caption for c in clips]), strict=True):
        for cut in (clip.frames, *clip.cuts):
            frames = fit_frames(cut, backbone.num_frames, backbone.size_px, extend=options.extend)
            latents = encoder.encode_video(to_pixels(frames))
            samples.append(Sample(clip.name, latents, text[None]))
            progress(0, options.num_steps)
    return samples


def image_samples(
    backbone: Backbone,
    images: Sequence[Frames],
    caption: str,
    options: SubjectPriorOptions,
    progress: Progress,
    encoder: Encoder | None = None,
    boxes: Sequence[Box | None] = (),
) -> list[Sample]:
    """Images, uint8 (H, W, 3), as still clips; each also mirrored when flips may be drawn.

    ``boxes``: where the subject is in each, as far as known.
    """
    encoder = encoder or backbone
    text = encoder.encode_text([caption])
    num_frames = min(options.num_frames, backbone.num_frames)
    samples = []
    for i, (image, box) in enumerate(zip_longest(images, boxes)):
        frames = fit_frames(image[None], num_frames, backbone.size_px, extend="hold")
        pixels = to_pixels(frames)
        mirrored = encoder.encode_video(pixels.flip(-1)) if options.flip > 0 else None
        latents = encoder.encode_video(pixels)
        focus = None
        if box is not None and options.background < 1:
            inside = _inside(image, box, backbone.size_px, (latents.shape[-2], latents.shape[-1]))
            focus = (options.background + (1 - options.background) * inside).to(latents.device)
        samples.append(Sample(str(i), latents, text, mirrored, focus))
        progress(0, options.num_steps)
    return samples


def _inside(
    image: Frames, box: Box, size_px: tuple[int, int], latent_size: tuple[int, int]
) -> Tensor:
    """How much of each latent's place lies in the box, once the image is fitted: (h, w)."""
    height, width = image.shape[:2]
    shown = np.zeros((1, height, width, 3), np.uint8)
    rows = slice(math.floor(box.top * height), math.ceil(box.bottom * height))
    shown[:, rows, math.floor(box.left * width) : math.ceil(box.right * width)] = 255
    fitted = torch.from_numpy(fit_frames(shown, 1, size_px, extend="hold")[..., 0])
    share: Tensor = F.adaptive_avg_pool2d(fitted.float() / 255, latent_size)[0]
    return share


_NUMBERS_PER_WEIGHT = 16


def digest_of(model: nn.Module) -> str:
    """A hash that tells models apart: of a few numbers of each weight, read in no time."""
    weights = [weight.detach().flatten() for weight in model.parameters()]
    some = [weight[:: -(-len(weight) // _NUMBERS_PER_WEIGHT)].float() for weight in weights]
    return hashlib.sha256(torch.cat(some).cpu().numpy().tobytes()).hexdigest()


def fingerprint(samples: Sequence[Sample], *more: object) -> str:
    """A hash over samples and whatever else shapes the training."""
    digest = hashlib.sha256(repr(more).encode())
    for sample in samples:
        digest.update(sample.name.encode() + b"\0")
        digest.update(sample.latents.cpu().numpy().tobytes())
        digest.update(sample.text.float().cpu().numpy().tobytes())
        if sample.focus is not None:
            digest.update(sample.focus.cpu().numpy().tobytes())
    return digest.hexdigest()
