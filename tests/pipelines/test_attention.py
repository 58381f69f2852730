"""The factorised path equals the dense mask; sorted tokens change nothing but their order."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb

from pipelines.attention import (
    attention_with_lse,
    fused_region_attention,
    region_attention,
)
from pipelines.backbone import Backbone
from pipelines.backbone_shape import new_pipeline
from pipelines.region_layout import RegionLayout, dense_mask
from pipelines.region_tables import RegionTables
from pipelines.region_transformer import region_tokens, sort_rotary

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
T, H, W = 5, 4, 6


def random_masks(generator, num_conditions):
    """Boxes that overlap, move, fill the frame or hold one token; the last is the complement."""

    def number(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    masks = torch.zeros(num_conditions, T, H, W, dtype=torch.bool)
    for mask in masks[:-1]:
        height, width = number(1, H + 1), number(1, W + 1)
        top, left = number(0, H - height + 1), number(0, W - width + 1)
        first, last = sorted((number(0, T), number(0, T)))
        drift = number(-1, 2)
        for t in range(first, last + 1):
            start = min(max(left + drift * (t - first), 0), W - width)
            mask[t, top : top + height, start : start + width] = True
    masks[-1] = ~masks[:-1].any(0)
    return masks


def tokens(generator, layout, dtype=torch.float32, device="cpu"):
    shape = (2, 3, layout.num_text + layout.num_visual, 16)
    return [torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3)]


def relative_error(found, expected):
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()


@pytest.fixture
def one_thread():
    """Many tiny calls: threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("device", DEVICES)
def test_factorised_equals_dense(device):
    """A thousand scenes; two of them side by side go the way of the GPU's kernels."""
    for seed in range(500):
        generator = torch.Generator().manual_seed(seed)
        count, length = 1 + seed % 20, 1 + seed % 7
        pair = [RegionLayout.build(random_masks(generator, count).to(device), length) for _ in "ab"]
        query, key, value = tokens(generator, pair[0], device=device)
        dense = [
            region_attention(query, key, value, layout, implementation="dense") for layout in pair
        ]
        for layout, expected in zip(pair, dense, strict=True):
            found = region_attention(query, key, value, layout)
            assert relative_error(found, expected) <= 1e-5, seed
        if seed % 5 == 0 and device == "cpu":
            both = fused_region_attention(
                query, key, value, pair[0].num_text, RegionTables.build(pair)
            )
            expected = torch.stack([dense[0][0], dense[1][1]])
            assert relative_error(both, expected) <= 1e-5, seed


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("device", DEVICES)
def test_factorised_equals_dense_in_bf16(device):
    """A thousand scenes, against the reference in fp32."""
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        masks = random_masks(generator, 1 + seed % 20).to(device)
        layout = RegionLayout.build(masks, text_length=1 + seed % 7)
        query, key, value = tokens(generator, layout, torch.bfloat16, device)
        exact = [x.float() for x in (query, key, value)]
        dense = region_attention(*exact, layout, implementation="dense")
        found = region_attention(query, key, value, layout)
        assert relative_error(found, dense) <= 4e-3, seed


def test_one_region_that_covers_all_is_plain_attention_bit_for_bit():
    layout = RegionLayout.build(torch.ones(1, T, H, W, dtype=torch.bool), text_length=5)
    query, key, value = tokens(torch.Generator().manual_seed(0), layout)
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert torch.equal(region_attention(query, key, value, layout), plain)


def test_tokens_outside_every_region_see_only_each_other():
    masks = torch.zeros(1, T, H, W, dtype=torch.bool)
    masks[0, :, :, :2] = True
    layout = RegionLayout.build(masks, text_length=3)
    query, key, value = tokens(torch.Generator().manual_seed(0), layout)
    out = region_attention(query, key, value, layout)
    key[:, :, :3], value[:, :, :3] = 9.0, 9.0
    changed = region_attention(query, key, value, layout)
    bare = next(g for g in layout.groups if not g.captions)
    rows = slice(3 + bare.start, 3 + bare.stop)
    assert torch.equal(out[:, :, rows], changed[:, :, rows])
    assert not torch.allclose(out, changed)


def test_order_and_groups_agree_with_the_masks():
    masks = random_masks(torch.Generator().manual_seed(3), 5)
    layout = RegionLayout.build(masks, text_length=2)
    flat = masks.flatten(1)
    in_order = flat[:, layout.order]
    assert torch.equal(in_order[:, layout.inverse], flat)
    for group in layout.groups:
        inside = in_order[:, group.start : group.stop].float().mean(1)
        assert inside.nonzero().flatten().tolist() == list(group.captions)
        assert set(inside.tolist()) <= {0.0, 1.0}
    for caption, slices in enumerate(layout.slices_of):
        for s in slices:
            assert in_order[caption, s].all()


def test_tokens_of_the_last_captions_come_first():
    masks = random_masks(torch.Generator().manual_seed(3), 5)
    masks[:, 0, 0] = False
    layout = RegionLayout.build(masks, text_length=2)
    last = [max(group.captions, default=-1) for group in layout.groups]
    assert last == sorted(last, reverse=True)
    assert last[-1] == -1
    assert layout.num_bare == int((~masks.any(0)).sum())


def test_a_layout_says_what_it_cannot_take():
    with pytest.raises(ValueError, match="63 conditions"):
        RegionLayout.build(torch.ones(63, 1, 1, 1, dtype=torch.bool), text_length=1)
    layout = RegionLayout.build(torch.ones(1, 1, 1, 2, dtype=torch.bool), text_length=1)
    with pytest.raises(ValueError, match="4 tokens"):
        region_attention(*(torch.zeros(1, 1, 4, 8) for _ in range(3)), layout)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_sum_exp(device, dtype):
    query, key, value = (torch.randn(2, 3, n, 16).to(device, dtype) for n in (7, 33, 33))
    out, lse = attention_with_lse(query, key, value)
    scores = query.float() @ key.float().transpose(-1, -2) / 4
    assert torch.allclose(lse, scores.logsumexp(-1), atol=2e-2 if dtype == torch.bfloat16 else 1e-5)
    assert out.shape == query.shape


@pytest.fixture(params=[False, True], ids=["2b", "5b"])
def model(request, tiny_shape):
    shape = dataclasses.replace(tiny_shape, rotary=request.param)
    pipeline = new_pipeline(shape, ["a", "witch", "cat"], seed=1)
    return Backbone(pipeline, Path("tiny"), torch.device("cpu"))


class DenseReference:
    """Attention under one dense mask over unsorted tokens, written out."""

    def __init__(self, mask):
        self.mask = mask

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states,
        attention_mask=None,
        image_rotary_emb=None,
    ):
        num_text = encoder_hidden_states.shape[1]
        x = torch.cat([encoder_hidden_states, hidden_states], 1)
        query, key, value = (
            f(x).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for f in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = attn.norm_q(query), attn.norm_k(key)
        if image_rotary_emb is not None:
            for y in (query, key):
                y[:, :, num_text:] = apply_rotary_emb(y[:, :, num_text:], image_rotary_emb)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~self.mask, -torch.inf).softmax(-1)
        out = attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
        return out[:, num_text:], out[:, :num_text]


def dense_unsorted(model, latents, text, layout):
    """The whole transformer with N captions and a dense mask, nothing sorted."""
    unsorted = torch.cat([torch.arange(layout.num_text), layout.num_text + layout.inverse])
    mask = dense_mask(layout)[unsorted][:, unsorted]
    transformer = copy.deepcopy(model.transformer)
    transformer.set_attn_processor(DenseReference(mask))
    if not transformer.config.use_rotary_positional_embeddings:
        embed = transformer.patch_embed
        visual = embed.pos_embedding[:, model.text_length :]
        embed.pos_embedding = torch.cat(
            [visual.new_zeros(1, layout.num_text, visual.shape[2]), visual], 1
        )
    rotary = model.rotary(latents.shape[1])
    return transformer(latents, text, torch.tensor([400]), image_rotary_emb=rotary).sample


def sorted_forward(model, latents, text, layout, region_layout):
    kwargs = {"region_layout": region_layout} if region_layout else None
    rotary = sort_rotary(model.rotary(latents.shape[1]), layout)
    with torch.no_grad(), region_tokens(model.transformer, layout):
        return model.transformer(
            latents,
            text,
            torch.tensor([400]),
            image_rotary_emb=rotary,
            attention_kwargs=kwargs,
        ).sample


def scene(model, masks, seed=0):
    layout = RegionLayout.build(masks, model.text_length)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, *model.latent_shape(), generator=generator)
    text = torch.randn(1, layout.num_text, 32, generator=generator)
    return latents, text, layout


def region_masks(model):
    masks = torch.zeros(3, *model.grid().shape, dtype=torch.bool)
    masks[0, :3, :, :2] = True
    masks[1, 2:, 1:, 1:] = True
    masks[2] = ~masks[:2].any(0)
    return masks


@torch.no_grad()
def test_sorted_factorised_transformer_equals_the_dense_unsorted_one(model):
    latents, text, layout = scene(model, region_masks(model))
    expected = dense_unsorted(model, latents, text, layout)
    found = sorted_forward(model, latents, text, layout, layout)
    assert relative_error(found, expected) <= 1e-5


@torch.no_grad()
def test_one_region_that_covers_all_equals_the_stock_forward(model):
    latents, text, layout = scene(model, torch.ones(1, *model.grid().shape, dtype=torch.bool))
    rotary = model.rotary(latents.shape[1])
    stock = model.transformer(latents, text, torch.tensor([400]), image_rotary_emb=rotary).sample
    assert torch.equal(sorted_forward(model, latents, text, layout, layout), stock)


@torch.no_grad()
def test_one_prompt_on_sorted_tokens_equals_the_stock_forward(model):
    """The unconditional branch: no regions, but the tokens stay in the scene's order."""
    latents, text, layout = scene(model, region_masks(model))
    prompt = text[:, : model.text_length]
    rotary = model.rotary(latents.shape[1])
    stock = model.transformer(latents, prompt, torch.tensor([400]), image_rotary_emb=rotary).sample
    assert relative_error(sorted_forward(model, latents, prompt, layout, None), stock) <= 1e-5


@torch.no_grad()
def test_the_transformer_is_left_as_it_was_found(model):
    latents, text, layout = scene(model, region_masks(model))
    prompt = text[:, : model.text_length]
    before = model.velocity(latents, prompt, torch.tensor([400]))
    processors = model.transformer.attn_processors
    with pytest.raises(ValueError, match="whole captions"):
        sorted_forward(model, latents, text[:, :-1], layout, layout)
    assert model.transformer.attn_processors == processors
    assert torch.equal(model.velocity(latents, prompt, torch.tensor([400])), before)
