"""The judge's training: real renders, cropped loosely, blurred and noised as decoded video is."""

import logging
import random
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from miniature.cast import CHARACTERS, MOTIONS, PERSON
from miniature.judge import NAMES, WINDOW, Judge, crop
from miniature.optim import MuonAdam, warm_then_linear
from miniature.run import Run
from miniature.saving import half, load_training, save_training, seed_all
from miniature.world import NUM_FRAMES, render, sample_spec

log = logging.getLogger("miniature.judge")

NUM_STEPS = 3_000
VIDEOS = 48
LEARNING_RATE = 1e-3
MAX_BAD_STEPS = 30
SEED_OFFSET = 77_777
"""The judge's own seed: it never sees the videos that the models it judges were trained on."""


def _window(num_motions: int, which: int, rng: random.Random) -> int:
    """First frame of a window that shows one motion."""
    if num_motions == 1:
        return rng.randint(0, NUM_FRAMES - WINDOW)
    return 0 if which == 0 else NUM_FRAMES - WINDOW


def _loosen(box: Tensor, alone: bool, rng: random.Random) -> Tensor:
    if alone and rng.random() < 0.25:
        return torch.tensor([0.0, 0.0, 1.0, 1.0])
    reach = 0.25 if alone else 0.12
    margin = torch.tensor([rng.uniform(0, reach) for _ in range(4)])
    return (box + torch.tensor([-1.0, -1.0, 1.0, 1.0]) * margin).clamp(0, 1)


def make_batch(rng: random.Random, num_videos: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Crops (N, 3, 24, 64, 64) with their character and motion numbers, N one a puppet."""
    specs = [
        sample_spec(rng, characters=(*CHARACTERS, PERSON), motions=MOTIONS)
        for _ in range(num_videos)
    ]
    rendering = render(specs, device=device)
    true_boxes = rendering.boxes.cpu()
    clips, boxes, who, what = [], [], [], []
    for b, spec in enumerate(specs):
        for slot, actor in enumerate(spec.puppets):
            which = rng.randrange(len(actor.motions))
            start = _window(len(actor.motions), which, rng)
            seen = true_boxes[b, slot, start : start + WINDOW]
            union = torch.cat([seen[:, :2].amin(0), seen[:, 2:].amax(0)])
            boxes.append(_loosen(union, len(spec.puppets) == 1, rng))
            clips.append(rendering.frames[b, start : start + WINDOW])
            who.append(NAMES.index(actor.character))
            what.append(MOTIONS.index(actor.motions[which]))
    crops = crop(torch.stack(clips), torch.stack(boxes).to(device))
    return crops, torch.tensor(who, device=device), torch.tensor(what, device=device)


def _weather(crops: Tensor, rng: random.Random) -> Tensor:
    """Blur, noise and tint, as a decoder might."""
    smaller = rng.choice((64, 56, 44, 36, 30))
    flat = crops.transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(flat, size=smaller, mode="bilinear", antialias=True)
    flat = F.interpolate(flat, size=64, mode="bilinear")
    x = flat.view(crops.shape[0], crops.shape[2], *flat.shape[1:]).transpose(1, 2)
    gain = 1 + 0.1 * torch.randn(len(x), 3, 1, 1, 1, device=x.device)
    return (x * gain + rng.uniform(0, 0.05) * torch.randn_like(x)).clamp(0, 1)


def _note_bad_step(step: int, **tensors: Tensor) -> None:
    whole = {name: bool(t.isfinite().all()) for name, t in tensors.items()}
    log.warning("step %d has no finite gradient; finite: %s", step, whole)


@torch.no_grad()
def accuracy(judge: Judge, run: Run, num_videos: int) -> tuple[float, float]:
    """Share of held-out puppets whose character, and whose motion, it names."""
    rng = random.Random(run.seed + 555_555)
    right_who = right_what = total = 0
    for _ in range(max(1, num_videos // 32)):
        crops, who, what = make_batch(rng, min(32, num_videos), run.device)
        a, b = judge(crops)
        right_who += int((a.argmax(-1) == who).sum())
        right_what += int((b.argmax(-1) == what).sum())
        total += len(who)
    return right_who / total, right_what / total


class _Trainer:
    """The judge's steps, each on a batch of its own."""

    def __init__(self, run: Run, videos: int) -> None:
        seed_all(run.seed + SEED_OFFSET)
        self.judge = Judge().to(run.device)
        self.optimiser = MuonAdam(
            self.judge.named_parameters(), lr=LEARNING_RATE, plain=("stem", "head")
        )
        self.first = load_training(run.state, "judge", self.judge, self.optimiser, run.device)
        if self.first:
            seed_all(run.seed + SEED_OFFSET + 31 * self.first)
        self._rng = random.Random(run.seed + SEED_OFFSET + 31 * self.first)
        self._device, self._videos = run.device, videos
        self._bad_steps = 0

    def learn(self, step: int, scale: float) -> float:
        """One step at `scale` times the peak rate; its loss. Without a finite gradient it is left
        out. Raises `FloatingPointError` after too many of these."""
        crops, who, what = make_batch(self._rng, self._videos, self._device)
        with torch.autocast(self._device, torch.bfloat16):
            a, b = self.judge(_weather(crops, self._rng))
        loss = F.cross_entropy(a.float(), who) + F.cross_entropy(b.float(), what)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.judge.parameters(), 1.0)
        if norm.isfinite():
            self.optimiser.step(scale)
            return loss.item()
        _note_bad_step(step, crops=crops, character=a, motion=b, loss=loss)
        self.optimiser.drop()
        self._bad_steps += 1
        if self._bad_steps > MAX_BAD_STEPS:
            raise FloatingPointError(f"{self._bad_steps} steps without a finite gradient")
        return loss.item()


def train(run: Run) -> dict[str, float]:
    """Train the judge; bar: 97 % of held-out renders."""
    steps, videos, shown = (3, 2, 2) if run.tiny else (NUM_STEPS, VIDEOS, 1024)
    trainer = _Trainer(run, videos)
    start, step, spent = time.monotonic(), trainer.first, 0.0
    while step < steps and spent < 1:
        spent = (time.monotonic() - start) / (60 * run.minutes)
        loss = trainer.learn(step, warm_then_linear(max(step / steps, spent)))
        if step % 200 == 0:
            log.info("step %d loss %.3f %.0f s", step, loss, time.monotonic() - start)
        step += 1
    judge = trainer.judge
    save_training(run.state, "judge", judge.state_dict(), trainer.optimiser, step)
    who_right, what_right = accuracy(judge.eval(), run, shown)
    run.out.mkdir(parents=True, exist_ok=True)
    save_file(half(judge.state_dict()), run.out / "judge.safetensors")
    return {"character_accuracy": who_right, "motion_accuracy": what_right, "steps": float(step)}
