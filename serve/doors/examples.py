"""Examples of what goes in and out, for the description of the doors. Tests hold them true."""

from typing import Any

from pipelines.plan import Box, KeyFrame, Layout, Region, Scene, StoryPlan

_STORY_ID = "story_01M8ZK4T5XW2Q9R7C3V6B1N0HD"
_CHARACTER_ID = "character_01M8ZK3A7G5J2P8E4T6Y9S1QRW"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAD0lEQVR4nGNgGAWDEwAAAcgAAY/PBk0AAAAASUVORK5C"
    "YII="
)


def _plan() -> dict[str, Any]:
    caption = "a pirate is bowing in the forest"
    region = Region.of("pirate", "bowing", caption, Box(left=0.3, top=0.1, right=0.7, bottom=0.95))
    layout = Layout(background="the forest", key_frames=(KeyFrame(regions=(region,)),) * 6)
    scene = Scene(
        place="forest",
        narration="The pirate is bowing.",
        motions=("bowing",),
        layout=layout,
    )
    plan = StoryPlan(topic="The pirate's day", characters=("pirate",), scenes=(scene,))
    return plan.model_dump(mode="json")


PLAN = _plan()

STORY_BODIES: dict[str, Any] = {
    "topic": {"summary": "A topic", "value": {"topic": "The pirate's day", "num_scenes": 3}},
    "cast": {
        "summary": "With a cast: shipped, new, and one's own",
        "value": {
            "topic": "A pirate and a girl witch meet a knight in the forest",
            "num_scenes": 2,
            "characters": [
                "pirate",
                {"name": "Bruno", "phrase": "knight"},
                _CHARACTER_ID,
            ],
            "wishes": ["bowing"],
            "seed": 7,
            "priority": 10,
        },
    },
    "plan": {"summary": "With a finished plan", "value": {"plan": PLAN}},
}

STORY: dict[str, Any] = {
    "object": "story",
    "id": _STORY_ID,
    "state": "running",
    "revision": 1,
    "topic": "The pirate's day",
    "characters": [{"name": "pirate", "phrase": "pirate", "images": [], "shipped": True}],
    "num_scenes": 3,
    "wishes": ["bowing"],
    "seed": 0,
    "use_priors": True,
    "priority": 0,
    "created_s": 1795401000.125,
    "started_s": 1795401001.5,
    "ended_s": None,
    "waited_s": 1.375,
    "ran_s": 42.0,
    "progress": {
        "done": 0.25,
        "left_s": 126.0,
        "parts": {
            "scenes": [
                {"label": "scene 1", "state": "running", "done": 5, "total": 25, "seconds": 3.2}
            ]
        },
    },
    "plan_tag": "0f3c9a5d7e21b846",
    "film_revision": None,
    "error": None,
    "links": {
        "self": f"/v1/stories/{_STORY_ID}",
        **{
            name: f"/v1/stories/{_STORY_ID}/{name}"
            for name in ("events", "plan", "film", "sheet", "cancel")
        },
    },
}

EVENTS = (
    'id: 1\nevent: state\ndata: {"state":"accepted","revision":1,"time_s":1795401000.125}\n\n'
    'id: 2\nevent: state\ndata: {"state":"running","revision":1,"time_s":1795401001.5}\n\n'
)

_WHO = 'key="studio-7",key_id="key_01M8ZK2M7R4T9X6C1V3B5N8QWE"'
FIGURES = "".join(
    f"# HELP dreamrunner_{name} {about}\n# TYPE dreamrunner_{name} gauge\n"
    + "".join(f"dreamrunner_{name}{{{_WHO}{more}}} {value}\n" for more, value in values)
    for name, about, values in (
        (
            "stories",
            "Stories by state.",
            [
                (',state="accepted"', "3.0"),
                (',state="running"', "2.0"),
                (',state="cancelling"', "0.0"),
                (',state="finished"', "41.0"),
                (',state="failed"', "1.0"),
                (',state="cancelled"', "0.0"),
            ],
        ),
        (
            "stories_waiting",
            "Stories not yet begun, by priority.",
            [(',priority="0"', "2.0"), (',priority="5"', "1.0")],
        ),
        ("gpu_seconds_day", "GPU seconds charged in 24 hours.", [("", "5120.75")]),
        ("gpu_seconds_day_max", "Of these, the quota.", [("", "86400.0")]),
        ("stories_waiting_max", "Stories that may wait.", [("", "1000.0")]),
        ("key_weight", "Share of the machines beside other keys.", [("", "3.0")]),
    )
)

CHARACTER: dict[str, Any] = {
    "object": "character",
    "id": _CHARACTER_ID,
    "name": "Mira",
    "phrase": "girl witch",
    "images": [_SHA256],
    "created_s": 1795400000.0,
}

CHARACTER_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "phrase", "images"],
                "properties": {
                    "name": {"type": "string", "maxLength": 60},
                    "phrase": {"type": "string", "maxLength": 60},
                    "images": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 10,
                        "items": {"type": "string", "format": "binary"},
                    },
                },
            },
            "example": {"name": "Mira", "phrase": "girl witch", "images": ["the bytes of a PNG"]},
        },
        "application/json": {
            "schema": {"$ref": "#/components/schemas/CharacterRequest"},
            "example": {"name": "Mira", "phrase": "girl witch", "images": [_PIXEL]},
        },
    },
}

VIDEO: dict[str, Any] = {
    "id": _STORY_ID.replace("story_", "video_"),
    "object": "video",
    "created_at": 1795401000,
    "completed_at": None,
    "expires_at": None,
    "status": "in_progress",
    "progress": 25,
    "prompt": "The pirate is bowing on the beach",
    "model": "miniature",
    "seconds": "6",
    "size": "144x96",
    "error": None,
    "remixed_from_video_id": None,
}

_VIDEO_EXAMPLE = {"prompt": "The pirate is bowing on the beach", "seconds": "6"}
_VIDEO_SCHEMA = {"$ref": "#/components/schemas/VideoRequest"}
VIDEO_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": _VIDEO_SCHEMA, "example": _VIDEO_EXAMPLE},
        "multipart/form-data": {"schema": _VIDEO_SCHEMA, "example": _VIDEO_EXAMPLE},
    },
}

ANSWERS: dict[str, dict[str, Any]] = {
    "StoryView": STORY,
    "StoryList": {"stories": [STORY], "next": None},
    "CharacterView": CHARACTER,
    "CharacterList": {"characters": [CHARACTER], "next": None},
    "VideoView": VIDEO,
    "VideoList": {
        "object": "list",
        "data": [VIDEO],
        "first_id": VIDEO["id"],
        "last_id": VIDEO["id"],
        "has_more": False,
    },
    "VideoDeleted": {"id": VIDEO["id"], "object": "video.deleted", "deleted": True},
    "Health": {"status": "ok"},
}
"""By the name of the answer's record."""
