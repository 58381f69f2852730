"""Ids come from content and from nothing else."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from retrieval_index.keys import content_id, model_revision, segment_id
from retrieval_index.keyset import KeySet
from retrieval_index.options import SegmentRecipe


def test_a_video_is_what_it_shows_and_its_caption() -> None:
    first = content_id("a" * 32, "walks")
    assert len(first) == 32
    assert first == content_id("a" * 32, "walks")
    assert len({first, content_id("a" * 32, "runs"), content_id("b" * 32, "walks")}) == 3


def test_segments_sort_by_time() -> None:
    ids = [segment_id("ab", start, track=0) for start in (0.0, 6.0, 12.0, 120.0)]
    assert ids == sorted(set(ids))


def test_a_model_folder_is_its_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("w")
    assert model_revision(str(tmp_path / "one")) == model_revision(str(tmp_path / "two"))
    (tmp_path / "two" / "README.md").write_text("what it is good for")
    (tmp_path / "two" / "LICENSE").write_text("all may use it")
    (tmp_path / "two" / ".cache" / "hub").mkdir(parents=True)
    (tmp_path / "two" / ".cache" / "hub" / "weights.lock").touch()
    assert model_revision(str(tmp_path / "one")) == model_revision(str(tmp_path / "two"))
    (tmp_path / "two" / "weights").write_text("v")
    assert model_revision(str(tmp_path / "one")) != model_revision(str(tmp_path / "two"))
    assert model_revision("hub/name") == "hub/name"


def test_options_say_what_to_change() -> None:
    with pytest.raises(ValueError, match="raise the first or lower the second"):
        SegmentRecipe(max_window_s=1)
    with pytest.raises(ValueError, match="extra"):
        SegmentRecipe.model_validate({"frames_per_second": 8})


def test_a_key_set_holds_what_it_was_made_of() -> None:
    luck = random.Random(0)
    keys = [luck.randbytes(16).hex() for _ in range(2000)]
    # Bytes that end in zeros, and their neighbours.
    keys += [f"{number:0>2x}" + "0" * 30 for number in range(50)] + ["0" * 30 + "01"]
    held = KeySet.of(
        [pa.array([*keys[:700], None]), pa.array(keys[500:1500]), pa.array(keys[2000:])]
    )
    assert len(held) == 1551
    assert [key in held for key in keys] == [True] * 1500 + [False] * 500 + [True] * 51
    assert "0" * 31 + "2" not in held
    assert "ab" * 16 not in KeySet.of([])
