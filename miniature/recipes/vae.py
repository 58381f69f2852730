"""The video autoencoder: `AutoencoderKLCogVideoX`, a sixteenth of CogVideoX's width.

Trained as it works: on whole frames, chunk after chunk of whole videos, each with the frames cached
from the one before (without gradients through them). What follows the first chunk meets cached
frames and other group norms: trained on first chunks alone it decodes later ones 8 dB worse, on
the first two 2 dB worse from the third on. The last steps are the decoder's alone: the encoder is
done long before it, and latents that no longer move let the video model train meanwhile. It sees
every character and motion (an autoencoder is no prior: what is held out is held out of the
transformer).
"""

import logging
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn

from miniature.cast import CHARACTERS, MOTIONS, PERSON
from miniature.optim import Average, MuonAdam, warm_then_linear
from miniature.run import Run
from miniature.saving import half, load_state, save_state, seed_all
from miniature.world import NUM_FRAMES, SIZE_PX, render, sample_spec

log = logging.getLogger("miniature.vae")

NUM_STEPS = 12_000
DECODER_FROM = 6_800
"""From this step on the encoder is fixed."""
BATCH = 16
CHUNK_FRAMES = 8
"""The chunks `AutoencoderKLCogVideoX` works in: 9 frames (3 latent frames), then 8 (2) each."""
LEARNING_RATE = 2e-3
KL_WEIGHT = 3e-4
LATE_NOISE = 0.5
"""Share of the posterior's spread that the decoder alone trains under; sampled latents err too."""
EVERYONE = (*CHARACTERS, PERSON)


def make_vae() -> AutoencoderKLCogVideoX:
    """The miniature's autoencoder, untrained: 8x in space, 4x in time, 16 channels."""
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(32, 48, 64, 64),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        temporal_compression_ratio=4,
        sample_height=SIZE_PX[0],
        sample_width=SIZE_PX[1],
        scaling_factor=1.0,
    )


def channels_last(vae: AutoencoderKLCogVideoX) -> AutoencoderKLCogVideoX:
    """The same autoencoder, its kernels laid out as GPUs convolve them fastest."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            weight = module.weight.data
            module.weight.data = weight.contiguous(memory_format=torch.channels_last_3d)
    return vae


Cache = dict[str, Any] | None
"""What a half of the autoencoder keeps of a chunk for the next one, by layer."""


def _detached(cache: Any) -> Any:
    """The same nested cache, cut off from its graph."""
    if isinstance(cache, dict):
        return {name: _detached(part) for name, part in cache.items()}
    return cache if cache is None else cache.detach()


class Objective(nn.Module):
    """Reconstruction of one chunk plus a little KL, as one module: it compiles as one graph."""

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, pixels: Tensor, noise: Tensor, seen: Cache, drawn: Cache
    ) -> tuple[Tensor, Tensor, Cache, Cache]:
        """Loss, squared error, and the two halves' caches after this chunk.

        Args:
            pixels: (B, 3, 9 or 8, H, W) in [-1, 1].
            noise: (B, 16, 3 or 2, H / 8, W / 8).
            seen: the encoder's cache after the chunk before; None at a video's start.
            drawn: the decoder's.
        """
        moments, seen = self.vae.encoder(pixels, conv_cache=seen)
        mean, log_variance = moments.float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        latents = mean + (0.5 * log_variance).exp() * noise
        decoded, drawn = self.vae.decoder(latents, conv_cache=drawn)
        error = decoded.float() - pixels
        squared = error.square().mean()
        loss = error.abs().mean() + 10 * squared + KL_WEIGHT * kl
        return loss, squared, _detached(seen), _detached(drawn)


class DecoderObjective(Objective):
    """Reconstruction alone, from latents of an encoder that stays as it is."""

    def forward(
        self, pixels: Tensor, noise: Tensor, seen: Cache, drawn: Cache
    ) -> tuple[Tensor, Tensor, Cache, Cache]:
        """As `Objective.forward`; the squared error weighs more, as PSNR does."""
        with torch.no_grad():
            moments, seen = self.vae.encoder(pixels, conv_cache=seen)
            mean, log_variance = moments.float().chunk(2, dim=1)
            latents = mean + LATE_NOISE * (0.5 * log_variance.clamp(-30, 20)).exp() * noise
        decoded, drawn = self.vae.decoder(latents, conv_cache=drawn)
        error = decoded.float() - pixels
        squared = error.square().mean()
        return 0.25 * error.abs().mean() + 10 * squared, squared, seen, _detached(drawn)


class _Pool:
    """Rendered videos kept as bytes on the device and replaced a few at a time."""

    def __init__(self, run: Run, size: int) -> None:
        self._rng = random.Random(run.seed)
        self._device, self._tiny = run.device, run.tiny
        self._videos = torch.cat([self._render(16) for _ in range(size // 16)])
        self._next = 0

    def _render(self, count: int) -> Tensor:
        specs = [sample_spec(self._rng, characters=EVERYONE, motions=MOTIONS) for _ in range(count)]
        return (render(specs, device=self._device).frames * 255).round().byte()

    def refresh(self) -> None:
        """Replace the oldest sixteen videos."""
        self._videos[self._next : self._next + 16] = self._render(16)
        self._next = (self._next + 16) % len(self._videos)

    def draw(self, generator: torch.Generator) -> Tensor:
        """(B, F, 3, H, W) bytes: random whole videos."""
        size = 2 if self._tiny else BATCH
        rows = torch.randint(len(self._videos), (size,), generator=generator)
        return self._videos[rows.to(self._device)]


class _Stream:
    """Chunks of random videos, each video's one after another, with the caches between them."""

    def __init__(self, pool: _Pool, generator: torch.Generator) -> None:
        self._pool, self._generator = pool, generator
        self._videos = torch.empty(0)
        self._start = NUM_FRAMES
        self.caches: tuple[Cache, Cache] = (None, None)

    def next_chunk(self) -> Tensor:
        """The next eight frames of the videos under way, or the first nine of new ones."""
        if self._start == NUM_FRAMES:
            self._videos, self._start = self._pool.draw(self._generator), 0
            self.caches = (None, None)
        end = self._start + CHUNK_FRAMES + (self._start == 0)
        chunk, self._start = self._videos[:, self._start : end], end
        return _pixels(chunk)


def _pixels(frames: Tensor) -> Tensor:
    """(B, F, 3, H, W) bytes -> (B, 3, F, H, W) in [-1, 1]."""
    pixels = frames.permute(0, 2, 1, 3, 4).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def psnr_db(vae: AutoencoderKLCogVideoX, run: Run, num_videos: int) -> tuple[float, float, float]:
    """Peak signal-to-noise of whole held-out videos, and the latents' mean and deviation."""
    rng = random.Random(run.seed + 1_000_003)
    errors, latents = [], []
    for _ in range(num_videos):
        spec = sample_spec(rng, characters=EVERYONE, motions=MOTIONS)
        video = render([spec], device=run.device).frames.permute(0, 2, 1, 3, 4)
        with torch.autocast(run.device, torch.bfloat16):
            latent = vae.encode(video * 2 - 1).latent_dist.mode()
            decoded = vae.decode(latent).sample
        errors.append((decoded.float() / 2 + 0.5 - video).clamp(-1, 1).square().mean().item())
        latents.append(latent.float().cpu())
    everything = torch.cat(latents)
    mean_psnr = sum(-10 * math.log10(e) for e in errors) / len(errors)
    return mean_psnr, everything.mean().item(), everything.std().item()


def _save(vae: AutoencoderKLCogVideoX, folder: Path, scaling_factor: float) -> None:
    vae.register_to_config(scaling_factor=round(scaling_factor, 6))
    half_vae = make_vae()
    half_vae.load_state_dict(half(vae.state_dict()))
    half_vae.half().register_to_config(scaling_factor=round(scaling_factor, 6))
    half_vae.save_pretrained(folder)


def train(run: Run) -> dict[str, float]:
    """Train the autoencoder; bar: 33 dB on held-out videos."""
    generator = seed_all(run.seed)
    pool_size, shown = (16, 1) if run.tiny else (512, 32)
    vae = make_vae().to(run.device)
    on_gpu = run.device == "cuda"
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        channels_last(vae)
    optimiser = _optimiser(vae)
    first = _resume(run, vae, optimiser)
    steps = first + 5 if run.tiny else NUM_STEPS
    average = Average(vae.parameters())
    pool = _Pool(run, pool_size)
    stream = _Stream(pool, generator)
    eager, compiled = _objectives(vae, run, first)
    start, step = time.monotonic(), first
    for step in range(first, steps):
        if step == DECODER_FROM and step > first:
            eager, compiled = _objectives(vae, run, step)
        if step % 8 == 7:
            pool.refresh()
        pixels = stream.next_chunk()
        # Five chunks in six have the later shape; compiling the first's too takes a minute more.
        work = eager if stream.caches[0] is None else compiled
        latent_shape = (len(pixels), 16, (pixels.shape[2] + 3) // 4, *(s // 8 for s in SIZE_PX))
        noise = torch.randn(latent_shape, device=run.device)
        with torch.autocast(run.device, torch.bfloat16):
            loss, squared, *caches = work(pixels, noise, *stream.caches)
        stream.caches = (caches[0], caches[1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        spent = (time.monotonic() - start) / (60 * run.minutes)
        optimiser.step(warm_then_linear(run.done(first, step, steps, spent)))
        average.update()
        if step % 250 == 0:
            db = -10 * math.log10(squared.item() / 4)
            log.info("step %d of %d: %.2f dB, %.0f s", step, steps, db, time.monotonic() - start)
        if spent >= 1:
            break
    if not run.pause:
        average.swap()
    db, mean, deviation = psnr_db(vae.eval(), run, shown)
    save_state(run.state, "vae", vae.state_dict())
    save_state(run.state, "vae_optimiser", optimiser.state() | {"step": torch.tensor(step + 1)})
    _save(vae, run.out / "vae", 1.0 / deviation)
    return {"psnr_db": db, "latent_mean": mean, "latent_std": deviation, "steps": step + 1.0}


def _objectives(vae: AutoencoderKLCogVideoX, run: Run, step: int) -> tuple[nn.Module, nn.Module]:
    """What is trained from this step on, as it is and compiled."""
    late = step >= DECODER_FROM
    vae.encoder.requires_grad_(not late)
    objective = DecoderObjective(vae) if late else Objective(vae)
    if run.device != "cuda":
        return objective, objective
    return objective, torch.compile(objective, dynamic=False)  # type: ignore[return-value]


def _optimiser(vae: AutoencoderKLCogVideoX) -> MuonAdam:
    plain = ("conv_in", "conv_out", "conv_y", "conv_b")
    return MuonAdam(vae.named_parameters(), lr=LEARNING_RATE, plain=plain)


def _resume(run: Run, vae: AutoencoderKLCogVideoX, optimiser: MuonAdam) -> int:
    """Load the state of a stopped run, if there is one; returns the next step."""
    weights = load_state(run.state, "vae", run.device)
    if not weights:
        return 0
    vae.load_state_dict(weights)
    state = load_state(run.state, "vae_optimiser", run.device)
    optimiser.load(state)
    return int(state["step"])
