"""Plans are edited by who has read them, when nothing is under way."""

import copy
import json
from typing import Any

import pytest

from pipelines.plan import StoryPlan
from serve.doors import plans
from serve.doors.examples import PLAN
from tests.serve.doors.house import finish, png

KNIGHT = json.loads(json.dumps(PLAN).replace("pirate", "knight"))


def edited(**changes: Any) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    plan["scenes"][0].update(changes)
    return plan


@pytest.fixture
def story(alice, ledger) -> str:
    story_id = alice.order(characters=["pirate"], num_scenes=1)
    finish(ledger, story_id, PLAN)
    return story_id


def test_a_plan_is_there_when_it_is_planned(alice, ledger):
    story = alice.order()
    answer = alice("GET", f"/v1/stories/{story}/plan")
    assert (answer.status_code, answer.json()["type"][-9:]) == (409, "too-early")
    ledger.take(1)
    tag = ledger.show_plan(story, PLAN)
    answer = alice("GET", f"/v1/stories/{story}/plan")
    assert answer.json() == PLAN
    assert answer.headers["etag"] == f'"{tag}"'
    for seen in (f'"{tag}"', f'W/"{tag}"', f'"x", "{tag}"', "*"):
        headers = {"If-None-Match": seen}
        again = alice("GET", f"/v1/stories/{story}/plan", headers=headers)
        assert (again.status_code, again.content) == (304, b"")


def test_an_edit_begins_a_new_revision(alice, ledger, story):
    tag = alice("GET", f"/v1/stories/{story}/plan").headers["etag"]
    plan = edited(narration="At noon the pirate is bowing.")
    path = f"/v1/stories/{story}/plan"
    answer = alice("PUT", path, json=plan, headers={"If-Match": tag})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["state"], answer.json()["revision"]) == ("accepted", 2)
    assert answer.headers["etag"] not in ("", tag)
    assert ledger.story(story).plan == plan
    assert alice("PUT", path, json=plan, headers={"If-Match": tag}).status_code == 409
    finish(ledger, story)
    stale = alice("PUT", path, json=plan, headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["type"][-12:]) == (412, "plan-changed")
    fresh = alice("PUT", path, json=plan, headers={"If-Match": answer.headers["etag"]})
    assert (fresh.status_code, fresh.json()["revision"]) == (202, 3)


def test_one_entity_doing_one_motion_has_one_caption(alice, ledger, story):
    plan = copy.deepcopy(PLAN)
    for second, frame in enumerate(plan["scenes"][0]["layout"]["key_frames"]):
        frame["regions"][0]["caption"] += f", second {second}"
    answer = alice("PUT", f"/v1/stories/{story}/plan", json=plan, headers={"If-Match": "*"})
    assert answer.status_code == 202, answer.text
    ordered = alice.order(topic=None, plan=plan)
    for one in (story, ordered):
        kept = StoryPlan.model_validate(ledger.story(one).plan)
        assert len({region.caption for region in kept.scenes[0].layout.regions}) == 1


def test_a_motion_without_words_stops_at_the_door(alice, story):
    answer = alice(
        "PUT",
        f"/v1/stories/{story}/plan",
        json=edited(motions=["—"]),
        headers={"If-Match": "*"},
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/scenes/0/motions/0"


def test_a_story_is_as_long_as_the_plan_it_was_given(alice, ledger, story):
    order = {"prompt": "a day", "seconds": "6", "characters": ["pirate"]}
    video = alice("POST", "/v1/videos", json=order).json()["id"]
    ordered = video.replace("video_", "story_")
    finish(ledger, ordered, PLAN)
    longer = {**PLAN, "scenes": PLAN["scenes"] * 3}
    for one in (story, ordered):
        headers = {"If-Match": "*"}
        answer = alice("PUT", f"/v1/stories/{one}/plan", json=longer, headers=headers)
        assert (answer.status_code, answer.json()["num_scenes"]) == (202, 3)
        assert alice("GET", f"/v1/stories/{one}").json()["num_scenes"] == 3
        shown = alice("GET", f"/v1/videos/{one.replace('story_', 'video_')}").json()
        assert shown["seconds"] == "18"


def test_a_story_tells_who_is_in_its_edited_plan_and_its_topic(alice, ledger):
    story = alice.order(characters=["pirate", "witch"], num_scenes=1)
    finish(ledger, story, PLAN)

    def told() -> list[object]:
        view = alice("GET", f"/v1/stories/{story}").json()
        video = alice("GET", f"/v1/videos/{story.replace('story_', 'video_')}").json()
        return [view["topic"], video["prompt"], [member["name"] for member in view["characters"]]]

    assert told() == ["a pirate's day", "a pirate's day", ["pirate", "witch"]]
    plan = {**PLAN, "topic": "His day"}
    alice("PUT", f"/v1/stories/{story}/plan", json=plan, headers={"If-Match": "*"})
    assert told() == ["His day", "His day", ["pirate"]]


def test_a_stale_edit_is_refused_also_if_the_story_ends_meanwhile(
    alice, ledger, story, monkeypatch
):
    path = f"/v1/stories/{story}/plan"
    stale = alice("GET", path).headers["etag"]
    kept = edited(narration="At noon the pirate is bowing.")
    assert alice("PUT", path, json=kept, headers={"If-Match": stale}).status_code == 202
    check = plans.check_plan

    def check_slowly(*words):
        check(*words)
        finish(ledger, story)

    monkeypatch.setattr(plans, "check_plan", check_slowly)
    answer = alice("PUT", path, json=PLAN, headers={"If-Match": stale})
    assert (answer.status_code, answer.json()["type"][-12:]) == (412, "plan-changed")
    assert ledger.story(story).plan == kept


@pytest.mark.parametrize("tag", ["", '""', "x", 'W/"TAG"', "TAG", '"TAGx"', '"TAG', "\xe9"])
def test_only_the_very_tag_matches(alice, story, tag):
    own = alice("GET", f"/v1/stories/{story}/plan").headers["etag"].strip('"')
    headers = {"If-Match": tag.replace("TAG", own).encode("latin-1")}
    answer = alice("PUT", f"/v1/stories/{story}/plan", json=PLAN, headers=headers)
    assert answer.status_code == 412


def test_an_edit_says_what_it_is_an_edit_of(alice, bob, story):
    path = f"/v1/stories/{story}/plan"
    assert alice("PUT", path, json=PLAN).status_code == 428
    assert bob("PUT", path, json=PLAN).status_code == 404
    assert bob("PUT", path, json=PLAN, headers={"If-Match": "*"}).status_code == 404
    assert alice("PUT", path, json=PLAN, headers={"If-Match": "*"}).status_code == 202


def test_what_is_under_way_is_not_edited(alice, ledger):
    story = alice.order()
    ledger.take(1)
    tag = ledger.show_plan(story, PLAN)
    for given in (f'"{tag}"', '"another"'):
        headers = {"If-Match": given}
        answer = alice("PUT", f"/v1/stories/{story}/plan", json=PLAN, headers=headers)
        assert (answer.status_code, answer.json()["type"][-9:]) == (409, "under-way")


def test_what_was_made_with_an_image_that_is_gone_is_not_edited(alice, ledger, stage):
    files = {"images": ("a.png", png())}
    words = {"name": "pirate", "phrase": "pirate"}
    own = alice("POST", "/v1/characters", data=words, files=files).json()["id"]
    story = alice.order(characters=[own], num_scenes=1)
    finish(ledger, story, PLAN)
    path, headers = f"/v1/stories/{story}/plan", {"If-Match": "*"}
    stage.images()[0].unlink()
    answer = alice("PUT", path, json=PLAN, headers=headers)
    assert (answer.status_code, answer.json()["type"][-10:]) == (409, "image-gone")
    assert "images of pirate" in answer.json()["detail"]
    assert ledger.story(story).revision == 1


def test_a_fault_is_told_without_what_follows_from_it(alice, story):
    plan = copy.deepcopy(PLAN)
    plan["scenes"][0]["layout"]["key_frames"][2]["regions"] = 5
    headers = {"If-Match": "*"}
    answer = alice("PUT", f"/v1/stories/{story}/plan", json=plan, headers=headers)
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "#/scenes/0/layout/key_frames/2/regions"


@pytest.mark.parametrize(
    ("plan", "pointer", "words"),
    [
        (edited(place=""), "#/scenes/0/place", "at least 1"),
        (edited(path="/etc/passwd"), "#/scenes/0/path", "not permitted"),
        (edited(narration="nul \0"), "#", "control"),
        (edited(narration="Nobody moves."), "#/scenes/0", "rule 5"),
        ({**PLAN, "scenes": []}, "#/scenes", "at least 1"),
        ({**PLAN, "topic": " \u200b"}, "#/topic", "is empty"),
        ({**PLAN, "characters": []}, "#/characters", "nobody is in"),
        ({**PLAN, "characters": ["x" * 61]}, "#/characters/0", "at most 60"),
        ({**PLAN, "characters": ["?"]}, "#/characters/0", "no letters"),
        ({**PLAN, "characters": ["pirate", "witch"]}, "#/characters", "witch has no region"),
        (KNIGHT, "#/characters/0", "knight is not in this story, which has pirate; order"),
        ({**PLAN, "characters": ["Mira", "mira"]}, "#/characters", "same name"),
        ({**PLAN, "characters": [f"n{n}" for n in range(9)]}, "#/characters", "more than 8"),
        ({**PLAN, "scenes": PLAN["scenes"] * 6}, "#/scenes", "at most 5"),
    ],
)
def test_a_bad_plan_stops_at_the_door(alice, ledger, story, plan, pointer, words):
    headers = {"If-Match": "*"}
    answer = alice("PUT", f"/v1/stories/{story}/plan", json=plan, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert words in answer.json()["errors"][0]["detail"]
    assert ledger.story(story).revision == 1
