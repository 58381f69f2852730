"""Plays a schedule on a server, and says what was wrong afterwards."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.artifacts import LocalStore
from cluster.durable import sqlite
from cluster.ledger import Ledger
from tests.cluster.chaos import checks
from tests.serve.chaos.owners import Course, Owner, Told
from tests.serve.chaos.schedule import KEYS, Schedule
from tests.serve.server import Server

PATIENCE_S = 480.0
"""How long all may take after the last kill."""
TICK_S = 0.2
INSIST_S = 180.0
"""How long somebody is looked for who is to be killed."""
NAMES = {
    "Gateway": "ServeReplica:dreamrunner:Gateway",
    "Director": "ServeReplica:dreamrunner:Director",
    "Renderer": "ServeReplica:dreamrunner:Renderer",
    "LLMServer": "ServeReplica:dreamrunner:LLMServer",
    "EngineCore": "VLLM::EngineCore",
    "Planner": "ServeReplica:dreamrunner:Planner",
    "Worker": "ray::Worker",
    "raylet": "raylet/raylet",
    "gcs_server": "gcs/gcs_server",
}
FAILURE = "plan: "
"""Of a story that no model plans."""


class Keeper(threading.Thread):
    """Kills what the schedule says, and starts a server that has ended again, as an init does."""

    def __init__(self, server: Server, course: Course) -> None:
        super().__init__(daemon=True)
        self._server, self._course = server, course
        self._kills = list(course.schedule.kills)
        self._over, self._tries = threading.Event(), 0
        self.killed: list[str] = []
        """How many of what, and how many stories were under way then."""

    @property
    def is_done(self) -> bool:
        """Nothing more is to be killed."""
        return not self._kills

    def run(self) -> None:
        started = time.monotonic()
        while not self._over.wait(TICK_S / 2):
            if self._kills and time.monotonic() - started >= self._kills[0].at_s:
                self._kill(self._kills[0].victim)
            if self._server.has_ended:
                self._server.start()

    def _kill(self, victim: str) -> None:
        """If there is none at the moment, there may be one soon."""
        num_hit = self._server.kill(NAMES.get(victim, victim)) if victim != "machine" else 1
        if victim == "machine":
            self._server.die()
        self._tries += 1
        if num_hit or self._tries * TICK_S > INSIST_S:
            self.killed.append(f"{num_hit} x {victim} of {self._course.num_under_way}")
            self._tries = 0
            del self._kills[0]

    def stop(self) -> None:
        self._over.set()
        self.join()


def play(schedule: Schedule, server: Server) -> tuple[list[str], list[str]]:
    """Do all that a schedule says; what was killed, and what is wrong in the end."""
    gone = threading.Event()
    with ledger_of(server) as ledger:
        secrets = {
            name: ledger.add_key(f"{name}-{schedule.seed}", weight=weight)[1]
            for name, weight in KEYS.items()
        }
        owners = {name: Owner(server, secret, gone) for name, secret in secrets.items()}
        course = Course(schedule, owners)
        keeper = Keeper(server, course)
        timer = threading.Timer(schedule.kills[-1].at_s + PATIENCE_S, gone.set)
        keeper.start()
        timer.start()
        try:
            while course.go_on() or not keeper.is_done:
                assert keeper.is_alive(), "whoever kills and starts again has failed itself"
                time.sleep(TICK_S)
            return keeper.killed, faults_of(course, server, ledger)
        except TimeoutError as late:
            return keeper.killed, [f"not all stories have ended: {late}"]
        finally:
            timer.cancel()
            keeper.stop()


@contextmanager
def ledger_of(server: Server) -> Iterator[Ledger]:
    """The server's, beside it."""
    ledger = Ledger(ledger_url(server))
    try:
        yield ledger
    finally:
        ledger.close()


def ledger_url(server: Server) -> str:
    return sqlite(server.work.root / "ledger.sqlite")


def faults_of(course: Course, server: Server, ledger: Ledger) -> list[str]:
    """Everything that is wrong, by what the owners see and by what is on disk."""
    store = LocalStore(server.work.artifacts)
    faults = checks.wait_for_rest(sqlite(server.work.flows))
    for story in course.told:
        found = [*ends_wrong(story), *_film(course, story), *checks._course(course.events(story))]
        again = course.submit(story).json().get("id")
        found += [] if again == story.id else [f"asked for again, it is {again}"]
        faults += [f"{story.plot.kind} {story.id}: {fault}" for fault in found]
    entries = [ledger.story(story.id) for story in course.told]
    faults += _nothing_else(course)
    return faults + checks._published(store) + checks._charges(entries, store, ledger_url(server))


def ends_wrong(story: Told) -> list[str]:
    """What is wrong with how a story ended."""
    state, kind = story.view["state"], story.plot.kind
    wrong = [f"ended {state}: {story.view['error']}; its owner got {story.cancel_answer!r}"]
    if state == "cancelled":
        return [] if story.cancel_answer in {"cancelling", "cancelled"} else wrong
    if story.cancel_answer == "cancelled":
        return wrong
    if kind == "impossible":
        error = story.view["error"]
        right = state == "failed" and error.startswith(FAILURE) and "died" not in error
        return [] if right else wrong
    revision = 1 + story.is_edited
    if state != "finished" or story.view["revision"] != revision:
        return [*wrong, f"revision {story.view['revision']}, expected {revision}"]
    return [] if story.view["progress"]["done"] == 1 else [f"only {story.view['progress']} done"]


def _film(course: Course, story: Told) -> list[str]:
    """Whether there is one, of exactly the finished stories."""
    answer = course.owner(story).ask("GET", f"/v1/stories/{story.id}/film")
    if story.view["state"] != "finished":
        return [] if answer.status_code == 409 else [f"its film is {answer.status_code}"]
    return [] if answer.content[4:8] == b"ftyp" else ["its film is none"]


def _nothing_else(course: Course) -> list[str]:
    """No request was taken for two."""
    known = {story.id for story in course.told}
    owners = {story.plot.key: course.owner(story) for story in course.told}
    found = {
        story["id"]
        for owner in owners.values()
        for story in owner.ask("GET", "/v1/stories?limit=100").json()["stories"]
    }
    return [f"nobody knows of {story}" for story in found - known]
