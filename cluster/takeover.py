"""What an earlier process left in the database of flows, put in order before any of it goes on.

A flow goes on by itself at the launch of DBOS, but who waits for it is known in memory alone. So
that is read first, and what nobody waits for any more is stopped: a process may have died between
stopping a film and stopping its steps.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy.engine import make_url

from cluster.artifacts import Artifact

ALIVE = ("PENDING", "ENQUEUED")
CHOICE = "choose"
"""The step of a film that says which workflow makes an artifact."""


def open_client(database_url: str) -> DBOSClient:
    """Reads and changes flows without running them; `destroy` it in the end."""
    return DBOSClient(system_database_url=database_url, serializer=DBOSPortableJSONSerializer())


def prepare(database_url: str) -> None:
    """Make the tables. Readers of SQLite shall not wait for its writers."""
    if make_url(database_url).get_backend_name() == "sqlite":
        engine = sqlalchemy.create_engine(database_url)
        with engine.connect() as db:
            db.exec_driver_sql("PRAGMA journal_mode = WAL")
        engine.dispose()
    DBOS.migrate(database_url)


def take_over(
    client: DBOSClient, version: str, wanted: Collection[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """The films that will go on, and the workflows of the steps that each waits for.

    Films that are not ``wanted`` (None: all are) are stopped, and so are steps that no film waits
    for. Flows of another version are forgotten, and films that wait for what was stopped: they
    begin anew, and find what is finished.
    """
    alive = client.list_workflows(status=list(ALIVE), load_input=False, load_output=False)
    films = [flow for flow in alive if flow.name == "film"]
    steps = [flow for flow in alive if flow.name == "step"]
    over = [film for film in films if wanted is not None and film.workflow_id not in wanted]
    waits = {film.workflow_id: _chosen(client, film) for film in films if film not in over}
    stopped = _stopped(client, waits)
    anew = [
        flow.workflow_id
        for flow in films
        if flow not in over
        and (flow.app_version != version or not stopped.isdisjoint(waits[flow.workflow_id]))
    ]
    for film in anew:
        del waits[film]
    needed = {step for chosen in waits.values() for step in chosen}
    idle = [step for step in (*over, *steps) if step.workflow_id not in needed]
    forgotten = [*anew, *(flow.workflow_id for flow in idle if flow.app_version != version)]
    _change(client, cancel=[flow.workflow_id for flow in idle], delete=forgotten)
    return waits


def _chosen(client: DBOSClient, film: Any) -> tuple[str, ...]:
    """The workflows that a film decided to wait for, whether it came to that or not."""
    records = client.list_workflow_steps(film.workflow_id)
    return tuple(
        str(record["output"])
        for record in records
        if record["function_name"] == CHOICE and record["output"] is not None
    )


def _stopped(client: DBOSClient, waits: Mapping[str, tuple[str, ...]]) -> set[str]:
    names = sorted({step for chosen in waits.values() for step in chosen})
    if not names:
        return set()
    found = client.list_workflows(
        workflow_ids=names, status="CANCELLED", load_input=False, load_output=False
    )
    return {flow.workflow_id for flow in found}


def _change(client: DBOSClient, *, cancel: list[str], delete: list[str]) -> None:
    if cancel:
        client.cancel_workflows(cancel)
    if delete:
        client.delete_workflows(delete)


def still_good(
    flows: Sequence[Any], film: str, version: str, has: Callable[[Artifact], bool]
) -> set[str]:
    """Of all flows, those that are done and those of one film that can go on."""
    done = {
        flow.workflow_id
        for flow in flows
        if flow.status == "SUCCESS" and has(Artifact.parse(flow.workflow_id.partition(".")[0]))
    }
    ours = [flow for flow in flows if film in (flow.workflow_id, flow.parent_workflow_id)]
    alive = {
        flow.workflow_id for flow in ours if flow.status in ALIVE and flow.app_version == version
    }
    sound = all(flow.workflow_id in alive | done for flow in ours)
    return done | alive if sound else done
