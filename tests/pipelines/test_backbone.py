"""Loading, text, latents and geometry of a tiny random CogVideoX."""

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXPipeline
from torch._dynamo.testing import CompileCounterWithBackend

from pipelines import backbone as backbone_module
from pipelines.backbone import Backbone, folder_revision
from pipelines.backbone_shape import BackboneShape, new_pipeline
from pipelines.regions import TokenGrid, key_frame_of_latents


def test_loads_what_diffusers_loads(tiny_folder, tiny_backbone):
    stock = CogVideoXPipeline.from_pretrained(tiny_folder)
    mine = tiny_backbone.transformer.state_dict()
    for name, weight in stock.transformer.state_dict().items():
        assert torch.equal(mine[name], weight)


def test_geometry(tiny_backbone):
    assert tiny_backbone.size_px == (32, 48)
    assert tiny_backbone.grid() == TokenGrid(5, 2, 3)
    assert tiny_backbone.grid(1).num_tokens == 6
    assert tiny_backbone.latent_shape(9) == (3, 16, 4, 6)
    with pytest.raises(ValueError, match="4n\\+1"):
        tiny_backbone.num_latents(16)


def test_a_model_of_four_n_frames_makes_them(tiny_shape):
    """The authors' 48 frames: 12 latents, two a key frame."""
    pipeline = new_pipeline(dataclasses.replace(tiny_shape, num_frames=48), ["a"], seed=0)
    backbone = Backbone(pipeline, Path(), torch.device("cpu"))
    assert backbone.grid().num_latents == 12
    with pytest.raises(ValueError, match="44 frames"):
        backbone.num_latents(44)
    latents = backbone.encode_video(torch.zeros(1, 3, 48, 32, 48))
    assert latents.shape[1:] == backbone.latent_shape() == (12, 16, 4, 6)
    assert backbone.decode(latents).shape == (1, 48, 32, 48, 3)
    owner = key_frame_of_latents(12, 6, first_latent_alone=False)
    assert owner == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)


def test_miniature_geometry():
    pipeline = new_pipeline(BackboneShape(), ["a"], seed=0)
    assert TokenGrid(13, 6, 9).num_tokens == 702
    config = pipeline.transformer.config
    assert (config.sample_height, config.sample_width, config.sample_frames) == (12, 18, 49)


def test_text_is_padded_unmasked_and_cached(tiny_backbone, monkeypatch):
    texts = ["a witch is walking in the forest", "", "a witch is walking in the forest"]
    first = tiny_backbone.encode_text(texts)
    assert first.shape == (3, 12, 32)
    assert torch.equal(first[0], first[2])
    stock = CogVideoXPipeline.from_pretrained(tiny_backbone.folder)
    expected = stock.encode_prompt(texts[0], max_sequence_length=12, device="cpu")[0]
    assert torch.allclose(first[:1], expected, atol=1e-6)
    calls = []
    monkeypatch.setattr(tiny_backbone, "tokenizer", lambda *a, **k: calls.append(a))
    assert torch.equal(tiny_backbone.encode_text(texts), first)
    assert not calls


def test_text_cache_is_bounded(tiny_backbone, monkeypatch):
    monkeypatch.setattr(backbone_module, "MAX_CACHED_TEXTS", 2)
    assert tiny_backbone.encode_text(["a", "the", "cat"]).shape[0] == 3
    assert list(tiny_backbone._texts) == ["the", "cat"]


def test_latents_are_scaled_and_come_back(tiny_backbone):
    pixels = torch.rand(2, 3, 9, 32, 48) * 2 - 1
    latents = tiny_backbone.encode_video(pixels)
    assert latents.shape == (2, 3, 16, 4, 6)
    raw = tiny_backbone.vae.encode(pixels).latent_dist.mode()
    assert torch.allclose(latents, raw.transpose(1, 2) * 0.7, atol=1e-6)
    video = tiny_backbone.decode(latents)
    assert video.shape == (2, 9, 32, 48, 3)
    assert video.dtype == torch.uint8
    expected = tiny_backbone.vae.decode(raw).sample[0, :, 0, 0, 0] / 2 + 0.5
    assert torch.allclose(video[0, 0, 0, 0].float() / 255, expected.clamp(0, 1), atol=3e-3)


def test_a_compiled_decoder_gives_the_same_frames_from_few_graphs(tiny_backbone, monkeypatch):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compile_ = backbone_module._compile
    monkeypatch.setattr(
        backbone_module, "_compile", lambda *args, **how: compile_(*args, **how, backend=counter)
    )
    latents = torch.randn(1, *tiny_backbone.latent_shape(33))
    frames = tiny_backbone.decode(latents)
    tiny_backbone.compile_decoder()
    found = tiny_backbone.decode(latents)
    assert (found.int() - frames.int()).abs().max() <= 1
    # Of two kinds of chunk: seven shapes of blocks, three of upsamplers, and the last norm.
    assert counter.frame_count == 22


def test_sampling_latents_takes_a_generator(tiny_backbone):
    pixels = torch.zeros(1, 3, 5, 32, 48)
    draw = [
        tiny_backbone.encode_video(pixels, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


@pytest.mark.parametrize(
    "pixels", [torch.full((1, 3, 5, 32, 48), 2.0), torch.zeros(1, 3, 5, 32, 48, dtype=torch.uint8)]
)
def test_pixels_must_be_scaled(tiny_backbone, pixels):
    with pytest.raises(ValueError, match="float"):
        tiny_backbone.encode_video(pixels)


def test_rotary_positions_match_the_stock_pipeline(tiny_shape, tmp_path):
    pipeline = new_pipeline(dataclasses.replace(tiny_shape, rotary=True), ["a"], seed=0)
    pipeline.save_pretrained(tmp_path)
    backbone = Backbone.load(tmp_path, dtype=torch.float32)
    cos, sin = backbone.rotary(5)
    stock_cos, stock_sin = pipeline._prepare_rotary_positional_embeddings(
        32, 48, 5, torch.device("cpu")
    )
    assert torch.equal(cos, stock_cos)
    assert torch.equal(sin, stock_sin)


def test_velocity_matches_the_stock_call(tiny_backbone):
    noisy = torch.randn(1, *tiny_backbone.latent_shape())
    text, time = tiny_backbone.encode_text(["a witch"]), torch.tensor([500])
    stock = tiny_backbone.transformer(noisy, text, time).sample
    assert torch.equal(tiny_backbone.velocity(noisy, text, time), stock)


def test_scheduler_is_the_models_own(tiny_backbone):
    scheduler = tiny_backbone.scheduler()
    assert scheduler is not tiny_backbone.scheduler()
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.alphas_cumprod[-1] == 0


def test_schedule_of_2b_has_the_published_values(tiny_backbone):
    scheduler = type(tiny_backbone.scheduler()).from_config(
        tiny_backbone.scheduler().config, snr_shift_scale=3.0
    )
    found = scheduler.alphas_cumprod[[0, 99, 499, 999]]
    expected = torch.tensor([0.997454, 0.730867, 0.0959696, 0.0], dtype=found.dtype)
    assert torch.allclose(found, expected, atol=2e-6)


def test_revision_follows_the_bytes(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_text("1")
    before = folder_revision(tmp_path)
    (tmp_path / "sub" / "a.json").write_text("2")
    changed = folder_revision(tmp_path)
    (tmp_path / "sub" / "a.json").rename(tmp_path / "sub" / "b.json")
    assert len({before, changed, folder_revision(tmp_path)}) == 3


@pytest.mark.parametrize("missing", ["/no/such/folder", "./nowhere"])
def test_a_missing_folder_is_the_callers_mistake(missing):
    with pytest.raises(ValueError, match="no CogVideoX folder"):
        Backbone.load(missing)


def test_a_hub_model_out_of_reach_is_said_so(monkeypatch):
    def download(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(backbone_module.DiffusionPipeline, "download", download)
    with pytest.raises(ValueError, match="in reach: no network"):
        Backbone.load("somebody/cogvideox")
