"""What a report says of a scene's acts."""

import pytest

from pipelines.binding import SeenAct, Verdict
from pipelines.evaluation_page import _acts
from pipelines.scene_figures import SceneFigures


@pytest.mark.parametrize(
    ("seen", "right_character", "right_motion", "told"),
    [
        (("ann", "walking"), True, True, "ann walking: right."),
        (("bob", "walking"), False, True, "ann walking: looks like bob walking."),
        (("bob", "walking"), None, True, "ann walking: right, as far as the judge knows."),
        (("bob", "sitting"), None, False, "looks like sitting, as far as the judge knows."),
        (("bob", "sitting"), False, None, "looks like bob, as far as the judge knows."),
        (("bob", "sitting"), None, None, "ann walking: unknown to the judge."),
    ],
)
def test_what_the_judge_cannot_know_is_not_told_as_wrong(seen, right_character, right_motion, told):
    act = SeenAct("ann", "walking", Verdict(*seen, 1.0, 1.0), right_character, right_motion)
    scene = SceneFigures(number=1, place="park", narration="x", scores={}, acts=(act,))
    assert told in _acts(scene)
