"""The video autoencoder: `AutoencoderKLCogVideoX`, a sixteenth of CogVideoX's width.

Trained as it works: on whole frames, chunk after chunk of whole videos, each with the frames cached
from the one before (without gradients through them). What follows the first chunk meets cached
frames and other group norms: trained on first chunks alone it decodes later ones 8 dB worse, on
the first two 2 dB worse from the third on. Steps are small and many, recorded as CUDA graphs.
Towards the end the loss turns from absolute to squared error, which PSNR counts, and the latents'
noise shrinks, of which the video model's have none. It sees every character and motion (an
autoencoder is no prior: what is held out is held out of the transformer).
"""

import logging
import math
import multiprocessing
import random
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor, nn

from miniature.cast import CHARACTERS, MOTIONS, PERSON
from miniature.optim import Average, MuonAdam, warm_then_linear
from miniature.replay import Replayed
from miniature.run import Run
from miniature.saving import half, load_training, save_training, seed_all
from miniature.world import NUM_FRAMES, SIZE_PX, render, sample_spec
from pipelines.spatial_norm import shrink_norms

log = logging.getLogger("miniature.vae")

NUM_STEPS = 40_000
BATCH = 4
GROUP = 64
"""Videos rendered together."""
REFRESH_EVERY = 512
CHUNK_FRAMES = 8
"""The chunks `AutoencoderKLCogVideoX` works in: 9 frames (3 latent frames), then 8 (2) each."""
LEARNING_RATE = 2e-3
KL_WEIGHT = 2e-4
LATE_FROM = 0.3
"""Share of the run after which loss and noise begin to turn into what they are at its end."""
LATE_NOISE = 0.3
"""Share of the posterior's spread that is drawn at the end."""
LATE_ABSOLUTE = 0.05
"""Weight of the absolute error at the end; one before."""
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


class _GroupNorm(nn.GroupNorm):
    """A group norm that leaves the memory layout as it is, of statistics summed by channel.

    torch's own writes its result channels first, and every convolution after it must copy it back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, H, W), any floats; as `nn.GroupNorm`, in fp32."""
        full = x.float()
        sums = torch.stack([full.mean((2, 3, 4)), full.square().mean((2, 3, 4))])
        mean, square = sums.view(2, len(x), self.num_groups, -1).mean(-1, keepdim=True)
        spread = (square - mean.square() + self.eps).rsqrt()
        wide = (-1, -1, x.shape[1] // self.num_groups)
        scale = spread.expand(wide).flatten(1) * self.weight
        shift = self.bias - mean.expand(wide).flatten(1) * scale
        shape = (*scale.shape, 1, 1, 1)
        normal: Tensor = full * scale.view(shape) + shift.view(shape)
        return normal.to(x.dtype)


def keep_layout(vae: AutoencoderKLCogVideoX) -> None:
    """Let the group norms keep the layout of `channels_last`, for compiled training."""
    for module in vae.modules():
        if isinstance(module, nn.GroupNorm):
            module.__class__ = _GroupNorm


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
    """The same nested cache, cut off from its graph; the last two frames are all that is read."""
    if isinstance(cache, dict):
        return {name: _detached(part) for name, part in cache.items()}
    return cache if cache is None else cache.detach()[:, :, -2:]


class Objective(nn.Module):
    """Reconstruction of one chunk plus a little KL, as one module: it compiles as one graph."""

    def __init__(self, vae: AutoencoderKLCogVideoX) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, pixels: Tensor, noise: Tensor, late: Tensor, seen: Cache, drawn: Cache
    ) -> tuple[Tensor, Tensor, Cache, Cache]:
        """Loss, squared error, and the two halves' caches after this chunk.

        Args:
            pixels: (B, 3, 9 or 8, H, W) in [-1, 1].
            noise: (B, 16, 3 or 2, H / 8, W / 8).
            late: how far loss and noise have turned, 0-1.
            seen: the encoder's cache after the chunk before; None at a video's start.
            drawn: the decoder's.
        """
        moments, seen = self.vae.encoder(pixels, conv_cache=seen)
        mean, log_variance = moments.float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        spread = torch.lerp(torch.ones_like(late), torch.full_like(late, LATE_NOISE), late)
        latents = mean + spread * (0.5 * log_variance).exp() * noise
        decoded, drawn = self.vae.decoder(latents, conv_cache=drawn)
        error = decoded.float() - pixels
        squared = error.square().mean()
        absolute = 1 - (1 - LATE_ABSOLUTE) * late
        loss = absolute * error.abs().mean() + 10 * squared + KL_WEIGHT * kl
        return loss, squared, _detached(seen), _detached(drawn)


class _Pool:
    """Rendered videos kept as bytes on the device and replaced a few at a time."""

    def __init__(self, run: Run, size: int) -> None:
        self._rng = random.Random(run.seed)
        self._device, self._tiny = run.device, run.tiny
        self._videos = torch.cat([self._render(GROUP) for _ in range(size // GROUP)])
        self._next = 0

    def _render(self, count: int) -> Tensor:
        specs = [sample_spec(self._rng, characters=EVERYONE, motions=MOTIONS) for _ in range(count)]
        return (render(specs, device=self._device).frames * 255).round().byte()

    def refresh(self) -> None:
        """Replace the oldest group of videos."""
        self._videos[self._next : self._next + GROUP] = self._render(GROUP)
        self._next = (self._next + GROUP) % len(self._videos)

    def draw(self, generator: torch.Generator) -> Tensor:
        """(B, F, 3, H, W) bytes: random whole videos."""
        size = 2 if self._tiny else BATCH
        rows = torch.randint(len(self._videos), (size,), generator=generator)
        return self._videos[rows.to(self._device)]


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


class _Chunks:
    """Steps over the chunks of random videos, each video's one after another."""

    def __init__(
        self, run: Run, vae: AutoencoderKLCogVideoX, optimiser: MuonAdam, pool: _Pool
    ) -> None:
        self._vae, self._optimiser, self._pool = vae, optimiser, pool
        on_gpu = run.device == "cuda"
        self._plain = Objective(vae)
        self._work = _compiled(self._plain) if on_gpu else self._plain
        self._videos = pool.draw(torch.Generator().manual_seed(0))
        self._start = NUM_FRAMES
        self._opening = _pixels(self._videos[:, : CHUNK_FRAMES + 1])
        self._chunk = _pixels(self._videos[:, :CHUNK_FRAMES])
        self._caches: tuple[Cache, Cache] | None = None
        self.late = torch.zeros((), device=run.device)
        self.squared = torch.zeros((), device=run.device)
        # Five chunks in six are later ones. They are compiled here, first ones meanwhile in a
        # process beside, whose work is then found in the cache that compilers share.
        self._first = Replayed(lambda: self._learn_first(self._plain), record=on_gpu)
        self._later = Replayed(self._learn_later, record=on_gpu)
        self._beside = _beside() if on_gpu else None

    def step(self, generator: torch.Generator) -> None:
        """Learn from the next eight frames of the videos under way, or new ones' first nine."""
        if self._start == NUM_FRAMES:
            self._videos, self._start = self._pool.draw(generator), CHUNK_FRAMES + 1
            self._opening.copy_(_pixels(self._videos[:, : self._start]))
            self._take_compiled()
            self._first()
            return
        end = self._start + CHUNK_FRAMES
        self._chunk.copy_(_pixels(self._videos[:, self._start : end]))
        self._start = end
        self._later()

    def _take_compiled(self) -> None:
        if self._beside is not None and self._beside.exitcode == 0:
            self._beside = None
            log.info("first chunks are compiled")
            self._first = Replayed(lambda: self._learn_first(self._work), record=True)

    def _learn_first(self, work: nn.Module) -> None:
        caches = self._learn(work, self._opening, None, None)
        if self._caches is None:
            self._caches = caches
        else:
            _copy_into(self._caches, caches)

    def _learn_later(self) -> None:
        assert self._caches is not None
        _copy_into(self._caches, self._learn(self._work, self._chunk, *self._caches))

    def _learn(
        self, work: nn.Module, pixels: Tensor, seen: Cache, drawn: Cache
    ) -> tuple[Cache, Cache]:
        loss, squared, seen, drawn = _losses(work, pixels, self.late, seen, drawn)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._vae.parameters(), 1.0)
        self._optimiser.apply()
        self.squared.copy_(squared.detach())
        return seen, drawn


def _losses(
    work: nn.Module, pixels: Tensor, late: Tensor, seen: Cache, drawn: Cache
) -> tuple[Tensor, Tensor, Cache, Cache]:
    shape = (len(pixels), 16, (pixels.shape[2] + 3) // 4, *(s // 8 for s in SIZE_PX))
    noise = torch.randn(shape, device=pixels.device)
    # Casts are not kept: kept ones would outlive the step that a graph records.
    with torch.autocast(pixels.device.type, torch.bfloat16, cache_enabled=False):
        found: tuple[Tensor, Tensor, Cache, Cache] = work(pixels, noise, late, seen, drawn)
    return found


def _compiled(work: nn.Module) -> nn.Module:
    return torch.compile(work, dynamic=False)  # type: ignore[return-value]


def _for_gpu(vae: AutoencoderKLCogVideoX) -> AutoencoderKLCogVideoX:
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    keep_layout(channels_last(vae))
    shrink_norms(vae)
    return vae


def _beside() -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=_compile_opening, daemon=True)
    process.start()
    return process


def _compile_opening() -> None:
    """Compile what learns from a video's first chunk."""
    vae = _for_gpu(make_vae().to("cuda"))
    shape = (BATCH, CHUNK_FRAMES + 1, 3, *SIZE_PX)
    frames = torch.zeros(shape, dtype=torch.uint8, device="cuda")
    late = torch.zeros((), device="cuda")
    loss, *_ = _losses(_compiled(Objective(vae)), _pixels(frames), late, None, None)
    loss.backward()  # type: ignore[no-untyped-call]


def _copy_into(target: Any, source: Any) -> None:
    """Copy every tensor of a nest into its place in another."""
    if isinstance(target, Tensor):
        target.copy_(source)
    elif isinstance(target, dict):
        for name in target:
            _copy_into(target[name], source[name])
    elif isinstance(target, tuple):
        for ours, theirs in zip(target, source, strict=True):
            _copy_into(ours, theirs)


def train(run: Run) -> dict[str, float]:
    """Train the autoencoder; bar: 33 dB on held-out videos."""
    start = time.monotonic()
    generator = seed_all(run.seed)
    pool_size, shown = (GROUP, 1) if run.tiny else (1024, 32)
    vae = make_vae().to(run.device)
    if run.device == "cuda":
        _for_gpu(vae)
    optimiser = _optimiser(vae)
    first = load_training(run.state, "vae", vae, optimiser, run.device)
    steps = first + 8 if run.tiny else NUM_STEPS
    average = Average(vae.parameters())
    pool = _Pool(run, pool_size)
    chunks = _Chunks(run, vae, optimiser, pool)
    step = first
    for step in range(first, steps):
        if step % REFRESH_EVERY == REFRESH_EVERY - 1:
            pool.refresh()
        spent = (time.monotonic() - start) / (60 * run.minutes)
        done = run.done(first, step, steps, spent)
        optimiser.set_rate(warm_then_linear(done))
        chunks.late.fill_(max(0.0, done - LATE_FROM) / (1 - LATE_FROM))
        chunks.step(generator)
        average.update()
        if step % 500 == 0:
            db = -10 * math.log10(chunks.squared.item() / 4)
            log.info("step %d of %d: %.2f dB, %.0f s", step, steps, db, time.monotonic() - start)
        if spent >= 1:
            break
    if not run.pause:
        average.swap()
    db, mean, deviation = psnr_db(vae.eval(), run, shown)
    save_training(run.state, "vae", vae.state_dict(), optimiser, step + 1)
    _save(vae, run.out / "vae", 1.0 / deviation)
    return {"psnr_db": db, "latent_mean": mean, "latent_std": deviation, "steps": step + 1.0}


def _optimiser(vae: AutoencoderKLCogVideoX) -> MuonAdam:
    plain = ("conv_in", "conv_out", "conv_y", "conv_b")
    return MuonAdam(vae.named_parameters(), lr=LEARNING_RATE, plain=plain)
