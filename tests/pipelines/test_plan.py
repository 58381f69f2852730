import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.studio import Member
from pipelines.plan import Box, Character, KeyFrame, Layout, Region, Scene, Story, StoryPlan, slug
from pipelines.prompts import plain_caption
from pipelines.scene_captions import with_token

HERE = Box(left=0.1, top=0.1, right=0.5, bottom=1.0)


def scene(motions: tuple[str, ...]) -> Scene:
    regions = tuple(Region.of("Ann", m, f"a witch is {m} in the forest", HERE) for m in motions)
    frames = tuple(KeyFrame(regions=(r,)) for r in regions for _ in range(6 // len(regions)))
    return Scene(
        place="forest",
        narration=" ".join(f"Ann is {m}." for m in motions),
        motions=motions,
        layout=Layout(background="the forest", key_frames=frames),
    )


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("The Girl Witch", "girl-witch"),
        ("running", "running"),
        ("Zoë  O'Hara", "zoë-o-hara"),
        ("Zoe\u0308", "zoë"),
        ("मीना", "मीना"),
        ("दौड़ना हँसना", "दौड़ना-हँसना"),
        ("น้ำ", "น้ํา"),
        ("R2-D2 \u2764\ufe0f", "r2-d2"),
    ],
)
def test_slug_makes_ids(text: str, identity: str) -> None:
    assert slug(text) == identity


@given(st.text(max_size=40))
def test_slug_is_idempotent_or_refuses(text: str) -> None:
    try:
        identity = slug(text)
    except ValueError:
        return
    assert identity
    assert slug(identity) in {identity, identity.removeprefix("the-").removeprefix("a-")}


@pytest.mark.parametrize(
    "edges", [(0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (0, 0, 1, 1.2), (-1, 0, 1, 1)]
)
def test_bad_boxes_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Box(left=edges[0], top=edges[1], right=edges[2], bottom=edges[3])


def test_box_algebra() -> None:
    other = Box(left=0.4, top=0.0, right=0.9, bottom=0.5)
    both = HERE.intersection(other)
    assert both == Box(left=0.4, top=0.1, right=0.5, bottom=0.5)
    assert HERE.union(other).edges == (0.1, 0.0, 0.9, 1.0)
    assert HERE.intersection(Box(left=0.5, top=0, right=1, bottom=1)) is None
    assert HERE.area == pytest.approx(0.36)
    assert HERE.scaled(2).edges == pytest.approx((0.0, 0.0, 0.8, 1.0))
    assert HERE.scaled(0.5).edges == pytest.approx((0.2, 0.325, 0.4, 0.775))


def test_a_region_moves_by_id() -> None:
    assert Region.of("Ann", "none", "Ann in the forest", HERE).motion_id is None
    with pytest.raises(ValidationError, match="a region that moves has an id"):
        Region(entity_id="ann", entity="Ann", motion="walking", caption="x", box=HERE)


def test_plan_lists_its_needs_once_and_round_trips() -> None:
    plan = StoryPlan(
        topic="A day",
        characters=("Ann",),
        scenes=(scene(("walking", "waving")), scene(("waving", "sitting"))),
    )
    assert plan.motion_ids == ("walking", "waving", "sitting")
    assert plan.motions == {m: m for m in plan.motion_ids}
    assert list(plan.motions) == list(plan.motion_ids)
    assert plan.entity_ids == ("ann",)
    assert StoryPlan.model_validate_json(plan.model_dump_json()) == plan


def test_unknown_keys_and_short_layouts_are_refused() -> None:
    with pytest.raises(ValidationError):
        StoryPlan.model_validate({"topic": "x", "characters": [], "scenes": [], "mood": "dark"})
    with pytest.raises(ValidationError):
        Layout(background="the forest", key_frames=(KeyFrame(),) * 5)


@pytest.mark.parametrize(
    "change", [{"topic": "  "}, {"num_scenes": 0}, {"num_scenes": 200}, {"characters": ()}]
)
def test_bad_stories_are_refused(change: dict[str, object]) -> None:
    good = {"topic": "x", "characters": (Character(name="Ann", phrase="witch"),), "num_scenes": 3}
    assert Story.model_validate(good).character("ann") is not None
    with pytest.raises(ValidationError):
        Story.model_validate(good | change)


@pytest.mark.parametrize("article", ["", "a ", "The  ", " an "])
def test_a_class_phrase_has_no_article(article: str) -> None:
    """Captions put in their own, and the token of a learned character after it."""
    character = Character(name="The Girl", phrase=f"{article}girl  astronaut")
    assert (character.name, character.phrase) == ("The Girl", "girl astronaut")
    caption = plain_caption(character.phrase, "walking", "park")
    said = with_token(caption, "[v1]", character.phrase)
    assert said == "a [v1] girl astronaut is walking in the park"
    assert Member(name="x", phrase=f"{article}girl").phrase == "girl"


def test_names_that_differ_in_a_vowel_sign_are_two() -> None:
    story = Story(
        topic="x",
        characters=(Character(name="मीना", phrase="girl"), Character(name="मोना", phrase="woman")),
        num_scenes=1,
    )
    assert len({character.id for character in story.characters}) == 2


@pytest.mark.parametrize("text", ["—", "\u2764\ufe0f", "\u0308", "the -", "_"])
def test_what_has_no_letters_has_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="no letters or digits"):
        slug(text)


def test_two_characters_of_one_name_are_refused() -> None:
    cast = (Character(name="Ann", phrase="witch"), Character(name="ann", phrase="bear"))
    with pytest.raises(ValidationError, match="share a name"):
        Story(topic="x", characters=cast, num_scenes=1)
