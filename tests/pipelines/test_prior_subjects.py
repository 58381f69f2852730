"""Several subjects side by side over one base model, against each of them alone."""

import dataclasses

import numpy as np
import pytest
import torch

from pipelines.prior_loss import HeldOutLoss
from pipelines.priors import (
    MotionPriorOptions,
    Subject,
    SubjectPriorOptions,
    TrainingClip,
    train_motion_prior,
    train_subject_prior,
    train_subject_priors,
)
from pipelines.progress import Cancelled

LOOKS = SubjectPriorOptions(
    rank=4,
    num_steps=6,
    learning_rate=5e-3,
    evaluate_every=3,
    num_evaluations=2,
    checkpoint_every=2,
    num_frames=5,
)


def images(seed, count=3):
    pixels = np.random.default_rng(seed)
    return [pixels.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(count)]


def subject(k, **changes):
    return Subject(
        images=images(k),
        phrase="cat",
        token=f"[v{k}]",
        entity_id=f"cat-{k}",
        options=dataclasses.replace(LOOKS, flip=0.5 * (k % 2), **changes),
        seed=k,
    )


def alone(backbone, one):
    return train_subject_prior(
        backbone,
        one.images,
        one.phrase,
        one.token,
        entity_id=one.entity_id,
        options=one.options,
        seed=one.seed,
    )


def distance(ours, theirs):
    """Relative, over all weights of two adapters."""
    pairs = [
        (a, b)
        for name, pair in theirs.weights.items()
        for a, b in zip(ours.weights[name], pair, strict=True)
    ]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def same(ours, theirs):
    return all(
        torch.equal(a, b)
        for name, pair in theirs.weights.items()
        for a, b in zip(ours.weights[name], pair, strict=True)
    )


def test_side_by_side_is_one_by_one(tiny_backbone):
    subjects = [subject(k) for k in range(3)]
    together = train_subject_priors(tiny_backbone, subjects)
    for one, found in zip(subjects, together, strict=True):
        expected = alone(tiny_backbone, one)
        assert distance(found.adapter, expected.adapter) < 1e-3
        assert found.report.held_out_loss == pytest.approx(expected.report.held_out_loss, rel=1e-4)
        assert (found.adapter.id, found.adapter.token) == (
            expected.adapter.id,
            expected.adapter.token,
        )
        assert found.report.num_held_out == 1


def test_one_that_stops_early_leaves_the_others_going(tiny_backbone, monkeypatch):
    subjects = [subject(k, patience=1, num_steps=9) for k in range(2)]
    looked = []

    def loss(held_out, *_):
        """The first subject gets worse at once; the second better every time."""
        looked.append(held_out.seed)
        return (1.0 + (0.1 if held_out.seed == 0 else -0.1) * looked.count(held_out.seed),)

    monkeypatch.setattr(HeldOutLoss, "__call__", loss)
    monkeypatch.setattr("pipelines.prior_parts.Balance", lambda *_: Plain(1.0))
    units = []
    reports = [
        result.report
        for result in train_subject_priors(
            tiny_backbone, subjects, progress=lambda *unit: units.append(unit)
        )
    ]
    assert [report.steps for report in reports] == [3, 9]
    assert [report.usable for report in reports] == [False, True]
    assert units[-1] == (18, 18)


@dataclasses.dataclass
class Plain:
    base_loss: float

    def mean(self, levels):
        return levels[0]

    def weight(self, _):
        return 1.0


@pytest.mark.parametrize("killed_at", [2, 6, 10])
def test_killed_subjects_go_on_to_the_same_bits(tiny_backbone, tmp_path, killed_at):
    subjects = [subject(k) for k in range(2)]
    whole = train_subject_priors(tiny_backbone, subjects)

    def kill(done, _total):
        if done >= killed_at:
            raise Cancelled

    with pytest.raises(Cancelled):
        train_subject_priors(tiny_backbone, subjects, progress=kill, checkpoint_dir=tmp_path)
    done = []
    resumed = train_subject_priors(
        tiny_backbone,
        subjects,
        progress=lambda step, _: done.append(step),
        checkpoint_dir=tmp_path,
    )
    assert next(step for step in done if step) > killed_at // 4 * 4
    for ours, theirs in zip(resumed, whole, strict=True):
        assert same(ours.adapter, theirs.adapter)


def test_encodings_are_kept_for_the_next_training(tiny_backbone, tmp_path, monkeypatch):
    one = subject(1)
    (first,) = train_subject_priors(tiny_backbone, [one], encodings_dir=tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 2 * 3 + 1, "three pictures, their mirror images, one caption"
    monkeypatch.setattr(tiny_backbone, "encode_video", None)
    (again,) = train_subject_priors(tiny_backbone, [one], encodings_dir=tmp_path)
    assert same(again.adapter, first.adapter)
    anew = type(tiny_backbone).load(tiny_backbone.folder, dtype=tiny_backbone.dtype)
    assert same(alone(anew, one).adapter, first.adapter)


@pytest.mark.parametrize("spatial_path", ["whole_clip", "one_latent"])
@pytest.mark.parametrize("thrifty", [False, True])
def test_a_motion_learned_fast_is_the_motion_learned_plainly(
    tiny_backbone, monkeypatch, spatial_path, thrifty
):
    """With what a compiler sees, uncompiled."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    pixels = np.random.default_rng(0)
    clips = [
        TrainingClip(
            frames=pixels.integers(0, 256, (17, 32, 48, 3), dtype=np.uint8),
            caption="a person is walking",
            name=str(k),
        )
        for k in range(3)
    ]
    plain = MotionPriorOptions(
        rank=4,
        num_steps=5,
        evaluate_every=5,
        num_evaluations=2,
        learning_rate=5e-3,
        spatial_path=spatial_path,
    )
    fast = dataclasses.replace(plain, compiled=True, gradient_checkpointing=thrifty)
    results = [
        train_motion_prior(tiny_backbone, clips, "walking", options=options)
        for options in (fast, plain)
    ]
    assert distance(results[0].adapter, results[1].adapter) < 1e-3


def test_subjects_that_do_not_fit_together_are_refused(tiny_backbone):
    with pytest.raises(ValueError, match="num_frames"):
        train_subject_priors(tiny_backbone, [subject(0), subject(1, num_frames=9)])
    with pytest.raises(ValueError, match="no subjects"):
        train_subject_priors(tiny_backbone, [])
