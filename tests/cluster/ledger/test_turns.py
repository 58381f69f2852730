"""Whose story is begun next."""

from collections import Counter

from cluster.ledger import Key, Ledger, StoryEntry


def names(ledger: Ledger, stories: list[StoryEntry]) -> list[str]:
    keys = ledger.keys()
    name_of = {key.id: key.name for key in keys}
    return [name_of[story.key_id] for story in stories]


def test_an_older_story_goes_first(ledger: Ledger, key: Key) -> None:
    ids = [ledger.submit(key, {}).story.id for _ in range(4)]
    assert [story.id for story in ledger.take(3)] == ids[:3]
    assert [story.id for story in ledger.take(3)] == ids[3:]
    assert ledger.take(3) == []


def test_a_higher_priority_goes_first(ledger: Ledger, key: Key) -> None:
    ids = {rank: ledger.submit(key, {}, priority=rank).story.id for rank in (0, -5, 7, 3)}
    assert [story.id for story in ledger.take(4)] == [ids[7], ids[3], ids[0], ids[-5]]


def test_what_is_taken_runs(ledger: Ledger, key: Key) -> None:
    ledger.submit(key, {"topic": "a"})
    (taken,) = ledger.take(1)
    assert (taken.state, taken.request) == ("running", {"topic": "a"})
    assert taken == ledger.story(taken.id)
    assert ledger.under_way() == [taken]


def test_a_crowd_does_not_shut_others_out(ledger: Ledger, key: Key) -> None:
    for _ in range(20):
        ledger.submit(key, {}, priority=9)
    late, _ = ledger.add_key("late")
    for _ in range(3):
        ledger.submit(late, {})
    assert Counter(names(ledger, ledger.take(4))) == {"studio": 2, "late": 2}
    assert Counter(names(ledger, ledger.take(4))) == {"studio": 3, "late": 1}


def test_who_runs_fewest_is_next(ledger: Ledger, key: Key) -> None:
    for _ in range(5):
        ledger.submit(key, {})
    running = ledger.take(2)
    late, _ = ledger.add_key("late")
    for _ in range(5):
        ledger.submit(late, {})
    assert names(ledger, ledger.take(2)) == ["late", "late"]
    ledger.advance(running[0].id, "finished")
    assert names(ledger, ledger.take(1)) == ["studio"]


def test_weights_count(ledger: Ledger) -> None:
    for name, weight in (("heavy", 3.0), ("light", 1.0)):
        key, _ = ledger.add_key(name, weight=weight)
        for _ in range(20):
            ledger.submit(key, {})
    assert Counter(names(ledger, ledger.take(12))) == {"heavy": 9, "light": 3}


def test_a_story_that_is_being_cancelled_still_runs(ledger: Ledger, key: Key) -> None:
    for _ in range(2):
        ledger.submit(key, {})
    (taken,) = ledger.take(1)
    ledger.ask_cancel(taken.id, key_id=key.id)
    late, _ = ledger.add_key("late")
    ledger.submit(late, {})
    assert names(ledger, ledger.take(1)) == ["late"]


def test_nothing_is_asked_for(ledger: Ledger, key: Key) -> None:
    ledger.submit(key, {})
    assert ledger.take(0) == []
