"""Limits, repeats, and GPU seconds."""

from collections.abc import Callable

import pytest

from cluster.ledger import Key, Ledger, QueueFull, QuotaSpent, Replay, ReplayConflict
from tests.cluster.ledger.conftest import Clock

DAY_S = 86_400.0
REPLAY = Replay(name="request-1", body_hash="b" * 64)


def test_a_repeat_gets_the_first_answer(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    key, _ = ledger.add_key("studio", max_waiting=1)
    first = ledger.submit(key, {"topic": "a"}, priority=2, plan={"a": 1}, replay=REPLAY)
    ledger.take(1)
    ledger.advance(first.story.id, "finished", film="film-1")
    again = opened().submit(key, {"topic": "a"}, priority=2, plan={"a": 1}, replay=REPLAY)
    assert again.replayed
    assert not first.replayed
    assert again.story == first.story
    assert len(ledger.stories(key.id)) == 1


def test_a_repeat_is_answered_where_the_line_is_full(ledger: Ledger) -> None:
    key, _ = ledger.add_key("small", max_waiting=1)
    first = ledger.submit(key, {}, replay=REPLAY)
    with pytest.raises(QueueFull):
        ledger.submit(key, {})
    assert ledger.submit(key, {}, replay=REPLAY).story == first.story


def test_another_body_is_a_conflict(ledger: Ledger, key: Key) -> None:
    ledger.submit(key, {}, replay=REPLAY)
    with pytest.raises(ReplayConflict):
        ledger.submit(key, {}, replay=Replay(name=REPLAY.name, body_hash="c" * 64))
    assert len(ledger.stories(key.id)) == 1


def test_names_are_a_keys_own(ledger: Ledger, key: Key) -> None:
    other, _ = ledger.add_key("other")
    first = ledger.submit(key, {}, replay=REPLAY)
    second = ledger.submit(other, {}, replay=REPLAY)
    assert not second.replayed
    assert second.story.id != first.story.id


def test_a_late_repeat_brings_nothing_back(ledger: Ledger, key: Key) -> None:
    story = ledger.submit(key, {}, replay=REPLAY).story
    ledger.ask_cancel(story.id, key_id=key.id)
    ledger.forget(story.id, key_id=key.id)
    with pytest.raises(ReplayConflict, match="deleted"):
        ledger.submit(key, {}, replay=REPLAY)
    assert ledger.stories(key.id) == []


def test_what_was_refused_may_be_asked_again(ledger: Ledger) -> None:
    key, _ = ledger.add_key("small", max_waiting=1)
    ledger.submit(key, {})
    with pytest.raises(QueueFull) as refusal:
        ledger.submit(key, {}, replay=REPLAY)
    assert refusal.value.retry_after_s > 0
    ledger.take(1)
    assert not ledger.submit(key, {}, replay=REPLAY).replayed


def test_a_key_that_may_have_none_waiting(ledger: Ledger) -> None:
    key, _ = ledger.add_key("closed", max_waiting=0)
    with pytest.raises(QueueFull):
        ledger.submit(key, {})


def test_a_days_quota(ledger: Ledger, clock: Clock) -> None:
    key, _ = ledger.add_key("thrifty", max_gpu_s_a_day=100.0)
    start = clock.now
    ledger.charge("scene-1", key.id, 60.0)
    clock.now += 3600
    ledger.submit(key, {})
    ledger.charge("scene-2", key.id, 50.0)
    clock.now += 3600
    with pytest.raises(QuotaSpent, match="100") as refusal:
        ledger.submit(key, {})
    assert refusal.value.retry_after_s == start + DAY_S - clock.now
    clock.now += refusal.value.retry_after_s
    ledger.submit(key, {})


def test_what_waits_goes_on_waiting_where_the_quota_is_used(ledger: Ledger, clock: Clock) -> None:
    thrifty, _ = ledger.add_key("thrifty", max_gpu_s_a_day=10.0)
    other, _ = ledger.add_key("other")
    mine = [ledger.submit(thrifty, {}).story.id for _ in range(2)]
    assert [story.id for story in ledger.take(1)] == mine[:1]
    ledger.charge("scene-1", thrifty.id, 10.0)
    another = ledger.submit(other, {}).story.id
    assert [story.id for story in ledger.take(5)] == [another]
    assert ledger.advance(mine[0], "finished", film="film-1")
    clock.now += DAY_S
    assert [story.id for story in ledger.take(5)] == mine[1:]


def test_a_quota_waits_for_as_many_charges_as_it_must(ledger: Ledger, clock: Clock) -> None:
    key, _ = ledger.add_key("thrifty", max_gpu_s_a_day=10.0)
    for number in range(5):
        ledger.charge(f"scene-{number}", key.id, 5.0)
        clock.now += 60
    last_but_one = clock.now - 120
    with pytest.raises(QuotaSpent) as refusal:
        ledger.submit(key, {})
    assert refusal.value.retry_after_s == last_but_one + DAY_S - clock.now


def test_charges(ledger: Ledger, key: Key, clock: Clock) -> None:
    other, _ = ledger.add_key("other")
    start = clock.now
    assert ledger.charge("scene-1", key.id, 2.5)
    assert not ledger.charge("scene-1", other.id, 2.5)
    clock.now += 10
    assert ledger.charge("scene-2", key.id, 1.0)
    assert ledger.used_gpu_s(key.id, since_s=start - 1) == 3.5
    assert ledger.used_gpu_s(key.id, since_s=start) == 1.0
    assert ledger.used_gpu_s(other.id, since_s=0) == 0.0


@pytest.mark.parametrize("gpu_s", [-1.0, float("nan"), float("inf")])
def test_what_cannot_be_charged(ledger: Ledger, key: Key, gpu_s: float) -> None:
    with pytest.raises(ValueError, match="GPU seconds"):
        ledger.charge("scene-1", key.id, gpu_s)


def test_priorities_have_bounds(ledger: Ledger, key: Key) -> None:
    with pytest.raises(ValueError, match="priority"):
        ledger.submit(key, {}, priority=10**12)
