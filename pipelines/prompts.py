"""What the planner says to a language model, and the JSON it asks for. All wording is ours.

Two styles: ``full`` states every rule and shows one example, for models that know English and
not this task; ``brief`` states the facts alone, for a small model trained on this task: the
schema alone holds it to a vocabulary, and captions are made for it (`plain_caption`). Boxes go over
the wire as whole percents in steps of five, which every guided decoder can hold a model to.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from pipelines.plan import (
    NUM_KEY_FRAMES,
    STILL,
    Beat,
    Box,
    Character,
    KeyFrame,
    Layout,
    Outline,
    Region,
    Scene,
    Story,
    canonicalise,
    slug,
)
from pipelines.plan_words import Fault

Style = Literal["full", "brief"]
Schema = dict[str, Any]

PERCENTS = list(range(0, 101, 5))
_FENCED = re.compile(r"\s*```\w*\s(.*)```\s*", re.DOTALL)


class Message(TypedDict):
    """One turn of a conversation, as every chat model takes it."""

    role: Literal["system", "user", "assistant"]
    content: str


STORY_RULES = """\
You plan short films. You get a topic or a script, the characters and the number of scenes.
Answer with one JSON object: {"scenes": [...]}, in the order of the film. Each scene has
- "place": one place, in one to three words;
- "beats": what happens, in order; each is {"name", "motion", "sentence"}: one character, the one
  thing it does, and one sentence that tells it. The sentences together are the narration.
Rules:
- A motion is a present participle (walking, waving), something a camera can see.
- A scene has two or three beats: one or two motions a character, at most four motions in all.
- A sentence says its character's name and its motion with that very word, in the present
  progressive ("Then Ann is waving at the moon."), and no other motion. It names nobody who has no
  beat in the scene. Where a scene has one beat only, a second sentence may say how the place is.
- The scenes follow from one another; places and motions vary. Where a script is given, keep to it.
Example of an answer to the topic "A letter for Tom" with Ann (postwoman) and Tom (old sailor) in
two scenes:
{"scenes": [{"place": "village street", "beats": [{"name": "Ann", "motion": "cycling", "sentence":
"Ann is cycling down the village street with one letter left."}, {"name": "Ann", "motion": "waving",
"sentence": "Now Ann is waving at a window."}]}, {"place": "harbour", "beats": [{"name": "Tom",
"motion": "sitting", "sentence": "Tom is sitting on a crate at the harbour."}, {"name": "Ann",
"motion": "walking", "sentence": "Ann is walking towards Tom with the letter."}]}]}"""

SCENE_RULES = """\
You lay out one scene of a film: six key frames, one a second, each a list of regions.
Answer with one JSON object with
- "reasoning": first think in a few sentences about who is where, who moves which way, and when
  one motion gives way to the next;
- "background": the place alone, without any character;
- "key_frames": six lists of regions {"entity", "motion", "caption", "box"}.
A box is [left, top, right, bottom] in percent of the frame, in steps of 5; 0 is left or top.
Rules:
- A box is at least 20 wide and 20 high. Main characters are large: about 60 wide and 100 high
  when alone, about 40 wide when there are two.
- A region has one motion and one caption. The caption names the entity, says "is" and that very
  motion, and names the place: "a postwoman is walking in the harbour". Repeat it word for word in
  every frame in which the entity does this.
- Every character has its own region in every frame. Regions overlap only where characters touch.
- Things have motion "none" and stay where they are. A thing that is about to be used has its own
  region; once in use it has none, and the box of its user covers both.
- Use the motions that are listed for a character, in that order, and no others. Each lasts at
  least two key frames; motions on the spot get no more frames than motions that travel.
- Between neighbouring frames a box changes little. Only motions that travel (walking, running,
  flying) carry a box far; it then moves a little every frame. On the spot a box stays put.
Example of an answer for Ann (postwoman): cycling, waving, in a village street:
{"reasoning": "Ann is cycling from left to right for four frames, then waving on the spot.",
"background": "a village street with low houses", "key_frames": [
[{"entity": "Ann", "motion": "cycling", "caption": "a postwoman is cycling in the village street",
"box": [0, 10, 50, 100]}],
[{"entity": "Ann", "motion": "cycling", "caption": "a postwoman is cycling in the village street",
"box": [10, 10, 60, 100]}],
[{"entity": "Ann", "motion": "cycling", "caption": "a postwoman is cycling in the village street",
"box": [20, 10, 70, 100]}],
[{"entity": "Ann", "motion": "cycling", "caption": "a postwoman is cycling in the village street",
"box": [30, 10, 80, 100]}],
[{"entity": "Ann", "motion": "waving", "caption": "a postwoman is waving in the village street",
"box": [35, 10, 85, 100]}],
[{"entity": "Ann", "motion": "waving", "caption": "a postwoman is waving in the village street",
"box": [35, 10, 85, 100]}]]}"""

_SYSTEM: dict[tuple[str, Style], str] = {
    ("story", "full"): STORY_RULES,
    ("scene", "full"): SCENE_RULES,
    ("story", "brief"): "Plan a film.",
    ("scene", "brief"): "Lay out a scene.",
}


# -- the story ----------------------------------------------------------------------------------


def story_messages(
    story: Story,
    *,
    style: Style,
    places: Sequence[str] = (),
    motions: Sequence[str] = (),
    wishes: Sequence[str] = (),
) -> list[Message]:
    """Ask for the outlines of a story. ``wishes`` are motions that must occur."""
    lines = [
        f"Story: {story.topic}",
        "Characters: " + ", ".join(map(_called, story.characters)),
        f"Scenes: {story.num_scenes}",
    ]
    if places and style == "full":
        lines.append("Places: " + ", ".join(places))
    if motions and style == "full":
        lines.append("Motions: " + ", ".join(motions))
    if wishes:
        lines.append("Must use: " + ", ".join(wishes))
    return _ask("story", style, lines)


def story_schema(
    story: Story, *, places: Sequence[str] = (), motions: Sequence[str] = ()
) -> Schema:
    """JSON schema of the answer to `story_messages`."""
    beat = {
        "name": {"type": "string", "enum": [c.name for c in story.characters]},
        "motion": _choice(motions, 30),
        "sentence": {"type": "string", "minLength": 10, "maxLength": 200},
    }
    scene = {"place": _choice(places, 40), "beats": _array(beat, 1, 4)}
    return _object({"scenes": _array(scene, story.num_scenes, story.num_scenes)})


def story_answer(outlines: Sequence[Outline]) -> str:
    """The answer that would have given these outlines."""
    return to_json({"scenes": [outline.model_dump(mode="json") for outline in outlines]})


def read_story(answer: str) -> list[Outline]:
    """Outlines from an answer. `ValueError` (json's or pydantic's) where it does not fit."""
    return [
        Outline(place=scene["place"], beats=tuple(map(_beat, scene["beats"])))
        for scene in read_json(answer)["scenes"]
    ]


def _beat(given: dict[str, str]) -> Beat:
    told = " ".join(given["sentence"].split())
    return Beat(name=given["name"], motion=given["motion"], sentence=told)


# -- the scene ----------------------------------------------------------------------------------


def scene_messages(
    outline: Outline, characters: Sequence[Character], *, style: Style
) -> list[Message]:
    """Ask for the layout of one scene."""
    by_id = {character.id: character for character in characters}
    roles = [f"{_called(by_id[slug(r.name)])}: {', '.join(r.motions)}" for r in outline.roles]
    lines = [f"Place: {outline.place}", "Characters: " + "; ".join(roles)]
    if style == "full":
        lines.append(f"Narration: {outline.narration}")
    return _ask("scene", style, lines)


def scene_schema(outline: Outline, *, style: Style, things: bool) -> Schema:
    """JSON schema of the answer to `scene_messages`.

    A key frame holds each of the scene's characters once, in order, with one of *its* motions or,
    where ``things`` are welcome, any of them and a few things with a motion of the scene or none.
    """
    still = [STILL] if things else []
    people = [_region({"enum": [r.name]}, [*r.motions, *still], style) for r in outline.roles]
    frame: Schema = {"type": "array", "minItems": len(people), "maxItems": len(people)}
    if things:
        thing = _region({"maxLength": 40, "minLength": 1}, [STILL, *outline.motions], style)
        frame |= {"items": {"anyOf": [*people, thing]}, "minItems": 1, "maxItems": len(people) + 3}
    else:
        frame |= {"prefixItems": people, "items": False}
    return _object(
        {
            "reasoning": {"type": "string", "maxLength": 600},
            "background": {"type": "string", "minLength": 1, "maxLength": 120},
            "key_frames": {
                "type": "array",
                "items": frame,
                "minItems": NUM_KEY_FRAMES,
                "maxItems": NUM_KEY_FRAMES,
            },
        }
    )


def scene_answer(
    reasoning: str,
    background: str,
    key_frames: Sequence[Sequence[tuple[str, str, Sequence[int]]]],
) -> str:
    """The brief answer with these regions: (entity, motion, box in percent) a frame."""
    frames = [
        [{"entity": entity, "motion": motion, "box": list(box)} for entity, motion, box in frame]
        for frame in key_frames
    ]
    return to_json({"reasoning": reasoning, "background": background, "key_frames": frames})


def read_scene(answer: str, outline: Outline, characters: Sequence[Character]) -> Scene:
    """The scene of an answer, captions made canonical. `ValueError` where it does not fit."""
    given = read_json(answer)
    phrases = {character.id: character.phrase for character in characters}

    def read_region(region: dict[str, Any]) -> Region:
        entity, motion = region["entity"], region["motion"] or STILL
        phrase = phrases.get(slug(entity), entity)
        caption = region.get("caption") or plain_caption(phrase, motion, outline.place)
        return Region.of(entity, motion, caption, _box(region["box"]))

    frames = tuple(
        KeyFrame(regions=tuple(map(read_region, regions))) for regions in given["key_frames"]
    )
    return Scene(
        place=outline.place,
        narration=outline.narration,
        motions=outline.motions,
        layout=canonicalise(Layout(background=given["background"], key_frames=frames)),
    )


def plain_caption(phrase: str, motion: str, place: str) -> str:
    """The plain form: "a witch is walking in the forest"; "a bench in the park" of still things."""
    article = "an" if phrase[:1].casefold() in set("aeiou") else "a"
    named = phrase if phrase.casefold().startswith(("a ", "an ", "the ")) else f"{article} {phrase}"
    return f"{named} in the {place}" if motion == STILL else f"{named} is {motion} in the {place}"


def _box(percents: Sequence[int]) -> Box:
    left, top, right, bottom = (percent / 100 for percent in percents)
    return Box(left=left, top=top, right=right, bottom=bottom)


# -- repair -------------------------------------------------------------------------------------

MAX_FAULTS = 8
"""Faults told at once; the rest usually go with them."""


def repair_messages(
    messages: Sequence[Message], answer: str, faults: Sequence[Fault]
) -> list[Message]:
    """The same question, the answer that failed, and what was wrong with it."""
    told = [f"- {fault}" for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        told.append(f"- and {len(faults) - MAX_FAULTS} more of this kind")
    wrong = "\n".join(["This breaks the rules:", *told, "Write the whole answer again, corrected."])
    return [
        *messages,
        Message(role="assistant", content=answer),
        Message(role="user", content=wrong),
    ]


def read_json(answer: str) -> Any:
    """The JSON of an answer, without a fence around it; control characters in its strings, which
    decoders let by, may stay."""
    fenced = _FENCED.fullmatch(answer)
    return json.loads(fenced[1] if fenced else answer, strict=False)


def _ask(level: str, style: Style, lines: Sequence[str]) -> list[Message]:
    return [
        Message(role="system", content=_SYSTEM[level, style]),
        Message(role="user", content="\n".join(lines)),
    ]


def _called(character: Character) -> str:
    return f"{character.name} ({character.phrase})"


def to_json(value: Any) -> str:
    """JSON as guided engines write it: without a space that says nothing."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _choice(allowed: Sequence[str], max_length: int) -> Schema:
    if allowed:
        return {"type": "string", "enum": list(allowed)}
    return {"type": "string", "minLength": 1, "maxLength": max_length}


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(properties: Schema, least: int, most: int) -> Schema:
    return {
        "type": "array",
        "items": _object(properties),
        "minItems": least,
        "maxItems": most,
    }


def _region(entity: Schema, motions: Sequence[str], style: Style) -> Schema:
    box = {
        "type": "array",
        "items": {"type": "integer", "enum": PERCENTS},
        "minItems": 4,
        "maxItems": 4,
    }
    caption = {"caption": {"type": "string", "minLength": 1, "maxLength": 120}}
    return _object(
        {
            "entity": {"type": "string", **entity},
            "motion": {"type": "string", "enum": list(dict.fromkeys(motions))},
            **(caption if style == "full" else {}),
            "box": box,
        }
    )
