"""The puppet world: enough of everything, drawn as told, with true boxes."""

import random
from dataclasses import replace

import pytest
import torch

from miniature.cast import (
    BASE_CHARACTERS,
    BASE_MOTIONS,
    CHARACTERS,
    HELD_OUT_CHARACTERS,
    HELD_OUT_MOTIONS,
    MOTIONS,
    PERSON,
    PLACES,
    STRANGER,
    TRAVELLING,
    look,
)
from miniature.motions import JOINTS, improvised, pose
from miniature.strangers import with_strangers
from miniature.world import FPS, Puppet, Spec, caption, render, sample_spec


def _spec(motion: str, character: str = "robot", **changes: object) -> Spec:
    numbers = {"x0": 0.75, "x1": 0.75, "ground": 0.93, "height": 0.7} | changes
    actor = Puppet(character=character, motions=(motion,), **numbers)
    return Spec(place="park", seed=1, puppets=(actor,))


def test_the_world_is_large_enough_and_something_is_held_out() -> None:
    assert len(CHARACTERS) >= 12
    assert len(MOTIONS) >= 16
    assert len(TRAVELLING) >= 5
    assert len(PLACES) >= 10
    assert len(HELD_OUT_CHARACTERS) >= 3
    assert len(HELD_OUT_MOTIONS) >= 4
    assert not set(HELD_OUT_CHARACTERS) & set(BASE_CHARACTERS)
    assert not set(HELD_OUT_MOTIONS) & set(BASE_MOTIONS)


def test_base_specs_never_hold_what_is_held_out() -> None:
    rng = random.Random(0)
    specs = [sample_spec(rng) for _ in range(300)]
    seen = {p.character for s in specs for p in s.puppets}
    done = {m for s in specs for p in s.puppets for m in p.motions}
    assert seen == set(BASE_CHARACTERS)
    assert done == set(BASE_MOTIONS)


def test_strangers_and_improvised_motions_have_nothing_held_out() -> None:
    rng = random.Random(0)
    specs = [with_strangers(sample_spec(rng), rng) for _ in range(300)]
    puppets = [p for s in specs for p in s.puppets]
    assert {p.character for p in puppets} == {*BASE_CHARACTERS, STRANGER}
    parts = {part for p in puppets for motion in p.motions for part in motion.split("+")}
    assert parts == set(BASE_MOTIONS)
    worn = {name for p in puppets for name in look(p.character, p.outfit).extras}
    for character in HELD_OUT_CHARACTERS:
        assert not worn & set(look(character).extras)
    assert any(s.still_s is not None for s in specs)


def test_strangers_all_look_different_and_each_stays_the_same() -> None:
    looks = [look(STRANGER, number) for number in range(50)]
    assert len(set(looks)) == 50
    assert looks == [look(STRANGER, number) for number in range(50)]


def test_an_improvised_motion_has_the_arms_of_one_and_the_rest_of_another() -> None:
    phase = torch.linspace(0, 1, 7)
    both = pose(improvised("clapping", "kneeling"), phase)
    for name, value in both.items():
        whose = "clapping" if "arm" in name else "kneeling"
        assert torch.equal(value, pose(whose, phase)[name]), name


def test_a_still_stands_still_and_its_caption_tells_no_motion() -> None:
    moving = _spec("walking", x0=0.3, x1=1.2)
    still = replace(moving, still_s=2.0)
    frames = render([still]).frames[0]
    assert torch.equal(frames, frames[:1].expand_as(frames))
    assert torch.equal(frames[0], render([moving]).frames[0, 2 * FPS])
    assert caption(still) == "a robot in the park"


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_pose_has_every_joint_in_the_phases_shape(motion: str) -> None:
    found = pose(motion, torch.linspace(0, 2, 9))
    assert set(found) == set(JOINTS)
    assert all(value.shape == (9,) and value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("character", [*CHARACTERS, PERSON])
def test_a_box_holds_every_pixel_the_puppet_changed(character: str) -> None:
    spec = _spec("dancing", character)
    index = torch.tensor([0, 9, 30])
    drawn = render([spec], frame_indices=index)
    bare = render([Spec(place="park", seed=1, puppets=())], frame_indices=index)
    changed = ((drawn.frames - bare.frames).abs().amax(2) > 0.01)[0]
    for frame, box in zip(changed, drawn.boxes[0, 0], strict=True):
        rows, columns = frame.nonzero(as_tuple=True)
        seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        seen = seen / torch.tensor([144, 96, 144, 96])
        assert (seen[:2] >= box[:2] - 0.02).all()
        assert (seen[2:] <= box[2:] + 0.02).all()
        assert (seen - box).abs().max() < 0.06


def test_travelling_moves_and_staying_does_not() -> None:
    far = {"x0": 0.3, "x1": 1.2}
    moved = {m: render([_spec(m, **far)]).joints[0, 0, :, 2, 0] for m in ("walking", "waving")}
    assert (moved["walking"][-1] - moved["walking"][0]).item() == pytest.approx(0.6, abs=0.01)
    assert moved["waving"].std() < 1e-6


def test_two_motions_follow_each_other() -> None:
    one = Puppet(
        character="bear", motions=("sitting", "cheering"), x0=0.7, x1=0.7, ground=0.9, height=0.7
    )
    boxes = render([Spec(place="snow", seed=3, puppets=(one,))]).boxes[0, 0]
    sat, cheered = boxes[:20, 1].mean(), boxes[30:, 1].mean()
    assert sat > cheered + 0.05, "a sitting bear is lower than one with its arms up"


def test_absent_puppets_have_no_box_and_rendering_is_deterministic() -> None:
    rng = random.Random(5)
    specs = [sample_spec(rng, num_puppets=n) for n in (1, 2, 1)]
    first, again = render(specs), render(specs)
    assert torch.equal(first.frames, again.frames)
    assert first.boxes[0, 1].isnan().all()
    assert first.boxes[1].isfinite().all()


def test_a_video_does_not_depend_on_its_batch() -> None:
    rng = random.Random(6)
    specs = [sample_spec(rng) for _ in range(4)]
    together = render(specs).frames
    alone = torch.cat([render([spec]).frames for spec in specs])
    assert torch.allclose(together, alone, atol=1e-6)


def test_some_frames_are_those_of_the_whole() -> None:
    spec = sample_spec(random.Random(7))
    index = torch.tensor([3, 17, 40])
    assert torch.allclose(
        render([spec], frame_indices=index).frames, render([spec]).frames[:, index], atol=1e-6
    )


def test_captions_name_who_does_what_where() -> None:
    spec = _spec("skating", "alien")
    assert caption(spec) == "an alien is skating in the park"
    assert caption(Spec(place="cave", seed=0, puppets=())) == "the cave"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_paints_what_a_cpu_paints() -> None:
    rng = random.Random(0)
    specs = [sample_spec(rng) for _ in range(8)]
    ours, theirs = render(specs, device="cuda").frames.cpu(), render(specs).frames
    assert (ours - theirs).abs().max() < 1e-3
