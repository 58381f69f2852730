"""The linter of the story level: who is in a scene, what they do, and what the narration says.

Rules carry the numbers of `pipelines.plan_lint`: 0 shape, 5 motions and narration, 7 characters.
"""

from collections.abc import Iterator, Sequence

from pipelines.plan import Character, Outline, StoryPlan, slug
from pipelines.plan_words import Fault, LintOptions, names


def lint_story(
    outlines: Sequence[Outline],
    characters: Sequence[Character],
    *,
    num_scenes: int,
    wishes: Sequence[str] = (),
    max_cast: int | None = None,
    options: LintOptions | None = None,
) -> list[Fault]:
    """Faults of the story level: who is in it, what they do, and what the narration says.

    ``wishes`` are motions that must occur somewhere, ``max_cast`` is how many characters one scene
    may show.
    """
    options = options or LintOptions()
    faults: list[Fault] = []
    if len(outlines) != num_scenes:
        faults.append(Fault(0, "story", f"{len(outlines)} scenes; write exactly {num_scenes}"))
    for number, outline in enumerate(outlines, start=1):
        faults.extend(_outline_faults(f"scene {number}", outline, characters, options))
        if max_cast is not None and len(outline.roles) > max_cast:
            faults.append(Fault(7, f"scene {number}", f"show at most {max_cast} characters"))
    seen = {slug(role.name) for outline in outlines for role in outline.roles}
    faults.extend(
        Fault(7, "story", f"{character.name} is in no scene; give {character.name} a part")
        for character in characters
        if character.id not in seen and num_scenes >= len(characters)
    )
    done = {slug(motion) for outline in outlines for motion in outline.motions}
    faults.extend(
        Fault(5, "story", f"nobody is {wish}; use it in a scene")
        for wish in wishes
        if slug(wish) not in done
    )
    return faults


def lint_cast(plan: StoryPlan, characters: Sequence[Character]) -> list[Fault]:
    """Who is said to be in a planned story, and has no region in any of its scenes."""
    seen = set(plan.entity_ids)
    missing = {c.id: c.name for c in characters if c.id not in seen}
    return [
        Fault(
            7,
            "characters",
            f"{name} has no region in any scene; give {name} one, or leave {name} out",
        )
        for name in missing.values()
    ]


def _outline_faults(
    where: str, outline: Outline, characters: Sequence[Character], options: LintOptions
) -> Iterator[Fault]:
    known = {character.id for character in characters}
    for role in outline.roles:
        if slug(role.name) not in known:
            yield Fault(7, where, f"{role.name} is not a character of this story")
        if len(role.motions) > 2:
            yield Fault(5, where, f"{role.name} has more than two motions")
    for beat in outline.beats:
        if not names(beat.sentence, beat.name):
            yield Fault(7, where, f'"{beat.sentence}" does not name {beat.name}')
        if not names(beat.sentence, beat.motion):
            yield Fault(5, where, f'"{beat.sentence}" does not say "{beat.motion}"')
    yield from _narration_faults(where, outline, characters, options)


def _narration_faults(
    where: str, outline: Outline, characters: Sequence[Character], options: LintOptions
) -> Iterator[Fault]:
    if len(outline.motions) > 4:
        yield Fault(5, where, "more than four motions")
    if len(outline.beats) > len({(beat.name, beat.motion) for beat in outline.beats}):
        yield Fault(5, where, "somebody does the same thing twice; use another motion")
    for motion in options.vocabulary:
        if motion not in outline.motions and names(outline.narration, motion):
            yield Fault(5, where, f"the narration names {motion}, which nobody has as a motion")
    due = {slug(role.name) for role in outline.roles}
    for character in characters:
        if character.id not in due and names(outline.narration, character.name):
            yield Fault(7, where, f"the narration names {character.name}, who is not in the scene")
