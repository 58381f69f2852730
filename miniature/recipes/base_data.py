"""Videos for the video model to learn from: drawn, rendered, encoded and told on the GPU."""

import random
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from miniature.conditioning import SLOTS, Conditioning, conditioning
from miniature.recipes.vae import channels_last
from miniature.strangers import with_strangers
from miniature.text import MAX_TOKENS, make_tokenizer
from miniature.world import Spec, render, sample_spec

EMPTY_PLACES = 0.04
"""Share of videos without a puppet, so that "the forest" means the forest."""


@dataclass
class Library:
    """Latents and conditioning of every video so far, on the training device."""

    latents: Tensor
    captions: Tensor
    region_captions: Tensor
    owned: Tensor
    count: int = 0

    @classmethod
    def empty(cls, size: int, device: str) -> "Library":
        return cls(
            torch.empty(size, 13, 16, 12, 18, dtype=torch.bfloat16, device=device),
            torch.empty(size, MAX_TOKENS, dtype=torch.long, device=device),
            torch.empty(size, SLOTS, MAX_TOKENS, dtype=torch.long, device=device),
            torch.empty(size, SLOTS, 13 * 54, dtype=torch.bool, device=device),
        )


class Source:
    """Draws, renders and encodes new videos into the library."""

    def __init__(self, vae: AutoencoderKLCogVideoX, device: str, seed: int, size: int) -> None:
        """Fresh videos for the seed, kept up to ``size``; ``vae`` is on ``device``."""
        self.vae, self._device = channels_last(vae), device
        self._rng = random.Random(seed)
        self._tokenizer = make_tokenizer()
        self.library = Library.empty(size, device)

    def _draw(self, strangers: bool) -> Spec:
        spec = sample_spec(self._rng)
        if self._rng.random() < EMPTY_PLACES:
            return Spec(place=spec.place, seed=spec.seed, puppets=())
        return with_strangers(spec, self._rng) if strangers else spec

    def tokens(self, texts: list[str]) -> Tensor:
        """(len(texts), 24) padded token ids on the device."""
        ids = self._tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        return torch.as_tensor(ids.input_ids).to(self._device)

    @torch.no_grad()
    def encode(self, specs: list[Spec]) -> tuple[Tensor, list[Conditioning]]:
        """Latents (B, 13, 16, 12, 18), scaled, and the conditioning of rendered specs."""
        rendering = render(specs, device=self._device)
        pixels = rendering.frames.permute(0, 2, 1, 3, 4) * 2 - 1
        pixels = pixels.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self._device.split(":")[0], torch.bfloat16):
            latents = self.vae.encode(pixels).latent_dist.mode()
        boxes = rendering.boxes.cpu()
        texts = [conditioning(s, b, self._rng) for s, b in zip(specs, boxes, strict=True)]
        scaled = latents.float() * self.vae.config.scaling_factor
        return scaled.permute(0, 2, 1, 3, 4), texts

    def extend(self, count: int, *, strangers: bool) -> None:
        """Add `count` videos; the oldest make way when the library is full."""
        lib = self.library
        latents, texts = self.encode([self._draw(strangers) for _ in range(count)])
        start = lib.count % len(lib.latents)
        rows = torch.arange(start, start + count, device=latents.device) % len(lib.latents)
        lib.latents[rows] = latents.to(lib.latents.dtype)
        lib.captions[rows] = self.tokens([t.caption for t in texts])
        lib.region_captions[rows] = self.tokens([c for t in texts for c in t.captions]).view(
            count, SLOTS, -1
        )
        lib.owned[rows] = torch.stack([t.owned for t in texts]).to(latents.device)
        lib.count += count
