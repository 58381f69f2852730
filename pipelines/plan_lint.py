"""The law of scene planning: what a language model must get right (arXiv 2411.16657, planning).

A prompt asks for these rules, the linter decides. Each fault carries the number of its rule:

0. shape: a background without characters in it, few enough distinct captions;
1. boxes at least 0.2 wide and high;
2. a caption names its entity, its one motion in the present progressive, and the place;
3. a thing that disappears was taken up: from then on a region covers where it was;
4. things without a motion stay where they are;
5. motions and narration agree; each lasts two key frames; static ones no longer than travelling;
6. boxes change little from frame to frame, and much over a scene only for motions that travel;
7. separate characters have separate regions.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from pipelines.plan import STILL, Box, Character, KeyFrame, Region, Role, Scene, slug, unique
from pipelines.plan_words import Fault, LintOptions, names, travels, words

MIN_SIDE = 0.2
MAX_CAPTIONS = 19
STILL_SLACK = 0.05
STATIC_STEP, STATIC_SPAN, TRAVEL_STEP = 0.1, 0.2, 0.35
SAME_BOX_IOU = 0.8
COVERED = 0.8
_EPSILON = 1e-6
_SMALL_WORDS = frozenset("a an the in on at of by to near under over inside with and".split())  # noqa: SIM905


def lint_scene(
    scene: Scene,
    characters: Sequence[Character],
    *,
    roles: Sequence[Role] = (),
    options: LintOptions | None = None,
) -> list[Fault]:
    """Every breach of the rules, in order of the rules.

    ``characters`` is the cast of the whole story; ``roles``, where known, says who was to do
    what in this scene.
    """
    options = options or LintOptions()
    return [
        *_shape(scene, characters),
        *_sizes(scene),
        *_captions(scene, characters),
        *_taken_up(scene, characters),
        *_stillness(scene),
        *_motions(scene, roles, options),
        *_durations(scene, options),
        *_changes(scene, options),
        *_separation(scene, characters),
    ]


def _shape(scene: Scene, characters: Sequence[Character]) -> Iterator[Fault]:
    background = scene.layout.background
    for character in characters:
        if names(background, character.name) or names(background, character.phrase):
            yield Fault(0, "background", f"describe the place alone, without {character.name}")
    if not scene.layout.regions:
        yield Fault(0, "key frames", "no region at all; give every character a region")
    # Words that two entities share are a condition of each.
    found = len({(r.entity_id, r.motion_id, r.caption) for r in scene.layout.regions})
    if found > MAX_CAPTIONS:
        yield Fault(0, "key frames", f"{found} different captions; use at most {MAX_CAPTIONS}")


def _placed(scene: Scene) -> Iterator[tuple[str, Region]]:
    for number, frame in enumerate(scene.layout.key_frames, start=1):
        for region in frame.regions:
            yield f"key frame {number}, {region.entity}", region


def _sizes(scene: Scene) -> Iterator[Fault]:
    for where, region in _placed(scene):
        for side, size in (("width", region.box.width), ("height", region.box.height)):
            if size < MIN_SIDE - _EPSILON:
                yield Fault(1, where, f"box {side} is {size:.2f}; make it at least {MIN_SIDE}")


def _captions(scene: Scene, characters: Sequence[Character]) -> Iterator[Fault]:
    said: set[tuple[str, str]] = set()
    for where, region in _placed(scene):
        for message in _caption_faults(region, scene, characters):
            if (region.caption, message) not in said:
                said.add((region.caption, message))
                yield Fault(2, where, f'caption "{region.caption}" {message}')


def _caption_faults(region: Region, scene: Scene, characters: Sequence[Character]) -> Iterator[str]:
    known = [c for c in characters if c.id == region.entity_id]
    callings = [region.entity, *(text for c in known for text in (c.name, c.phrase))]
    if not any(names(region.caption, calling) for calling in callings):
        yield f"does not name {known[0].phrase if known else region.entity}"
    place = [word for word in words(scene.place) if word not in _SMALL_WORDS]
    if not set(place) <= set(words(region.caption)):
        yield f"does not name the place, {scene.place}"
    if region.motion != STILL and not _is_doing(region.caption, region.motion):
        yield f'does not say "is {region.motion}"'
    for other in scene.motions:
        if slug(other) != region.motion_id and _is_another(other, region):
            yield f"names a second motion, {other}"


def _is_another(motion: str, region: Region) -> bool:
    return names(region.caption, motion) and not names(region.motion, motion)


def _is_doing(caption: str, motion: str) -> bool:
    """Present progressive: is/are, at most two adverbs, then the motion, a participle."""
    given, wanted = words(caption), words(motion)
    if not wanted or not any(word.endswith("ing") for word in wanted):
        return False
    starts = [i for i in range(len(given)) if given[i : i + len(wanted)] == wanted]
    return any({"is", "are"} & set(given[max(0, i - 3) : i]) for i in starts)


def _taken_up(scene: Scene, characters: Sequence[Character]) -> Iterator[Fault]:
    cast = {character.id for character in characters}
    for number, (frame, following) in enumerate(pairwise(scene.layout.key_frames), start=1):
        for thing in frame.regions:
            if thing.motion != STILL or thing.entity_id in cast:
                continue
            if following.region_of(thing.entity_id) is None and not _covered(
                thing.box, following.regions
            ):
                yield Fault(
                    3,
                    f"key frame {number + 1}",
                    f"{thing.entity} disappears and no region covers where it was; keep its "
                    "region, or let the box of whoever uses it cover both",
                )


def _covered(box: Box, regions: Iterable[Region]) -> bool:
    overlaps = (region.box.intersection(box) for region in regions)
    return any(both is not None and both.area >= COVERED * box.area for both in overlaps)


def _stillness(scene: Scene) -> Iterator[Fault]:
    for entity, run in _runs(scene):
        if run[0][1].motion == STILL and _span([r.box for _, r in run]) > STILL_SLACK + _EPSILON:
            where = f"key frames {run[0][0]} to {run[-1][0]}, {entity}"
            yield Fault(4, where, "it has no motion, so its box must stay where it is")


def _runs(scene: Scene) -> Iterator[tuple[str, list[tuple[int, Region]]]]:
    """Each entity's stretches of neighbouring key frames in which it does one thing."""
    for entity_id in scene.entity_ids:
        track = [
            (number, region)
            for number, frame in enumerate(scene.layout.key_frames, start=1)
            if (region := frame.region_of(entity_id)) is not None
        ]
        keyed = [
            ((number - place, region.motion_id), (number, region))
            for place, (number, region) in enumerate(track)
        ]
        for _, group in groupby(keyed, key=lambda item: item[0]):
            run = [item for _, item in group]
            yield run[0][1].entity, run


def _span(boxes: Sequence[Box]) -> float:
    """The farthest that any edge moves."""
    columns = ([box.edges[side] for box in boxes] for side in range(4))
    return max(max(column) - min(column) for column in columns)


def _motions(scene: Scene, roles: Sequence[Role], options: LintOptions) -> Iterator[Fault]:
    done = {(r.entity_id, r.motion_id) for r in scene.layout.regions}
    allowed = {slug(motion) for motion in scene.motions}
    for motion in unique(_told(r) for r in scene.layout.regions if r.motion_id not in allowed):
        if motion != STILL:
            yield Fault(5, "key frames", f"{motion} is not a motion of this scene")
    for motion in scene.motions:
        if not names(scene.narration, motion):
            yield Fault(5, "narration", f"does not name {motion}")
        if slug(motion) not in scene.motion_ids:
            yield Fault(5, "key frames", f"nobody is {motion}")
    for motion in options.vocabulary:
        if slug(motion) not in allowed and names(scene.narration, motion):
            yield Fault(5, "narration", f"names {motion}, which is not a motion of this scene")
    yield from _role_faults(done, roles)


def _told(region: Region) -> str:
    """Its motion; where that has the id of another one, its id."""
    is_plain = region.motion_id in {None, "-".join(words(region.motion))}
    return region.motion if is_plain else f'{region.motion_id} (motion_id of "{region.motion}")'


def _role_faults(done: set[tuple[str, str | None]], roles: Sequence[Role]) -> Iterator[Fault]:
    for role in roles:
        entity, motions = slug(role.name), {slug(motion) for motion in role.motions}
        for motion in role.motions:
            if (entity, slug(motion)) not in done:
                yield Fault(5, "key frames", f"{role.name} must be {motion}, and never is")
        for extra in sorted(m for who, m in done if who == entity and m and m not in motions):
            yield Fault(5, "key frames", f"{role.name} must not be {extra}")


def _durations(scene: Scene, options: LintOptions) -> Iterator[Fault]:
    frames: dict[str, dict[bool, list[int]]] = {}
    for entity, run in _runs(scene):
        motion = run[0][1].motion
        if motion == STILL:
            continue
        if len(run) < 2:
            where = f"key frame {run[0][0]}, {entity}"
            yield Fault(5, where, f"{motion} lasts one key frame; it needs two or more")
        by_kind = frames.setdefault(entity, {True: [], False: []})
        by_kind[travels(motion, options)].append(len(run))
    for entity, by_kind in frames.items():
        if by_kind[True] and by_kind[False] and max(by_kind[False]) > max(by_kind[True]):
            message = "static motions must not last longer than travelling ones"
            yield Fault(5, entity, message)


def _changes(scene: Scene, options: LintOptions) -> Iterator[Fault]:
    for number, (frame, following) in enumerate(pairwise(scene.layout.key_frames), start=1):
        for region in following.regions:
            before = frame.region_of(region.entity_id)
            if before is None or _takes_up(region, frame, following):
                continue
            far = any(travels(motion, options) for motion in (before.motion, region.motion))
            limit, step = (TRAVEL_STEP if far else STATIC_STEP), _span([before.box, region.box])
            if step > limit + _EPSILON:
                where = f"key frames {number} to {number + 1}, {region.entity}"
                yield Fault(6, where, f"the box jumps by {step:.2f}; change it by {limit} at most")
    for entity, run in _runs(scene):
        boxes = [region.box for _, region in run]
        if not _may_span(scene, run, options) and _span(boxes) > STATIC_SPAN + _EPSILON:
            where = f"key frames {run[0][0]} to {run[-1][0]}, {entity}"
            yield Fault(
                6, where, f"{run[0][1].motion} does not travel, so its box must stay nearly still"
            )


def _may_span(scene: Scene, run: Sequence[tuple[int, Region]], options: LintOptions) -> bool:
    frames = scene.layout.key_frames
    return travels(run[0][1].motion, options) or any(
        _takes_up(region, frames[number - 2], frames[number - 1])
        for number, region in run
        if number >= 2
    )


def _takes_up(region: Region, before: KeyFrame, now: KeyFrame) -> bool:
    """Whether this region's box grows over a still thing that had its own region until now."""
    gone = [
        thing.box
        for thing in before.regions
        if thing.motion == STILL
        and thing.entity_id != region.entity_id
        and now.region_of(thing.entity_id) is None
    ]
    return any(_covered(box, [region]) for box in gone)


def _separation(scene: Scene, characters: Sequence[Character]) -> Iterator[Fault]:
    cast = {character.id: character.name for character in characters}
    for where, region in _placed(scene):
        together = [n for n in cast.values() if names(region.entity, n)]
        if region.entity_id not in cast and len(together) > 1:
            yield Fault(7, where, f"give {' and '.join(together)} a region each")
    for number, frame in enumerate(scene.layout.key_frames, start=1):
        yield from _crowded(number, frame, cast)
    for character in characters:
        named = names(scene.narration, character.name)
        if named and character.id not in scene.entity_ids:
            yield Fault(7, "key frames", f"{character.name} is in the narration, but has no region")


def _crowded(number: int, frame: KeyFrame, cast: dict[str, str]) -> Iterator[Fault]:
    entities = [region.entity_id for region in frame.regions]
    for identity in unique(entities):
        if entities.count(identity) > 1:
            where = f"key frame {number}, {cast.get(identity, identity)}"
            yield Fault(7, where, "has two regions in one key frame; give it one")
    people = [region for region in frame.regions if region.entity_id in cast]
    for place, one in enumerate(people):
        for other in people[place + 1 :]:
            if one.entity_id != other.entity_id and _iou(one.box, other.box) >= SAME_BOX_IOU:
                where = f"key frame {number}"
                message = f"{one.entity} and {other.entity} have the same box; move them apart"
                yield Fault(7, where, message)


def _iou(one: Box, other: Box) -> float:
    both = one.intersection(other)
    return 0.0 if both is None else both.area / (one.area + other.area - both.area)
