"""What the recipes share: the optimiser, saved state, conditioning, the tokenizer."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from miniature.cast import STRANGER
from miniature.conditioning import (
    GRID,
    NUM_LATENTS,
    SECOND_HALF,
    SLOTS,
    attention_bias,
    box_tokens,
    conditioning,
)
from miniature.motions import improvised
from miniature.optim import Average, MuonAdam, orthogonalise, warm_then_linear
from miniature.recipes import judge
from miniature.recipes.base import Levels, VideoModel, names_of_acts
from miniature.recipes.vae import Objective, keep_layout, make_vae
from miniature.replay import Replayed
from miniature.run import Run
from miniature.saving import load_state, load_training, save_state, save_training
from miniature.text import MAX_TOKENS, SUBJECT_TOKENS, make_tokenizer
from miniature.world import Puppet, Spec, render
from pipelines.plan import Box
from pipelines.regions import TokenGrid
from pipelines.regions import box_tokens as region_tokens


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (2, 48, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
        assert values.min() > 0.5
        assert values.max() < 1.4


def _regression(seed: int) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 4))
    inputs = torch.randn(64, 8)
    return model, inputs, torch.sin(inputs @ torch.randn(8, 4))


def _descend(model: nn.Module, optimiser: MuonAdam, x: torch.Tensor, y: torch.Tensor) -> float:
    loss = (model(x) - y).square().mean()
    loss.backward()
    optimiser.step(1.0)
    return loss.item()


def test_the_optimiser_learns_and_resumes_where_it_stopped(tmp_path: Path) -> None:
    model, x, y = _regression(0)
    optimiser = MuonAdam(model.named_parameters(), lr=0.05)
    # Still on its way down: where it has converged, rounding alone takes two runs apart.
    losses = [_descend(model, optimiser, x, y) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    save_training(tmp_path, "m", model.state_dict(), optimiser, 60)
    twin, _, _ = _regression(1)
    other = MuonAdam(twin.named_parameters(), lr=0.05)
    assert load_training(tmp_path, "m", twin, other, "cpu") == 60
    pairs = [(_descend(model, optimiser, x, y), _descend(twin, other, x, y)) for _ in range(5)]
    assert all(ours == pytest.approx(theirs, rel=0.02) for ours, theirs in pairs)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model, _, _ = _regression(0)
    optimiser = MuonAdam(model.named_parameters(), lr=0.05)
    save_training(tmp_path, "m", {"other": torch.ones(1)}, optimiser, 60)
    with pytest.raises(ValueError, match="another m: other"):
        load_training(tmp_path, "m", model, optimiser, "cpu")


def test_the_judge_goes_on_where_its_minutes_stopped_it(tmp_path: Path) -> None:
    short = Run(
        out=tmp_path / "out",
        state=tmp_path / "state",
        seed=0,
        minutes=1e-9,
        device="cpu",
        tiny=True,
    )
    assert [judge.train(short)["steps"] for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    weights = load_state(short.state, "judge")
    shipped = load_file(short.out / "judge.safetensors")
    assert all(torch.equal(shipped[name], tensor.half()) for name, tensor in weights.items())


def test_state_is_split_into_small_files_and_read_back(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((1_000_000,), float(i)) for i in range(7)}
    save_state(tmp_path, "big", tensors)
    assert len(list(tmp_path.glob("big-*.safetensors"))) > 1
    assert all(p.stat().st_size < 12 * 2**20 for p in tmp_path.iterdir())
    back = load_state(tmp_path, "big")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], tensors[k]) for k in tensors)


def test_the_average_follows_and_swaps() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = Average([weight], decay=0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(200):
        average.update()
    average.swap()
    assert torch.allclose(weight, torch.ones(3), atol=1e-3)


def test_the_rate_rises_then_falls() -> None:
    rates = [warm_then_linear(i / 100) for i in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates[-1] == pytest.approx(0.02)


def test_a_token_is_owned_by_the_caption_of_its_box_and_half() -> None:
    actors = (
        Puppet(
            character="cat", motions=("waving", "sitting"), x0=0.4, x1=0.4, ground=0.9, height=0.7
        ),
        Puppet(character="bear", motions=("dancing",), x0=1.1, x1=1.1, ground=0.9, height=0.7),
    )
    spec = Spec(place="city", seed=0, puppets=actors)
    told = conditioning(spec, render([spec]).boxes[0], random.Random(0))
    assert len(told.captions) == SLOTS
    assert told.captions[:2] == ("a cat is waving in the city", "a cat is sitting in the city")
    assert told.captions[3] == ""
    assert told.captions[4] == "the city"
    owned = told.owned.view(SLOTS, NUM_LATENTS, *GRID)
    assert not owned[0, SECOND_HALF:].any()
    assert not owned[1, :SECOND_HALF].any()
    assert not owned[3].any()
    assert torch.equal(owned[4], ~owned[:4].any(0))


def test_strangers_are_told_as_subject_priors_are_taught() -> None:
    actor = Puppet(
        character=STRANGER,
        motions=(improvised("clapping", "kneeling"), "waving"),
        x0=0.5,
        x1=0.5,
        ground=0.9,
        height=0.7,
    )
    spec = Spec(place="city", seed=0, puppets=(actor,))
    boxes = render([spec]).boxes[0]
    found = conditioning(spec, boxes, random.Random(0))
    assert found.caption == "a [v1] person is [v1] then waving in the city"
    assert found.captions[0] == "a [v1] person is [v1] in the city"
    assert found.captions[1] == "a [v1] person is waving in the city"
    still = replace(spec, still_s=1.0)
    captions = {conditioning(still, boxes, random.Random(i)).caption for i in range(9)}
    assert captions == {"a [v1] person", "a [v1] person in the city"}
    assert conditioning(still, boxes, random.Random(0)).captions[1] == ""


def test_boxes_never_lose_their_last_token() -> None:
    thin = torch.tensor([[0.99, 0.99, 1.0, 1.0], [0.5, 0.5, 0.501, 0.501]])
    assert box_tokens(thin).flatten(1).sum(1).tolist() == [1, 1]


def test_boxes_own_in_training_what_they_own_in_rendering() -> None:
    rng = random.Random(0)
    for _ in range(300):
        left, top = rng.choice([rng.random(), 0.9999, 0.5]), rng.choice([rng.random(), 0.25])
        right, bottom = (min(1.0, edge + rng.random() / 4 + 1e-4) for edge in (left, top))
        edges = torch.tensor([left, top, right, bottom])
        box = Box(**dict(zip(("left", "top", "right", "bottom"), edges.tolist(), strict=True)))
        owned = torch.zeros(GRID, dtype=torch.bool)
        owned[region_tokens(box, TokenGrid(NUM_LATENTS, *GRID))] = True
        assert torch.equal(box_tokens(edges[None])[0], owned), box


def test_the_bias_hides_other_captions_and_foreign_regions() -> None:
    owned = torch.zeros(1, 2, 6, dtype=torch.bool)
    owned[0, 0, :2] = True
    owned[0, 1, 2:] = True
    sees = attention_bias(owned, 3, torch.float32)[0, 0] == 0
    assert sees[:3, :3].all()
    assert not sees[:3, 3:6].any()
    assert sees[6:, 6:].all()
    assert sees[6:8, :3].all()
    assert not sees[6:8, 3:6].any()


def test_words_are_pieces_and_subjects_have_their_own() -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer("a [v1] pirate is walking in the forest").input_ids
    assert len(ids) == 9
    assert tokenizer.unk_token_id not in ids
    assert len({tokenizer.convert_tokens_to_ids(f"▁{t}") for t in SUBJECT_TOKENS}) == 9
    odd = tokenizer("a zyzzyva", padding="max_length", max_length=MAX_TOKENS).input_ids
    assert len(odd) == MAX_TOKENS
    assert tokenizer.unk_token_id not in odd


def test_the_autoencoder_learns_in_the_chunks_it_works_in() -> None:
    torch.manual_seed(0)
    vae = make_vae().eval()
    video = torch.rand(1, 3, 25, 32, 48) * 2 - 1
    with torch.no_grad():
        whole = vae.decode(vae.encode(video).latent_dist.mode()).sample
        errors, caches, start = [], (None, None), 0
        for length in (9, 8, 8):
            latent_frames = (length + 3) // 4
            chunk = video[:, :, start : start + length]
            noise = torch.zeros(1, 16, latent_frames, 4, 6)
            _, squared, *later = Objective(vae)(chunk, noise, torch.tensor(0.0), *caches)
            errors.append(squared.item() * length)
            caches, start = (later[0], later[1]), start + length
    assert sum(errors) / 25 == pytest.approx((whole - video).square().mean().item(), rel=1e-4)


def test_caches_carry_no_gradients() -> None:
    vae = make_vae()
    noise = torch.zeros(1, 16, 3, 4, 6)
    first = (torch.zeros(1, 3, 9, 32, 48), noise, torch.tensor(0.0))
    _, _, seen, drawn = Objective(vae)(*first, None, None)

    def tensors(cache: object) -> list[torch.Tensor]:
        if isinstance(cache, dict):
            return [tensor for part in cache.values() for tensor in tensors(part)]
        return [cache] if isinstance(cache, torch.Tensor) else []

    assert tensors(seen)
    assert tensors(drawn)
    assert not any(t.requires_grad for t in tensors(seen) + tensors(drawn))


def test_noise_levels_come_to_count_alike() -> None:
    levels = Levels("cpu")
    steps = torch.arange(0, 1000, 10)
    truth = torch.where(steps < 500, 0.01, 0.4)
    for _ in range(600):
        levels.balance(steps, truth)
    losses = truth.clone().requires_grad_()
    total = levels.balance(steps, losses)
    assert total.item() == pytest.approx(truth.mean().item(), rel=0.02)
    total.backward()
    assert losses.grad is not None
    pull = losses.grad * truth
    assert torch.allclose(pull, pull[0].expand_as(pull), rtol=0.02)


def test_rows_of_the_mask_are_aligned() -> None:
    owned = torch.ones(2, SLOTS, 54, dtype=torch.bool)
    bias = attention_bias(owned, MAX_TOKENS, torch.bfloat16)
    assert bias.shape[-1] % 16 != 0, "or the test tests nothing"
    assert bias.stride(-2) % 16 == 0


def test_what_has_no_gradient_stays() -> None:
    model, x, y = _regression(0)
    optimiser = MuonAdam(model.named_parameters(), lr=0.05, weight_decay=0.1)
    _descend(model, optimiser, x, y)
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    before = frozen.detach().clone()
    for _ in range(3):
        _descend(model, optimiser, x, y)
    assert torch.equal(frozen, before)


def test_names_of_acts_are_marked_and_nothing_else() -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer("a witch is bowing slowly in the forest").input_ids
    marked = names_of_acts(tokenizer)[ids].tolist()
    assert marked == [False, True, False, True, *[False] * 5]


def test_a_strange_word_is_new_each_time_and_only_where_it_is() -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = VideoModel(len(tokenizer)).eval()
    heard = []
    model.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: heard.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    ids = torch.tensor([tokenizer("a witch is waving", padding="max_length").input_ids])
    strange = torch.zeros_like(ids, dtype=torch.bool)
    strange[0, 1] = True
    latents, step = torch.zeros(1, 13, 16, 12, 18), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        for where in (None, strange, strange):
            model(latents, ids, step, None, where)
    plain, one, two = heard
    assert torch.equal(one[0, 2:], plain[0, 2:])
    assert torch.equal(one[0, 0], plain[0, 0])
    assert not torch.allclose(one[0, 1], plain[0, 1])
    assert not torch.allclose(one[0, 1], two[0, 1])


def test_a_step_on_a_cpu_is_simply_called() -> None:
    calls: list[int] = []
    step = Replayed(lambda: calls.append(1), record=False)
    for _ in range(5):
        step()
    assert len(calls) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_step_learns_as_a_called_one() -> None:
    def learned(*, record: bool) -> torch.Tensor:
        model, x, y = (part.cuda() for part in _regression(0))
        optimiser = MuonAdam(model.named_parameters(), lr=0.05)

        def work() -> None:
            (model(x) - y).square().mean().backward()
            optimiser.apply()

        step = Replayed(work, record=record)
        for i in range(20):
            optimiser.set_rate(1 - i / 20)
            step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.allclose(learned(record=True), learned(record=False), atol=1e-4)


def test_norms_that_keep_the_layout_are_the_same_norms() -> None:
    torch.manual_seed(0)
    vae = make_vae().eval()
    for parameter in vae.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    first = (torch.rand(1, 3, 9, 32, 48), torch.randn(1, 16, 3, 4, 6), torch.tensor(0.3))
    with torch.no_grad():
        plain = Objective(vae)(*first, None, None)[0]
        keep_layout(vae)
        kept = Objective(vae)(*first, None, None)[0]
    assert kept.item() == pytest.approx(plain.item(), rel=1e-5)
    norms = [module for module in vae.modules() if isinstance(module, nn.GroupNorm)]
    assert norms
    assert all(type(norm) is not nn.GroupNorm for norm in norms), "or the test tests nothing"
