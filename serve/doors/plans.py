"""A story's plan: read it, edit it. An edit says which plan it is of, and begins a new revision."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response
from pydantic import BeforeValidator
from starlette.responses import JSONResponse

from cluster.ledger import PlanConflict, StoryEntry
from pipelines.plan import StoryPlan, canonical_plan, slug
from serve.doors.bodies import refuse_unseen
from serve.doors.examples import PLAN
from serve.doors.house import AHouse, AKey, House, StoryId
from serve.doors.orders import CastMember, character_of, wanted_of
from serve.doors.plan_check import check_plan
from serve.doors.problems import Refusal, invalid
from serve.doors.stories import StoryView, view_of

router = APIRouter(prefix="/v1/stories", tags=["plans"])

_TAG = re.compile(r'(W/)?"([^"]*)"')


def _plain(value: Any) -> Any:
    refuse_unseen(value)
    return value


@router.get(
    "/{story_id}/plan",
    response_model=StoryPlan,
    responses={
        200: {"content": {"application/json": {"example": PLAN}}},
        304: {"description": "The plan is the one with the ETag of If-None-Match."},
    },
)
def show_plan(
    story_id: StoryId,
    house: AHouse,
    key: AKey,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The plan that the story is filmed from; its ETag is what an edit needs."""
    story = house.ledger.story(story_id, key_id=key.id)
    if story.plan is None:
        what = "ended without a plan" if story.is_ended else "is not planned yet"
        raise Refusal(409, "too-early", f"story {story_id} {what}")
    headers = {"ETag": f'"{story.plan_tag}"', "Cache-Control": "private, no-cache"}
    if if_none_match is not None and names_tag(if_none_match, str(story.plan_tag), weak=True):
        return Response(status_code=304, headers=headers)
    return JSONResponse(story.plan, headers=headers)


@router.put("/{story_id}/plan", status_code=202)
def edit_plan(
    story_id: StoryId,
    plan: Annotated[
        StoryPlan,
        BeforeValidator(_plain),
        Body(openapi_examples={"plan": {"summary": "One scene", "value": PLAN}}),
    ],
    house: AHouse,
    key: AKey,
    request: Request,
    response: Response,
    if_match: Annotated[
        str | None, Header(description="The ETag of the plan that was edited.")
    ] = None,
) -> StoryView:
    """Film an ended story again from an edited plan: only what the edit changed is made anew. Until
    that is finished, the film is the one there was (`film_revision` of the story)."""
    story = house.ledger.story(story_id, key_id=key.id)
    if if_match is None:
        raise Refusal(428, "precondition-needed", "send If-Match with the ETag of GET …/plan")
    tag = _read_tag(story, if_match)
    cast = wanted_of(story.request).cast
    plan = canonical_plan(plan)
    check_plan(plan, [character_of(member) for member in cast], house)
    _refuse_strangers(plan, cast)
    _look_for_images(cast, house)
    edited = house.ledger.replace_plan(
        story_id, plan.model_dump(mode="json"), if_match=tag, key_id=key.id
    )
    response.headers["ETag"] = f'"{edited.plan_tag}"'
    return view_of(edited, request)


def _refuse_strangers(plan: StoryPlan, cast: Sequence[CastMember]) -> None:
    """An edit may leave somebody out; how a new one looks, the story was never told."""
    known = {slug(member.name): member.name for member in cast}
    for place, name in enumerate(plan.characters):
        if slug(name) not in known:
            told = ", ".join(known.values())
            message = f"{name} is not in this story, which has {told}; order a new one"
            raise invalid(f"#/characters/{place}", message)


def _look_for_images(cast: Sequence[CastMember], house: House) -> None:
    try:
        for member in cast:
            for sha256 in member.images:
                house.backstage.image_path(sha256)
    except FileNotFoundError as error:
        detail = f"the images of {member.name} were deleted with the character; order a new story"
        raise Refusal(409, "image-gone", detail) from error


def _read_tag(story: StoryEntry, if_match: str) -> str:
    """The tag of the plan that the editor has read. Raises `PlanConflict` if that is not the
    story's; of a story under way it is none's, for the ledger says first that it is under way."""
    if names_tag(if_match, story.plan_tag or "", weak=False):
        return str(story.plan_tag)
    if story.is_ended:
        raise PlanConflict(f"the plan of story {story.id} is not {if_match[:100]}; read it again")
    return ""


def names_tag(header: str, tag: str, *, weak: bool) -> bool:
    """Whether If-Match (strong comparison) or If-None-Match (weak) names a tag."""
    if header.strip() == "*":
        return bool(tag)
    return any(found == tag and (weak or not w) for w, found in _TAG.findall(header) if tag)
