"""What must be true after any chaos, seen from outside: the ledger, the store, the flows."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy
from dbos import DBOSClient, DBOSPortableJSONSerializer

from cluster.artifacts import Artifact, LocalStore
from cluster.ledger import Event, Ledger, StoryEntry
from cluster.ledger.records import may_move
from cluster.outlook import look_ahead
from tests.cluster.chaos.director import NOBODY_FILE, read_order
from tests.cluster.chaos.schedule import Plot

REST_S = 60.0
"""What ended stories leave must be gone after so long."""
CHARGED_KINDS = {"motion-prior", "subject-prior", "scene"}
FAILURES = {"impossible": "nobody can film that", "poisoned": "prior of witch: "}


class Owned(Protocol):
    """A story, as its owner knows it."""

    plot: Plot
    id: str
    cancel_answer: str
    is_edited: bool


def wait_for_rest(flows_url: str) -> list[str]:
    """All stories have ended; so must all flows."""
    client = DBOSClient(system_database_url=flows_url, serializer=DBOSPortableJSONSerializer())
    until = time.monotonic() + REST_S
    try:
        while True:
            alive = client.list_workflows(
                status=["PENDING", "ENQUEUED"], load_input=False, load_output=False
            )
            if not alive or time.monotonic() > until:
                return [f"flow {flow.workflow_id} is left {flow.status}" for flow in alive]
            time.sleep(0.1)
    finally:
        client.destroy()


def faults_of(stories: Sequence[Owned], ledger: Ledger, folder: Path, ledger_url: str) -> list[str]:
    """Everything that is wrong."""
    store = LocalStore(folder / "artifacts")
    faults = []
    for story in stories:
        entry = ledger.story(story.id)
        found = [*_end(story, entry, store), *_course(ledger.events(story.id, limit=100_000))]
        faults += [f"{story.plot.request} {story.id}: {fault}" for fault in found]
    entries = [ledger.story(story.id) for story in stories]
    return faults + _published(store) + _charges(entries, store, ledger_url) + _nobody(folder)


def _end(story: Owned, entry: StoryEntry, store: LocalStore) -> list[str]:
    """Whether it is the right one."""
    wrong = [f"ended {entry.state}: {entry.error}; its owner got {story.cancel_answer!r}"]
    if entry.state == "cancelled":
        return [] if story.cancel_answer in {"cancelling", "cancelled"} else wrong
    if story.cancel_answer == "cancelled":
        return wrong
    reason = next((FAILURES[kind] for kind in FAILURES if story.plot.request.get(kind)), None)
    if reason is not None:
        right = entry.state == "failed" and (entry.error or "").startswith(reason)
        return [] if right else wrong
    if entry.state != "finished":
        return wrong
    return [*_film(entry, store), *_revision(story, entry)]


def _film(entry: StoryEntry, store: LocalStore) -> list[str]:
    ordered = entry.model_copy(update={"plan_given": entry.revision > 1})
    ahead = asyncio.run(look_ahead(store, read_order(ordered)))
    faults = []
    if ahead.film is None or str(ahead.film) != entry.film:
        missing = [f"{step.label} {step.artifact}" for step in ahead.missing]
        faults.append(f"its film is {entry.film}, expected {ahead.film}; missing: {missing}")
    if entry.plan is None:
        faults.append("its plan was never shown")
    if (entry.progress or {}).get("done") != 1:
        faults.append(f"finished, but only {(entry.progress or {}).get('done')} done")
    return faults


def _revision(story: Owned, entry: StoryEntry) -> list[str]:
    expected = 1 + story.plot.is_edited
    if entry.revision != expected:
        return [f"ended in revision {entry.revision}, expected {expected}"]
    return []


def _course(events: Sequence[Event]) -> list[str]:
    """Whether a story only went forward."""
    numbers = [event.seq for event in events]
    faults = []
    if numbers != list(range(1, len(events) + 1)):
        faults.append(f"events are numbered {numbers}")
    return [*faults, *_moves(events), *_shares(events)]


def _moves(events: Sequence[Event]) -> list[str]:
    """States that do not follow from the one before."""
    faults = []
    told = [event.data for event in events if event.kind == "state"]
    if (told[0]["state"], told[0]["revision"]) != ("accepted", 1):
        faults.append(f"it began with {told[0]}")
    for before, after in pairwise(told):
        if after["revision"] == before["revision"]:
            right = may_move(before["state"], after["state"])
        else:
            right = (after["revision"], after["state"]) == (before["revision"] + 1, "accepted")
        if not right:
            faults.append(f"{before} is followed by {after}")
    return faults


def _shares(events: Sequence[Event]) -> list[str]:
    """Shares done that fall."""
    faults, share = [], 0.0
    for event in events:
        if event.kind == "state" and event.data["state"] == "accepted":
            share = 0.0
        if event.kind == "progress":
            if event.data["done"] < share:
                faults.append(f"event {event.seq}: {event.data['done']} done after {share}")
            share = event.data["done"]
    return faults


def _published(store: LocalStore) -> list[str]:
    times = Counter(line["artifact"] for line in store.log() if line["event"] == "published")
    return [f"{name} was published {count} times" for name, count in times.items() if count > 1]


def _charges(entries: Sequence[StoryEntry], store: LocalStore, ledger_url: str) -> list[str]:
    """What finished films are made of is paid for, once, and nothing else but what was made."""
    engine = sqlalchemy.create_engine(ledger_url)
    with engine.connect() as db:
        rows = db.execute(sqlalchemy.text("SELECT artifact, key_id FROM ledger_charges")).all()
    engine.dispose()
    charged = Counter(row.artifact for row in rows)
    faults = [f"{name} was charged {n} times" for name, n in charged.items() if n > 1]
    # Not by the store's log: who is killed between publishing and logging leaves no line.
    absent = [name for name in charged if not store.has(Artifact.parse(name))]
    faults += [f"{name} was charged and is not there" for name in absent]
    spoilt = any(entry.state == "cancelled" for entry in entries)
    wanted = {name for entry in entries if entry.film for name in _makings(entry.film, store)}
    unpaid = {n for n in wanted if Artifact.parse(n).kind in CHARGED_KINDS and n not in charged}
    # A step that is stopped just when it is done is nobody's; another story may find it.
    unpaid = {n for n in unpaid if not (spoilt and Artifact.parse(n).kind != "scene")}
    return faults + [f"nobody was charged for {name}" for name in sorted(unpaid)]


def _makings(film: str, store: LocalStore) -> list[str]:
    step: dict[str, Any] = store.record(Artifact.parse(film))["step"]
    return [f"{making['kind']}-{making['key']}" for making in step["makings"]]


def _nobody(folder: Path) -> list[str]:
    file = folder / NOBODY_FILE
    if not file.exists():
        return []
    return [f"done for nobody: {line}" for line in file.read_text().splitlines()]
