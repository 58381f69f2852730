"""Boxes become token masks: rounding, time, overlap, background."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.plan import Box, KeyFrame, Layout, Region
from pipelines.regions import (
    RegionOptions,
    TokenGrid,
    box_tokens,
    key_frame_of_latents,
    latent_centres,
    scene_boxes,
    scene_conditions,
    whole_frame,
)

GRID = TokenGrid(13, 6, 9)


def box(left, top, right, bottom):
    return Box(left=left, top=top, right=right, bottom=bottom)


def region(where, entity="witch", motion="walking", caption=None):
    caption = caption or f"a {entity} is {motion} in the forest"
    return Region.of(entity, motion, caption, where)


def layout(*frames):
    """A layout whose six key frames repeat the last one given."""
    filled = [frames[min(k, len(frames) - 1)] for k in range(6)]
    return Layout(
        background="the forest", key_frames=tuple(KeyFrame(regions=tuple(f)) for f in filled)
    )


def test_key_frames_of_thirteen_latents():
    assert key_frame_of_latents(13, 6) == (0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    assert key_frame_of_latents(12, 6, first_latent_alone=False) == tuple(j // 2 for j in range(12))
    assert key_frame_of_latents(1, 6) == (0,)


def test_latent_centres():
    assert latent_centres(4) == (0.0, 2.5, 6.5, 10.5)
    assert latent_centres(2, first_latent_alone=False) == (1.5, 5.5)


def test_boxes_round_to_half_open_token_spans():
    assert box_tokens(box(0.1, 0.0, 0.45, 1.0), GRID) == (slice(0, 6), slice(1, 4))
    assert box_tokens(box(0.0, 0.0, 1.0, 1.0), GRID) == (slice(0, 6), slice(0, 9))


unit = st.floats(0, 1)


@given(unit, unit, unit, unit)
def test_rounding_never_empties_a_box(x0, y0, x1, y1):
    left, right = sorted((x0, x1))
    top, bottom = sorted((y0, y1))
    if left == right or top == bottom:
        return
    rows, columns = box_tokens(box(left, top, right, bottom), GRID)
    assert 0 <= rows.start < rows.stop <= 6
    assert 0 <= columns.start < columns.stop <= 9


def test_an_empty_region_is_a_planning_error():
    with pytest.raises(ValueError, match="inverted or empty"):
        box(0.5, 0.1, 0.5, 0.9)


def test_linear_boxes_pass_through_key_frame_middles():
    left, right = box(0.0, 0.0, 0.4, 1.0), box(0.5, 0.0, 0.9, 1.0)
    boxes = [at[0][1].left for at in scene_boxes(layout([region(left)], [region(right)]), 13)]
    # key frame 0 stands for frame 4.5, key frame 1 for frame 12.5; latents lie at 0, 2.5, 6.5, ...
    assert boxes == pytest.approx([0, 0, 0.125, 0.375, 0.5] + [0.5] * 8)


def test_hold_keeps_the_key_frames_box():
    plan = layout([region(box(0.0, 0.0, 0.4, 1.0))], [region(box(0.5, 0.0, 0.9, 1.0))])
    boxes = [at[0][1].left for at in scene_boxes(plan, 13, RegionOptions(interpolation="hold"))]
    assert boxes == [0.0] * 3 + [0.5] * 10


def test_an_entity_keeps_moving_when_its_motion_changes():
    walk = [region(box(0.0, 0.0, 0.4, 1.0))]
    sit = [region(box(0.5, 0.0, 0.9, 1.0), motion="sitting")]
    at = scene_boxes(layout(walk, walk, walk, sit), 13)
    assert at[6][0][0].motion == "walking"
    assert 0 < at[6][0][1].left < at[7][0][1].left < 0.5


def test_one_condition_per_entity_motion_and_caption():
    where = box(0.0, 0.0, 0.4, 1.0)
    walk, sit = [region(where)], [region(where, motion="sitting")]
    conditions = scene_conditions(layout(walk, walk, walk, sit), GRID)
    assert [c.caption for c in conditions] == [
        "a witch is walking in the forest",
        "a witch is sitting in the forest",
        "the forest",
    ]
    assert [c.motion_id for c in conditions] == ["walking", "sitting", None]
    walking, sitting, background = (c.mask for c in conditions)
    assert walking[:7, :, :4].all()
    assert not walking[7:].any()
    assert sitting[7:, :, :4].all()
    assert not sitting[:7].any()
    assert torch.equal(background, ~(walking | sitting))


def test_union_shares_overlapping_tokens_and_top_does_not():
    frame = [region(box(0.0, 0.0, 0.6, 1.0)), region(box(0.3, 0.0, 1.0, 1.0), entity="cat")]
    union = scene_conditions(layout(frame), GRID)
    assert (union[0].mask & union[1].mask).any()
    top = scene_conditions(layout(frame), GRID, RegionOptions(overlap="top"))
    assert not (top[0].mask & top[1].mask).any()
    assert torch.equal(top[1].mask, union[1].mask)
    assert torch.equal(top[0].mask | top[1].mask, union[0].mask | union[1].mask)


def test_conditions_without_tokens_are_left_out():
    full = box(0.0, 0.0, 1.0, 1.0)
    frame = [region(full), region(full, entity="cat")]
    assert len(scene_conditions(layout(frame), GRID)) == 2
    hidden = scene_conditions(layout(frame), GRID, RegionOptions(overlap="top"))
    assert [c.entity_id for c in hidden] == ["cat"]


def test_background_everywhere():
    options = RegionOptions(background="everywhere")
    conditions = scene_conditions(layout([region(box(0.0, 0.0, 0.4, 1.0))]), GRID, options)
    assert conditions[-1].mask.all()


def test_a_scene_without_regions_is_its_background():
    (only,) = scene_conditions(layout([]), GRID)
    assert only.caption == "the forest"
    assert only.mask.all()


def test_whole_frame():
    (only,) = whole_frame("a witch is walking in the forest", GRID)
    assert only.mask.shape == GRID.shape
    assert only.mask.all()
