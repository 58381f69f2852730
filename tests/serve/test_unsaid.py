"""Who is in a story, and what is wished, where the request leaves it to the topic."""

import pytest

from cluster.profiles import load_profile
from serve.story_input import read_story, read_wishes
from serve.unsaid import unasked, unwished

CAST, USUAL = ("cat", "pirate", "witch"), ("pirate", "witch")
MOTIONS = ("bowing", "jumping", "jumping rope", "walking")


@pytest.mark.parametrize(
    ("topic", "cast"),
    [
        ("The pirate is bowing on the beach", ["pirate"]),
        ("The CAT and the Pirate are walking", ["cat", "pirate"]),
        ("The pirate's day", ["pirate", "witch"]),
        ("The pirate bows", ["pirate", "witch"]),
        ("Somebody is bowing", ["pirate", "witch"]),
        ("The cat, the witch and the pirate", ["cat", "pirate", "witch"]),
    ],
)
def test_a_topic_that_says_who_does_what_is_not_filled_up(topic, cast):
    assert unasked(topic, CAST, USUAL, 2, MOTIONS) == cast


@pytest.mark.parametrize(
    ("topic", "num_scenes", "wishes"),
    [
        ("The pirate is walking, then Bowing", 1, ("walking", "bowing")),
        ("Walking, bowing and jumping", 1, ("walking", "bowing")),
        ("Walking, bowing and jumping", 2, ("walking", "bowing", "jumping")),
        ("The pirate's day", 1, ("kicking",)),
        ("Sleepwalking", 1, ("kicking",)),
    ],
)
def test_the_motions_of_a_topic_are_its_wishes(topic, num_scenes, wishes):
    assert unwished(topic, MOTIONS, ("kicking",), num_scenes) == wishes


def test_where_any_motion_will_do_the_usual_ones_are_wished():
    assert unasked("The pirate is bowing", CAST, USUAL, 2, ()) == ["pirate", "witch"]
    assert unwished("The pirate is bowing", (), ("kicking",), 1) == ("kicking",)


@pytest.mark.parametrize(
    ("topic", "cast", "wishes"),
    [
        ("The pirate's day", ["pirate", "witch"], ("bowing", "stretching")),
        ("The pirate is bowing on the beach", ["pirate"], ("bowing",)),
    ],
)
def test_the_miniatures_commands_are_told(topic, cast, wishes):
    profile = load_profile("miniature")
    story = read_story(topic, (), 3, 0, profile)
    assert [character.id for character in story.characters] == cast
    assert read_wishes(None, story, profile) == wishes
    assert read_wishes(("kicking",), story, profile) == ("kicking",)
