"""CLIP and DINOv2 through their own libraries' loaders, as tiny real models."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Model

from miniature.recipes import clip, dino
from pipelines.encoders import ClipEncoder, DinoEncoder, uniform_indices


def noise(count: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_uniform_indices_are_middles() -> None:
    assert uniform_indices(8, 8).tolist() == list(range(8))
    assert uniform_indices(16, 4).tolist() == [2, 6, 10, 14]
    assert uniform_indices(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="8 frames out of 0"):
        uniform_indices(0, 8)


def test_clip_loads_from_a_folder_of_open_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clip.save(clip.build(), tmp_path)
    encoder = ClipEncoder.load(tmp_path)
    pictures = noise(5)
    vectors = encoder.embed_images(pictures, batch_size=2)
    assert vectors.shape == (5, 96)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # pictures of other sizes go in as a list
    mixed = encoder.embed_images([pictures[0], noise(1, 96, 144)[0]])
    np.testing.assert_allclose(mixed[0], vectors[0], atol=1e-5)
    texts = encoder.embed_texts(["the person is bowing", "THE PERSON IS BOWING", "a bear"])
    np.testing.assert_allclose(texts[0], texts[1])
    assert not np.allclose(texts[0], texts[2], atol=1e-3)


@pytest.mark.parametrize(
    "name", ["hf-hub:nobody/nothing", "ViT-B-32:openai", "ViT-B-32", "no-such-model", "models/gone"]
)
def test_a_clip_that_is_not_here_is_told_with_the_way_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=rf"'{name}' is no folder here.*name a folder of open_clip"
    ):
        ClipEncoder.load(name)


def test_clip_loads_by_name(tmp_path: Path) -> None:
    """A name that open_clip knows, with CLIP's own vocabulary, and weights of its own making."""
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}
    description = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "tiny-of-this-test.json").write_text(json.dumps(description))
    open_clip.add_model_config(tmp_path)
    model = open_clip.create_model("tiny-of-this-test")
    weights = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), weights)
    encoder = ClipEncoder.load(f"tiny-of-this-test:{weights}")
    assert encoder.model_id == f"clip:tiny-of-this-test:{weights}"
    tokens = open_clip.get_tokenizer("tiny-of-this-test")(["a bear"])
    expected = model.eval().encode_text(tokens, normalize=True).detach().numpy()
    np.testing.assert_allclose(encoder.embed_texts(["a bear"]), expected, atol=1e-6)
    assert encoder.embed_images(noise(2)).shape == (2, 16)


def test_clip_never_loads_pickles(tmp_path: Path) -> None:
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="no open_clip safetensors"):
        ClipEncoder.load(tmp_path)


def test_dino_loads_from_a_folder_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dino.save(Dinov2Model(dino.config()), tmp_path)
    encoder = DinoEncoder.load(tmp_path)
    vectors = encoder.embed_images(noise(3), batch_size=2)
    assert vectors.shape == (3, 96)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.model_id == f"dino:{tmp_path.name}"
