"""Narrations are split into single-motion sentences, and the clip with them."""

import pytest

from pipelines.narration_parts import Part, parts, sentences
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene


def scene_of(narration, **motions):
    """A scene in which each entity does its motions in order, half of the clip each."""
    box = Box(left=0, top=0, right=1, bottom=1)
    frames = [
        KeyFrame(
            regions=tuple(
                Region.of(who, done[k * len(done) // 6], "caption", box)
                for who, done in motions.items()
            )
        )
        for k in range(6)
    ]
    told = tuple(dict.fromkeys(motion for done in motions.values() for motion in done))
    layout = Layout(background="a park", key_frames=tuple(frames))
    return Scene(place="park", narration=narration, motions=told, layout=layout)


def told(scene):
    return [(part.sentence, part.number, part.num_parts) for part in parts(scene)]


def test_two_motions_cut_the_clip_at_its_middle():
    text = "It is early, and the pirate is kicking. Soon he is running! Everything is quiet."
    scene = scene_of(text, pirate=["kicking", "running"])
    first, second = "It is early, and the pirate is kicking.", "Soon he is running!"
    assert told(scene) == [(first, 0, 2), (second, 1, 2)]
    assert [part.span(49) for part in parts(scene)] == [slice(0, 24), slice(24, 49)]


def test_one_motion_has_the_whole_clip():
    scene = scene_of("A witch is waving.", witch=["waving"])
    assert told(scene) == [("A witch is waving.", 0, 1)]
    assert parts(scene)[0].span(49) == slice(0, 49)


def test_what_two_do_at_the_same_time_is_not_cut():
    text = (
        "Pirate is bowing. After that, pirate is kicking. "
        "At the same time witch is bowing. Then witch is stretching."
    )
    scene = scene_of(text, pirate=["bowing", "kicking"], witch=["bowing", "stretching"])
    assert [(number, of) for _, number, of in told(scene)] == [(0, 2), (1, 2), (0, 2), (1, 2)]
    apart = scene_of("Pirate is bowing. Witch is waving.", pirate=["bowing"], witch=["waving"])
    assert [(number, of) for _, number, of in told(apart)] == [(0, 1), (0, 1)]


def test_a_narration_that_does_not_name_its_motions_is_shared_by_its_sentences():
    scene = scene_of("She kicks. Then she runs.", pirate=["kicking", "running"])
    assert told(scene) == [("She kicks.", 0, 2), ("Then she runs.", 1, 2)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One.", ["One."]),
        ("One. Two?  Three!", ["One.", "Two?", "Three!"]),
        ('She says: "No." Then 3.5 days pass', ['She says: "No."', "Then 3.5 days pass"]),
        ("Dr. Ann is waving. Mrs. Bee runs.", ["Dr. Ann is waving.", "Mrs. Bee runs."]),
        ("By St. Paul's (near Mt. Ida) she rests.", ["By St. Paul's (near Mt. Ida) she rests."]),
        ("A cat, a dog, etc. They run.", ["A cat, a dog, etc.", "They run."]),
        ("The last. The first.", ["The last.", "The first."]),
        (
            "安正在走路。安在挥手！「你好？」安笑。",
            ["安正在走路。", "安在挥手！", "「你好？」", "安笑。"],
        ),
    ],
)
def test_sentences(text, found):
    assert list(sentences(text)) == found


def test_a_part_has_at_least_one_frame():
    for number in range(3):
        span = Part("x", number, 3).span(2)
        assert len(range(*span.indices(2))) >= 1
