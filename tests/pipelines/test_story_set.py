"""Story sets: the one that is shipped holds what it says and breaks no rule, and sets that make no
plan are told."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from cluster.cast import read_cast
from cluster.profiles import load_profile
from miniature.cast import HELD_OUT_CHARACTERS, HELD_OUT_MOTIONS, MOTIONS
from pipelines.plan import Outline, StoryPlan
from pipelines.plan_lint import lint_scene
from pipelines.plan_words import LintOptions
from pipelines.story_lint import lint_story
from pipelines.story_set import SetStory, StorySet

CHECKOUT = Path(__file__).resolve().parents[2]
PUPPETS = CHECKOUT / "examples" / "puppet_stories" / "stories.yaml"
CAST = read_cast(CHECKOUT / "examples" / "characters")


@pytest.fixture(scope="module")
def puppets() -> tuple[SetStory, ...]:
    return StorySet.model_validate(yaml.safe_load(PUPPETS.read_text())).stories


def cast_of(story: SetStory):
    return tuple(CAST[str(name)] for name in story.characters)


def plan_of(story: SetStory) -> StoryPlan:
    return story.staged(cast_of(story))


def test_the_shipped_set_is_as_large_as_the_papers_and_shows_everything(puppets):
    alone = [story for story in puppets if len(story.characters) == 1]
    together = [story for story in puppets if len(story.characters) > 1]
    assert len(alone) >= 10
    assert len(together) >= 3
    for story in puppets:
        assert 5 <= len(story.scenes) <= 8, story.name
    assert {len(scene.motions) for story in alone for scene in plan_of(story).scenes} == {2}
    both = {len(scene.motions) for story in together for scene in plan_of(story).scenes}
    assert both == {2, 3}
    for story in together:
        assert all(len(scene.entity_ids) == 2 for scene in plan_of(story).scenes), story.name
    done = Counter(motion for story in puppets for motion in plan_of(story).motion_ids)
    assert set(done) == set(MOTIONS)
    assert all(done[motion] >= 4 for motion in HELD_OUT_MOTIONS), done
    seen = Counter(name for story in puppets for name in story.characters)
    assert all(seen[name] >= 2 for name in HELD_OUT_CHARACTERS), seen
    assert len({story.seed for story in puppets}) == len(puppets)


def test_held_out_characters_have_reference_images_and_others_need_none(puppets):
    for story in puppets:
        for character in cast_of(story):
            assert bool(character.images) == (character.id in HELD_OUT_CHARACTERS)
            assert all(image.is_file() for image in character.images)


def test_every_plan_of_the_shipped_set_breaks_no_rule(puppets):
    options = LintOptions(vocabulary=MOTIONS)
    known = load_profile("miniature").planner["places"]
    for story in puppets:
        cast, plan = cast_of(story), plan_of(story)
        outlines = [Outline(place=s.place, beats=s.beats) for s in story.scenes]
        faults = lint_story(outlines, cast, num_scenes=len(outlines), max_cast=2, options=options)
        assert faults == [], story.name
        for outline, scene in zip(outlines, plan.scenes, strict=True):
            assert lint_scene(scene, cast, roles=outline.roles, options=options) == []
            assert scene.place in known
        assert StoryPlan.model_validate_json(plan.model_dump_json()) == plan


def story(**changes):
    beat = {"name": "witch", "motion": "walking", "sentence": "The witch is walking."}
    boxes = [[0, 0, 40, 100], [10, 0, 50, 100], [20, 0, 60, 100]]
    still = {**beat, "motion": "waving", "sentence": "The witch is waving.", "boxes": [boxes[-1]]}
    scene = {"place": "park", "beats": [{**beat, "boxes": boxes}, still]}
    fields = {"name": "a", "topic": "A walk", "characters": ["witch"], "seed": 3}
    return {**fields, "scenes": [scene], **changes}


def test_beats_share_the_key_frames_and_a_box_may_stay():
    (scene,) = plan_of(SetStory.model_validate(story())).scenes
    frames = [frame.regions[0] for frame in scene.layout.key_frames]
    assert [region.motion for region in frames] == ["walking"] * 3 + ["waving"] * 3
    assert [region.box.left for region in frames] == [0, 0.1, 0.2, 0.2, 0.2, 0.2]
    assert frames[0].caption == "a witch is walking in the park"
    assert scene.narration == "The witch is walking. The witch is waving."


def test_a_story_that_makes_no_plan_is_told():
    few = story()
    few["scenes"][0]["beats"][0]["boxes"].pop()
    with pytest.raises(ValueError, match="story a: witch walking: 2 boxes, but it is seen in 3"):
        plan_of(SetStory.model_validate(few))
    many = story()
    beat = many["scenes"][0]["beats"][1]
    many["scenes"][0]["beats"] = [beat] * 7
    with pytest.raises(ValueError, match="story a: witch has 7 beats; 6 key frames show 6 at most"):
        plan_of(SetStory.model_validate(many))
    many["scenes"][0]["beats"] = [beat] * 6
    assert plan_of(SetStory.model_validate(many))
    other = story()
    other["scenes"][0]["beats"][0]["name"] = "Bob"
    with pytest.raises(ValueError, match="story a: Bob is none of its characters"):
        plan_of(SetStory.model_validate(other))
    for changes in ({"scenes": []}, {"plan": "plan.json"}, {"num_scenes": 3}):
        with pytest.raises(ValidationError, match="give scenes, a plan file, or num_scenes"):
            SetStory.model_validate(story(**changes))
    with pytest.raises(ValidationError, match="two stories are called a"):
        StorySet.model_validate({"stories": [story(), story()]})
