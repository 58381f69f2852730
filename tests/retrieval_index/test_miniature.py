"""The trained models of the miniature on a corpus whose truth is known: are the clips right?"""

from pathlib import Path

import pytest

from miniature.corpus import Entry, plan_corpus, write_clip, write_manifests
from retrieval_index.build import build_index
from retrieval_index.inline import InlinePipeline
from retrieval_index.options import IndexOptions, LibraryModels, SearchOptions
from retrieval_index.search import Index

CHECKPOINTS = Path(__file__).parents[2] / "miniature" / "checkpoints"
MOTIONS = ("bowing", "kicking", "walking")
MODELS = LibraryModels(
    detector=str(CHECKPOINTS / "detector"),
    clip=str(CHECKPOINTS / "clip"),
    viclip=str(CHECKPOINTS / "viclip"),
)


def build(folder: Path, entries: list[Entry]) -> str:
    (folder / "clips").mkdir()
    for entry in entries:
        write_clip(folder, entry)
    write_manifests(folder, entries)
    uri, options = str(folder / "db"), IndexOptions(models=MODELS)
    pipeline = InlinePipeline()
    report = build_index(folder / "manifest.jsonl", uri, options=options, pipeline=pipeline)
    assert (report.indexed, report.dead) == (len(entries), 0)
    return uri


@pytest.mark.slow
def test_clips_show_the_motion_asked_for(tmp_path: Path) -> None:
    """Held-out motions among them; nothing short, narrow or empty is ever kept."""
    every = plan_corpus(160, seed=7)
    useless = ("short", "narrow")
    entries = [e for e in every if e.kind in useless or {e.motion, e.shown} & {*MOTIONS, ""}]
    assert {entry.kind for entry in entries} >= {"good", "short", "narrow", "empty", "off-topic"}
    truth = {Path(entry.path).name: entry for entry in entries}
    index = Index.open(build(tmp_path, entries), MODELS)
    options = SearchOptions(max_candidates=20, min_score=0.35, min_clips=2)
    for result in index.search(MOTIONS, options=options):
        kept = [truth[Path(clip.path).name] for clip in result.kept]
        right = [entry for entry in kept if entry.shown == result.motion]
        good = [e for e in entries if e.kind == "good" and e.motion == result.motion]
        assert len(right) >= 0.9 * len(kept), result.motion
        assert len(right) >= 0.5 * len(good), result.motion
        assert {entry.kind for entry in kept} <= {"good", "mismatched"}
