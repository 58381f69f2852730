"""How well the video model does what captions and regions say, as read by the judge.

    python -m miniature.evaluate [--folder checkpoints/cogvideox] [--videos 256] [--device cpu]

Samples in batches through the training code's dense-mask attention, so the figures stand beside
the product's own factorised path rather than on it.
"""

import argparse
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from miniature.cast import BASE_CHARACTERS, BASE_MOTIONS, HELD_OUT_MOTIONS, PERSON, PLACES
from miniature.conditioning import SLOTS, attention_bias, box_tokens
from miniature.judge import Judge, load_judge, read
from miniature.recipes.base import VideoModel
from miniature.text import MAX_TOKENS, make_tokenizer
from miniature.train import CHECKPOINTS
from miniature.world import article
from pipelines.binding import Verdict

log = logging.getLogger("miniature.evaluate")

NUM_STEPS = 25
GUIDANCE = 2.5
"""As the profile samples."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
LEFT, RIGHT = (0.0, 0.05, 0.45, 1.0), (0.55, 0.05, 1.0, 1.0)
_NAMED = tuple(name for name in BASE_CHARACTERS if name != PERSON)


@dataclass(frozen=True)
class Act:
    """What one box of a video should show."""

    character: str
    motion: str
    box: tuple[float, float, float, float]

    def caption(self, place: str) -> str:
        return f"{article(self.character)} is {self.motion} in the {place}"


@dataclass(frozen=True)
class Sampler:
    """The video model on one device, sampling batches of prompts or of regions."""

    model: VideoModel
    vae: AutoencoderKLCogVideoX
    device: str
    guidance: float = GUIDANCE

    @classmethod
    def load(cls, folder: Path, device: str, guidance: float = GUIDANCE) -> "Sampler":
        model = VideoModel(len(make_tokenizer()))
        weights: dict[str, Tensor] = {}
        for path in sorted((folder / "transformer").glob("*.safetensors")):
            weights |= {f"transformer.{k}": v.float() for k, v in load_file(path).items()}
        for path in sorted((folder / "text_encoder").glob("*.safetensors")):
            weights |= {f"text_encoder.{k}": v.float() for k, v in load_file(path).items()}
        model.load_state_dict(weights, strict=False)
        vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae")
        return cls(model.eval().to(device), vae.eval().to(device), device, guidance)

    def _ids(self, texts: Sequence[str]) -> Tensor:
        tokenizer = make_tokenizer()
        ids = tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return torch.as_tensor(ids).to(self.device)

    @torch.inference_mode()
    def sample(self, ids: Tensor, owned: Tensor | None, seed: int) -> Tensor:
        """ids (B, 24), or (B, SLOTS, 24) with owned (B, SLOTS, V) -> (B, 49, 3, 96, 144)."""
        scheduler = CogVideoXDPMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=1.0,
            timestep_spacing="trailing",
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
        )
        scheduler.set_timesteps(NUM_STEPS)
        generator = torch.Generator().manual_seed(seed)
        shape = (len(ids), 13, 16, 12, 18)
        x = torch.randn(shape, generator=generator).to(self.device)
        empty = self._ids([""]).expand(len(ids), -1)
        bias = None if owned is None else attention_bias(owned, MAX_TOKENS, torch.bfloat16)
        old, steps = None, [int(t) for t in scheduler.timesteps]
        for i, t in enumerate(steps):
            when = torch.full((len(ids),), t, device=self.device)
            with torch.autocast(self.device.split(":")[0], torch.bfloat16):
                free = self.model(x, empty, when, None).float()
                told = self.model(x, ids, when, bias).float()
            guided = free + self.guidance * (told - free)
            before = steps[i - 1] if i else None
            noise = torch.Generator(self.device).manual_seed(seed * 1000 + i)
            x, old = scheduler.step(guided, old, t, before, x, generator=noise, return_dict=False)
            x = x.float()
        latents = x.permute(0, 2, 1, 3, 4) / self.vae.config.scaling_factor
        with torch.autocast(self.device.split(":")[0], torch.bfloat16):
            decoded = self.vae.decode(latents).sample
        pixels = torch.as_tensor(decoded)
        return (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 1, 3, 4)

    def from_captions(self, texts: Sequence[str], seed: int) -> Tensor:
        """One whole-video caption a video."""
        return self.sample(self._ids(texts), None, seed)

    def from_regions(self, scenes: Sequence[tuple[str, Sequence[Act]]], seed: int) -> Tensor:
        """One caption a box, and the place elsewhere."""
        texts, owned = [], []
        for place, acts in scenes:
            masks = [box_tokens(torch.tensor([act.box]).expand(13, 4)) for act in acts]
            background = ~torch.stack(masks).any(0)
            spare = SLOTS - 1 - len(acts)
            masks += [torch.zeros_like(background)] * spare + [background]
            texts += [act.caption(place) for act in acts] + [""] * spare + [f"the {place}"]
            owned.append(torch.stack(masks).flatten(1))
        ids = self._ids(texts).view(len(scenes), SLOTS, -1)
        return self.sample(ids, torch.stack(owned).to(self.device), seed)


def _judged(judge: Judge, videos: Tensor, acts: Sequence[Act]) -> list[tuple[bool, bool, Verdict]]:
    boxes = torch.tensor([act.box for act in acts], device=videos.device)
    verdicts = read(judge, videos, boxes)
    return [
        (v.character == a.character, v.motion == a.motion, v)
        for v, a in zip(verdicts, acts, strict=True)
    ]


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / max(1, len(flags))


def one_puppet(
    sampler: Sampler, judge: Judge, motions: Sequence[str], num_videos: int, batch: int = 32
) -> tuple[float, float, Tensor]:
    """Right character, right motion, and the first batch, from plain captions."""
    rng = random.Random(1)
    who: list[bool] = []
    what: list[bool] = []
    shown = torch.empty(0)
    for start in range(0, num_videos, batch):
        acts = [Act(rng.choice(_NAMED), rng.choice(motions), WHOLE) for _ in range(batch)]
        texts = [act.caption(rng.choice(PLACES)) for act in acts]
        videos = sampler.from_captions(texts, seed=start)
        shown = videos if start == 0 else shown
        rows = _judged(judge, videos, acts)
        who += [row[0] for row in rows]
        what += [row[1] for row in rows]
    return _share(who), _share(what), shown


def two_puppets(
    sampler: Sampler, judge: Judge, num_seeds: int, batch: int = 16
) -> tuple[float, float, float, Tensor]:
    """Share of seeds with both puppets right, and right characters and motions alone."""
    rng = random.Random(2)
    both, who, what = [], [], []
    shown = torch.empty(0)
    for start in range(0, num_seeds, batch):
        scenes = []
        for _ in range(batch):
            a, b = rng.sample(_NAMED, 2)
            m, n = rng.sample(BASE_MOTIONS, 2)
            scenes.append((rng.choice(PLACES), (Act(a, m, LEFT), Act(b, n, RIGHT))))
        videos = sampler.from_regions(scenes, seed=10_000 + start)
        shown = videos if start == 0 else shown
        left = _judged(judge, videos, [acts[0] for _, acts in scenes])
        right = _judged(judge, videos, [acts[1] for _, acts in scenes])
        for p, q in zip(left, right, strict=True):
            both.append(p[0] and p[1] and q[0] and q[1])
            who += [p[0], q[0]]
            what += [p[1], q[1]]
    return _share(both), _share(who), _share(what), shown


def save_strips(videos: Tensor, path: Path, rows: int = 12, columns: int = 8) -> None:
    """A PNG: a row a video, evenly spaced frames."""
    picks = [round(i * (videos.shape[1] - 1) / (columns - 1)) for i in range(columns)]
    strips = [torch.cat([v[i] for i in picks], 2) for v in videos[:rows]]
    pixels = (torch.cat(strips, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m miniature.evaluate", description=__doc__)
    parser.add_argument("--folder", type=Path, default=CHECKPOINTS / "cogvideox")
    parser.add_argument("--judge", type=Path, default=CHECKPOINTS / "judge")
    parser.add_argument("--videos", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=Path, help="folder for sample strips")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sampler = Sampler.load(args.folder, args.device, args.guidance)
    judge = load_judge(args.judge, args.device)
    who, what, plain = one_puppet(sampler, judge, BASE_MOTIONS, args.videos)
    _, unknown, _ = one_puppet(sampler, judge, HELD_OUT_MOTIONS, args.videos // 2)
    both, region_who, region_what, regions = two_puppets(sampler, judge, args.seeds)
    figures = {
        "character": who,
        "motion": what,
        "held_out_motion": unknown,
        "two_puppets_all_right": both,
        "two_puppets_character": region_who,
        "two_puppets_motion": region_what,
    }
    log.info("%s", json.dumps({k: round(v, 4) for k, v in figures.items()}))
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        save_strips(plain, args.pictures / "one_puppet.png")
        save_strips(regions, args.pictures / "two_puppets.png")


if __name__ == "__main__":
    main()
