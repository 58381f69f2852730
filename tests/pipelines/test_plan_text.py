from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan import Box, Character, KeyFrame, Layout, Region, StoryPlan
from pipelines.plan_lint import lint_scene
from pipelines.plan_text import PlanSyntaxError, parse_plan, write_plan
from pipelines.story_lint import lint_cast

LINE = '[["witch", "walking", "a witch is walking in the park"], [0.0, 0.1, 0.6, 1.0]]'
CAT = '[["cat", "none", "a cat in the park"], [0.6, 0.5, 0.9, 1.0]]'


def plan(frame: str = f"[{LINE}]", numbers: range = range(1, 7), head: str = "the park") -> str:
    return "\n".join([f"Background: {head}", *(f"Frame_{n}: {frame}" for n in numbers)])


def first(text: str) -> tuple[Region, list[str]]:
    layout, repairs = parse_plan(text)
    return layout.key_frames[0].regions[0], [str(repair) for repair in repairs]


def test_the_plain_form_needs_no_repair() -> None:
    layout, repairs = parse_plan("Reasoning: she walks.\n" + plan(f"{LINE}, {CAT}"))
    assert repairs == []
    assert layout.background == "the park"
    witch, cat = layout.key_frames[5].regions
    assert (witch.entity, witch.motion, witch.motion_id) == ("witch", "walking", "walking")
    assert witch.box.edges == (0.0, 0.1, 0.6, 1.0)
    assert (cat.motion, cat.motion_id) == ("none", None)


@pytest.mark.parametrize(
    ("frame", "caption", "repair"),
    [
        (LINE[:-1], "a witch is walking in the park", "brackets do not balance"),
        (LINE[1:], "a witch is walking in the park", "brackets do not balance"),
        (LINE[:-2], "a witch is walking in the park", "brackets do not balance"),
        (LINE.replace(", [0.0", ", 0.0"), "a witch is walking in the park", "brackets do not"),
        (LINE.replace('"', "'"), "a witch is walking in the park", None),
        (LINE.replace('"', ""), "a witch is walking in the park", None),
        (LINE.replace('"walking"', "“walking”"), "a witch is walking in the park", None),
        (LINE.replace('"walking"', "'walking\""), "a witch is walking in the park", "two kinds"),
        (LINE.replace('"walking"', '"walking'), "a witch is walking in the park", "never closed"),
        (LINE.replace('park"', "park"), "a witch is walking in the park", "never closed"),
        (LINE.replace("in the", 'in "the"'), 'a witch is walking in "the" park', "quotes inside"),
        (
            LINE.replace('"', "'").replace("the park", "the witch's park"),
            "a witch is walking in the witch's park",
            "quotes inside",
        ),
        (LINE.replace("in the", r"in \"the\""), 'a witch is walking in "the" park', None),
        (LINE.replace("in the", "in\n  the"), "a witch is walking in the park", "a line break"),
        (
            LINE.replace('"', "").replace("the park", "the park (at noon)"),
            "a witch is walking in the park (at noon)",
            None,
        ),
        (LINE.replace("], [", "],\n   ["), "a witch is walking in the park", None),
        (LINE.replace("in the", r"in\nthe"), "a witch is walking in the park", "read as a line"),
        (LINE.replace("0.0,", "-0.05,"), "a witch is walking in the park", "moved to its edge"),
        (LINE.replace("1.0", "1.2"), "a witch is walking in the park", "moved to its edge"),
        (LINE.replace("1.0", "100%"), "a witch is walking in the park", "100% read as 1.0"),
        (
            LINE.replace("[0.0", "(0.0").replace("1.0]", "1.0)"),
            "a witch is walking in the park",
            None,
        ),
    ],
)
def test_faults_with_one_reading_are_repaired(frame: str, caption: str, repair: str | None) -> None:
    region, repairs = first(plan(frame))
    assert (region.entity, region.motion, region.caption) == ("witch", "walking", caption)
    assert region.box.edges == (0.0, 0.1, 0.6, 1.0)
    if repair is None:
        assert repairs == []
    else:
        assert repairs
        assert all(repair in told for told in repairs)


@pytest.mark.parametrize(
    ("numbers", "repair"),
    [
        (range(1, 6), "frame 6 is missing: frame 5 is held"),
        (range(1, 8), "frame 7 is beyond the sixth: left out"),
        (range(6), None),
    ],
)
def test_five_or_seven_frames(numbers: range, repair: str | None) -> None:
    layout, repairs = parse_plan(plan(numbers=numbers))
    assert len(layout.key_frames) == 6
    assert [told.message for told in repairs] == ([repair] if repair else [])


def test_literal_newlines_between_frames() -> None:
    layout, repairs = parse_plan(plan().replace("\n", r"\n"))
    assert len(layout.key_frames) == 6
    assert len(repairs) == 6
    assert all(repair.line == 1 for repair in repairs)


@pytest.mark.parametrize("mark", ["**Frame_{}**:", "Frame {}:", "- frame{}:", "Key frame {}:"])
def test_headings_as_models_decorate_them(mark: str) -> None:
    text = plan()
    for n in range(1, 7):
        text = text.replace(f"Frame_{n}:", mark.format(n))
    layout, repairs = parse_plan("```\n" + text.replace("Background:", "**Background**:") + "\n```")
    assert layout.background == "the park"
    assert repairs == []


def test_prose_around_the_plan_is_left_out() -> None:
    text = f"Frame_1: [she walks]\n{plan()}\n\nThe witch walks slowly, and stops."
    layout, repairs = parse_plan(text)
    assert len(layout.regions) == 6
    assert [repair.message for repair in repairs] == ["text after the last frame: left out"]


def test_the_documents_example_is_a_plan() -> None:
    document = Path("docs/architecture.md").read_text(encoding="utf-8")
    _, text, _, file, *_ = document.partition("## A plan as text")[2].split("```")
    layout, repairs = parse_plan(text)
    assert repairs == []
    filled = file.removeprefix("json").replace("LAYOUT", layout.model_dump_json())
    plan = StoryPlan.model_validate_json(filled)
    witch = Character(name="witch", phrase="witch")
    assert lint_scene(plan.scenes[0], (witch,)) == lint_cast(plan, (witch,)) == []


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "no frame"),
        ("\n".join(plan().split("\n")[1:]), 1, 1, "no background"),
        (plan(head=" "), 1, 1, "background is empty"),
        (plan(numbers=range(1, 5)), 5, 1, "4 frames"),
        (plan(numbers=range(1, 9)), 9, 1, "8 frames"),
        (plan(numbers=range(2, 8)), 2, 1, "start at 2"),
        (plan().replace("Frame_3", "Frame_2"), 4, 1, "frame 2 comes after frame 2"),
        (plan(LINE.replace("0.6", "0.0")), 2, 68, "inverted or empty"),
        (plan(LINE.replace("[0.0", "[0.9")), 2, 68, "inverted or empty"),
        (plan(LINE.replace("0.6", "60")), 2, 68, "far outside"),
        (plan(LINE.replace(", 1.0]", "]")), 2, 68, "3 numbers"),
        (plan(LINE.replace("0.1", "top")), 2, 12, "no box"),
        (plan('[["witch", "a witch in the park"], [0, 0, 1, 1]]'), 2, 21, "an entity, a motion"),
        (plan(LINE.replace('"witch"', '""')), 2, 12, "entity is empty"),
        (plan(LINE.replace('"witch"', '"!"')), 2, 12, "no letters"),
        (plan(LINE.replace('"witch"', '"a 🧙"')), 2, 12, "the entity 'a 🧙' has no letters"),
        (plan(LINE.replace('"walking"', '"the -"')), 2, 12, "the motion 'the -' has no letters"),
        (plan(LINE.replace("walking in", 'walking", "in')), 2, 32, "more than three texts"),
        (plan("[0, 0, 1, 1]"), 2, 10, "without [entity"),
        (plan(LINE[:-24]), 2, 12, "no box"),
        (f"{plan()}\n{plan()}", 8, 1, "second background"),
        ("x" * 100_001, 1, 1, "at most 100000"),
        ("\n".join(["Background: a", *(f"Frame_{n}:" for n in range(1, 7))]), 2, 1, "frame 1"),
        (plan().replace(f"Frame_3: [{LINE}]", "Frame_3:"), 4, 1, "nothing behind frame 3"),
        (plan().replace(f"Frame_3: [{LINE}]", "**Frame_3:**\n"), 4, 1, "nothing behind frame 3"),
        (f"{plan(numbers=range(1, 6))}\nFrame_6:\n", 7, 1, "nothing behind frame 6"),
        (plan(LINE.replace("witch", "wit\0ch")), 2, 16, "control character, '\\x00'"),
        (plan(LINE.replace("witch", "\x1b[1mwitch")), 2, 13, "control character, '\\x1b'"),
    ],
)
def test_the_rest_is_refused_with_its_place(
    text: str, line: int, column: int, message: str
) -> None:
    with pytest.raises(PlanSyntaxError) as caught:
        parse_plan(text)
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_nothing_is_evaluated() -> None:
    with pytest.raises(PlanSyntaxError):
        parse_plan(plan("[[__import__('os').getcwd(), 1, 2], [0, 0, 1, 1 + 1]]"))


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
phrases = st.lists(words, min_size=1, max_size=5).map(" ".join)
edges = st.tuples(
    st.floats(0, 0.5, exclude_max=True), st.floats(0, 0.5, exclude_max=True),
    st.floats(0.5, 1), st.floats(0.5, 1),
)  # fmt: skip


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    def region() -> Region:
        left, top, right, bottom = draw(edges)
        box = Box(left=left, top=top, right=right, bottom=bottom)
        entity = draw(st.sampled_from(["witch", "girl witch", "O'Hara", 'the "cat", a dog']))
        motion = draw(st.sampled_from(["walking", "none", "riding a horse"]))
        return Region.of(entity, motion, draw(phrases), box)

    frames = [
        KeyFrame(regions=tuple(region() for _ in range(draw(st.integers(0, 3))))) for _ in range(6)
    ]
    return Layout(background=draw(phrases), key_frames=tuple(frames))


@given(layouts())
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read_back(layout: Layout) -> None:
    assert parse_plan(write_plan(layout)) == (layout, [])


@pytest.mark.parametrize(
    "said", ["a box, [0.1, 0.2, 0.3, 0.4] here", "Frame_3: [a", "Background: x", "a\nb", "a  b"]
)
def test_what_would_be_read_otherwise_is_not_written(said: str) -> None:
    layout, _ = parse_plan(plan(f"[{LINE}, {CAT}]"))
    region = layout.key_frames[0].regions[0].model_copy(update={"caption": said})
    frames = (KeyFrame(regions=(region,)), *layout.key_frames[1:])
    with pytest.raises(ValueError, match="would not be read"):
        write_plan(layout.model_copy(update={"key_frames": frames}))


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        layout, _ = parse_plan(text)
    except PlanSyntaxError:
        return
    assert layout.background


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    text = plan(f"[{LINE}, {CAT}]")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(st.sampled_from(["", '"', "'", "[", "]", ",", "\n", r"\n", "Frame_2:"]))
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 3)) :]
    try:
        layout, _ = parse_plan(text)
    except PlanSyntaxError:
        return
    assert len(layout.key_frames) == 6
