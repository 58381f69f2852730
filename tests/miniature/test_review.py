"""The judge is shown the right part of the right frames."""

import pytest
import torch
from torch import Tensor, nn

from miniature.cast import MOTIONS
from miniature.judge import NAMES
from miniature.review import review
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene, StoryPlan

LEFT, RIGHT = Box(left=0, top=0, right=0.5, bottom=1), Box(left=0.5, top=0, right=1, bottom=1)


class Grey(nn.Module):
    """Sees a character and a motion by their number in how bright a crop is."""

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        number = (crops.mean((1, 2, 3, 4)) * 100).round().long()
        return (
            nn.functional.one_hot(number // 10, len(NAMES)).float(),
            nn.functional.one_hot(number % 10, len(MOTIONS)).float(),
        )


def region(character: int, motion: int, box: Box) -> Region:
    name, doing = NAMES[character], MOTIONS[motion]
    return Region(
        entity_id=name,
        entity=name,
        motion=doing,
        motion_id=doing,
        caption=f"{name} {doing}",
        box=box,
    )


def scene(*halves: tuple[Region, ...]) -> Scene:
    frames = [KeyFrame(regions=halves[k // 3]) for k in range(6)]
    layout = Layout(background="the park", key_frames=tuple(frames))
    return Scene(place="park", narration="Something.", motions=("walking",), layout=layout)


def test_every_act_is_judged_where_and_when_it_was_planned() -> None:
    still = region(2, 3, LEFT)
    plan = StoryPlan(
        topic="t",
        characters=tuple(NAMES[i] for i in (1, 2, 4)),
        scenes=(
            scene((still, region(1, 5, RIGHT)), (still, region(1, 6, RIGHT))),
            scene((region(4, 1, LEFT),), (region(4, 1, RIGHT),)),
        ),
    )
    frames = torch.zeros(98, 3, 8, 12)
    frames[:49, :, :, :6] = 0.23
    frames[:25, :, :, 6:] = 0.15
    frames[25:49, :, :, 6:] = 0.16
    frames[49:] = 0.48
    findings = review(Grey(), plan, frames)  # type: ignore[arg-type]
    assert [(f.scene, f.character, f.motion) for f in findings] == [
        (1, NAMES[2], MOTIONS[3]),
        (1, NAMES[1], MOTIONS[5]),
        (1, NAMES[1], MOTIONS[6]),
        (2, NAMES[4], MOTIONS[1]),
    ]
    assert [f.right for f in findings] == [(True, True)] * 3 + [(True, False)]
    assert findings[-1].seen_motion == MOTIONS[8]
    with pytest.raises(ValueError, match="not 2 scenes"):
        review(Grey(), plan, frames[:-1])  # type: ignore[arg-type]
