"""Runs schedules of chaos, and says what was wrong afterwards.

    python -m tests.cluster.chaos.run SEED ...
    python -m tests.cluster.chaos.run --postgres SEED ...

One JSON line a schedule.
"""

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.process
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster.durable import sqlite
from cluster.ledger import Key, Ledger, StoryEntry
from tests.cluster.chaos import director
from tests.cluster.chaos.checks import faults_of, wait_for_rest
from tests.cluster.chaos.schedule import KEYS, Life, Plot, Schedule, schedule_of
from tests.cluster.postgres import Postgres, binaries, running_postgres

PATIENCE_S = 300.0
"""How long the last director may need."""
TICK_S = 0.02
LAST_LETTERS = 500
"""Of what a director says that ends by itself."""


@dataclass(frozen=True)
class Site:
    """Where a chaos takes place."""

    folder: Path
    ledger_url: str
    flows_url: str

    @classmethod
    def on_sqlite(cls, folder: Path) -> "Site":
        return cls(folder, sqlite(folder / "ledger.sqlite"), sqlite(folder / "flows.sqlite"))

    @classmethod
    def on_postgres(cls, folder: Path, server: Postgres) -> "Site":
        return cls(folder, server.new_database(), server.new_database())


class Directors:
    """One director at a time.

    Forked from a process that has imported everything, so that a life is spent directing, and
    not importing, however busy the machine is.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["ray.exceptions", director.__name__])
        self._process: multiprocessing.process.BaseProcess | None = None
        self.num_lives = 0

    def spawn(self) -> None:
        site = self._site
        words = (site.folder, site.ledger_url, site.flows_url, self.num_lives)
        self._process = self._forks.Process(target=director.main, args=words)
        self._process.start()
        self.num_lives += 1

    def kill(self) -> None:
        """SIGKILL, and nothing of it is left."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def died(self) -> bool:
        """By itself, which it must not."""
        return self._process is not None and self._process.exitcode is not None

    def last_words(self) -> str:
        """The end of its log."""
        log = director.log_of(self._site.folder, self.num_lives - 1).read_text(errors="replace")
        return f"director {self.num_lives - 1} ended by itself: {log.strip()[-LAST_LETTERS:]}"


@dataclass
class Told:
    """A story of a schedule, and what its owner knows of it."""

    plot: Plot
    id: str = ""
    submitted_s: float = 0.0
    cancel_answer: str = ""
    """Its state when its owner had asked for its end."""
    cancelled_revision: int = 0
    is_edited: bool = False


@dataclass
class Course:
    """A schedule as it is played."""

    schedule: Schedule
    ledger: Ledger
    keys: dict[str, Key]
    told: list[Told] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.told = [Told(plot) for plot in self.schedule.plots]

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.started_s

    def go_on(self) -> bool:
        """Do what is due; whether anything is still to come."""
        return any([self._tend(story) for story in self.told])

    def _tend(self, story: Told) -> bool:
        """One story's part; whether it is still to go on."""
        plot, key = story.plot, self.keys[story.plot.key]
        if not story.id:
            if self.now_s < plot.at_s:
                return True
            story.id = self.ledger.submit(key, plot.request, priority=plot.priority).story.id
            story.submitted_s = self.now_s
        entry = self.ledger.story(story.id)
        self._cancel_if_due(story, entry)
        if entry.state == "finished" and plot.is_edited and not story.is_edited:
            story.is_edited = True
            entry = self._edit(story, entry)
        return not entry.is_ended

    def _cancel_if_due(self, story: Told, entry: StoryEntry) -> None:
        after_s = story.plot.cancel_after_s
        if after_s is None or story.cancel_answer or self.now_s < story.submitted_s + after_s:
            return
        asked = self.ledger.ask_cancel(story.id, key_id=entry.key_id)
        story.cancel_answer = asked.state

    def _edit(self, story: Told, entry: StoryEntry) -> StoryEntry:
        if entry.plan is None or entry.plan_tag is None:
            return entry  # told by the checks
        scenes = list(entry.plan["scenes"])
        scenes[1] = {**scenes[1], "place": f"place {story.plot.request['seed']}"}
        return self.ledger.replace_plan(
            story.id,
            {**entry.plan, "scenes": scenes},
            if_match=entry.plan_tag,
            key_id=entry.key_id,
        )


def play(schedule: Schedule, site: Site) -> list[str]:
    """Do all that a schedule says; what is wrong in the end."""
    ledger = Ledger(site.ledger_url)
    keys = {name: ledger.add_key(name, weight=weight)[0] for name, weight in KEYS.items()}
    course, directors = Course(schedule, ledger, keys), Directors(site)
    try:
        for life in schedule.lives:
            _live(course, directors, life)
        faults = _last_life(course, directors, site)
        return faults + faults_of(course.told, ledger, site.folder, site.ledger_url)
    finally:
        directors.kill()
        ledger.close()


def _live(course: Course, directors: Directors, life: Life) -> None:
    directors.spawn()
    _wait(course, life.lasts_s)
    assert not directors.died(), directors.last_words()
    directors.kill()
    _wait(course, life.then_s)


def _wait(course: Course, seconds: float) -> None:
    until = course.now_s + seconds
    while course.now_s < until:
        course.go_on()
        time.sleep(TICK_S)


def _last_life(course: Course, directors: Directors, site: Site) -> list[str]:
    directors.spawn()
    until = course.now_s + PATIENCE_S
    while course.go_on():
        if directors.died():
            return [directors.last_words()]
        if course.now_s > until:
            return [f"not all stories have ended after {PATIENCE_S:g} s"]
        time.sleep(TICK_S)
    return wait_for_rest(site.flows_url)


@contextlib.contextmanager
def site_of(seed: int, server: Postgres | None, keep: Path | None = None) -> Iterator[Site]:
    """A folder of its own; gone afterwards, unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-", dir=keep))
    try:
        yield Site.on_sqlite(folder) if server is None else Site.on_postgres(folder, server)
    finally:
        if keep is None:
            shutil.rmtree(folder)


def command_of(schedule: Schedule, *, postgres: bool) -> str:
    """What plays a schedule again."""
    words = ["python -m tests.cluster.chaos.run", str(schedule.seed)]
    words += ["--postgres"] if postgres else []
    words += [f"--lives {schedule.num_lives}"] if schedule.num_lives is not None else []
    return " ".join(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--postgres", action="store_true", help="of its own, instead of SQLite")
    parser.add_argument("--lives", type=int, help="of directors that are killed, about")
    parser.add_argument("--keep", type=Path, help="a folder: play there, and leave all")
    words = parser.parse_args()
    bad = 0
    with contextlib.ExitStack() as stack:
        server = None
        if words.postgres:
            found = binaries()
            assert found is not None, "no PostgreSQL: install the dev extra"
            server = stack.enter_context(running_postgres(found))
        for seed in words.seeds:
            bad += bool(_told(schedule_of(seed, num_lives=words.lives), server, words.keep))
    return min(bad, 1)


def _told(schedule: Schedule, server: Postgres | None, keep: Path | None) -> list[str]:
    started = time.monotonic()
    with site_of(schedule.seed, server, keep) as site:
        faults = play(schedule, site)
    line = {
        "seed": schedule.seed,
        "database": "sqlite" if server is None else "postgresql",
        "stories": len(schedule.plots),
        "kills": len(schedule.lives),
        "seconds": round(time.monotonic() - started, 1),
        "faults": faults,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return faults


if __name__ == "__main__":
    sys.exit(main())
