"""A small corpus of the miniature world with every kind of bad row, and stages without models."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from miniature.corpus import plan_corpus, write_clip
from retrieval_index.findings import Row, Work
from retrieval_index.inline import Stages
from retrieval_index.keys import model_id
from retrieval_index.options import (
    IndexOptions,
    LibraryModels,
    SegmentRecipe,
    VideoLimits,
    Workers,
)
from retrieval_index.schemas import segments_schema
from retrieval_index.stages import Reader
from retrieval_index.tables import IndexedVideos
from tests.retrieval_index.bad_videos import bad_videos

OPTIONS = IndexOptions(
    models=LibraryModels(detector="", clip="c", viclip="v"),
    workers=Workers(rows_per_block=2, rows_per_commit=5),
)
NUM_CLIPS = 24
DIM = 4


def write_corpus(folder: Path) -> Path:
    """Clips, copies of some under other names, bad files and bad rows; its manifest."""
    (folder / "clips").mkdir(parents=True)
    rows = []
    for entry in plan_corpus(NUM_CLIPS, seed=3):
        write_clip(folder, entry)
        rows.append({"path": entry.path, "caption": entry.caption, "source": "world"})
    for row in rows[:3]:
        copy = folder / "clips" / f"copy-{Path(row['path']).name}"
        copy.write_bytes((folder / row["path"]).read_bytes())
        rows.append({**row, "path": f"clips/{copy.name}"})
    rows += [{"path": name, "caption": "a person is walking"} for name in bad_videos(folder)]
    rows.append(rows[0])
    lines = [json.dumps(row) for row in rows] + ["{broken", '{"path": "a.mp4"}', "{broken"]
    lines = [lines[index] for index in np.random.default_rng(0).permutation(len(lines))]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def light_stages(uri: str, models: LibraryModels = OPTIONS.models) -> Stages:
    """Real reading; people and vectors are made up from a video's id."""
    reader = Reader(SegmentRecipe(), VideoLimits(max_decoded_mb=64), IndexedVideos(uri))
    return Stages(reader, _track, partial(_embed, models), segments_schema(DIM, DIM))


def _track(work: Work) -> Work:
    assert work.finding.video is not None
    digest = hashlib.sha256(work.finding.id.encode()).digest()
    cuts = tuple(_cut(work.finding.id, number) for number in range(digest[0] % 4))
    finding = replace(work.finding, video={**work.finding.video, "num_segments": len(cuts)})
    if not cuts:
        return Work(finding=finding)
    return Work(finding=finding, row=work.row, frames=work.frames * len(cuts), cuts=cuts)


def _cut(video_id: str, number: int) -> Row:
    return {
        "id": f"{video_id}-{number:02d}-000000",
        "video_id": video_id,
        "track": number,
        "start_s": 0.0,
        "end_s": 2.0,
        "crop": [0.0, 0.0, 1.0, 1.0],
        "boxes": [[0.0, 0.0, 1.0, 1.0]] * 16,
        "confidence": 0.5,
        "num_people": number + 1,
    }


def _embed(models: LibraryModels, work: Work) -> Work:
    made_by = {
        "clip_model": model_id("clip", models.clip),
        "viclip_model": model_id("viclip", models.viclip),
        "viclip_preprocessing": "imagenet",
    }
    vectors = {"clip": [0.5] * DIM, "viclip": [0.5] * DIM}
    return Work(finding=replace(work.finding, segments=[c | made_by | vectors for c in work.cuts]))
