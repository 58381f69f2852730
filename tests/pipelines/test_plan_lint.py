"""Each rule is broken by one plan that breaks nothing else."""

import pytest

from pipelines.plan import (
    Beat,
    Box,
    Character,
    KeyFrame,
    Layout,
    Outline,
    Region,
    Role,
    Scene,
    StoryPlan,
    canonicalise,
)
from pipelines.plan_lint import lint_scene
from pipelines.plan_words import LintOptions, names, travels
from pipelines.story_lint import lint_cast, lint_story

ANN = Character(name="Ann", phrase="witch")
BOB = Character(name="Bob", phrase="bear")
CAST = (ANN, BOB)
Edges = tuple[float, float, float, float]


def region(who: Character, motion: str, box: Edges, caption: str | None = None) -> Region:
    said = caption or f"a {who.phrase} is {motion} in the park"
    left, top, right, bottom = box
    return Region.of(who.name, motion, said, Box(left=left, top=top, right=right, bottom=bottom))


def thing(entity: str, box: Edges) -> Region:
    return Region.of(
        entity,
        "none",
        f"a {entity} in the park",
        Box(left=box[0], top=box[1], right=box[2], bottom=box[3]),
    )


def scene(
    frames: list[list[Region]],
    motions: tuple[str, ...] = ("walking", "waving"),
    narration: str = "Ann is walking in the park. Then Ann is waving.",
    background: str = "the park",
) -> Scene:
    key_frames = tuple(KeyFrame(regions=tuple(regions)) for regions in frames)
    layout = Layout(background=background, key_frames=key_frames)
    return Scene(place="park", narration=narration, motions=motions, layout=layout)


def good_frames() -> list[list[Region]]:
    walk = [[region(ANN, "walking", (x, 0.1, x + 0.4, 1.0))] for x in (0.0, 0.1, 0.2)]
    return [*walk, *([[region(ANN, "waving", (0.2, 0.1, 0.6, 1.0))]] * 3)]


def rules(plan: Scene, **options: object) -> set[int]:
    return {fault.rule for fault in lint_scene(plan, CAST, **options)}  # type: ignore[arg-type]


def test_a_good_plan_has_no_fault() -> None:
    assert lint_scene(scene(good_frames()), CAST) == []


def test_rule_0_no_character_in_the_background() -> None:
    assert rules(scene(good_frames(), background="the park and a witch")) == {0}


def test_rule_1_small_box() -> None:
    frames = [[region(r.entity and ANN, r.motion, (0.3, 0.1, 0.49, 1.0))] for [r] in good_frames()]
    assert rules(scene(frames)) == {1}


@pytest.mark.parametrize(
    "caption",
    [
        "somebody is walking in the park",
        "a witch walks in the park",
        "a witch is walking",
        "a witch is walking and waving in the park",
        "a switch is walking in the park",
    ],
)
def test_rule_2_caption(caption: str) -> None:
    frames = good_frames()
    frames[:3] = [[region(ANN, "walking", r.box.edges, caption)] for [r] in frames[:3]]
    faults = lint_scene(scene(frames), CAST)
    assert [fault.rule for fault in faults] == [2]
    assert caption in str(faults[0])


def test_rule_3_a_thing_vanishes() -> None:
    frames = good_frames()
    bench = thing("bench", (0.7, 0.5, 1.0, 0.9))
    kept = [[*regions, bench] for regions in frames]
    assert rules(scene(kept)) == set()
    vanished = [[*regions, bench] if i < 3 else regions for i, regions in enumerate(frames)]
    assert rules(scene(vanished)) == {3}
    taken = [*vanished[:3], *([[region(ANN, "waving", (0.2, 0.1, 1.0, 1.0))]] * 3)]
    assert rules(scene(taken)) == set()


def test_rule_4_a_thing_without_motion_moves() -> None:
    frames = [
        [*regions, thing("bench", (0.6 + 0.02 * i, 0.5, 0.9 + 0.02 * i, 0.9))]
        for i, regions in enumerate(good_frames())
    ]
    assert rules(scene(frames)) == {4}


def test_rule_5_narration_and_motions_agree() -> None:
    silent = scene(good_frames(), narration="Ann is walking in the park. Ann is happy.")
    assert rules(silent) == {5}
    idle = scene(
        good_frames(),
        motions=("walking", "waving", "jumping"),
        narration="Ann is walking, waving and jumping.",
    )
    assert rules(idle) == {5}
    assert rules(scene(good_frames(), narration="Ann is walking, waving, dancing.")) == set()
    known = LintOptions(vocabulary=("walking", "waving", "dancing"))
    named = scene(good_frames(), narration="Ann is walking, waving, dancing.")
    assert rules(named, options=known) == {5}


def test_a_motion_under_the_id_of_another_is_told_by_its_id() -> None:
    frames = good_frames()
    frames[2] = [frames[2][0].model_copy(update={"motion_id": "jumping"})]
    (fault,) = [f for f in lint_scene(scene(frames), CAST) if "of this scene" in f.message]
    assert fault.message.startswith('jumping (motion_id of "walking") is not a motion')


def test_rule_5_roles_are_kept() -> None:
    roles = [Role(name="Ann", motions=("walking", "waving"))]
    assert rules(scene(good_frames()), roles=roles) == set()
    swapped = [Role(name="Ann", motions=("walking",)), Role(name="Bob", motions=("waving",))]
    found = lint_scene(scene(good_frames()), CAST, roles=swapped)
    assert [str(fault) for fault in found] == [
        "key frames: Ann must not be waving",
        "key frames: Bob must be waving, and never is",
    ]


def test_rule_5_durations() -> None:
    walk, wave = good_frames()[:3], good_frames()[3:]
    still = [[region(ANN, "walking", (0.2, 0.1, 0.6, 1.0))]]
    brief = [*walk, *still, *still, wave[0]]
    assert rules(scene(brief)) == {5}
    long = [*walk[1:], *wave, wave[0]]
    assert rules(scene(long)) == {5}


def test_rule_6_boxes_change_little() -> None:
    leap = good_frames()
    leap[2] = [region(ANN, "walking", (0.6, 0.1, 1.0, 1.0))]
    leap[3:] = [[region(ANN, "waving", (0.6, 0.1, 1.0, 1.0))]] * 3
    assert rules(scene(leap)) == {6}
    drift = [[region(ANN, "waving", (0.1 * i, 0.1, 0.1 * i + 0.4, 1.0))] for i in range(6)]
    assert rules(scene(drift, ("waving",), "Ann is waving.")) == {6}
    travel = [[region(ANN, "walking", r.box.edges)] for [r] in drift]
    assert rules(scene(travel, ("walking",), "Ann is walking.")) == set()


def test_rule_7_separate_regions() -> None:
    both = [[*regions, region(BOB, "waving", regions[0].box.edges)] for regions in good_frames()]
    told = "Ann is walking. Then Ann is waving. Bob is waving."
    assert rules(scene(both, narration=told)) >= {7}
    assert rules(scene(good_frames(), narration=told)) == {7}
    twice = [[*regions, *regions] for regions in good_frames()]
    assert rules(scene(twice)) == {7}


def test_one_entity_doing_one_motion_has_one_caption() -> None:
    frames = good_frames()
    frames[1] = [region(ANN, "walking", (0.1, 0.1, 0.5, 1.0), "the old  witch is walking, park.")]
    layout = canonicalise(scene(frames).layout)
    assert layout.captions == ("a witch is walking in the park", "a witch is waving in the park")


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("a category of birds", "cat", False),
        ("a black cat, asleep", "Cat", True),
        ("a girl witch is here", "girl witch", True),
        ("a girl and a witch", "girl witch", False),
        ("anything", "!", False),
        ("Zoë is walking", "Zoe\u0308", True),
        ("मोना चल रही है", "मीना", False),
    ],
)
def test_names_by_whole_words(text: str, phrase: str, found: bool) -> None:
    assert names(text, phrase) == found


@pytest.mark.parametrize(
    ("motion", "far"),
    [("running", True), ("riding a horse", True), ("skating", True), ("waving", False)],
)
def test_what_travels(motion: str, far: bool) -> None:
    assert travels(motion, LintOptions()) == far


def outline(name: str = "Ann", sentence: str = "Ann is walking in the park.") -> Outline:
    return Outline(place="park", beats=(Beat(name=name, motion="walking", sentence=sentence),))


TWICE = Outline(place="park", beats=outline().beats * 2)
BUSY = Outline(
    place="park",
    beats=tuple(
        Beat(name="Ann", motion=motion, sentence=f"Ann is {motion}.")
        for motion in ("walking", "waving", "jumping")
    ),
)


@pytest.mark.parametrize(
    ("outlines", "options", "rule"),
    [
        ([outline(), outline()], {"num_scenes": 1}, 0),
        ([outline()], {"num_scenes": 1, "wishes": ("bowing",)}, 5),
        ([outline(sentence="Ann walks.")], {"num_scenes": 1}, 5),
        ([TWICE], {"num_scenes": 1}, 5),
        ([BUSY], {"num_scenes": 1}, 5),
        ([outline(sentence="She is walking.")], {"num_scenes": 1}, 7),
        ([outline("Eve", "Eve is walking.")], {"num_scenes": 1}, 7),
        ([outline(sentence="Ann is walking with Bob.")], {"num_scenes": 1}, 7),
        ([outline(), outline()], {"num_scenes": 2}, 7),
        ([outline()], {"num_scenes": 1, "max_cast": 0}, 7),
    ],
)
def test_story_faults(outlines: list[Outline], options: dict[str, object], rule: int) -> None:
    faults = lint_story(outlines, CAST, **options)  # type: ignore[arg-type]
    assert [fault.rule for fault in faults] == [rule]


def test_a_good_story() -> None:
    assert lint_story([outline()], (ANN,), num_scenes=1, wishes=("walking",)) == []


def test_everybody_in_a_plan_is_seen_somewhere() -> None:
    plan = StoryPlan(topic="a day", characters=("Ann", "Bob"), scenes=(scene(good_frames()),))
    assert lint_cast(plan, (ANN,)) == []
    (fault,) = lint_cast(plan, CAST)
    assert (fault.rule, fault.where) == (7, "characters")
    assert "Bob has no region in any scene" in fault.message


def test_an_outline_knows_its_roles() -> None:
    assert BUSY.motions == ("walking", "waving", "jumping")
    assert BUSY.roles == (Role(name="Ann", motions=BUSY.motions),)
    assert BUSY.narration == "Ann is walking. Ann is waving. Ann is jumping."
