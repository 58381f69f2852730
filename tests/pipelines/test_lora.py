"""Adapters: the formula, the file, and who is left alone."""

import dataclasses
import hashlib

import pytest
import torch
from diffusers import CogVideoXPipeline

from pipelines.adapter_file import load_adapter, save_adapter
from pipelines.lora import (
    LORA_MODULES,
    Adapter,
    StackedAdapters,
    adapted_modules,
    linears,
    settled,
)

TIME = torch.tensor([300])


def random_adapter(backbone, kind="motion", target="walking", rank=4, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in adapted_modules(len(backbone.transformer.transformer_blocks), kind):
        rows, columns = backbone.transformer.get_submodule(name).weight.shape
        weights[name] = tuple(
            0.1 * torch.randn(shape, generator=generator)
            for shape in ((rank, columns), (rows, rank))
        )
    return Adapter(
        id=f"{kind}-{target}", kind=kind, target=target, weights=weights, rank=rank, **more
    )


def test_blocks_and_parameter_count():
    motion, subject = (adapted_modules(30, kind) for kind in ("motion", "subject"))
    assert {int(name.split(".")[1]) % 2 for name in motion} == {0}
    assert {int(name.split(".")[1]) % 2 for name in subject} == {1}
    assert len(motion) == len(subject) == 15 * len(LORA_MODULES)
    sizes = {"ff.net.0.proj": (1920, 7680), "ff.net.2": (7680, 1920)}
    width = [sum(sizes.get(name, (1920, 1920))) for name in LORA_MODULES]
    assert 32 * sum(width) == 1_105_920


def test_file_round_trip_same_bytes(tiny_backbone, tmp_path):
    adapter = random_adapter(tiny_backbone, "subject", "mia", token="[v1]", phrase="cat", scale=0.5)
    digests = set()
    for i in range(4):
        save_adapter(adapter, tmp_path / f"{i}.safetensors")
        digests.add(hashlib.sha256((tmp_path / f"{i}.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1
    found = load_adapter(tmp_path / "0.safetensors")
    assert (found.id, found.kind, found.target) == ("subject-mia", "subject", "mia")
    assert (found.token, found.phrase, found.rank, found.scale) == ("[v1]", "cat", 4, 0.5)
    assert found.num_bytes == adapter.num_bytes
    for name, pair in adapter.weights.items():
        assert all(torch.equal(a, b) for a, b in zip(pair, found.weights[name], strict=True))


def test_diffusers_loads_the_file_and_agrees(tiny_backbone, tmp_path):
    adapter = random_adapter(tiny_backbone, scale=0.5)
    save_adapter(adapter, tmp_path / "prior.safetensors")
    pipeline = CogVideoXPipeline.from_pretrained(tiny_backbone.folder)
    pipeline.load_lora_weights(tmp_path, weight_name="prior.safetensors")
    latents = torch.randn(1, *tiny_backbone.latent_shape())
    text = tiny_backbone.encode_text(["a witch is walking"])
    stacked = StackedAdapters(tiny_backbone.transformer, [adapter])
    with torch.no_grad():
        theirs = pipeline.transformer(latents, text, TIME).sample
        plain = tiny_backbone.velocity(latents, text, TIME)
        with stacked.attached():
            ours = tiny_backbone.velocity(latents, text, TIME)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, plain, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_file_that_is_no_adapter(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        load_adapter(tmp_path / "bad.safetensors")


def test_a_foreign_lora_is_refused_with_a_word(tmp_path):
    from safetensors.torch import save_file

    save_file({"transformer.x.lora_A.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="does not say what it is for"):
        load_adapter(tmp_path / "x.safetensors")


def test_stacked_gemms_equal_the_formula(tiny_backbone):
    adapters = [
        random_adapter(tiny_backbone, "motion", "walking", rank=4, seed=1, scale=0.7),
        random_adapter(tiny_backbone, "motion", "sitting", rank=2, seed=2),
        random_adapter(tiny_backbone, "subject", "mia", rank=3, seed=3),
    ]
    stacked = StackedAdapters(tiny_backbone.transformer, adapters)
    num_tokens = 11
    masks = (torch.rand(num_tokens, 3) < 0.5).float()
    stacked.act(stacked.gates(masks))
    for name in ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.ff.net.2"):
        module = tiny_backbone.transformer.get_submodule(name)
        x = torch.randn(2, num_tokens, module.in_features)
        expected = module(x)
        for k, adapter in enumerate(adapters):
            if name in adapter.weights:
                down, up = adapter.weights[name]
                expected = expected + adapter.scale * masks[:, k, None] * (x @ down.T @ up.T)
        with stacked.attached():
            assert torch.allclose(module(x), expected, atol=1e-5)


def heads_of(backbone, block=0):
    attention = backbone.transformer.transformer_blocks[block].attn1
    return attention.to_q, attention.to_k, attention.to_v


def test_only_rows_in_the_range_of_the_masks_are_touched(tiny_backbone):
    adapters = [random_adapter(tiny_backbone, seed=s, target=str(s)) for s in (1, 2)]
    stacked = StackedAdapters(tiny_backbone.transformer, adapters)
    masks = torch.zeros(11, 2)
    masks[3:5, 0] = masks[6:8, 1] = 1
    layer = heads_of(tiny_backbone)[0]
    x = torch.randn(2, 11, layer.in_features)
    plain = layer(x)
    stacked.act(stacked.gates(masks))
    with stacked.attached():
        found = layer(x)
    assert {tuple(path.rows.tolist()) for path in stacked._all()} >= {(3, 8)}
    changed = (found != plain).any(2).any(0)
    assert changed.nonzero().flatten().tolist() == [3, 4, 6, 7]
    stacked.act(stacked.gates(torch.zeros(11, 2)))
    with stacked.attached():
        assert torch.equal(layer(x), plain)


@pytest.mark.parametrize("without", [None, "to_k"])
def test_query_key_and_value_together_are_each_alone(tiny_backbone, without):
    adapters = [random_adapter(tiny_backbone, seed=s, rank=s, target=str(s)) for s in (1, 2)]
    if without:
        adapters[1].weights.pop(f"transformer_blocks.0.attn1.{without}")
    stacked = StackedAdapters(tiny_backbone.transformer, adapters)
    stacked.act(stacked.gates((torch.rand(11, 2) < 0.5).float()))
    layers = heads_of(tiny_backbone)
    x = torch.randn(2, 11, layers[0].in_features)
    plain = linears(layers, x)
    assert all(torch.equal(y, layer(x)) for y, layer in zip(plain, layers, strict=True))
    with stacked.attached():
        together, alone = linears(layers, x), [layer(x) for layer in layers]
    for one, other, before in zip(together, alone, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert not torch.allclose(one, before, atol=1e-3)


def test_layers_without_all_three_are_not_joined(tiny_backbone):
    adapter = random_adapter(tiny_backbone)
    adapter.weights.pop("transformer_blocks.0.attn1.to_v")
    stacked = StackedAdapters(tiny_backbone.transformer, [adapter])
    layers = heads_of(tiny_backbone)
    x = torch.randn(1, 5, layers[0].in_features)
    plain = linears(layers, x)
    with stacked.attached():
        changed = [not torch.equal(*ys) for ys in zip(linears(layers, x), plain, strict=True)]
    assert changed == [True, True, False]


def test_zeroing_one_adapter_leaves_the_others_regions_unchanged(tiny_backbone):
    adapters = [random_adapter(tiny_backbone, seed=s, target=str(s)) for s in (1, 2)]
    nothing = {name: (down, 0 * up) for name, (down, up) in adapters[1].weights.items()}
    zeroed = [adapters[0], dataclasses.replace(adapters[1], weights=nothing)]
    masks = torch.zeros(11, 2)
    masks[2:6, 0] = masks[4:9, 1] = 1
    layers = heads_of(tiny_backbone)
    x = torch.randn(2, 11, layers[0].in_features)
    found = []
    for given in (adapters, zeroed):
        stacked = StackedAdapters(tiny_backbone.transformer, given)
        stacked.act(stacked.gates(masks))
        with stacked.attached():
            found.append(torch.stack(linears(layers, x)))
    other = masks[:, 1] == 0
    assert torch.equal(found[0][:, :, other], found[1][:, :, other])
    assert (found[0][:, :, ~other] != found[1][:, :, ~other]).any()


def test_a_masked_out_adapter_changes_nothing(tiny_backbone):
    adapters = [random_adapter(tiny_backbone, seed=s, target=str(s)) for s in (1, 2)]
    latents = torch.randn(1, *tiny_backbone.latent_shape())
    text = tiny_backbone.encode_text(["a witch"])
    num_tokens = text.shape[1] + tiny_backbone.grid().num_tokens
    masks = torch.zeros(num_tokens, 2)
    masks[:, 0] = 1
    alone = StackedAdapters(tiny_backbone.transformer, adapters[:1])
    both = StackedAdapters(tiny_backbone.transformer, adapters)
    both.act(both.gates(masks))
    with torch.no_grad():
        with alone.attached():
            expected = tiny_backbone.velocity(latents, text, TIME)
        with both.attached():
            found = tiny_backbone.velocity(latents, text, TIME)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_transformer_is_left_as_it_was(tiny_backbone):
    latents, text = torch.randn(1, *tiny_backbone.latent_shape()), tiny_backbone.encode_text(["a"])
    before = tiny_backbone.velocity(latents, text, TIME)
    stacked = StackedAdapters(tiny_backbone.transformer, [random_adapter(tiny_backbone)])
    with pytest.raises(RuntimeError, match="stop"), stacked.attached():
        raise RuntimeError("stop")
    assert torch.equal(tiny_backbone.velocity(latents, text, TIME), before)
    assert not any(m._forward_hooks for m in tiny_backbone.transformer.modules())


def test_an_adapter_of_another_model_is_refused(tiny_backbone):
    name = "transformer_blocks.0.attn1.to_q"
    wide = {name: (torch.zeros(2, 7), torch.zeros(7, 2))}
    deep = {"transformer_blocks.99.attn1.to_q": (torch.zeros(2, 7), torch.zeros(7, 2))}
    for weights in (wide, deep):
        adapter = Adapter(id="x", kind="motion", target="walking", weights=weights, rank=2)
        with pytest.raises(ValueError, match="this base model"):
            StackedAdapters(tiny_backbone.transformer, [adapter])


def test_masks_must_fit_the_adapters(tiny_backbone):
    stacked = StackedAdapters(tiny_backbone.transformer, [random_adapter(tiny_backbone)])
    with pytest.raises(ValueError, match="1 adapters"):
        stacked.gates(torch.ones(5, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_settled_adapter_gives_the_same_numbers(tiny_backbone, dtype):
    transformer = tiny_backbone.transformer.to(dtype)
    adapters = [
        random_adapter(tiny_backbone, "motion", "walking", rank=4, seed=1, scale=0.7),
        random_adapter(tiny_backbone, "motion", "sitting", rank=2, seed=2),
    ]
    resident = [settled(adapter, tiny_backbone.device, dtype) for adapter in adapters]
    module = transformer.get_submodule("transformer_blocks.0.attn1.to_q")
    x = torch.randn(2, 5, module.in_features).to(dtype)
    found = []
    for given in (adapters, resident):
        with StackedAdapters(transformer, given).attached():
            found.append(module(x))
    assert torch.equal(*found)
    assert not torch.equal(found[0], module(x))
    assert resident[0].num_bytes == adapters[0].num_bytes * dtype.itemsize // 4
    assert resident[0].target == "walking"
