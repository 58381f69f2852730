"""What several processes do at once to one ledger."""

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

from cluster.ledger import Key, Ledger, Replay, State

NUM_RACERS = 4
BODY_HASH = "b" * 64


class Racers:
    """Processes that are started once and race as often as one likes."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(NUM_RACERS)
        self._pool = context.Pool(NUM_RACERS, initializer=_prepare, initargs=(barrier,))

    def race(self, url: str, run: Callable[..., Any], *words: Any) -> list[Any]:
        """Run something in every process from one moment on; what each returned."""
        starts = [(url, run, rank, words) for rank in range(NUM_RACERS)]
        jobs = [self._pool.apply_async(_start, start) for start in starts]
        return [job.get(timeout=120) for job in jobs]

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


_barrier: Any = None


def _prepare(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _start(url: str, run: Callable[..., Any], rank: int, words: Sequence[Any]) -> Any:
    _barrier.wait()
    ledger = Ledger(url)
    _barrier.wait()
    try:
        return run(ledger, rank, *words)
    finally:
        ledger.close()


def submit_same(ledger: Ledger, rank: int, key_id: str, num: int) -> list[tuple[str, bool]]:
    """The same ``num`` requests as everybody else, each under its idempotency key."""
    key = key_named(ledger, key_id)
    answers = []
    for number in range(num):
        replay = Replay(name=f"request-{number}", body_hash=BODY_HASH)
        answer = ledger.submit(key, {"topic": str(number)}, replay=replay)
        answers.append((answer.story.id, answer.replayed))
    return answers


def submit_beyond(ledger: Ledger, rank: int, key_id: str, num: int) -> int:
    """Submit more than may wait; how many were let in."""
    key, accepted = key_named(ledger, key_id), 0
    for number in range(num):
        try:
            ledger.submit(key, {"topic": f"{rank}-{number}"})
        except RuntimeError:
            continue
        accepted += 1
    return accepted


def take_all(ledger: Ledger, rank: int, at_once: int) -> list[str]:
    """Take until nothing waits."""
    taken: list[str] = []
    while batch := ledger.take(at_once):
        taken.extend(story.id for story in batch)
    return taken


def charge_same(ledger: Ledger, rank: int, key_id: str, num: int) -> int:
    """Charge the same artifacts as everybody else; how many were charged here."""
    return sum(ledger.charge(f"scene-{number}", key_id, 1.5) for number in range(num))


def end(ledger: Ledger, rank: int, story_ids: Sequence[str]) -> list[str]:
    """End stories, each racer in a way of its own; the ids it was first at."""
    states: tuple[State, ...] = ("finished", "failed", "finished", "failed")
    state = states[rank]
    return [name for name in story_ids if ledger.advance(name, state, film=f"film-{rank}")]


def tell_much(ledger: Ledger, rank: int, story_id: str, num: int) -> None:
    for number in range(num):
        ledger.tell(story_id, {"rank": rank, "done": number})


def cancel_or_take(ledger: Ledger, rank: int, story_ids: Sequence[str], key_id: str) -> list[str]:
    """Half of the racers cancel what the others take."""
    if rank % 2:
        return take_all(ledger, rank, 3)
    return [ledger.ask_cancel(name, key_id=key_id).id for name in story_ids]


def submit_for_ever(url: str, key_id: str) -> None:
    """Submit until killed."""
    ledger = Ledger(url)
    key = key_named(ledger, key_id)
    while True:
        ledger.submit(key, {"topic": "a day"}, plan={"scenes": []})


def local_key(ledger: Ledger, rank: int) -> Key:
    return ledger.local_key()


def key_named(ledger: Ledger, key_id: str) -> Key:
    known = ledger.keys()
    return next(key for key in known if key.id == key_id)
