"""Write a retrieval corpus: mp4 clips of people with captions, good ones and every kind of bad.

`python -m miniature.corpus OUT` writes `clips/*.mp4`, `manifest.jsonl` and `manifest.parquet`
(path, caption, source, licence), and `truth.jsonl` (what each clip really is), which only
evaluations read. Same arguments, same bytes.
"""

import argparse
import dataclasses
import json
import logging
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from miniature.cast import HELD_OUT_MOTIONS, MOTIONS, PERSON, PLACES, shirt_name
from miniature.phrases import PERSON_NOUNS, paraphrase
from miniature.world import FPS, Spec, render, sample_spec
from pipelines.video import encode

Kind = Literal["good", "mismatched", "off-topic", "short", "narrow", "empty"]

SHARES: tuple[tuple[Kind, float], ...] = (
    ("mismatched", 0.10),
    ("off-topic", 0.08),
    ("short", 0.07),
    ("narrow", 0.07),
    ("empty", 0.06),
)
"""Shares of the bad kinds; the rest is good."""
HELD_OUT_WEIGHT = 3
"""Good clips of a held-out motion for every two of another."""
SIZES_PX = ((96, 144), (112, 168), (128, 192), (144, 216))
NARROW_PX = (144, 96)
FRAME_RATES = (8, 10, 12, 15, 24)
LICENCES = ("CC0-1.0", "CC-BY-4.0")
_OFF_TOPIC = (
    "a recipe for soup in the {place}",
    "sunset over the {place}, no people",
    "the weather in the {place} today",
    "time lapse of clouds above the {place}",
    "a quiet morning in the {place}",
)

log = logging.getLogger("miniature.corpus")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One clip to be: what is said of it, what it shows, and how."""

    path: str
    caption: str
    kind: Kind
    motion: str
    """The motion that the caption names; empty if it names none."""
    shown: str
    """The motion that is seen; empty if nobody is there."""
    spec: Spec
    seconds: float
    fps: int
    size_px: tuple[int, int]
    source: str
    licence: str


def plan_corpus(num_clips: int, seed: int) -> list[Entry]:
    """What the corpus will hold, without drawing it."""
    rng = random.Random(seed)
    kinds: list[Kind] = [kind for kind, share in SHARES for _ in range(int(share * num_clips))]
    kinds += ["good"] * (num_clips - len(kinds))
    rng.shuffle(kinds)
    cycle = [m for m in MOTIONS for _ in range(HELD_OUT_WEIGHT if m in HELD_OUT_MOTIONS else 2)]
    turns: dict[Kind, list[str]] = {}
    entries = []
    for index, kind in enumerate(kinds):
        waiting = turns.setdefault(kind, [])
        if not waiting:
            waiting += rng.sample(cycle, len(cycle))
        entries.append(_entry(rng, index, kind, waiting.pop()))
    return entries


def _entry(rng: random.Random, index: int, kind: Kind, motion: str) -> Entry:
    shown = motion
    if kind == "mismatched":
        shown = rng.choice([other for other in MOTIONS if other != motion])
    spec = sample_spec(
        rng,
        characters=(PERSON,),
        motions=(shown,),
        num_puppets=0 if kind in ("empty", "off-topic") else 1,
    )
    if kind == "narrow":
        middle = NARROW_PX[1] / NARROW_PX[0] / 2
        puppet = dataclasses.replace(spec.puppets[0], x0=middle - 0.05, x1=middle + 0.05)
        spec = dataclasses.replace(spec, puppets=(puppet,))
    fps = rng.choice(FRAME_RATES)
    seconds = rng.uniform(1.0, 1.7) if kind == "short" else rng.uniform(max(2.5, 44 / fps), 8.0)
    return Entry(
        path=f"clips/{index:05d}.mp4",
        caption=_caption(rng, kind, motion, spec),
        kind=kind,
        motion="" if kind == "off-topic" else motion,
        shown=shown if spec.puppets else "",
        spec=spec,
        seconds=seconds,
        fps=fps,
        size_px=NARROW_PX if kind == "narrow" else rng.choice(SIZES_PX),
        source=f"puppet world, reel {1 + index // 40}",
        licence=rng.choice(LICENCES),
    )


def _caption(rng: random.Random, kind: Kind, motion: str, spec: Spec) -> str:
    if kind == "off-topic":
        return rng.choice(_OFF_TOPIC).format(place=rng.choice(PLACES))
    shirt = shirt_name(spec.puppets[0].outfit) if spec.puppets else ""
    # Half of all captions use the word that the search does.
    noun = PERSON if rng.random() < 0.5 else rng.choice(PERSON_NOUNS)
    return paraphrase(rng, noun, (motion,), spec.place, shirt)


def write_clip(folder: Path, entry: Entry) -> None:
    """Draw one clip and encode it."""
    num_frames = max(2, round(entry.seconds * entry.fps))
    drawn = render(
        [entry.spec],
        size_px=entry.size_px,
        num_frames=round(entry.seconds * FPS) + 1,
        frame_indices=torch.arange(num_frames) * (FPS / entry.fps),
    )
    pixels = (drawn.frames[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    encode(folder / entry.path, pixels.contiguous().numpy(), entry.fps)


def _one_thread() -> None:
    # Not torch's function itself: vLLM on a CPU replaces it by one that cannot travel.
    torch.set_num_threads(1)


def write_corpus(out: Path, *, num_clips: int = 240, seed: int = 0, workers: int = 2) -> None:
    """Write clips and manifests into a folder.

    Raises:
        ValueError: no clip asked for, or no worker.
    """
    if num_clips < 1 or workers < 1:
        raise ValueError(f"need at least one clip and one worker: {num_clips}, {workers}")
    entries = plan_corpus(num_clips, seed)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _one_thread) as pool:
        for done, _ in enumerate(pool.map(partial(write_clip, out), entries, chunksize=4), 1):
            if done % 40 == 0:
                log.info("%d of %d clips", done, num_clips)
    write_manifests(out, entries)


def write_manifests(out: Path, entries: Sequence[Entry]) -> None:
    """The manifest in both forms, and the truth beside it."""
    public = ("path", "caption", "source", "licence")
    rows = [{key: getattr(entry, key) for key in public} for entry in entries]
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    (out / "manifest.jsonl").write_text(lines)
    pq.write_table(pa.Table.from_pylist(rows), out / "manifest.parquet")
    hidden = ("path", "kind", "motion", "shown")
    truth = [{key: getattr(entry, key) for key in hidden} for entry in entries]
    (out / "truth.jsonl").write_text(
        "".join(json.dumps(row, sort_keys=True) + "\n" for row in truth)
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m miniature.corpus", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--num-clips", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    write_corpus(args.out, num_clips=args.num_clips, seed=args.seed, workers=args.workers)


if __name__ == "__main__":
    main()
