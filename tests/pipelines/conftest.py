"""A tiny random CogVideoX of the real classes, shared by the tests of this folder."""

import pytest
import torch

from pipelines.backbone import Backbone
from pipelines.backbone_shape import TINY, BackboneShape, new_pipeline

WORDS = [
    *("a", "an", "the", "and", "is", "in", "then", "at", "[v1]", "[v2]", "person", "witch"),
    *("pirate", "cat", "walking", "sitting", "waving", "forest", "beach"),
]


@pytest.fixture(scope="session")
def tiny_shape() -> BackboneShape:
    return TINY


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A pipeline folder on disk, fp32."""
    folder = tmp_path_factory.mktemp("tiny") / "cogvideox"
    new_pipeline(TINY, WORDS, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_backbone(tiny_folder) -> Backbone:
    return Backbone.load(tiny_folder, dtype=torch.float32)
