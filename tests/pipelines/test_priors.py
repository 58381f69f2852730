"""Learning priors on a tiny random model: the losses, the loop, and pitfalls it must not have."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pipelines import lora
from pipelines.backbone import Backbone
from pipelines.plan import Box
from pipelines.prior_data import clip_samples, image_samples, to_pixels
from pipelines.prior_draws import draw, generator_of, sample_of_step
from pipelines.prior_loss import Balance, HeldOutLoss, Schedule, debias, frame_loss, motion_loss
from pipelines.prior_parts import CHECKPOINT, split
from pipelines.prior_steps import motion_backward
from pipelines.prior_training import Trainee
from pipelines.prior_weights import new_pairs, parameters_of, paths_of, snapshot
from pipelines.priors import (
    MotionPriorOptions,
    PriorReport,
    SubjectPriorOptions,
    TrainingClip,
    train_motion_prior,
    train_subject_prior,
)
from pipelines.progress import Cancelled, silent

QUICK = MotionPriorOptions(
    rank=4,
    num_steps=6,
    learning_rate=5e-3,
    evaluate_every=3,
    num_evaluations=2,
    checkpoint_every=2,
)
LOOKS = SubjectPriorOptions(
    rank=4, num_steps=6, learning_rate=5e-3, evaluate_every=3, num_evaluations=2, num_frames=5
)


def clip(seed, num_frames=17, size=(32, 48)):
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, *size, 3), dtype=np.uint8)
    return TrainingClip(frames=frames, caption="a person is walking", name=f"clip {seed}")


def images(count):
    return [clip(seed, 1).frames[0] for seed in range(count)]


CLIPS = [clip(seed) for seed in range(3)]


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True)
    )


# What is learned from.


def test_pixels_span_minus_one_to_one():
    frames = np.array([0, 255], dtype=np.uint8).repeat(3).reshape(2, 1, 1, 3)
    pixels = to_pixels(frames)
    assert pixels.shape == (1, 3, 2, 1, 1)
    assert pixels[0, :, 0].unique().tolist() == [-1.0]
    assert pixels[0, :, 1].unique().tolist() == [1.0]


def seen_pixels(backbone, monkeypatch, build):
    seen = []
    encode = backbone.encode_video
    monkeypatch.setattr(
        backbone, "encode_video", lambda pixels: (seen.append(pixels), encode(pixels))[1]
    )
    build()
    return seen


def test_short_clips_loop_and_are_never_stretched(tiny_backbone, monkeypatch):
    short = clip(0, num_frames=8)
    (pixels,) = seen_pixels(
        tiny_backbone, monkeypatch, lambda: clip_samples(tiny_backbone, [short], QUICK, silent)
    )
    expected = to_pixels(short.frames)
    assert pixels.min() < -0.9
    for f in range(17):
        assert torch.equal(pixels[:, :, f], expected[:, :, f % 8])


def test_aspect_is_cropped_not_squashed(tiny_backbone, monkeypatch):
    """A centred square, three times as wide a frame: the square stays a square."""
    frames = np.zeros((17, 64, 288, 3), dtype=np.uint8)
    frames[:, 16:48, 128:160] = 255
    wide = TrainingClip(frames=frames, caption="a", name="wide")
    (pixels,) = seen_pixels(
        tiny_backbone, monkeypatch, lambda: clip_samples(tiny_backbone, [wide], QUICK, silent)
    )
    bright = pixels[0, 0, 0] > 0
    assert bright.any(0).sum() == bright.any(1).sum() == 16


def test_images_become_still_clips_and_their_mirror_images(tiny_backbone, monkeypatch):
    pixels = seen_pixels(
        tiny_backbone,
        monkeypatch,
        lambda: image_samples(tiny_backbone, images(1), "a [v1] cat", LOOKS, silent),
    )
    mirror, plain = pixels
    assert plain.shape[2] == 5
    assert torch.equal(plain[:, :, :1].expand_as(plain), plain)
    assert torch.equal(mirror, plain.flip(-1))
    chiral = dataclasses.replace(LOOKS, flip=0.0)
    (sample,) = image_samples(tiny_backbone, images(1), "a [v1] cat", chiral, silent)
    assert sample.mirrored is None


def test_what_is_around_a_subject_counts_as_told(tiny_backbone):
    aside = dataclasses.replace(LOOKS, background=0.1)
    left_half = Box(left=0, top=0, right=0.5, bottom=1)
    first, second = image_samples(
        tiny_backbone, images(2), "a [v1] cat", aside, silent, boxes=[left_half]
    )
    height, width = first.latents.shape[-2:]
    expected = torch.full((height, width), 0.1)
    expected[:, : width // 2] = 1
    assert torch.allclose(first.focus, expected)
    assert second.focus is None, "nobody was found: all of it counts"
    (plain,) = image_samples(
        tiny_backbone, images(1), "a [v1] cat", LOOKS, silent, boxes=[left_half]
    )
    assert plain.focus is None


def test_a_box_is_cropped_as_its_image_is(tiny_backbone):
    """The middle of a wide image is what the model sees of it."""
    aside = dataclasses.replace(LOOKS, background=0.5)
    wide = np.zeros((32, 192, 3), np.uint8)
    middle = Box(left=0.375, top=0, right=0.625, bottom=1)
    (sample,) = image_samples(tiny_backbone, [wide], "a", aside, silent, boxes=[middle])
    assert torch.allclose(sample.focus, torch.ones_like(sample.focus))


def test_a_subject_is_learned_where_it_is(tiny_backbone):
    aside = dataclasses.replace(LOOKS, background=0.1)
    box = Box(left=0.2, top=0, right=0.6, bottom=1)

    def learned(boxes):
        made = train_subject_prior(
            tiny_backbone, images(3), "cat", "[v1]", entity_id="cat", boxes=boxes, options=aside
        )
        return made.adapter.weights

    alone = learned([box] * 3)
    assert same(alone, learned([box] * 3))
    assert not same(alone, learned([]))
    with pytest.raises(ValueError, match="more boxes than images"):
        learned([box] * 4)


def test_split_holds_out_a_third_at_most(tiny_backbone):
    samples = clip_samples(tiny_backbone, CLIPS, QUICK, silent)
    seen, held_out = split(samples, 1, seed=0)
    assert len(seen) == 2
    assert {s.name for s in seen} | {s.name for s in held_out} == {c.name for c in CLIPS}
    assert [len(part) for part in split(samples, 9, seed=0)] == [2, 1]
    assert [len(part) for part in split(samples[:2], 9, seed=0)] == [2, 0]


def test_cuts_of_a_clip_stay_together_and_count_as_one(tiny_backbone):
    clips = [dataclasses.replace(one, cuts=(clip(9).frames, clip(10).frames)) for one in CLIPS]
    samples = clip_samples(tiny_backbone, clips, QUICK, silent)
    assert len(samples) == 9
    assert len({sample.latents.sum().item() for sample in samples}) == 5
    seen, held_out = split(samples, 1, seed=0)
    assert [len(seen), len(held_out)] == [6, 1]
    assert held_out[0] is next(s for s in samples if s.name == held_out[0].name)
    assert not {s.name for s in seen} & {s.name for s in held_out}
    report = train_motion_prior(tiny_backbone, clips, "walking", options=QUICK).report
    assert (report.num_samples, report.num_held_out) == (2, 1)


@pytest.mark.parametrize("cuts", [(), (0.0,), (1.0, -1.0), (5.0,)])
def test_cuts_are_sizes(cuts):
    with pytest.raises(ValueError, match="cuts"):
        MotionPriorOptions(cuts=cuts)


# Chance.


def test_draws_depend_on_seed_and_step_alone():
    shape = torch.Size((1, 5, 16, 4, 6))
    one, again, other = (draw(shape, 1000, 0, "step", step) for step in (3, 3, 4))
    assert torch.equal(one.noise, again.noise)
    assert (one.timestep, one.latent, one.anchor, one.coins) == (
        again.timestep,
        again.latent,
        again.anchor,
        again.coins,
    )
    assert not torch.equal(one.noise, other.noise)
    times = [draw(shape, 1000, 0, step).timestep.item() for step in range(400)]
    assert 400 < np.mean(times) < 600
    assert min(times) < 30
    assert max(times) > 970


def test_every_sample_once_an_epoch():
    for epoch in range(3):
        steps = range(epoch * 5, epoch * 5 + 5)
        assert sorted(sample_of_step(s, 5, seed=7) for s in steps) == list(range(5))
    assert len({tuple(sample_of_step(e * 5 + i, 5, 7) for i in range(5)) for e in range(6)}) > 1


# The losses.


def test_losses_equal_their_formulas():
    predicted, target = (torch.randn(2, 5, 3, 4, 6, generator=generator_of(i)) for i in ("p", "t"))
    assert torch.allclose(debias(target, 2), 2**0.5 * target - target[:, [2]])
    error = predicted - target
    debiased = 2**0.5 * error - error[:, [2]]
    expected = (error**2).mean() + (debiased**2).mean()
    assert torch.allclose(motion_loss(predicted, target, 2), expected)
    assert torch.allclose(frame_loss(predicted, target, 3), (error[:, 3] ** 2).mean())
    focus = torch.rand(4, 6, generator=generator_of("f")) + 0.1
    weighted = (error[:, 3] ** 2 * focus).sum() / (focus.sum() * 2 * 3)
    assert torch.allclose(frame_loss(predicted, target, 3, focus), weighted)
    assert torch.allclose(
        frame_loss(predicted, target, 3, torch.full((4, 6), 0.3)), (error[:, 3] ** 2).mean()
    )


def test_what_all_frames_share_is_no_debiased_error():
    """The point of it: a wrong but constant appearance costs nothing but beta-alpha's rest."""
    target = torch.randn(1, 5, 3, 4, 6)
    shifted = target + torch.randn(1, 1, 3, 4, 6)
    plain = torch.nn.functional.mse_loss(shifted, target)
    left = torch.nn.functional.mse_loss(debias(shifted, 0), debias(target, 0))
    assert torch.allclose(left / plain, torch.tensor((2**0.5 - 1) ** 2), atol=1e-4)


def test_the_target_is_v(tiny_backbone):
    schedule = Schedule(tiny_backbone.scheduler())
    latents, noise = torch.randn(2, 1, 5, 16, 4, 6)
    noisy, v = schedule.noised(latents, noise, torch.tensor([400]))
    a = schedule.scheduler.alphas_cumprod[400].float()
    assert torch.allclose(noisy, a.sqrt() * latents + (1 - a).sqrt() * noise, atol=1e-5)
    assert torch.allclose(v, a.sqrt() * noise - (1 - a).sqrt() * latents, atol=1e-5)


def test_the_held_out_loss_is_comparable(tiny_backbone):
    samples = clip_samples(tiny_backbone, CLIPS[:1], QUICK, silent)
    loss = HeldOutLoss(tiny_backbone, samples, 3, seed=0)
    untrained = paths_of(new_pairs(tiny_backbone.transformer, "motion", 4, 0), learn=False)
    base = loss(None, silent, (0, 1))
    assert loss(untrained, silent, (0, 1)) == base == loss(None, silent, (0, 1))
    assert loss.timesteps.tolist() == [166, 500, 833]


def test_weighted_levels_count_alike():
    timesteps = torch.tensor([100, 500, 900])
    uniform = Balance(timesteps, [0.01, 0.02, 0.4], "uniform")
    assert uniform.mean([0.01, 0.01, 0.4]) == pytest.approx(0.14)
    assert uniform.weight(torch.tensor([900])) == 1
    levels = Balance(timesteps, [0.01, 0.02, 0.4], "levels")
    halved = [levels.mean(losses) for losses in ([0.005, 0.02, 0.4], [0.01, 0.02, 0.2])]
    assert halved[0] == pytest.approx(halved[1]), "half off at any level is the same gain"
    weighed = [
        levels.weight(torch.tensor([t])) * loss
        for t, loss in zip((100, 500, 900), (0.01, 0.02, 0.4), strict=True)
    ]
    assert weighed == pytest.approx([levels.base_loss] * 3)
    between = levels.weight(torch.tensor([300]))
    assert levels.weight(torch.tensor([500])) < between < levels.weight(torch.tensor([100]))
    assert levels.weight(torch.tensor([999])) == levels.weight(torch.tensor([900]))


def test_a_training_counts_levels_as_it_is_told(tiny_backbone):
    looks = [
        dataclasses.replace(LOOKS, loss_weighting=weighting) for weighting in ("uniform", "levels")
    ]
    reports = [
        train_subject_prior(
            tiny_backbone, images(3), "cat", "[v1]", entity_id="mia", options=options
        )
        for options in looks
    ]
    assert reports[0].report.base_loss > reports[1].report.base_loss, "the geometric mean is less"
    weights = [next(iter(r.adapter.weights.values()))[1] for r in reports]
    assert not torch.equal(*weights)


# The loop and its pitfalls.


def test_initial_pairs():
    transformer = torch.nn.Module()
    transformer.transformer_blocks = torch.nn.ModuleList([torch.nn.Module() for _ in range(2)])
    for block in transformer.transformer_blocks:
        block.attn1, block.ff = torch.nn.Module(), torch.nn.Module()
        for name in ("to_q", "to_k", "to_v"):
            setattr(block.attn1, name, torch.nn.Linear(256, 256))
        block.attn1.to_out = torch.nn.ModuleList([torch.nn.Linear(256, 256)])
        net = [torch.nn.Module(), torch.nn.Module(), torch.nn.Linear(1024, 256)]
        net[0].proj = torch.nn.Linear(256, 1024)
        block.ff.net = torch.nn.ModuleList(net)
    pairs = new_pairs(transformer, "subject", 32, 0, "prior")
    assert {name.split(".")[1] for name in pairs} == {"1"}
    down, up = pairs["transformer_blocks.1.ff.net.0.proj"]
    assert (down.shape, up.shape) == ((32, 256), (1024, 32))
    assert down.dtype == torch.float32
    assert not up.any()
    assert abs(down.std().item() - 1 / 32) < 2e-3


def test_a_clips_spatial_pairs_go_by_its_name_however_clips_are_shuffled(tiny_backbone):
    samples = clip_samples(tiny_backbone, CLIPS, QUICK, silent)
    options = dataclasses.replace(QUICK, skip_spatial=0.0)
    trainee = Trainee(
        prior=new_pairs(tiny_backbone.transformer, "motion", 4, 0),
        disposable={
            s.name: new_pairs(tiny_backbone.transformer, "subject", 4, s.name) for s in samples
        },
        options=options,
    )
    backward = motion_backward(tiny_backbone, trainee, samples, options, seed=5)
    for step in range(6):
        backward(step)
        name = samples[sample_of_step(step, 3, 5)].name
        for other, pairs in trainee.disposable.items():
            grown = any(p.grad is not None for p in parameters_of(pairs))
            assert grown == (other == name)
        before = {n: snapshot(p) for n, p in trainee.disposable.items()}
        trainee.update(step)
        for other, pairs in trainee.disposable.items():
            assert same(before[other], snapshot(pairs)) == (other != name)


def test_only_active_adapters_are_evaluated(tiny_backbone, monkeypatch):
    clips = [clip(seed) for seed in range(8)]
    samples = clip_samples(tiny_backbone, clips, QUICK, silent)
    options = dataclasses.replace(QUICK, skip_spatial=0.0)
    trainee = Trainee(
        prior=new_pairs(tiny_backbone.transformer, "motion", 4, 0),
        disposable={
            s.name: new_pairs(tiny_backbone.transformer, "subject", 4, s.name) for s in samples
        },
        options=options,
    )
    calls = []
    original = lora.LowRankPath.add
    monkeypatch.setattr(
        lora.LowRankPath, "add", lambda self, *args: (calls.append(self), original(self, *args))[1]
    )
    motion_backward(tiny_backbone, trainee, samples, options, seed=0)(0)
    # 2 odd blocks in the spatial path, 2 odd and 2 even ones in the temporal path, 6 layers each
    assert len(calls) == (2 + 4) * 6


def test_the_spatial_path_teaches_the_clip_and_the_temporal_path_the_prior(tiny_backbone):
    samples = clip_samples(tiny_backbone, CLIPS[:1], QUICK, silent)
    options = dataclasses.replace(QUICK, skip_spatial=1.0)
    trainee = Trainee(
        prior=new_pairs(tiny_backbone.transformer, "motion", 4, 0),
        disposable={s.name: new_pairs(tiny_backbone.transformer, "subject", 4, 1) for s in samples},
        options=options,
    )
    motion_backward(tiny_backbone, trainee, samples, options, seed=0)(0)
    assert all(p.grad is None for p in parameters_of(trainee.disposable["clip 0"]))
    assert all(p.grad is not None for p in parameters_of(trainee.prior))


def test_gradients_are_clipped(tiny_backbone, monkeypatch):
    trainee = Trainee(prior=new_pairs(tiny_backbone.transformer, "motion", 4, 0), options=QUICK)
    for parameter in trainee.parameters:
        parameter.grad = torch.full_like(parameter, 1e4)
    norms = []
    step = trainee.optimiser.step
    monkeypatch.setattr(
        trainee.optimiser,
        "step",
        lambda: (
            norms.append(torch.cat([p.grad.flatten() for p in trainee.parameters]).norm()),
            step(),
        ),
    )
    trainee.update(0)
    assert norms[0] == pytest.approx(QUICK.max_grad_norm, rel=1e-4)


def test_the_learning_rate_may_fall_to_zero(tiny_backbone):
    options = dataclasses.replace(QUICK, schedule="linear")
    trainee = Trainee(prior=new_pairs(tiny_backbone.transformer, "motion", 4, 0), options=options)
    rates = []
    for step in range(6):
        trainee.update(step)
        rates.append(trainee.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([5e-3 * (1 - step / 6) for step in range(6)])


def test_fp16_training_is_refused(tiny_folder):
    half = Backbone.load(tiny_folder, dtype=torch.float16)
    half.vae.float()
    with pytest.raises(ValueError, match="bf16"):
        train_motion_prior(half, CLIPS, "walking", options=QUICK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_a_killed_training_goes_on_to_the_same_bits(tiny_folder, tmp_path, dtype, killed_at):
    backbone = Backbone.load(tiny_folder, dtype=dtype)
    whole = train_motion_prior(backbone, CLIPS, "walking", options=QUICK, seed=3)

    def kill(done, _total):
        if done == killed_at:
            raise Cancelled

    with pytest.raises(Cancelled):
        train_motion_prior(
            backbone,
            CLIPS,
            "walking",
            options=QUICK,
            seed=3,
            progress=kill,
            checkpoint_dir=tmp_path,
        )
    done = []
    resumed = train_motion_prior(
        Backbone.load(tiny_folder, dtype=dtype),
        CLIPS,
        "walking",
        options=QUICK,
        seed=3,
        progress=lambda step, _: done.append(step),
        checkpoint_dir=tmp_path,
    )
    assert same(whole.adapter.weights, resumed.adapter.weights)
    assert dataclasses.replace(whole.report, seconds=0) == dataclasses.replace(
        resumed.report, seconds=0
    )
    assert next(step for step in done if step) == killed_at // 2 * 2 + 1


def test_as_many_clips_measure_as_are_told():
    for options in (MotionPriorOptions, SubjectPriorOptions):
        with pytest.raises(ValueError, match="num_held_out is -1"):
            options(num_held_out=-1)
        assert options(num_held_out=0).num_held_out == 0


def test_what_another_model_had_learned_is_not_gone_on_from(tiny_backbone, tmp_path):
    """Also where it has the same encoders: a model that was tuned further."""
    other = copy.copy(tiny_backbone)
    other.transformer = copy.deepcopy(tiny_backbone.transformer)
    with torch.no_grad():
        other.transformer.transformer_blocks[1].attn1.to_q.weight.mul_(1.5)
    done = []
    for backbone in (tiny_backbone, other, other):
        done.clear()
        learn = {"options": QUICK, "checkpoint_dir": tmp_path}
        train_motion_prior(
            backbone, CLIPS, "walking", progress=lambda step, _: done.append(step), **learn
        )
    assert next(step for step in done if step) == QUICK.num_steps
    done.clear()
    train_motion_prior(
        tiny_backbone, CLIPS, "walking", progress=lambda step, _: done.append(step), **learn
    )
    assert next(step for step in done if step) == 1


def test_a_checkpoint_of_another_training_is_not_gone_on_from(tiny_backbone, tmp_path):
    for seed in (1, 2):
        last = train_motion_prior(
            tiny_backbone, CLIPS, "walking", options=QUICK, seed=seed, checkpoint_dir=tmp_path
        )
    fresh = train_motion_prior(tiny_backbone, CLIPS, "walking", options=QUICK, seed=2)
    assert same(last.adapter.weights, fresh.adapter.weights)


@pytest.mark.parametrize("left", [lambda _: b"", lambda x: x[:1000], lambda x: bytes(len(x))])
def test_a_damaged_checkpoint_counts_as_none(tiny_backbone, tmp_path, left):
    made = []
    for _ in range(2):
        result = train_motion_prior(
            tiny_backbone, CLIPS, "walking", options=QUICK, checkpoint_dir=tmp_path
        )
        made.append(result.adapter.weights)
        file = tmp_path / CHECKPOINT
        file.write_bytes(left(file.read_bytes()))
    assert same(*made)


@pytest.mark.parametrize("spatial_path", ["whole_clip", "one_latent"])
def test_a_motion_is_learned_into_the_temporal_blocks(tiny_backbone, spatial_path):
    options = dataclasses.replace(
        QUICK, num_steps=24, evaluate_every=8, spatial_path=spatial_path, learning_rate=1e-2
    )
    before = {k: v.clone() for k, v in tiny_backbone.transformer.state_dict().items()}
    result = train_motion_prior(tiny_backbone, CLIPS, "Walking", options=options)
    adapter, report = result.adapter, result.report
    assert (adapter.kind, adapter.target, adapter.rank) == ("motion", "walking", 4)
    assert {int(name.split(".")[1]) % 2 for name in adapter.weights} == {0}
    assert report.usable
    assert report.held_out_loss < report.base_loss
    assert report.gain == pytest.approx(1 - report.held_out_loss / report.base_loss)
    assert (report.num_samples, report.num_held_out) == (2, 1)
    after = tiny_backbone.transformer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_subject_is_learned_into_the_spatial_blocks(tiny_backbone):
    options = dataclasses.replace(LOOKS, num_steps=24, evaluate_every=8, learning_rate=1e-2)
    result = train_subject_prior(
        tiny_backbone, images(3), "cat", "[v1]", entity_id="mia", options=options
    )
    adapter = result.adapter
    assert (adapter.kind, adapter.target) == ("subject", "mia")
    assert (adapter.token, adapter.phrase) == ("[v1]", "cat")
    assert {int(name.split(".")[1]) % 2 for name in adapter.weights} == {1}
    assert result.report.usable
    assert (result.report.num_samples, result.report.num_held_out) == (2, 1)


def held_out_losses(monkeypatch, *losses):
    """Let held-out looks see these losses: the base model's, then one a look."""
    left = [(loss, loss) for loss in losses]
    monkeypatch.setattr(HeldOutLoss, "__call__", lambda *_: left.pop(0))


def test_an_adapter_no_better_than_the_base_is_flagged(tiny_backbone, monkeypatch):
    held_out_losses(monkeypatch, 1.0, 1.0, 1.2)
    result = train_motion_prior(tiny_backbone, CLIPS, "walking", options=QUICK)
    assert not result.report.usable
    assert (result.report.best_step, result.report.gain) == (0, 0)
    assert not any(up.any() for _, up in result.adapter.weights.values())


def test_an_adapter_hardly_better_than_the_base_is_flagged(tiny_backbone, monkeypatch):
    held_out_losses(monkeypatch, 1.0, 0.99, 1.0)
    options = dataclasses.replace(QUICK, min_gain=0.02)
    report = train_motion_prior(tiny_backbone, CLIPS, "walking", options=options).report
    assert (report.best_step, report.usable) == (3, False)


def test_the_last_weights_are_kept_where_that_is_asked_for(tiny_backbone, monkeypatch):
    held_out_losses(monkeypatch, 1.0, 0.8, 0.9, 0.95, 0.9)
    options = dataclasses.replace(QUICK, num_steps=12, patience=1, keep="last")
    report = train_motion_prior(tiny_backbone, CLIPS, "walking", options=options).report
    assert (report.steps, report.best_step, report.usable) == (12, 12, True)
    assert report.gain == pytest.approx(0.1)


def test_last_weights_that_are_worse_than_the_base_are_flagged(tiny_backbone, monkeypatch):
    held_out_losses(monkeypatch, 1.0, 0.8, 1.1)
    options = dataclasses.replace(QUICK, num_steps=6, keep="last")
    report = train_motion_prior(tiny_backbone, CLIPS, "walking", options=options).report
    assert (report.best_step, report.usable) == (6, False)


def test_training_stops_early_and_keeps_the_best(tiny_backbone, monkeypatch):
    held_out_losses(monkeypatch, 1.0, 0.9, 0.8, 0.85, 0.81)
    options = dataclasses.replace(QUICK, num_steps=30, patience=2)
    done = []
    stopped = train_motion_prior(
        tiny_backbone, CLIPS, "walking", options=options, progress=lambda *unit: done.append(unit)
    )
    assert (stopped.report.steps, stopped.report.best_step) == (12, 6)
    assert done[-1] == (30, 30)
    held_out_losses(monkeypatch, 1.0, 0.9, 0.8)
    best = train_motion_prior(tiny_backbone, CLIPS, "walking", options=QUICK)
    assert same(stopped.adapter.weights, best.adapter.weights)


def test_cancelling_stops_within_a_step_and_leaves_the_model_whole(tiny_backbone):
    latents, text = torch.randn(1, *tiny_backbone.latent_shape()), tiny_backbone.encode_text(["a"])
    before = tiny_backbone.velocity(latents, text, torch.tensor([5]))
    done = []

    def stop(step, _total):
        done.append(step)
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        train_motion_prior(tiny_backbone, CLIPS, "walking", options=QUICK, progress=stop)
    assert done.count(2) == 1
    assert torch.equal(tiny_backbone.velocity(latents, text, torch.tensor([5])), before)


def test_gradient_checkpointing_changes_nothing_but_memory(tiny_backbone):
    plain, thrifty = (
        train_motion_prior(
            tiny_backbone,
            CLIPS,
            "walking",
            options=dataclasses.replace(QUICK, gradient_checkpointing=on),
        )
        for on in (False, True)
    )
    assert same(plain.adapter.weights, thrifty.adapter.weights)
    assert not tiny_backbone.transformer.gradient_checkpointing


def test_one_clip_or_one_image_measures_itself(tiny_backbone):
    motion = train_motion_prior(tiny_backbone, CLIPS[:1], "walking", options=QUICK).report
    looks = train_subject_prior(
        tiny_backbone, images(1), "cat", "[v1]", entity_id="mia", options=LOOKS
    ).report
    assert (motion.num_samples, motion.num_held_out) == (1, 0)
    assert (looks.num_samples, looks.num_held_out) == (1, 0)


def test_what_cannot_be_learned_from_is_named(tiny_backbone):
    with pytest.raises(ValueError, match="names of their own"):
        train_motion_prior(tiny_backbone, [], "walking", options=QUICK)
    with pytest.raises(ValueError, match="names of their own"):
        train_motion_prior(tiny_backbone, [CLIPS[0]] * 2, "walking", options=QUICK)
    with pytest.raises(ValueError, match="reference images"):
        train_subject_prior(tiny_backbone, [], "cat", "[v1]", entity_id="mia", options=LOOKS)


def test_options_come_from_a_profile_and_unknown_keys_are_errors():
    adapter = TypeAdapter(MotionPriorOptions)
    assert adapter.validate_python({"rank": 16}).rank == 16
    with pytest.raises(ValidationError, match="rnak"):
        adapter.validate_python({"rnak": 16})
    for wrong in ({"rank": 0}, {"skip_spatial": 2.0}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
    with pytest.raises(ValueError, match="token"):
        SubjectPriorOptions(caption="a {phrase}")


def test_the_report_is_plain_data(tiny_backbone):
    report = train_motion_prior(tiny_backbone, CLIPS[:1], "walking", options=QUICK).report
    text = TypeAdapter(PriorReport).dump_json(report)
    assert json.loads(text)["usable"] in (True, False)
    assert TypeAdapter(PriorReport).validate_json(text) == report
