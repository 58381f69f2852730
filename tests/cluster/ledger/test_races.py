"""Several processes and one ledger: nothing is done twice, nothing is lost."""

import multiprocessing
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ledger import Key, Ledger, StoryEntry
from tests.cluster.ledger import racers
from tests.cluster.ledger.racers import Racers


def test_one_idempotency_key_in_many_processes_is_one_story(
    url: str, crowd: Racers, ledger: Ledger, key: Key
) -> None:
    answers = crowd.race(url, racers.submit_same, key.id, 25)
    ids = [[story_id for story_id, _ in racer] for racer in answers]
    assert all(racer == ids[0] for racer in ids)
    fresh = Counter(story_id for racer in answers for story_id, replayed in racer if not replayed)
    assert fresh == dict.fromkeys(ids[0], 1)
    assert ledger.counts() == {("studio", "accepted"): 25}


def test_no_more_wait_than_may(url: str, crowd: Racers, ledger: Ledger) -> None:
    key, _ = ledger.add_key("small", max_waiting=10)
    assert sum(crowd.race(url, racers.submit_beyond, key.id, 10)) == 10
    assert ledger.counts() == {("small", "accepted"): 10}


def test_no_story_is_taken_twice(url: str, crowd: Racers, ledger: Ledger, key: Key) -> None:
    other, _ = ledger.add_key("other")
    ids = {ledger.submit(whose, {}).story.id for _ in range(30) for whose in (key, other)}
    taken = [name for racer in crowd.race(url, racers.take_all, 3) for name in racer]
    assert len(taken) == len(set(taken))
    assert set(taken) == ids


def test_a_story_is_taken_or_cancelled(url: str, crowd: Racers, ledger: Ledger, key: Key) -> None:
    ids = [ledger.submit(key, {}).story.id for _ in range(30)]
    crowd.race(url, racers.cancel_or_take, ids, key.id)
    for name in ids:
        states = [event.data["state"] for event in ledger.events(name)]
        assert states in (["accepted", "cancelled"], ["accepted", "running", "cancelling"])


def test_a_story_ends_once(url: str, crowd: Racers, ledger: Ledger, key: Key) -> None:
    ids = [ledger.submit(key, {}).story.id for _ in range(30)]
    ledger.take(30)
    firsts = crowd.race(url, racers.end, ids)
    assert sorted(name for racer in firsts for name in racer) == sorted(ids)
    for rank, ended in enumerate(firsts):
        assert all(ledger.story(name).film == f"film-{rank}" for name in ended)
        assert all(len(ledger.events(name)) == 3 for name in ended)


def test_events_are_numbered_without_gaps(
    url: str, crowd: Racers, ledger: Ledger, key: Key
) -> None:
    story = ledger.submit(key, {}).story
    crowd.race(url, racers.tell_much, story.id, 20)
    seqs = [event.seq for event in ledger.events(story.id)]
    assert seqs == list(range(1, 4 * 20 + 2))


def test_an_artifact_is_charged_once(url: str, crowd: Racers, ledger: Ledger, key: Key) -> None:
    assert sum(crowd.race(url, racers.charge_same, key.id, 20)) == 20
    assert ledger.used_gpu_s(key.id, since_s=0) == 30.0


def test_racing_openers_make_one_ledger(url: str, crowd: Racers) -> None:
    keys = crowd.race(url, racers.local_key)
    assert all(key == keys[0] for key in keys)


def _at_rest(ledger: Ledger, key: Key) -> list[StoryEntry]:
    """All stories, once no more come: PostgreSQL may still be writing what it was last told by a
    client that is dead."""
    found = ledger.stories(key.id, limit=1000)
    while True:
        time.sleep(0.5)
        before, found = found, ledger.stories(key.id, limit=1000)
        if len(found) == len(before):
            return list(found)


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.3])
def test_a_killed_door_leaves_whole_stories(
    url: str, ledger: Ledger, key: Key, after_s: float
) -> None:
    context = multiprocessing.get_context("spawn")
    door = context.Process(target=racers.submit_for_ever, args=(url, key.id))
    door.start()
    until = time.monotonic() + 60
    while not ledger.counts() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(after_s)
    door.kill()
    door.join()
    found = _at_rest(ledger, key)
    assert found
    assert all([event.seq for event in ledger.events(story.id)] == [1, 2] for story in found)
    assert len(ledger.take(1000)) == len(found)


def test_threads_share_one_ledger(ledger: Ledger, key: Key) -> None:
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda _: ledger.submit(key, {}), range(64)))
        batches = list(threads.map(lambda _: ledger.take(1), range(80)))
    taken = [story.id for batch in batches for story in batch]
    assert len(taken) == len(set(taken)) == 64
