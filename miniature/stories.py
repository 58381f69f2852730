"""Dialogues that teach the small planner its trade: story to outlines, outline to layout, repair.

Everything is drawn from a `random.Random`: casts with names nobody has seen, topics, narrations,
and layouts that obey the linter by construction. The prompts are the very ones that
`pipelines.planner` sends in its brief style. No model is touched here.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from miniature.cast import CHARACTERS, MOTIONS, PERSON, PLACES
from miniature.staging import sample_layout
from miniature.words import (
    ADJECTIVES,
    CLOSINGS,
    EXAM_TOPICS,
    FIRST,
    LETTERS,
    MANNERS,
    NAMES,
    NEXT,
    NEXT_OTHER,
    ODD_MOTIONS,
    ODD_PHRASES,
    ODD_PLACES,
    SYLLABLES,
    THINGS,
    TITLES,
    TOPICS,
)
from pipelines.plan import Beat, Character, Outline, Role, Story
from pipelines.plan_lint import lint_scene
from pipelines.plan_words import Fault, names, words
from pipelines.prompts import (
    Message,
    read_scene,
    read_story,
    repair_messages,
    scene_messages,
    story_answer,
    story_messages,
    to_json,
)
from pipelines.story_lint import lint_story

MAX_CAST = 2
"""Characters seen together: the world holds no more."""
REPAIR_SHARE = 0.08
_TAKEN = frozenset(words(" ".join((*FIRST, *NEXT, *NEXT_OTHER, *MANNERS, *CLOSINGS))))
"""Words that would make a narration name somebody who is not there."""


@dataclass(frozen=True)
class Request:
    """A story as somebody might ask for it, and what they want to see in it."""

    story: Story
    wishes: tuple[str, ...]


# -- who and what -------------------------------------------------------------------------------


def sample_name(rng: random.Random) -> str:
    """A name that no narration uses as a word."""
    while True:
        name = _draw_name(rng)
        if not set(words(name)) & _TAKEN:
            return name


def _draw_name(rng: random.Random) -> str:
    """A name: common, made up, with a title, or in letters of another script."""
    kind = rng.random()
    if kind < 0.35:
        name = rng.choice(NAMES)
    elif kind < 0.9:
        name = "".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3)))).capitalize()
    elif kind < 0.95:
        name = "".join(rng.choices("bcdfghjklmnpqrstvwxyzaeiou", k=rng.randint(3, 9))).capitalize()
    else:
        name = "".join(rng.choices(rng.choice(LETTERS), k=rng.randint(2, 6))).capitalize()
    if rng.random() < 0.12:
        name = f"{rng.choice(TITLES)} {name}"
    return f"{name} {rng.randint(2, 99)}" if rng.random() < 0.02 else name


def sample_character(rng: random.Random) -> Character:
    """A character of the world, or now and then one that it has never seen."""
    phrase = rng.choice([name for name in CHARACTERS if name != PERSON] + [PERSON])
    if rng.random() < 0.2:
        phrase = f"{rng.choice(ADJECTIVES)} {phrase}"
    if rng.random() < 0.15:
        phrase = rng.choice(ODD_PHRASES)
    if rng.random() < 0.1 and not set(words(phrase)) & _TAKEN:
        return Character(name=rng.choice((phrase, phrase.capitalize())), phrase=phrase)
    return Character(name=sample_name(rng), phrase=phrase)


def sample_cast(rng: random.Random) -> tuple[Character, ...]:
    """One to three characters, no name within another's."""
    cast: list[Character] = []
    for _ in range(rng.choice((1, 1, 2, 2, 2, 2, 3))):
        character = sample_character(rng)
        if not any(
            names(one.name, other.name)
            for known in cast
            for one, other in ((known, character), (character, known))
        ):
            cast.append(character)
    return tuple(cast)


def sample_request(rng: random.Random) -> tuple[Request, tuple[Outline, ...]]:
    """A story to ask for, and outlines that answer it."""
    cast, num_scenes = sample_cast(rng), rng.choice((1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6, 7, 8))
    room = 2 * num_scenes * min(len(cast), MAX_CAST)
    wishes = tuple(rng.sample(MOTIONS, min(room, rng.choice((0, 0, 1, 2, 2, 3, 4)))))
    scenes = _sample_scenes(rng, cast, num_scenes, wishes)
    topic, thing, where = _sample_topic(rng, cast)
    if where:
        scenes[0] = (where, scenes[0][1])
    outlines = tuple(
        Outline(place=place, beats=_beats(rng, place, roles, thing)) for place, roles in scenes
    )
    if rng.random() < 0.1:
        topic = _script(rng, outlines)
    story = Story(topic=topic, characters=cast, num_scenes=num_scenes)
    return Request(story, wishes), outlines


def _sample_scenes(
    rng: random.Random,
    cast: Sequence[Character],
    num_scenes: int,
    wishes: Sequence[str],
) -> list[tuple[str, tuple[Role, ...]]]:
    """Places and roles: wishes are handed out first, over the scenes."""
    wanted: list[list[str]] = [[] for _ in range(num_scenes)]
    order = list(range(num_scenes))
    rng.shuffle(order)
    for i, wish in enumerate(wishes):
        wanted[order[i % num_scenes]].append(wish)
    pool: list[str] = []
    while len(pool) < num_scenes:
        pool.extend(rng.sample(PLACES, len(PLACES)))
    return [
        (pool[i], _sample_roles(rng, cast, MOTIONS, wanted[i], lead=cast[i % len(cast)]))
        for i in range(num_scenes)
    ]


def _sample_roles(
    rng: random.Random,
    cast: Sequence[Character],
    motions: Sequence[str],
    wanted: Sequence[str],
    lead: Character,
) -> tuple[Role, ...]:
    """One or two characters with one or two motions each; together they do what is wanted."""
    seen = [lead]
    others = [c for c in cast if c.id != lead.id]
    if others and (rng.random() < 0.55 or len(wanted) > 2):
        seen.append(rng.choice(others))
    rng.shuffle(seen)
    counts = [rng.choice((1, 2, 2)) if len(seen) == 1 else rng.choice((1, 1, 2)) for _ in seen]
    while sum(counts) < len(wanted) and min(counts) < 2:
        counts[counts.index(min(counts))] += 1
    spare = [m for m in rng.sample(list(motions), len(motions)) if m not in wanted]
    chosen = [*wanted, *spare][: max(sum(counts), len(wanted))]
    rng.shuffle(chosen)
    roles, at = [], 0
    for character, count in zip(seen, counts, strict=True):
        roles.append(Role(name=character.name, motions=tuple(chosen[at : at + count])))
        at += count
    return tuple(roles)


# -- words --------------------------------------------------------------------------------------


def _sample_topic(rng: random.Random, cast: Sequence[Character]) -> tuple[str, str, str]:
    """A topic, a thing that it is about, and a place that it names (each may be empty)."""
    template = rng.choice(TOPICS)
    thing = rng.choice(THINGS)
    if rng.random() < 0.3:
        thing = f"{rng.choice(ADJECTIVES)} {thing}"
    where = rng.choice(PLACES) if "{place}" in template else ""
    first, last = cast[0], cast[-1]
    topic = template.format(
        name=first.name, phrase=first.phrase, other=last.name, thing=thing, place=where
    )
    topic = topic[:1].upper() + topic[1:] if rng.random() < 0.8 else topic
    return topic, thing if "{thing}" in template else "", where


def _beats(
    rng: random.Random, place: str, roles: Sequence[Role], thing: str = ""
) -> tuple[Beat, ...]:
    """One sentence a motion, in the present progressive, and at times one about the place."""
    told: list[tuple[str, str, str]] = []
    for i, role in enumerate(roles):
        for j, motion in enumerate(role.motions):
            pattern = rng.choice(FIRST if not i + j else NEXT if j else NEXT_OTHER)
            manner = f" {rng.choice(MANNERS)}" if rng.random() < 0.35 else ""
            told_by = {"name": role.name, "motion": motion, "manner": manner, "place": place}
            told.append((role.name, motion, _capital(pattern.format(**told_by))))
    if len(told) == 1 or (len(told) == 2 and rng.random() < 0.25):
        closings = [c for c in CLOSINGS if thing or "{thing}" not in c]
        closing = _capital(rng.choice(closings).format(thing=thing, place=place))
        told[-1] = (*told[-1][:2], f"{told[-1][2]} {closing}")
    return tuple(Beat(name=n, motion=m, sentence=sentence) for n, m, sentence in told)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _script(rng: random.Random, outlines: Sequence[Outline]) -> str:
    """The story as somebody would write it down scene by scene."""
    head = rng.choice(("Scene {n}: ", "{n}. ", "{n}) "))
    lines = [
        head.format(n=n) + " ".join(b.sentence for b in _beats(rng, outline.place, outline.roles))
        for n, outline in enumerate(outlines, start=1)
    ]
    return "\n".join(lines)


def sample_outline(rng: random.Random) -> tuple[Outline, tuple[Character, ...]]:
    """One scene to lay out; some have places and motions that the world does not know."""
    cast = sample_cast(rng)[:MAX_CAST]
    places = PLACES if rng.random() < 0.85 else ODD_PLACES
    motions = MOTIONS if rng.random() < 0.85 else (*MOTIONS, *ODD_MOTIONS)
    place = rng.choice(places)
    roles = _sample_roles(rng, cast, motions, [], lead=cast[0])
    return Outline(place=place, beats=_beats(rng, place, roles)), cast


# -- dialogues ----------------------------------------------------------------------------------


def sample_dialogue(rng: random.Random) -> list[Message]:
    """One dialogue; its last turn is the assistant's, and is what to learn."""
    return _story_dialogue(rng) if rng.random() < 0.35 else _scene_dialogue(rng)


def _story_dialogue(rng: random.Random) -> list[Message]:
    request, outlines = sample_request(rng)
    messages = story_messages(request.story, style="brief", wishes=request.wishes)
    answer = story_answer(outlines)
    if rng.random() < REPAIR_SHARE and len(outlines) <= 4:
        broken = _break_story(rng, answer)
        faults = lint_story(
            read_story(broken),
            request.story.characters,
            num_scenes=request.story.num_scenes,
            wishes=request.wishes,
        )
        messages = repair_messages(messages, broken, faults) if faults else messages
    return [*messages, Message(role="assistant", content=answer)]


def _scene_dialogue(rng: random.Random) -> list[Message]:
    outline, cast = sample_outline(rng)
    messages = scene_messages(outline, cast, style="brief")
    answer = sample_layout(rng, outline)
    if rng.random() < REPAIR_SHARE:
        broken = _break_layout(rng, answer)
        faults = scene_faults(broken, outline, cast)
        messages = repair_messages(messages, broken, faults) if faults else messages
    return [*messages, Message(role="assistant", content=answer)]


def scene_faults(answer: str, outline: Outline, cast: Sequence[Character]) -> list[Fault]:
    """What is wrong with an answer to `scene_messages`; unreadable ones have a fault of rule 0."""
    try:
        scene = read_scene(answer, outline, cast)
    except (ValueError, KeyError, TypeError) as error:
        return [Fault(0, "answer", str(error).splitlines()[0])]
    return lint_scene(scene, cast, roles=outline.roles)


def _break_story(rng: random.Random, answer: str) -> str:
    """The answer with one mistake of the kind that models make."""
    given = json.loads(answer)
    scene = rng.choice(given["scenes"])
    beat = rng.choice(scene["beats"])
    kind = rng.randrange(3)
    if kind == 0:
        beat["motion"] = rng.choice(MOTIONS)
    elif kind == 1:
        beat["sentence"] = beat["sentence"].replace(beat["name"], rng.choice(("He", "She")))
    else:
        given["scenes"].remove(scene)
    return to_json(given)


def _break_layout(rng: random.Random, answer: str) -> str:
    """The answer with one mistake of the kind that models make."""
    given = json.loads(answer)
    frame = rng.choice(given["key_frames"])
    region = rng.choice(frame)
    kind = rng.randrange(3)
    if kind == 0:
        region["box"][0], region["box"][2] = (0, 35) if region["box"][0] > 30 else (65, 100)
    elif kind == 1:
        region["box"][2] = region["box"][0] + rng.choice((5, 10, 15))
    else:
        region["motion"] = rng.choice(MOTIONS)
    return to_json(given)


# -- the exam -----------------------------------------------------------------------------------


def exam_requests(rng: random.Random, count: int) -> list[Request]:
    """Stories whose topics and names no training dialogue has."""
    requests = []
    for i in range(count):
        request, _ = sample_request(rng)
        topic = EXAM_TOPICS[i % len(EXAM_TOPICS)]
        story = request.story.model_copy(update={"topic": topic})
        requests.append(Request(story, request.wishes))
    return requests


def exam_outlines(rng: random.Random, count: int) -> list[tuple[Outline, tuple[Character, ...]]]:
    """Scenes of the world to lay out."""
    scenes: list[tuple[Outline, tuple[Character, ...]]] = []
    while len(scenes) < count:
        request, outlines = sample_request(rng)
        scenes.append((outlines[0], request.story.characters))
    return scenes
