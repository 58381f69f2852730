"""Boxes are judged where and when they were planned, and what a judge does not know is not
measured."""

from collections.abc import Sequence

import numpy as np
import pytest

from pipelines.binding import Verdict, acts, binding_scores, judged
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene
from pipelines.video import Frames

LEFT, RIGHT = Box(left=0, top=0, right=0.5, bottom=1), Box(left=0.5, top=0, right=1, bottom=1)
WHO, WHAT = ("ann", "bob", "cat"), ("walking", "waving", "sitting")


class Grey:
    """Sees a character and a motion by their number in how bright a box is: 10 times the one and
    the other."""

    characters, motions = WHO, WHAT
    num_frames = 4
    preprocessing = "none"

    def read(self, clips: Sequence[Frames], boxes: Sequence[Box]) -> Sequence[Verdict]:
        return [self._seen(clip, box) for clip, box in zip(clips, boxes, strict=True)]

    def _seen(self, clip: Frames, box: Box) -> Verdict:
        assert len(clip) == self.num_frames
        height, width = clip.shape[1:3]
        inside = clip[
            :,
            round(box.top * height) : round(box.bottom * height),
            round(box.left * width) : round(box.right * width),
        ]
        number = round(float(inside.mean()))
        return Verdict(WHO[number // 10], WHAT[number % 10], 1.0, 1.0)


def region(who: str, does: str, box: Box) -> Region:
    return Region.of(who, does, f"{who} is {does}", box)


def scene(*frames: tuple[Region, ...]) -> Scene:
    spread = [KeyFrame(regions=frames[k * len(frames) // 6]) for k in range(6)]
    layout = Layout(background="the park", key_frames=tuple(spread))
    return Scene(place="park", narration="Something.", motions=("walking",), layout=layout)


def film(left: Sequence[int], right: Sequence[int]) -> Frames:
    """Twelve frames whose halves are as bright as told, each value for an equal share of them."""
    frames = np.zeros((12, 4, 6, 3), np.uint8)
    for k in range(12):
        frames[k, :, :3] = left[k * len(left) // 12]
        frames[k, :, 3:] = right[k * len(right) // 12]
    return frames


TWO = scene(
    (region("ann", "walking", LEFT), region("bob", "waving", RIGHT)),
    (region("ann", "walking", LEFT), region("bob", "sitting", RIGHT)),
)


def test_an_act_is_a_stretch_of_key_frames_and_its_box_goes_round_all_of_them():
    there_and_back = scene(
        (region("ann", "walking", LEFT),),
        (region("ann", "waving", RIGHT), region("bench", "none", LEFT)),
        (region("ann", "walking", RIGHT),),
    )
    found = acts(there_and_back)
    assert [(a.entity_id, a.motion_id, a.key_frames) for a in found] == [
        ("ann", "walking", (0, 1)),
        ("ann", "waving", (2, 3)),
        ("ann", "walking", (4, 5)),
    ]
    moved = acts(scene((region("ann", "walking", LEFT),), (region("ann", "walking", RIGHT),)))
    assert [a.box.edges for a in moved] == [(0, 0, 1, 1)]
    assert [a.window(48, 6, 24) for a in found] == [slice(0, 24), slice(12, 36), slice(24, 48)]


def test_everyone_right_in_their_own_box_is_bound():
    seen = judged(Grey(), TWO, film([0], [11, 12]))
    assert [(a.entity_id, a.motion_id, a.bound) for a in seen] == [
        ("ann", "walking", True),
        ("bob", "waving", True),
        ("bob", "sitting", True),
    ]
    assert binding_scores(seen) == {"box_character": 1, "box_motion": 1, "binding": 1}


def test_characters_in_each_others_boxes_are_not_bound():
    scores = binding_scores(judged(Grey(), TWO, film([11, 12], [0])))
    assert scores == {"box_character": 0, "box_motion": 0, "binding": 0}


def test_one_wrong_motion_breaks_the_binding_of_a_scene():
    seen = judged(Grey(), TWO, film([0], [11]))
    assert seen[2].seen.motion == "waving"
    scores = binding_scores(seen)
    assert scores == {"box_character": 1, "box_motion": pytest.approx(2 / 3), "binding": 0}


def test_what_the_judge_does_not_know_is_not_measured():
    stranger = scene((region("zoe", "walking", LEFT), region("bob", "flying", RIGHT)))
    seen = judged(Grey(), stranger, film([0], [11]))
    assert [(a.right_character, a.right_motion) for a in seen] == [(None, True), (True, None)]
    assert binding_scores(seen) == {"box_character": 1, "box_motion": 1, "binding": None}
    beside = scene((region("ann", "walking", LEFT), region("zoe", "flying", RIGHT)))
    seen = judged(Grey(), beside, film([0], [11]))
    assert [(a.right_character, a.right_motion) for a in seen] == [(True, True), (None, None)]
    assert binding_scores(seen) == {"box_character": 1, "box_motion": 1, "binding": None}
    nobody = {"box_character": None, "box_motion": None, "binding": None}
    unknown = scene((region("zoe", "flying", LEFT),))
    assert binding_scores(judged(Grey(), unknown, film([0], [11]))) == nobody
    assert binding_scores(judged(Grey(), TWO, film([0], [11])[:3])) == nobody
