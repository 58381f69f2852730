"""Times of the ledger: doors that submit at once, and a director that takes from a long line.

    python -m benchmarks.ledger --num-stories 10000
    python -m benchmarks.ledger --url postgresql+psycopg://postgres@/empty?host=/run/postgresql

One JSON line per measurement. Every submission has an idempotency key, as a platform's would.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cluster.ledger import Key, Ledger, Replay

NUM_DOORS = 4
REPEATS = 25
REQUEST = {
    "topic": "A girl witch and her cat cross the harbour before the storm comes. " * 6,
    "characters": [{"name": f"Somebody {number}", "phrase": "girl witch"} for number in range(4)],
    "num_scenes": 6,
    "seed": 7,
}


def tell(what: str, seconds: Sequence[float], **more: object) -> None:
    """Write one line about how long each of several calls took."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    times = {"p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(seconds)}
    line = {"what": what, "num": len(seconds), **more}
    line |= {name: round(value * 1e3, 2) for name, value in times.items()}
    sys.stdout.write(json.dumps(line) + "\n")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def door(url: str, rank: int, num: int, start: Any, told: Any) -> None:
    """One door: submit as fast as possible."""
    ledger = Ledger(url)
    key = ledger.local_key()
    start.wait()
    seconds = []
    for number in range(num):
        replay = Replay(name=f"{rank}-{number}", body_hash="0" * 64)
        seconds.append(timed(partial(ledger.submit, key, REQUEST, replay=replay)))
    told.put(seconds)
    ledger.close()


def submit_all(url: str, num: int) -> None:
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(NUM_DOORS + 1), context.Queue()
    each = num // NUM_DOORS
    doors = [
        context.Process(target=door, args=(url, rank, each, start, told))
        for rank in range(NUM_DOORS)
    ]
    for process in doors:
        process.start()
    start.wait()
    begun = time.perf_counter()
    seconds = [second for _ in doors for second in told.get()]
    rate = len(seconds) / (time.perf_counter() - begun)
    for process in doors:
        process.join()
    tell("submit", seconds, doors=NUM_DOORS, a_second=round(rate))


def direct(ledger: Ledger, key: Key) -> None:
    """What a director and its doors ask while all the others wait."""
    taken = ledger.take(4)
    story = taken[0].id
    tree = {"scenes": [{"number": n, "done": 3, "total": 50} for n in range(6)]}
    calls: dict[str, Callable[[int], object]] = {
        "take 4": lambda _: ledger.take(4),
        "tell": lambda n: ledger.tell(story, {**tree, "left_s": n}),
        "charge": lambda n: ledger.charge(f"scene-{n}", key.id, 8.0),
        "story": lambda _: ledger.story(story, key_id=key.id),
        "list 20": lambda _: ledger.stories(key.id),
        "counts": lambda _: ledger.counts(),
        "under way": lambda _: ledger.under_way(),
    }
    for what, call in calls.items():
        tell(what, [timed(partial(call, n)) for n in range(REPEATS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-stories", type=int, default=10_000)
    parser.add_argument("--url", help="an empty database (default: SQLite in a folder of its own)")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = words.url or f"sqlite:///{folder}/ledger.db"
        ledger = Ledger(url)
        key = ledger.local_key()
        submit_all(url, words.num_stories)
        direct(ledger, key)
        ledger.close()


if __name__ == "__main__":
    main()
