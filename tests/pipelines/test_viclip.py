"""ViCLIP against what its description says, with toy instances of the real class."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from miniature.recipes.contrastive import VOCABULARY
from miniature.recipes.viclip import save
from pipelines.viclip import ViClip, ViClipConfig, ViClipEncoder, load_viclip, preprocess


@pytest.fixture(scope="module")
def model() -> ViClip:
    torch.manual_seed(0)
    return ViClip(ViClipConfig.miniature(VOCABULARY)).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"),
    [(ViClipConfig.large(), 427_590_145, 447), (ViClipConfig.base(), 149_603_841, 303)],
)
def test_official_sizes(config: ViClipConfig, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        model = ViClip(config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == tensors


def official_keys(vision_layers: int, text_layers: int) -> set[str]:
    """Of the official checkpoints, written out."""
    block = {
        f"{part}.{kind}"
        for part in ("attn.out_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
        for kind in ("weight", "bias")
    } | {"attn.in_proj_weight", "attn.in_proj_bias"}
    vision = {
        "class_embedding", "positional_embedding", "temporal_positional_embedding", "proj",
        "conv1.weight", "ln_pre.weight", "ln_pre.bias", "ln_post.weight", "ln_post.bias",
    }  # fmt: skip
    text = {
        "positional_embedding", "text_projection", "token_embedding.weight", "ln_final.weight",
        "ln_final.bias",
    }  # fmt: skip
    vision |= {f"transformer.resblocks.{i}.{key}" for i in range(vision_layers) for key in block}
    text |= {f"transformer.resblocks.{i}.{key}" for i in range(text_layers) for key in block}
    return {
        "temp",
        *(f"vision_encoder.{key}" for key in vision),
        *(f"text_encoder.{key}" for key in text),
    }


@pytest.mark.parametrize(
    ("config", "layers"), [(ViClipConfig.large(), 24), (ViClipConfig.base(), 12)]
)
def test_official_key_names(config: ViClipConfig, layers: int) -> None:
    with torch.device("meta"):
        model = ViClip(config)
    assert set(model.state_dict()) == official_keys(layers, 12)


def test_attention_is_torchs_under_the_same_keys(model: ViClip) -> None:
    ours = model.vision_encoder.transformer.resblocks[0].attn
    width = ours.out_proj.in_features
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, width)
    for causal in (False, True):
        mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None
        expected = theirs(x, x, x, attn_mask=mask, need_weights=False)[0]
        torch.testing.assert_close(ours(x, causal), expected)


def test_frames_differ_by_their_temporal_embedding_alone() -> None:
    torch.manual_seed(0)
    model = ViClip(ViClipConfig.miniature(VOCABULARY))
    frames = torch.randn(1, 8, 3, 80, 80)
    with torch.no_grad():
        forth, back = model.encode_videos(frames), model.encode_videos(frames.flip(1))
        torch.testing.assert_close(forth, back)
        model.vision_encoder.temporal_positional_embedding.normal_(std=0.5)
        forth, back = model.encode_videos(frames), model.encode_videos(frames.flip(1))
    assert not torch.allclose(forth, back, atol=1e-3)


def test_text_is_read_up_to_its_end(model: ViClip) -> None:
    end = VOCABULARY - 1
    tokens = torch.tensor([[1, 5, 6, end, 0, 0], [1, 5, 6, end, 9, 7], [1, 5, 7, end, 0, 0]])
    vectors = model.encode_texts(tokens)
    torch.testing.assert_close(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2], atol=1e-3)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_weights_load_with_and_without_the_wrapper(
    model: ViClip, tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({prefix + key: value for key, value in model.state_dict().items()}, path)
    loaded = load_viclip(path, model.config)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_wrong_weights_are_refused(model: ViClip, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"temp": torch.ones(())}, path)
    with pytest.raises(ValueError, match="98 of 99 tensors"):
        load_viclip(path, model.config)
    with pytest.raises(ValueError, match="pickled weights are never loaded"):
        load_viclip(tmp_path / "viclip.pth", model.config)


def test_both_preprocessings() -> None:
    ramp = torch.arange(90, dtype=torch.uint8).expand(3, 60, 90)  # brighter to the right
    straight, cropped = (preprocess(ramp, 32, kind) for kind in ("imagenet", "clip"))
    assert straight.shape == cropped.shape == (3, 32, 32)
    spread = (straight.amax((1, 2)) - straight.amin((1, 2))) * torch.tensor([0.229, 0.224, 0.225])
    assert float(spread.mean()) * 255 == pytest.approx(89, abs=4)  # all of the width
    spread = (cropped.amax((1, 2)) - cropped.amin((1, 2))) * torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    assert float(spread.mean()) * 255 == pytest.approx(60, abs=4)  # the middle square


def test_the_encoder_loads_a_folder(model: ViClip, tmp_path: Path) -> None:
    save(model, tmp_path)
    encoder = ViClipEncoder.load(tmp_path)
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 256, (n, 60, 90, 3), dtype=np.uint8) for n in (3, 20, 8)]
    vectors = encoder.embed_videos(videos, batch_size=2)
    texts = encoder.embed_texts(["the person is bowing", "a word nobody knows: zyzzyva"])
    assert vectors.shape == (3, 96)
    assert vectors.dtype == np.float32
    assert texts.shape == (2, 96)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_videos(videos[1:2])[0], vectors[1], atol=1e-5)
    assert encoder.preprocessing == "imagenet"
    assert encoder.embed_videos([]).shape == (0, 96)


def test_unknown_settings_are_refused(model: ViClip, tmp_path: Path) -> None:
    save(model, tmp_path)
    settings = dataclasses.asdict(model.config) | {"colour": "red"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="unknown keys: colour"):
        ViClipEncoder.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "prefix", "parameters"),
    [(ViClipConfig.large(), "model.", 427_590_145), (ViClipConfig.base(), "", 149_603_841)],
)
def test_full_size_weights_load_and_embed(
    config: ViClipConfig, prefix: str, parameters: int, tmp_path: Path
) -> None:
    """Random ones in float16, under the official names, with CLIP's own vocabulary."""
    with torch.device("meta"):
        expected = ViClip(config).state_dict()
    some = torch.empty(1 << 20, dtype=torch.float16)
    some.uniform_(-0.03, 0.03, generator=torch.Generator().manual_seed(0))
    weights = {
        prefix + key: some.repeat(value.numel() // len(some) + 1)[: value.numel()].view(value.shape)
        for key, value in expected.items()
    }
    save_file(weights, tmp_path / "viclip.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    encoder = ViClipEncoder.load(tmp_path)
    assert sum(value.numel() for value in encoder._model.parameters()) == parameters
    (text,) = encoder.embed_texts(["the person is bowing"])
    assert text.shape == (config.embed_dim,)
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-4)
    (tmp_path / "viclip.safetensors").unlink()  # pytest would keep it
