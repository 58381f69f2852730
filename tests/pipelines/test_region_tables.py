"""The tables that the GPU's kernels walk say what the masks say, and are small."""

from itertools import pairwise

import pytest
import torch

from pipelines import region_tables
from pipelines.attention import fused_region_attention, region_attention
from pipelines.region_layout import RegionLayout, dense_mask
from pipelines.region_tables import RegionTables

T, H, W, L = 4, 5, 6, 3


def layouts(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, count, T, H, W, generator=draw) < 0.3
    masks[0, 0], masks[1, :, 1] = True, False
    return [RegionLayout.build(m, L) for m in masks]


@pytest.mark.parametrize(("count", "tile", "chunk"), [(1, 128, 2048), (4, 7, 10), (12, 16, 33)])
def test_tiles_and_items_agree_with_the_dense_masks(count, tile, chunk):
    pair = layouts(count)
    tables = RegionTables.build(pair, tile=tile, chunk=chunk)
    allowed = [dense_mask(layout) for layout in pair]
    text = count * L
    visited = torch.zeros(2, T * H * W, dtype=torch.int)
    for scene, start, stop, first, last in tables.tiles.tolist():
        assert 0 < stop - start <= tile
        visited[scene, start:stop] += 1
        seen = [i * L + k for i in tables.captions[first:last].tolist() for k in range(L)]
        for row in allowed[scene][text + start : text + stop, :text]:
            assert row.nonzero().flatten().tolist() == seen
    assert (visited == 1).all()
    ends = tables.item_ends.tolist()
    for number, (begin, end) in enumerate(pairwise(ends)):
        items = tables.items[begin:end].tolist()
        assert {(scene, caption) for scene, caption, *_ in items} == {divmod(number, count)}
        assert all(0 < last - first <= chunk for *_, first, last in items)
        keys = [k for *_, first, last in items for k in tables.keys[first:last].tolist()]
        scene, caption = divmod(number, count)
        for row in allowed[scene][caption * L : (caption + 1) * L]:
            assert row.nonzero().flatten().tolist() == sorted(keys)


def test_scenes_that_differ_in_size_do_not_stack():
    with pytest.raises(ValueError, match="one after another"):
        RegionTables.build([layouts(2)[0], layouts(3)[0]])


def test_scenes_of_many_captions_have_large_items(monkeypatch):
    monkeypatch.setattr(region_tables, "CHUNK", 20)
    monkeypatch.setattr(region_tables, "LARGE_CHUNK", 40)
    for count, chunk in ((9, 20), (10, 40)):
        tables = RegionTables.build(layouts(count))
        sizes = tables.items[:, 3] - tables.items[:, 2]
        assert chunk // 2 < sizes.max() <= chunk


@pytest.mark.parametrize("overlap", [True, False])
def test_the_walk_over_small_tiles_and_items_equals_dense(overlap):
    pair = layouts(5)
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, 2, 5 * L + T * H * W, 8, generator=draw) for _ in range(3))
    tables = RegionTables.build(pair, tile=7, chunk=10)
    found = fused_region_attention(query, key, value, 5 * L, tables, overlap=overlap)
    for k, layout in enumerate(pair):
        one = (x[k : k + 1] for x in (query, key, value))
        dense = region_attention(*one, layout, implementation="dense")
        assert (found[k] - dense[0]).norm() <= 1e-5 * dense.norm()


def test_mask_state_of_a_2b_scene_is_small():
    masks = torch.zeros(19, 13, 30, 45, dtype=torch.bool)
    for i in range(18):
        masks[i, :, i : i + 12, 2 * i : 2 * i + 9] = True
    masks[18] = ~masks[:18].any(0)
    layout = RegionLayout.build(masks, text_length=226)
    assert layout.tables.num_bytes + layout.order.nbytes + layout.inverse.nbytes < 1e6
