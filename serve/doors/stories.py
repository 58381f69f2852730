"""Stories: order one, look how far it is, stop it, delete it."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cluster.ledger import State, StoryEntry
from pipelines.plan import Record
from serve.doors.bodies import StoryRequest
from serve.doors.examples import STORY_BODIES
from serve.doors.house import AHouse, AKey, StoryId, checked_story_id
from serve.doors.orders import (
    CastMember,
    IdempotencyKey,
    num_scenes_of,
    replay_of,
    seen_in,
    submit,
    topic_of,
    wanted_of,
)

router = APIRouter(prefix="/v1/stories", tags=["stories"])


class Progress(BaseModel):
    """How far a story is: the share that is done, the seconds that are left, and every step."""

    model_config = ConfigDict(extra="allow")
    done: float = 0.0
    """0 to 1; it never falls."""
    left_s: float | None = None
    parts: dict[str, list[dict[str, Any]]] = {}
    """By group (plan, library, priors, scenes, film): label, state, units done and in all,
    seconds."""


class Links(Record):
    """Where to go on from a story."""

    self: str
    events: str
    plan: str
    film: str
    sheet: str
    cancel: str


class StoryView(Record):
    """A story. Times are seconds since the epoch."""

    object: Literal["story"] = "story"
    id: str
    state: State
    revision: int
    """One more with every edited plan."""
    topic: str
    characters: tuple[CastMember, ...]
    num_scenes: int
    wishes: tuple[str, ...]
    seed: int
    use_priors: bool
    priority: int
    created_s: float
    started_s: float | None
    ended_s: float | None
    waited_s: float
    """Until it was begun, or until now."""
    ran_s: float
    """From then until it ended, or until now."""
    progress: Progress | None
    plan_tag: str | None
    """Of the plan as it is now; its ETag."""
    film_revision: int | None
    """Of which revision the film is that can be fetched: the last one that was finished. Null:
    there is no film yet."""
    error: str | None
    """Why it failed."""
    links: Links


class StoryList(Record):
    """Stories, the newest first."""

    stories: tuple[StoryView, ...]
    next: str | None = Field(description="Ask with ?after= this for more; null at the end.")


@router.post("", status_code=202, response_description="It is accepted.")
def order_story(
    body: Annotated[StoryRequest, Body(openapi_examples=STORY_BODIES)],
    house: AHouse,
    key: AKey,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> StoryView:
    """Order a film of a story. What is accepted will end: finished, cancelled, or failed with a
    reason."""
    replay = replay_of(idempotency_key, "stories", body)
    submission = submit(house, key, body, replay=replay)
    request.state.story = submission.story.id
    # The first answer again, to the byte: a story as it was when it was accepted.
    view = view_of(submission.story, request, now_s=submission.story.created_s)
    response.headers["Location"] = view.links.self
    if submission.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return view


@router.get("")
def list_stories(
    house: AHouse,
    key: AKey,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="The id of the last one seen.")] = None,
) -> StoryList:
    """Your stories, the newest first."""
    start = None if after is None else checked_story_id(after)
    found = house.ledger.stories(key.id, limit=limit + 1, after=start)
    shown = tuple(view_of(story, request) for story in found[:limit])
    return StoryList(stories=shown, next=shown[-1].id if len(found) > limit else None)


@router.get("/{story_id}")
def show_story(story_id: StoryId, house: AHouse, key: AKey, request: Request) -> StoryView:
    """How far a story is."""
    return view_of(house.ledger.story(story_id, key_id=key.id), request)


@router.post("/{story_id}/cancel", status_code=202)
def cancel_story(story_id: StoryId, house: AHouse, key: AKey, request: Request) -> StoryView:
    """Stop a story: at once if it waits, else within one unit of its work. What has ended stays
    as it is."""
    return view_of(house.ledger.ask_cancel(story_id, key_id=key.id), request)


@router.delete("/{story_id}", status_code=204)
def delete_story(story_id: StoryId, house: AHouse, key: AKey) -> None:
    """Delete a story that has ended. What was made for it stays on the machines, where other
    stories may share it; nobody can ask for it here any more."""
    house.ledger.forget(story_id, key_id=key.id)


def view_of(story: StoryEntry, request: Request, *, now_s: float | None = None) -> StoryView:
    """A story as its owner sees it."""
    wanted = wanted_of(story.request)
    now = time.time() if now_s is None else now_s
    ended = now if story.ended_s is None else story.ended_s
    started = ended if story.started_s is None else story.started_s
    return StoryView(
        **story.model_dump(include=set(StoryView.model_fields) & set(StoryEntry.model_fields)),
        **wanted.model_dump(exclude={"topic", "cast", "num_scenes", "video"}),
        topic=topic_of(story),
        characters=seen_in(story),
        num_scenes=num_scenes_of(story),
        waited_s=round(max(0.0, started - story.created_s), 3),
        ran_s=round(max(0.0, ended - started), 3),
        links=links_of(story.id, request),
    )


def links_of(story_id: str, request: Request) -> Links:
    """Paths, not addresses: what a client calls this host is not believed."""
    root = request.scope.get("root_path", "").rstrip("/")
    here = f"{root}/v1/stories/{story_id}"
    below = {name: f"{here}/{name}" for name in Links.model_fields if name != "self"}
    return Links(self=here, **below)
