"""The video model: a `CogVideoXTransformer3DModel` of eight blocks with its T5 text encoder.

Trained on latents of rendered videos, two steps in three with one caption a video, one in three
with a caption a region under DreamRunner's attention mask (zero-shot, two regions at once merge
their characters). Held-out characters and motions are in no video and no caption it sees. Some
words for who and what are told as strange ones, a new random embedding each time, so that a word
the model never met means "somebody" or "doing something" to it: that is what priors start from.
In the last part of the training there are also strangers to see (`miniature.strangers`).
A step is recorded as a CUDA graph. Runs on every GPU of the machine, each with a batch of its own.
"""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from transformers import T5Config, T5EncoderModel

from miniature.cast import CHARACTERS, MOTIONS
from miniature.conditioning import STRANGE_TOKEN, attention_bias
from miniature.optim import Average, MuonAdam, warm_then_linear
from miniature.phrases import PERSON_NOUNS, THIRD_PERSON
from miniature.recipes.base_data import Source
from miniature.replay import Replayed
from miniature.run import Run
from miniature.saving import half, load_training, save_training, seed_all
from miniature.text import MAX_TOKENS, make_tokenizer
from miniature.world import NUM_FRAMES, SIZE_PX

log = logging.getLogger("miniature.base")

NUM_STEPS = 30_000
BATCH = 128
"""Videos a step on each GPU."""
FIRST_VIDEOS = 4_096
MAX_VIDEOS = 65_536
REFRESH_EVERY = 80
LEARNING_RATE = 2e-3
NUM_LEVELS = 50
LEVEL_RATE = 0.02
"""How fast the running mean losses of the noise levels follow."""
TEXT_DROPOUT = 0.1
STRANGE_WORDS = 0.1
"""Share of the words for characters and motions that are told as words nobody knows."""
STRANGERS_FROM = 16_800
"""The step from which videos have strangers in them (`miniature.strangers`), all of them new."""


def make_transformer() -> CogVideoXTransformer3DModel:
    """The miniature's transformer, untrained: 8 blocks, 4 heads of 64, no rotary positions."""
    return CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        time_embed_dim=64,
        text_embed_dim=128,
        num_layers=8,
        sample_width=SIZE_PX[1] // 8,
        sample_height=SIZE_PX[0] // 8,
        sample_frames=NUM_FRAMES,
        max_text_seq_length=MAX_TOKENS,
        spatial_interpolation_scale=1.0,
    )


def make_text_encoder(vocab_size: int) -> T5EncoderModel:
    """The miniature's T5 encoder, untrained: 3 layers, 128 wide."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size,
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=3,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def make_scheduler() -> CogVideoXDDIMScheduler:
    """CogVideoX's noise schedule without the high-resolution shift."""
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
    )


class MaskedAttention:
    """CogVideoX's joint attention with an additive mask; dense, for training and reference."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Tensor | None = None,
        region_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """hidden (B, V, D), text (B, T, D), bias (B, 1, T + V, T + V) -> the two, attended."""
        text = encoder_hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)

        def heads(projected: Tensor) -> Tensor:
            return projected.view(*projected.shape[:2], attn.heads, -1).transpose(1, 2)

        query = attn.norm_q(heads(attn.to_q(joint)))
        key = attn.norm_k(heads(attn.to_k(joint)))
        value = heads(attn.to_v(joint))
        out = F.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, attn_mask=region_bias
        )
        out = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return out[:, text:], out[:, :text]


def accept_any_text_length(transformer: CogVideoXTransformer3DModel) -> None:
    """Let the patch embedding take several captions: only vision has positions."""
    embed = transformer.patch_embed

    def forward(text_embeds: Tensor, image_embeds: Tensor) -> Tensor:
        batch, frames = image_embeds.shape[:2]
        patches = embed.proj(image_embeds.flatten(0, 1)).flatten(2).mT
        visual = patches.reshape(batch, frames * patches.shape[1], -1)
        visual = visual + embed.pos_embedding[:, embed.max_text_seq_length :].to(visual.dtype)
        return torch.cat([embed.text_proj(text_embeds), visual], dim=1)

    embed.forward = forward


class VideoModel(nn.Module):
    """Transformer and text encoder as one trainable module."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.transformer = make_transformer()
        self.text_encoder = make_text_encoder(vocab_size)
        self.transformer.set_attn_processor(MaskedAttention())
        accept_any_text_length(self.transformer)

    def forward(
        self,
        latents: Tensor,
        ids: Tensor,
        steps: Tensor,
        bias: Tensor | None,
        strange: Tensor | None = None,
    ) -> Tensor:
        """latents (B, 13, 16, 12, 18), ids (B, 24) or (B, SLOTS, 24), steps (B,) -> velocity.

        Where `strange` (of the ids' shape) is true, the word is one of a new random embedding, as
        T5 draws its own at first.
        """
        words = self.text_encoder.shared(ids.flatten(0, -2))
        if strange is not None:
            other = torch.randn_like(words)
            words = torch.where(strange.flatten(0, -2)[..., None], other, words)
        text = self.text_encoder(inputs_embeds=words).last_hidden_state
        text = text.reshape(len(latents), -1, text.shape[-1])
        velocity: Tensor = self.transformer(
            latents, text, steps, attention_kwargs={"region_bias": bias}
        ).sample
        return velocity


class Levels:
    """Weights that let every noise level count alike: one over its running mean loss.

    The highest levels lose most by what no caption tells (where a puppet stands), the lowest by
    the last details; unweighted, these drown the levels between, where limbs are placed.
    After the uncertainty weighting of Karras et al. 2024 (arXiv 2312.02696), without a network.
    """

    def __init__(self, device: str) -> None:
        self._means = torch.ones(NUM_LEVELS, device=device)

    def balance(self, steps: Tensor, losses: Tensor) -> Tensor:
        """The weighted mean of losses (B,) at timesteps (B,), of the size of their plain mean."""
        level = steps * NUM_LEVELS // 1000
        seen = losses.detach()
        counts = torch.zeros_like(self._means).index_add_(0, level, torch.ones_like(seen))
        sums = torch.zeros_like(self._means).index_add_(0, level, seen)
        fresh = torch.where(counts > 0, sums / counts.clamp(min=1), self._means)
        self._means.lerp_(fresh, LEVEL_RATE)
        return (losses * self._means.mean() / self._means[level]).mean()


def names_of_acts(tokenizer: Any) -> Tensor:
    """(V,) bool: the tokens that name a character or a motion."""
    names = (*CHARACTERS, *PERSON_NOUNS, *MOTIONS, *THIRD_PERSON.values())
    words = sorted({word for name in names for word in name.split()})
    ids = tokenizer.convert_tokens_to_ids([f"▁{word}" for word in words])
    named = torch.zeros(len(tokenizer), dtype=torch.bool)
    named[ids] = True
    return named


class _Trainer:
    """One GPU's share of the training."""

    def __init__(self, run: Run, rank: int, world: int) -> None:
        self.run, self.rank, self.world = run, rank, world
        self.device = f"cuda:{rank}" if run.device == "cuda" else run.device
        self.kind = run.device
        seed_all(run.seed)
        vae = AutoencoderKLCogVideoX.from_pretrained(run.out / "vae").to(self.device)
        size = 8 if run.tiny else MAX_VIDEOS // world
        self.model = VideoModel(len(make_tokenizer())).to(self.device)
        self.optimiser = MuonAdam(
            self.model.named_parameters(),
            lr=LEARNING_RATE,
            weight_decay=0.01,
            plain=("patch_embed", "proj_out", "shared", "embed", "norm", "relative"),
        )
        self.step = self.first_step = load_training(
            run.state, "base", self.model, self.optimiser, self.device
        )
        torch.manual_seed(run.seed + 31 * self.step + rank)
        self.source = Source(vae.eval(), self.device, 7919 * run.seed + 31 * self.step + rank, size)
        self.null = self.source.tokens([""])
        self.named = names_of_acts(make_tokenizer()).to(self.device)
        self.strange_id = self.source.tokens([STRANGE_TOKEN])[0, 0]
        self.average = Average(self.model.parameters(), decay=0.9995)
        self.alphas = make_scheduler().alphas_cumprod.float().to(self.device)
        self.levels = Levels(self.device)
        self.batch = 2 if run.tiny else BATCH
        self.num_videos = 0
        self.filled = torch.zeros((), device=self.device)
        self.loss = torch.zeros((), device=self.device)
        record = self.kind == "cuda" and world == 1
        self.whole = Replayed(lambda: self._learn(regions=False), record=record)
        self.regions = Replayed(lambda: self._learn(regions=True), record=record)
        if self.kind == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
            for block in self.model.transformer.transformer_blocks:
                block.compile(dynamic=False)

    def losses(self, *, regions: bool) -> tuple[Tensor, Tensor]:
        """Timesteps and v-prediction losses (B,) of one random batch."""
        lib, device = self.source.library, self.device
        rows = (torch.rand(self.batch, device=device) * self.filled).long()
        clean = lib.latents[rows].float()
        places = torch.arange(self.batch, device=device)
        even = (places + torch.rand(self.batch, device=device)) / self.batch
        steps = (even * 1000).long().clamp(max=999)
        noise = torch.randn(clean.shape, device=device)
        a = self.alphas[steps].sqrt().view(-1, 1, 1, 1, 1)
        s = (1 - self.alphas[steps]).sqrt().view(-1, 1, 1, 1, 1)
        bias = None
        if regions:
            ids = lib.region_captions[rows]
            bias = attention_bias(lib.owned[rows], MAX_TOKENS, torch.bfloat16)
        else:
            ids = lib.captions[rows]
            dropped = torch.rand(self.batch, 1, device=device) < TEXT_DROPOUT
            ids = torch.where(dropped, self.null, ids)
        strange = self.named[ids] & (torch.rand(ids.shape, device=device) < STRANGE_WORDS)
        strange |= ids == self.strange_id
        # Casts are not kept: kept ones would outlive the step that a graph records.
        with torch.autocast(self.kind, torch.bfloat16, cache_enabled=False):
            velocity = self.model(a * clean + s * noise, ids, steps, bias, strange)
        return steps, (velocity.float() - (a * noise - s * clean)).square().mean((1, 2, 3, 4))

    def _learn(self, *, regions: bool) -> None:
        """One step at the rate that is set; its loss is left in `loss`."""
        timesteps, losses = self.losses(regions=regions)
        self.levels.balance(timesteps, losses).backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.apply()
        self.loss.copy_(losses.detach().mean())

    def _extend(self, count: int) -> None:
        self.source.extend(count, strangers=self.step >= STRANGERS_FROM)
        self.num_videos += count
        lib = self.source.library
        self.filled.fill_(min(lib.count, len(lib.latents)))

    def _collect(self, count: int) -> None:
        """Begin with so many new videos and no old ones."""
        self.source.library.count = 0
        for _ in range(max(1, count // 64)):
            self._extend(min(64, count))

    def _share_gradients(self) -> None:
        if self.world == 1:
            return
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        offset = 0
        for grad in grads:
            grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
            offset += grad.numel()

    def train(self) -> dict[str, float]:
        """Go on until the steps or the minutes are used up; save; return figures."""
        start = time.monotonic()
        first = 4 if self.run.tiny else FIRST_VIDEOS // self.world
        self._collect(first)
        log.info("%d videos after %.0f s", self.source.library.count, time.monotonic() - start)
        steps = self.step + 4 if self.run.tiny else NUM_STEPS
        spent = 0.0
        while self.step < steps and spent < 1:
            if self.step == STRANGERS_FROM > self.first_step:
                self._collect(first)
            elif self.step % REFRESH_EVERY == REFRESH_EVERY - 1:
                self._extend(64)
            spent = self._spent(start)
            done = self.run.done(self.first_step, self.step, steps, spent)
            self.optimiser.set_rate(warm_then_linear(done))
            (self.regions if self.step % 3 == 2 else self.whole)()
            self.average.update()
            self.step += 1
            if self.step % 200 == 0:
                loss = self.loss.item()
                log.info("step %d loss %.4f %.0f s", self.step, loss, time.monotonic() - start)
        if not self.run.pause:
            self.average.swap()
        figures = {"steps": float(self.step), "videos": float(self.num_videos)}
        return figures | {"held_out_loss": self.held_out_loss()}

    def _spent(self, start: float) -> float:
        """Share of the minutes used, the same on every GPU."""
        spent = torch.tensor((time.monotonic() - start) / (60 * self.run.minutes))
        if self.world > 1 and self.step % 20 == 0:
            shared = spent.to(self.device)
            torch.distributed.broadcast(shared, 0)
            self._last = shared.item()
        if self.world > 1:
            return self._last
        return spent.item()

    _last = 0.0

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Mean loss on videos drawn with another seed."""
        count = 4 if self.run.tiny else 256
        self.source = Source(self.source.vae, self.device, 104_729 + self.run.seed, count)
        self._collect(count)
        torch.manual_seed(0)
        losses = [self.losses(regions=regions)[1].mean().item() for regions in (False, True)]
        return sum(losses) / len(losses)

    def save(self, figures: dict[str, float]) -> None:
        """Write the resumable state and the pipeline folder."""
        run = self.run
        state = {n: t for n, t in self.model.state_dict().items() if "pos_embedding" not in n}
        save_training(run.state, "base", half(state), self.optimiser, self.step)
        save_pipeline(self.model, run.out)
        (run.state / "figures.json").write_text(json.dumps(figures))


def save_pipeline(model: VideoModel, folder: Path) -> None:
    """Write transformer, text encoder, tokenizer, scheduler and index beside the autoencoder."""
    transformer, tokenizer = make_transformer(), make_tokenizer()
    transformer.load_state_dict(half(model.transformer.state_dict()))
    text_encoder = make_text_encoder(len(tokenizer))
    text_encoder.load_state_dict(half(model.text_encoder.state_dict()))
    transformer.half().save_pretrained(folder / "transformer", max_shard_size="9MB")
    text_encoder.half().save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = make_scheduler()
    scheduler.save_pretrained(folder / "scheduler")
    vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae")
    pipeline = CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, scheduler)
    pipeline.save_config(folder)


def _worker(rank: int, run: Run, world: int) -> None:
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s [{rank}] %(message)s")
    if world > 1:
        if run.device == "cuda":
            torch.cuda.set_device(rank)
        backend = "nccl" if run.device == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, rank=rank, world_size=world)
    trainer = _Trainer(run, rank, world)
    figures = trainer.train()
    if rank == 0:
        trainer.save(figures)
    if world > 1:
        torch.distributed.destroy_process_group()


def train(run: Run) -> dict[str, float]:
    """Train transformer and text encoder; `python -m miniature.evaluate` measures them."""
    world = torch.cuda.device_count() if run.device == "cuda" else 1
    if world > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29511")
        spawn(_worker, (run, world), nprocs=world)  # type: ignore[no-untyped-call]
    else:
        _worker(0, run, 1)
    figures: dict[str, float] = json.loads((run.state / "figures.json").read_text())
    return figures
