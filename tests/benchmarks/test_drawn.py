"""Stories as the world draws them: each where its plan says, for every scene of the set."""

import pytest
import torch

from benchmarks.drawn import drawn, main, puppet_of, spec_of
from benchmarks.puppet_stories import chosen_stories
from cluster.profiles import load_profile
from miniature.world import NUM_FRAMES, render


@pytest.fixture(scope="module")
def stories():
    return chosen_stories(load_profile("miniature"), None)


def test_everybody_is_drawn_where_the_plan_has_them(stories):
    scenes = [scene for story in stories for scene in story.plan.scenes]
    middles = torch.tensor([(2 * k + 1) * NUM_FRAMES // 12 for k in range(6)])
    made = render([spec_of(scene, 0) for scene in scenes], frame_indices=middles)
    for scene, boxes in zip(scenes, made.boxes, strict=True):
        for name, shown in zip(scene.entity_ids, boxes, strict=False):
            regions = [frame.region_of(name) for frame in scene.layout.key_frames]
            for region, (left, top, right, bottom) in zip(regions, shown.tolist(), strict=True):
                planned = region.box
                inside = min(right, planned.right) - max(left, planned.left)
                least = 0.6 * (right - left)  # who bows leans out of a narrow box
                assert inside >= least, (scene.narration, region, left, right)
                assert planned.top - 0.12 <= top < bottom <= planned.bottom + 0.05


def test_motions_follow_each_other_and_who_goes_looks_that_way(stories):
    scene = next(
        scene for story in stories for scene in story.plan.scenes if "skating" in scene.motions
    )
    name = next(r.entity_id for r in scene.layout.regions if r.motion == "skating")
    frames = [frame.region_of(name) for frame in scene.layout.key_frames]
    puppet = puppet_of(frames)
    assert "skating" in puppet.motions
    assert puppet.facing == (1 if puppet.x1 >= puppet.x0 else -1)
    still = puppet_of([frames[0].model_copy(update={"motion": "waving"}) for _ in frames])
    assert still.x0 == still.x1


def test_a_story_drawn_has_as_many_frames_as_a_film(stories):
    film = drawn(stories[0])
    frames = film.frames(1)
    assert frames.shape == (film.num_frames, 96, 144, 3)
    assert frames.std() > 10
    assert (frames == film.frames(1)).all()


def test_an_unknown_story_is_bad_input(capsys):
    assert main(["--scenes", "nobody:1"]) == 2
    assert "nobody" in capsys.readouterr().err
