import json
from collections.abc import Sequence

import pytest

from pipelines.plan import Character, Story
from pipelines.planner import PlanError, PlannerOptions, judge_scene, judge_story, plan_story
from pipelines.progress import Cancelled
from pipelines.prompts import (
    MAX_FAULTS,
    Message,
    Schema,
    read_story,
    story_messages,
    story_schema,
)

ANN = Character(name="Ann", phrase="witch")
BOB = Character(name="Bob", phrase="bear")
STORY = Story(topic="A day out", characters=(ANN, BOB), num_scenes=1)
OPTIONS = PlannerOptions(style="brief", motions=("walking", "waving", "sitting"))
BEATS = [
    {"name": "Ann", "motion": "walking", "sentence": "Ann is walking in the park."},
    {"name": "Ann", "motion": "waving", "sentence": "Then Ann is waving."},
    {"name": "Bob", "motion": "sitting", "sentence": "Bob is sitting."},
]
OUTLINES = json.dumps({"scenes": [{"place": "park", "beats": BEATS}]})


def layout(ann_left: Sequence[int] = (0, 5, 10, 10, 10, 10), place: str = " in the park") -> str:
    doing = ["walking"] * 3 + ["waving"] * 3
    frames = [
        [
            {
                "entity": "Ann",
                "motion": motion,
                "caption": f"a witch is {motion}{place}",
                "box": [left, 10, left + 35, 100],
            },
            {
                "entity": "Bob",
                "motion": "sitting",
                "caption": "a bear is sitting in the park",
                "box": [60, 10, 100, 100],
            },
        ]
        for motion, left in zip(doing, ann_left, strict=True)
    ]
    return json.dumps({"reasoning": "", "background": "the park", "key_frames": frames})


class Script:
    """An engine that says what it was told to, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[Message]] = []
        self.schemas: list[Schema | None] = []
        self.seeds: list[int] = []

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None,
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 0.0,
    ) -> str:
        self.asked.append(list(messages))
        self.schemas.append(schema)
        self.seeds.append(seed)
        return self.answers.pop(0)


def test_a_story_is_one_call_and_one_a_scene() -> None:
    engine, ticks = Script(OUTLINES, layout()), list[tuple[int, int]]()
    plan = plan_story(engine, STORY, options=OPTIONS, progress=lambda *at: ticks.append(at))
    assert plan.characters == ("Ann", "Bob")
    assert plan.motion_ids == ("walking", "sitting", "waving")
    assert plan.entity_ids == ("ann", "bob")
    assert plan.scenes[0].layout.key_frames[1].regions[0].box.edges == (0.05, 0.1, 0.4, 1.0)
    assert ticks == [(0, 2), (1, 2), (2, 2)]


def test_who_got_no_part_is_not_in_the_plan() -> None:
    tom = Character(name="Tom", phrase="old sailor")
    story = STORY.model_copy(update={"characters": (ANN, tom, BOB)})
    assert plan_story(Script(OUTLINES, layout()), story, options=OPTIONS).characters == (
        "Ann",
        "Bob",
    )


def test_the_model_is_told_what_was_wrong() -> None:
    engine = Script(OUTLINES, layout((0, 60, 10, 10, 10, 10)), layout(place=""), layout())
    plan_story(engine, STORY, options=OPTIONS)
    first, second = engine.asked[2][-1]["content"], engine.asked[3][-1]["content"]
    assert "key frames 1 to 2, Ann: the box jumps by 0.60" in first
    assert "does not name the place, park" in second
    # Only the last attempt stands in the conversation, so it does not outgrow the model.
    assert [len(messages) for messages in engine.asked] == [2, 2, 4, 4]
    assert len(set(engine.seeds)) == len(engine.seeds)


def test_a_story_is_repaired_too() -> None:
    broken = OUTLINES.replace("Bob is sitting.", "Bob sits.")
    engine = Script(broken, OUTLINES, layout())
    plan_story(engine, STORY, options=OPTIONS)
    assert '"Bob sits." does not say "sitting"' in engine.asked[1][-1]["content"]


def test_a_broken_off_answer_is_asked_for_afresh() -> None:
    engine = Script(OUTLINES, layout()[:200], layout())
    plan_story(engine, STORY, options=OPTIONS)
    assert engine.asked[2] == engine.asked[1]


def test_an_inverted_box_is_told() -> None:
    wrong = layout().replace("[60, 10, 100, 100]", "[100, 10, 60, 100]", 1)
    engine = Script(OUTLINES, wrong, layout())
    plan_story(engine, STORY, options=OPTIONS)
    assert "inverted or empty" in engine.asked[2][-1]["content"]


def test_after_the_last_repair_the_faults_are_the_error() -> None:
    engine = Script(OUTLINES, *[layout(place="")] * 4)
    with pytest.raises(PlanError, match="scene 1") as caught:
        plan_story(engine, STORY, options=OPTIONS)
    assert {fault.rule for fault in caught.value.faults} == {2}
    assert engine.answers == []


def test_cancelling_stops_before_the_next_call() -> None:
    engine = Script(OUTLINES, layout())

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        plan_story(engine, STORY, options=OPTIONS, progress=stop)
    assert len(engine.asked) == 1


def test_the_schema_holds_the_model_to_cast_and_words() -> None:
    engine = Script(OUTLINES, layout())
    options = OPTIONS.model_copy(update={"places": ("park", "beach"), "things": False})
    plan_story(engine, STORY, options=options)
    story, scene = json.dumps(engine.schemas[0]), json.dumps(engine.schemas[1])
    assert '"enum": ["park", "beach"]' in story
    assert '"enum": ["Ann", "Bob"]' in story
    assert '"enum": ["walking", "waving"]' in scene
    assert '"enum": ["sitting"]' in scene


def test_wishes_are_asked_for_and_insisted_on() -> None:
    options = OPTIONS.model_copy(update={"wishes": ("bowing",), "max_repairs": 0})
    engine = Script(OUTLINES)
    with pytest.raises(PlanError, match="nobody is bowing"):
        plan_story(engine, STORY, options=options)
    assert "Must use: bowing" in engine.asked[0][-1]["content"]


def test_a_crowded_scene_is_refused() -> None:
    options = OPTIONS.model_copy(update={"max_cast": 1, "max_repairs": 0})
    with pytest.raises(PlanError, match="at most 1 characters"):
        plan_story(Script(OUTLINES), STORY, options=options)


def test_many_faults_are_cut_short() -> None:
    engine = Script(OUTLINES, layout((0, 60, 0, 60, 0, 60), place=""), layout())
    plan_story(engine, STORY, options=OPTIONS)
    told = engine.asked[2][-1]["content"]
    assert told.count("\n- ") <= MAX_FAULTS + 1


def test_the_seed_of_the_story_changes_nothing() -> None:
    other = STORY.model_copy(update={"seed": 7})
    engines = Script(OUTLINES, layout()), Script(OUTLINES, layout())
    plans = [
        plan_story(engine, story, options=OPTIONS)
        for engine, story in zip(engines, (STORY, other), strict=True)
    ]
    assert plans[0] == plans[1]
    assert engines[0].asked == engines[1].asked
    assert engines[0].seeds == engines[1].seeds


def test_full_prompts_teach_the_rules() -> None:
    system = story_messages(STORY, style="full")[0]["content"]
    assert "present participle" in system
    assert story_schema(STORY)["properties"]["scenes"]["minItems"] == 1


def story_of(beat: dict[str, object]) -> str:
    return json.dumps({"scenes": [{"place": "park", "beats": [*BEATS, beat]}]})


@pytest.mark.parametrize(
    "answer",
    [
        story_of({"name": "Ann", "motion": "walking", "sentence": None}),
        story_of({"name": "Ann", "motion": "—", "sentence": "Ann is walking."}),
        story_of({"name": "???", "motion": "walking", "sentence": "Ann is walking."}),
        json.dumps({"scenes": [{"place": "park", "beats": ["Ann is walking."]}]}),
        json.dumps({"scenes": ["park"]}),
        json.dumps(["park"]),
        "null",
        "[" * 100_000,
    ],
)
def test_a_story_of_another_form_is_a_fault(answer: str) -> None:
    """Not every server holds a model to a schema."""
    outlines, faults = judge_story(answer, STORY, OPTIONS)
    assert outlines is None
    assert [(fault.rule, fault.where) for fault in faults] == [(0, "answer")]
    engine = Script(answer, OUTLINES, layout())
    plan_story(engine, STORY, options=OPTIONS)


@pytest.mark.parametrize(
    "answer",
    [
        layout().replace('"entity": "Bob"', '"entity": 5'),
        layout().replace('"motion": "sitting"', '"motion": 5'),
        layout().replace('"motion": "sitting"', '"motion": "—"'),
        layout().replace("[60, ", "[null, "),
        layout().replace("[60, ", f"[{10**400}, "),
        "[" * 100_000,
    ],
)
def test_a_scene_of_another_form_is_a_fault(answer: str) -> None:
    (outline,) = read_story(OUTLINES)
    scene, faults = judge_scene(answer, outline, STORY.characters, OPTIONS)
    assert scene is None
    assert [(fault.rule, fault.where) for fault in faults] == [(0, "answer")]


def test_what_does_not_move_may_say_so_by_null() -> None:
    (outline,) = read_story(OUTLINES)
    bench = {"entity": "bench", "caption": "a bench in the park", "box": [60, 50, 100, 100]}
    frames = json.loads(layout())
    for frame in frames["key_frames"]:
        frame.append({**bench, "motion": None})
    scene, faults = judge_scene(json.dumps(frames), outline, STORY.characters, OPTIONS)
    assert scene is not None
    assert faults == []
    assert scene.layout.key_frames[0].regions[-1].motion_id is None


def test_a_fence_around_an_answer_is_no_part_of_it() -> None:
    """Nor is one worth a round of repair."""
    engine = Script(f"```json\n{OUTLINES}\n```", f"\n```\n{layout()}```\n")
    plan_story(engine, STORY, options=OPTIONS)
    assert engine.answers == []
