"""The corpus is what it says: enough good clips, every kind of bad one, the same bytes again."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from miniature.cast import HELD_OUT_MOTIONS, MOTIONS, SHIRT_NAMES
from miniature.corpus import plan_corpus, write_clip, write_corpus
from miniature.phrases import PERSON_NOUNS, THIRD_PERSON
from pipelines.video import probe


def test_the_default_corpus_has_enough_of_everything() -> None:
    entries = plan_corpus(240, 0)
    assert len({entry.path for entry in entries}) == len(entries) == 240
    kinds = Counter(entry.kind for entry in entries)
    assert set(kinds) == {"good", "mismatched", "off-topic", "short", "narrow", "empty"}
    assert min(kinds.values()) >= 12
    good = Counter(entry.motion for entry in entries if entry.kind == "good")
    assert min(good[motion] for motion in MOTIONS) >= 4
    assert all(6 <= good[motion] <= 20 for motion in HELD_OUT_MOTIONS)


@pytest.mark.parametrize("seed", range(5))
def test_held_out_motions_have_enough_whatever_the_seed(seed: int) -> None:
    good = Counter(e.motion for e in plan_corpus(240, seed) if e.kind == "good")
    assert min(good[motion] for motion in HELD_OUT_MOTIONS) >= 6


def test_clips_are_what_their_kind_says() -> None:
    for entry in plan_corpus(240, 1):
        frames = round(entry.seconds * entry.fps)
        height, width = entry.size_px
        usable = entry.seconds >= 2 and frames >= 40 and width / height >= 0.9
        assert usable == (entry.kind not in ("short", "narrow"))
        assert bool(entry.spec.puppets) == (entry.kind not in ("empty", "off-topic"))
        assert (entry.shown == entry.motion) == (entry.kind in ("good", "short", "narrow")) or (
            entry.kind == "off-topic"
        )
        named = (
            entry.motion in entry.caption or THIRD_PERSON.get(entry.motion, "?") in entry.caption
        )
        assert named or entry.kind == "off-topic"
        assert entry.seconds <= 8


def test_captions_vary_and_mostly_name_the_motion() -> None:
    captions = [e.caption for e in plan_corpus(240, 0) if e.kind == "good"]
    assert len(set(captions)) > 0.9 * len(captions)
    entries = [e for e in plan_corpus(240, 0) if e.kind == "good"]
    assert sum(e.motion in e.caption for e in entries) > 0.8 * len(entries)
    assert any(any(noun in c for noun in PERSON_NOUNS[1:]) for c in captions)
    assert any(any(shirt in c for shirt in SHIRT_NAMES) for c in captions)


@pytest.mark.parametrize("num_clips", [0, -1])
def test_an_empty_corpus_is_refused(tmp_path: Path, num_clips: int) -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        write_corpus(tmp_path, num_clips=num_clips)


def test_files_manifests_and_repeatability(tmp_path: Path) -> None:
    write_corpus(tmp_path / "one", num_clips=6, seed=3, workers=2)
    (tmp_path / "two" / "clips").mkdir(parents=True)
    rows = [
        json.loads(line) for line in (tmp_path / "one" / "manifest.jsonl").read_text().splitlines()
    ]
    assert pq.read_table(tmp_path / "one" / "manifest.parquet").to_pylist() == [
        {key: row[key] for key in ("path", "caption", "source", "licence")} for row in rows
    ]
    for row, entry in zip(rows, plan_corpus(6, 3), strict=True):
        info = probe(tmp_path / "one" / row["path"])
        assert (info.height_px, info.width_px) == entry.size_px
        assert info.duration_s == pytest.approx(entry.seconds, abs=0.1)
        write_clip(tmp_path / "two", entry)
        one, two = (tmp_path / name / row["path"] for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
