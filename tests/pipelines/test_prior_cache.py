"""Encodings by content: computed once, and what is broken is computed again."""

import pytest
import torch

from pipelines.backbone import Backbone
from pipelines.prior_cache import CachedEncoder


@pytest.fixture
def calls(tiny_backbone, monkeypatch):
    """What the backbone's own encoders were asked for."""
    made = []
    for name in ("encode_video", "encode_text"):
        own = getattr(tiny_backbone, name)
        monkeypatch.setattr(
            tiny_backbone, name, lambda x, name=name, own=own: (made.append(name), own(x))[1]
        )
    return made


def pixels(seed, num_frames=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, num_frames, 32, 48, generator=generator) * 2 - 1


def test_the_same_content_is_encoded_once(tiny_backbone, tmp_path, calls):
    first = CachedEncoder(tiny_backbone, tmp_path)
    texts, video = ["a cat", "a witch", "a cat"], pixels(0)
    made = first.encode_text(texts), first.encode_video(video)
    assert calls == ["encode_text"] * 2 + ["encode_video"]
    again = CachedEncoder(tiny_backbone, tmp_path)
    found = again.encode_text(texts), again.encode_video(video.clone())
    assert len(calls) == 3
    assert all(torch.equal(a, b) for a, b in zip(made, found, strict=True))
    assert torch.equal(made[1], tiny_backbone.encode_video(video))
    assert torch.allclose(made[0], tiny_backbone.encode_text(texts), atol=1e-6)


def test_other_pixels_words_and_precisions_are_others(tiny_folder, tmp_path):
    for dtype in (torch.float32, torch.bfloat16):
        encoder = CachedEncoder(Backbone.load(tiny_folder, dtype=dtype), tmp_path)
        encoder.encode_text(["a", "b"])
        for video in (pixels(0), pixels(1), pixels(0, 1)):
            encoder.encode_video(video)
    assert len(list(tmp_path.iterdir())) == 10


def test_a_broken_file_is_made_again(tiny_backbone, tmp_path, calls):
    encoder = CachedEncoder(tiny_backbone, tmp_path)
    whole = encoder.encode_video(pixels(0))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(encoder.encode_video(pixels(0)), whole)
    assert len(calls) == 2


def test_the_folder_stays_small(tiny_backbone, tmp_path, calls):
    CachedEncoder(tiny_backbone, tmp_path).encode_video(pixels(0))
    (path,) = tmp_path.iterdir()
    encoder = CachedEncoder(tiny_backbone, tmp_path, max_bytes=2 * path.stat().st_size)
    encoder.encode_video(pixels(1))
    encoder.encode_video(pixels(0))
    encoder.encode_video(pixels(2))
    assert len(list(tmp_path.iterdir())) == 2
    encoder.encode_video(pixels(0))
    assert len(calls) == 3, "what was used lately is still there"
