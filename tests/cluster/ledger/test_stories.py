"""Stories: accepted, told of, ended, edited, forgotten."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from sqlalchemy.exc import StatementError

from cluster.ledger import (
    ENDED,
    Key,
    Ledger,
    PlanConflict,
    QueueFull,
    State,
    StoryEntry,
    StoryUnderWay,
    UnknownStory,
)
from tests.cluster.ledger.conftest import Clock

PLAN = {"scenes": [{"place": "a wood"}]}
EDITED = {"scenes": [{"place": "a harbour"}]}
WAYS: dict[State, list[State]] = {
    "accepted": [],
    "running": ["running"],
    "cancelling": ["running", "cancelling"],
    "finished": ["running", "finished"],
    "failed": ["running", "failed"],
    "cancelled": ["cancelled"],
}
FORWARD: dict[State, set[State]] = {
    "accepted": {"running", "cancelled"},
    "running": {"finished", "failed", "cancelling"},
    "cancelling": {"cancelled", "finished", "failed"},
}


def brought_to(ledger: Ledger, key: Key, state: State) -> StoryEntry:
    """A story in this state."""
    story = ledger.submit(key, {"topic": "a day"}, plan=PLAN).story
    for step in WAYS[state]:
        assert ledger.advance(story.id, step)
    return ledger.story(story.id)


def test_what_is_accepted_is_kept(opened: Callable[[], Ledger]) -> None:
    key, _ = opened().add_key("studio")
    request = {"topic": "The pirate\u2019s \u0000 day \ud83d", "n": [1, None, 0.1]}
    story = opened().submit(key, request, priority=3).story
    found = opened().story(story.id, key_id=key.id)
    assert found == story
    assert (found.request, found.priority, found.state) == (request, 3, "accepted")
    assert (found.revision, found.plan, found.plan_tag, found.started_s) == (1, None, None, None)
    assert len(story.id) == len("story_") + 26


def test_another_keys_story_is_unknown(ledger: Ledger, key: Key) -> None:
    other, _ = ledger.add_key("other")
    story = brought_to(ledger, key, "finished")
    tag = str(story.plan_tag)
    for attempt in (
        lambda: ledger.story(story.id, key_id=other.id),
        lambda: ledger.ask_cancel(story.id, key_id=other.id),
        lambda: ledger.forget(story.id, key_id=other.id),
        lambda: ledger.replace_plan(story.id, EDITED, if_match=tag, key_id=other.id),
    ):
        with pytest.raises(UnknownStory):
            attempt()
    assert ledger.stories(other.id) == []
    assert ledger.story(story.id) == story


@pytest.mark.parametrize("name", ["", "story_", "story_\0", "\udc80", "../x", "%", "x" * 10_000])
def test_no_id_breaks_it(ledger: Ledger, key: Key, name: str) -> None:
    with pytest.raises(UnknownStory):
        ledger.story(name, key_id=key.id)
    with pytest.raises(UnknownStory):
        ledger.advance(name, "running")
    assert ledger.events(name) == []
    ledger.stories(key.id, after=name)


@pytest.mark.parametrize("before", list(WAYS))
@pytest.mark.parametrize("after", list(WAYS))
def test_states_move_forward_only(ledger: Ledger, key: Key, before: State, after: State) -> None:
    story = brought_to(ledger, key, before)
    num_events = len(ledger.events(story.id))
    moved = ledger.advance(story.id, after)
    assert moved == (after in FORWARD.get(before, set()))
    assert ledger.story(story.id).state == (after if moved else before)
    assert len(ledger.events(story.id)) == num_events + moved


def test_a_story_has_its_times(ledger: Ledger, key: Key, clock: Clock) -> None:
    story = ledger.submit(key, {}).story
    clock.now += 5
    ledger.take(1)
    clock.now += 7
    ledger.advance(story.id, "failed", error="no\0 motion \udc80 known")
    ended = ledger.story(story.id)
    assert (ended.started_s, ended.ended_s) == (story.created_s + 5, story.created_s + 12)
    assert ended.error == "no\ufffd motion ? known"


def test_events_tell_it_all(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    key, _ = ledger.add_key("studio")
    story = ledger.submit(key, {}).story
    ledger.take(1)
    tag = ledger.show_plan(story.id, PLAN)
    ledger.tell(story.id, {"done": 1})
    ledger.tell(story.id, {"done": 1})
    ledger.advance(story.id, "finished", film="film-1")
    events = opened().events(story.id)
    assert [(event.seq, event.kind, event.data) for event in events] == [
        (1, "state", {"state": "accepted", "revision": 1}),
        (2, "state", {"state": "running", "revision": 1}),
        (3, "plan", {"tag": tag, "revision": 1}),
        (4, "progress", {"done": 1}),
        (5, "state", {"state": "finished", "revision": 1, "film": "film-1"}),
    ]
    assert ledger.events(story.id, after=2, limit=2) == events[2:4]
    assert ledger.story(story.id).progress == {"done": 1}


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_ended_says_no_more(ledger: Ledger, key: Key, state: State) -> None:
    story = brought_to(ledger, key, state)
    events = ledger.events(story.id)
    ledger.tell(story.id, {"done": 9})
    ledger.show_plan(story.id, EDITED)
    assert ledger.ask_cancel(story.id, key_id=key.id) == story
    assert ledger.events(story.id) == events


def test_stories_are_listed_newest_first(ledger: Ledger, key: Key, clock: Clock) -> None:
    ids = [ledger.submit(key, {}).story.id for _ in range(5)]
    clock.now -= 3600
    ids += [ledger.submit(key, {}).story.id for _ in range(2)]
    assert [story.id for story in ledger.stories(key.id)] == ids[::-1]
    page = ledger.stories(key.id, limit=3)
    rest = ledger.stories(key.id, after=page[-1].id)
    assert [story.id for story in (*page, *rest)] == ids[::-1]
    assert all(newer.id > older.id for newer, older in pairwise(page))


def test_cancelling(ledger: Ledger, key: Key) -> None:
    waiting = brought_to(ledger, key, "accepted")
    running = brought_to(ledger, key, "running")
    assert ledger.ask_cancel(waiting.id, key_id=key.id).state == "cancelled"
    assert ledger.ask_cancel(running.id, key_id=key.id).state == "cancelling"
    assert ledger.ask_cancel(running.id, key_id=key.id).state == "cancelling"
    assert [story.id for story in ledger.under_way()] == [running.id]
    assert ledger.take(5) == []
    assert ledger.advance(running.id, "cancelled")
    assert ledger.under_way() == []


@pytest.mark.parametrize("state", ["accepted", "running", "cancelling"])
def test_only_what_ended_is_forgotten_or_edited(ledger: Ledger, key: Key, state: State) -> None:
    story = brought_to(ledger, key, state)
    with pytest.raises(StoryUnderWay, match=state):
        ledger.forget(story.id, key_id=key.id)
    with pytest.raises(StoryUnderWay, match=state):
        ledger.replace_plan(story.id, EDITED, if_match=str(story.plan_tag), key_id=key.id)
    assert ledger.story(story.id) == story


def test_a_forgotten_story_leaves_nothing(ledger: Ledger, key: Key) -> None:
    story = brought_to(ledger, key, "finished")
    kept = brought_to(ledger, key, "finished")
    ledger.forget(story.id, key_id=key.id)
    with pytest.raises(UnknownStory):
        ledger.forget(story.id, key_id=key.id)
    assert ledger.events(story.id) == []
    assert ledger.stories(key.id) == [kept]


def test_an_edited_plan_begins_again(ledger: Ledger, key: Key) -> None:
    story = brought_to(ledger, key, "finished")
    with pytest.raises(PlanConflict):
        ledger.replace_plan(story.id, EDITED, if_match="0" * 16, key_id=key.id)
    edited = ledger.replace_plan(story.id, EDITED, if_match=str(story.plan_tag), key_id=key.id)
    assert edited == ledger.story(story.id)
    assert (edited.state, edited.revision, edited.plan) == ("accepted", 2, EDITED)
    assert (edited.film, edited.started_s, edited.ended_s, edited.progress) == (None,) * 4
    assert edited.plan_tag not in (None, story.plan_tag)
    events = ledger.events(story.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-2].data == {"state": "accepted", "revision": 2}
    assert [taken.id for taken in ledger.take(1)] == [story.id]


def test_only_a_plan_that_came_from_outside_is_given(ledger: Ledger, key: Key) -> None:
    given = ledger.submit(key, {}, plan=PLAN).story
    planned = ledger.submit(key, {}).story
    assert (given.given_plan, planned.given_plan) == (PLAN, None)
    ledger.take(2)
    for story in (given, planned):
        ledger.show_plan(story.id, PLAN)
        assert ledger.advance(story.id, "finished")
    assert ledger.story(given.id).given_plan == PLAN
    shown = ledger.story(planned.id)
    assert (shown.plan, shown.given_plan) == (PLAN, None)
    ledger.replace_plan(planned.id, EDITED, if_match=str(shown.plan_tag), key_id=key.id)
    assert ledger.story(planned.id).given_plan == EDITED


def test_an_old_revision_has_no_say(ledger: Ledger, key: Key) -> None:
    story = brought_to(ledger, key, "finished")
    edited = ledger.replace_plan(story.id, EDITED, if_match=str(story.plan_tag), key_id=key.id)
    ledger.take(1)
    assert not ledger.advance(story.id, "finished", film="film-old", revision=1)
    ledger.tell(story.id, {"done": 1}, revision=1)
    ledger.show_plan(story.id, PLAN, revision=1)
    found = ledger.story(story.id)
    assert (found.state, found.progress, found.plan) == ("running", None, edited.plan)
    assert ledger.advance(story.id, "finished", film="film-new", revision=2)


def test_an_edit_waits_in_line_like_a_story(ledger: Ledger) -> None:
    key, _ = ledger.add_key("small", max_waiting=1)
    story = brought_to(ledger, key, "finished")
    tag = str(story.plan_tag)
    ledger.submit(key, {})
    with pytest.raises(QueueFull):
        ledger.replace_plan(story.id, EDITED, if_match=tag, key_id=key.id)
    assert ledger.story(story.id) == story
    ledger.take(1)
    assert ledger.replace_plan(story.id, EDITED, if_match=tag, key_id=key.id).revision == 2


def test_a_plan_is_shown_once(ledger: Ledger, key: Key) -> None:
    story = ledger.submit(key, {}).story
    ledger.take(1)
    tag = ledger.show_plan(story.id, {"b": 1, "a": [1.5]})
    assert ledger.show_plan(story.id, {"a": [1.5], "b": 1}) == tag
    assert ledger.story(story.id).plan_tag == tag
    assert len(tag) == 16
    assert [event.kind for event in ledger.events(story.id)].count("plan") == 1
    assert ledger.show_plan(story.id, PLAN) != tag


def test_nothing_that_json_cannot_say(ledger: Ledger, key: Key) -> None:
    story = brought_to(ledger, key, "running")
    with pytest.raises(StatementError, match="not JSON compliant"):
        ledger.tell(story.id, {"left_s": float("nan")})
    assert ledger.story(story.id) == story


def test_counts(ledger: Ledger, key: Key) -> None:
    other, _ = ledger.add_key("other")
    states: tuple[State, ...] = ("accepted", "accepted", "running", "failed")
    for state in states:
        brought_to(ledger, key, state)
    brought_to(ledger, other, "accepted")
    assert ledger.counts() == {
        ("studio", "accepted"): 2,
        ("studio", "running"): 1,
        ("studio", "failed"): 1,
        ("other", "accepted"): 1,
    }
