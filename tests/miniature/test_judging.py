"""The miniature's judge, as measuring asks for it, reads renders right."""

import pytest
import torch

from miniature.cast import CHARACTERS, MOTIONS
from miniature.judging import open_judge
from miniature.train import CHECKPOINTS
from miniature.world import Puppet, Spec, render
from pipelines.binding import binding_scores, judged
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene

LEFT = Box(left=0.05, top=0.1, right=0.45, bottom=1)
RIGHT = Box(left=0.55, top=0.1, right=0.95, bottom=1)


def drawn(left: str, right: str):
    """Two puppets in the park for six seconds, one waving, one kicking, uint8 (49, H, W, 3)."""
    both = tuple(
        Puppet(character=who, motions=(does,), x0=x, x1=x, ground=0.94, height=0.7)
        for who, does, x in ((left, "waving", 0.375), (right, "kicking", 1.125))
    )
    frames = render([Spec(place="park", seed=4, puppets=both)]).frames[0]
    return (frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def planned(left: str, right: str) -> Scene:
    regions = (
        Region.of(left, "waving", f"a {left} is waving in the park", LEFT),
        Region.of(right, "kicking", f"a {right} is kicking in the park", RIGHT),
    )
    layout = Layout(background="the park", key_frames=(KeyFrame(regions=regions),) * 6)
    return Scene(place="park", narration="So.", motions=("waving", "kicking"), layout=layout)


def test_it_tells_two_puppets_from_each_other():
    judge = open_judge(str(CHECKPOINTS / "judge"), "cpu")
    assert set(CHARACTERS) <= set(judge.characters)
    assert set(MOTIONS) == set(judge.motions)
    frames = drawn("witch", "robot")
    right = judged(judge, planned("witch", "robot"), frames)
    assert binding_scores(right) == {"box_character": 1, "box_motion": 1, "binding": 1}
    swapped = judged(judge, planned("robot", "witch"), frames)
    assert binding_scores(swapped) == {"box_character": 0, "box_motion": 1, "binding": 0}
    assert [act.seen.character for act in swapped] == ["witch", "robot"]


def test_a_folder_without_a_judge_is_told(tmp_path):
    with pytest.raises(OSError, match="judge"):
        open_judge(str(tmp_path), "cpu")
