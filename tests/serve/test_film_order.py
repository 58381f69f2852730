"""What `dreamrunner film` orders, without filming it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.order import Order
from pipelines.plan import StoryPlan
from serve.commands import filming, rendering
from tests.cluster.samples import scene_of
from tests.serve.command_line import assert_bad_input


class OrderedError(OSError):
    """Stands for the film: nothing is made."""


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Orders, and no films."""
    taken: list[Order] = []

    def take(_: object, orders: list[Order], *__: object) -> None:
        taken.extend(orders)
        raise OrderedError("enough")

    monkeypatch.setattr(filming, "announce", take)
    return taken


@pytest.fixture
def order(call, studio: Path, taken: list[Order]) -> Callable[..., Order]:
    """The order of a command with this plan and these words."""

    def ordered(plan: StoryPlan, *words: object) -> Order:
        Path("plan.json").write_text(plan.model_dump_json())
        profile = ("--profile", studio / "tiny.yaml")
        code, _, err = call("film", "--plan", "plan.json", *profile, *words)
        assert (code, taken != []) == (1, True), err
        return taken.pop()

    return ordered


def plan_of(*characters: str) -> StoryPlan:
    """A scene of each."""
    scenes = tuple(scene_of(name, "bowing", "forest") for name in characters)
    return StoryPlan(topic="a day", characters=characters, scenes=scenes)


def test_the_plans_characters_are_filmed(order):
    cast = order(plan_of("Witch", "Red Bear")).cast
    assert [(member.name, member.phrase) for member in cast] == [
        ("witch", "witch"),
        ("Red Bear", "Red Bear"),
    ]
    (pirate,) = order(plan_of("pirate")).cast
    assert len(pirate.images) == 1


def test_characters_that_are_named_are_the_cast(order):
    words = ("--character", "pirate", "--character", "Ann=girl witch")
    cast = order(plan_of("Ann", "witch", "pirate"), *words).cast
    assert [(member.name, member.phrase) for member in cast] == [
        ("pirate", "pirate"),
        ("Ann", "girl witch"),
    ]


def test_a_scene_of_a_character_of_ones_own_is_rendered(call, studio, monkeypatch):
    def begin(*_: object) -> None:
        raise OrderedError("it has begun")

    monkeypatch.setattr(rendering, "Bench", begin)
    told = plan_of("Ann").model_dump()
    for frame in told["scenes"][0]["layout"]["key_frames"]:
        frame["regions"][0]["caption"] = "a girl witch is bowing in the forest"
    Path("plan.json").write_text(StoryPlan.model_validate(told).model_dump_json())
    words = ("render", "plan.json", "--profile", studio / "tiny.yaml")
    assert_bad_input(call(*words), "does not name Ann")
    code, _, err = call(*words, "--character", "Ann=girl witch")
    assert (code, err) == (1, "dreamrunner: it has begun\n")


@pytest.mark.parametrize(
    ("words", "titles"), [((), "a day"), (("a day",), "a day"), ((" Her day ",), "Her day")]
)
def test_a_topic_beside_a_plan_is_the_films_title(order, words, titles):
    made = order(plan_of("pirate"), *words)
    assert made.plan is not None
    assert (made.topic, made.plan.topic) == (titles, titles)


def test_a_film_is_about_something(call):
    assert_bad_input(call("film"), "a topic, or --plan FILE")


@pytest.mark.parametrize("words", [(), ("--character", "cat=ginger cat")])
def test_who_is_said_to_be_in_a_plan_and_is_not_is_told(call, studio, words):
    plan = plan_of("witch").model_copy(update={"characters": ("witch", "zorblax")})
    Path("plan.json").write_text(plan.model_dump_json())
    for command in (("film", "--plan", "plan.json", *words), ("render", "plan.json")):
        assert_bad_input(
            call(*command, "--profile", studio / "tiny.yaml"),
            "plan plan.json: rule 7: characters:",
            "leave cat out (and 1 more fault)\n"
            if words and command[0] == "film"
            else "zorblax has no region in any scene; give zorblax one, or leave zorblax out\n",
        )


def test_a_plan_that_names_nobody_or_nothing_is_told(call, studio):
    words = ("film", "x", "--plan", "plan.json", "--profile", studio / "tiny.yaml")
    for characters, told in (
        ((), "names nobody; say who with --character"),
        (("???",), "plan plan.json: characters.0"),
        (("x" * 61,), "plan plan.json: characters.0"),
        (tuple(f"bear {n}" for n in range(9)), "characters"),
    ):
        plan = plan_of("cat").model_copy(update={"characters": characters})
        Path("plan.json").write_text(plan.model_dump_json())
        assert_bad_input(call(*words), told)


@pytest.mark.parametrize("words", [("--scenes", 3), ("--motion", "bowing")])
def test_what_only_a_planner_could_heed_is_refused(call, studio, words):
    told = call("film", "x", "--plan", studio / "plan.json", *words)
    assert_bad_input(told, "--scenes and --motion", "with --plan nothing is planned")


def varied(plan: StoryPlan) -> StoryPlan:
    """As edited by hand: the caption says something else in every key frame."""
    told = plan.model_dump()
    for second, frame in enumerate(told["scenes"][0]["layout"]["key_frames"]):
        frame["regions"][0]["caption"] += f", second {second}"
    return StoryPlan.model_validate(told)


def test_one_entity_doing_one_motion_has_one_caption(order):
    (scene,) = order(varied(plan_of("pirate"))).plan.scenes
    assert scene.layout.captions == ("a pirate is bowing in the forest, second 0",)


def test_a_plan_that_breaks_rules_is_told(call, studio):
    told = plan_of("pirate").model_dump()
    frames = told["scenes"][0]["layout"]["key_frames"]
    frames[2]["regions"][0]["box"]["right"] = 0.3
    Path("plan.json").write_text(StoryPlan.model_validate(told).model_dump_json())
    profile = ("--profile", studio / "tiny.yaml")
    for words in (("film", "x", "--plan", "plan.json"), ("render", "plan.json")):
        assert_bad_input(
            call(*words, *profile),
            "plan plan.json: scene 1: rule 1: key frame 3, pirate: box width is 0.10",
            "(and 3 more faults)",
        )


def test_more_captions_than_fit_a_scene_are_told_before_anything_is_learned(call, studio):
    told = plan_of("pirate").model_dump()
    frames = told["scenes"][0]["layout"]["key_frames"]
    for frame in frames:
        (region,) = frame["regions"]
        frame["regions"] = [region, *({**region, "entity_id": f"{i}"} for i in range(69))]
    Path("plan.json").write_text(StoryPlan.model_validate(told).model_dump_json())
    words = ("film", "x", "--plan", "plan.json", "--profile", studio / "tiny.yaml")
    assert_bad_input(call(*words), "70 different captions; use at most 19")
