"""OpenAI's video convention over stories, so that its stock clients work: a video is a story, and
every story is to be seen here as a video."""

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import FileResponse

from cluster.ledger import State, StoryEntry
from pipelines.plan import Record
from serve.doors.bodies import StoryRequest, VideoRequest
from serve.doors.examples import VIDEO_BODY
from serve.doors.films import IfNoneMatch, Range, file_responses, send_file
from serve.doors.house import AHouse, AKey, House, VideoId, checked_story_id
from serve.doors.options import FilmFile
from serve.doors.orders import (
    IdempotencyKey,
    VideoTerms,
    num_scenes_of,
    replay_of,
    submit,
    topic_of,
    wanted_of,
)
from serve.doors.problems import Refusal, invalid
from serve.doors.reading import read_body, validated

router = APIRouter(prefix="/v1/videos", tags=["videos"])

Status = Literal["queued", "in_progress", "completed", "failed"]

_STATUS: dict[State, Status] = {
    "accepted": "queued",
    "running": "in_progress",
    "cancelling": "in_progress",
    "finished": "completed",
    "failed": "failed",
    "cancelled": "failed",
}
_VARIANTS: dict[str, FilmFile] = {"video": "film.mp4", "spritesheet": "film.png"}


class VideoError(Record):
    """Why there is no video."""

    code: str
    message: str


class VideoView(Record):
    """A video job, as OpenAI shapes it. Times are whole seconds since the epoch."""

    id: str
    object: Literal["video"] = "video"
    created_at: int
    completed_at: int | None
    expires_at: int | None = None
    """Nothing expires by itself."""
    status: Status
    progress: int
    """0 to 100."""
    prompt: str
    model: str
    seconds: str
    """As long as it will be: whole scenes."""
    size: str
    error: VideoError | None
    remixed_from_video_id: str | None = None


class VideoList(Record):
    """Videos, the newest first."""

    object: Literal["list"] = "list"
    data: tuple[VideoView, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(Record):
    """A video is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


@router.post("", openapi_extra={"requestBody": VIDEO_BODY})
async def create_video(
    house: AHouse,
    key: AKey,
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> VideoView:
    """Order a video: a story of one scene, or of as many as its seconds need."""
    sent = await read_body(request, max_files=1)
    body = validated(VideoRequest, _of_form(sent) if isinstance(sent, FormData) else sent)
    terms = _terms(house, body)
    story = StoryRequest(
        topic=body.prompt,
        num_scenes=_num_scenes(house, body),
        characters=body.characters,
        seed=body.seed,
    )
    replay = replay_of(idempotency_key, "videos", body)
    submission = await run_in_threadpool(submit, house, key, story, replay=replay, video=terms)
    request.state.story = submission.story.id
    if submission.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return view_of(submission.story, house)


@router.get("")
def list_videos(
    house: AHouse,
    key: AKey,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="The id of the last one seen.")] = None,
    order: Annotated[Literal["desc"], Query(description="Only the newest first.")] = "desc",
) -> VideoList:
    """Your videos, the newest first."""
    start = None
    if after is not None:
        start = checked_story_id(after.replace("video_", "story_", 1))
    found = house.ledger.stories(key.id, limit=limit + 1, after=start)
    shown = tuple(view_of(story, house) for story in found[:limit])
    return VideoList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(found) > limit,
    )


@router.get("/{video_id}")
def show_video(video_id: VideoId, house: AHouse, key: AKey) -> VideoView:
    """How far a video is."""
    return view_of(house.ledger.story(video_id, key_id=key.id), house)


@router.head("/{video_id}/content", include_in_schema=False)
@router.get(
    "/{video_id}/content",
    response_class=FileResponse,
    responses=file_responses("video/mp4", "image/png"),
)
def show_content(
    video_id: VideoId,
    house: AHouse,
    key: AKey,
    request: Request,
    variant: Annotated[Literal["video", "spritesheet"], Query()] = "video",
    if_none_match: IfNoneMatch = None,
    byte_range: Range = None,
) -> Response:
    """A completed video (mp4), or its scenes at a glance (png)."""
    story = house.ledger.story(video_id, key_id=key.id)
    return send_file(house, story, _VARIANTS[variant], request)


@router.delete("/{video_id}")
def delete_video(video_id: VideoId, house: AHouse, key: AKey) -> VideoDeleted:
    """Delete a video. One that is made at the moment is asked to stop; delete it again then. What
    was made for it stays on the machines, where others may share it."""
    if house.ledger.ask_cancel(video_id, key_id=key.id).state == "cancelling":
        detail = "the video is being cancelled; delete it again when it has ended"
        raise Refusal(409, "under-way", detail)
    house.ledger.forget(video_id, key_id=key.id)
    return VideoDeleted(id=_video_id(video_id))


def view_of(story: StoryEntry, house: House) -> VideoView:
    """A story as a video."""
    wanted = wanted_of(story.request)
    options = house.options
    seconds = f"{num_scenes_of(story) * options.scene_s:g}"
    terms = wanted.video or VideoTerms(model=options.model, size=options.size, seconds=seconds)
    if story.given_plan is not None:
        terms = terms.model_copy(update={"seconds": seconds})
    return VideoView(
        id=_video_id(story.id),
        created_at=int(story.created_s),
        completed_at=_completed_at(story),
        status=_STATUS[story.state],
        progress=_percent(story),
        prompt=topic_of(story),
        error=_error(story),
        **terms.model_dump(),
    )


def _video_id(story_id: str) -> str:
    return "video_" + story_id.removeprefix("story_")


def _completed_at(story: StoryEntry) -> int | None:
    done = story.state == "finished" and story.ended_s is not None
    return math.floor(story.ended_s or 0) if done else None


def _percent(story: StoryEntry) -> int:
    if story.state == "finished":
        return 100
    share = (story.progress or {}).get("done", 0.0)
    return min(99, max(0, int(100 * share)))


def _error(story: StoryEntry) -> VideoError | None:
    if story.state == "cancelled":
        return VideoError(code="cancelled", message="the video was cancelled")
    if story.state == "failed":
        return VideoError(code="failed", message=story.error or "the video could not be made")
    return None


def _num_scenes(house: House, body: VideoRequest) -> int:
    num = max(1, math.ceil((body.seconds or 1) / house.options.scene_s))
    if num > house.backstage.max_scenes:
        longest = house.backstage.max_scenes * house.options.scene_s
        raise invalid("#/seconds", f"{body.seconds} s; at most {longest:g}")
    return num


def _terms(house: House, body: VideoRequest) -> VideoTerms:
    options = house.options
    if body.model not in (None, options.model):
        raise invalid("#/model", f"unknown model {body.model!r}; this is {options.model}")
    if body.size not in (None, options.size):
        raise invalid("#/size", f"{body.size!r} is not made here; leave it out for {options.size}")
    seconds = f"{_num_scenes(house, body) * options.scene_s:g}"
    return VideoTerms(model=options.model, size=options.size, seconds=seconds)


def _of_form(form: FormData) -> dict[str, Any]:
    """The fields of a multipart form; a list's fields end in ``[]``."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) or name.startswith("input_reference"):
            message = "no picture guides a video; keep a character with images, and name it"
            raise invalid(f"#/{name[:100]}", message)
        if name in ("characters", "characters[]"):
            fields.setdefault("characters", []).append(value)
        elif name in fields:
            raise invalid(f"#/{name[:100]}", "is there twice")
        else:
            fields[name] = value
    return fields
