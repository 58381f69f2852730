"""The GPU kernels of region attention, beside one unmasked V to V attention (Triton, half floats).

`visual_rows` starts each visual token from its V to V result and goes on over its captions, so the
log-sum-exp merge costs nothing. `caption_rows` shares every caption's keys out over many programs
and merges their parts. Both write straight into the joint output. `pipelines.attention` calls them
and holds the reference. Shapes: B scenes, h heads, S = N * L + V, D head width.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pipelines.region_tables import TILE, RegionTables

LOG2_E = 1.4426950408889634


def _visual_kernel(  # type: ignore[no-untyped-def]
    query,
    key,
    value,
    visual,
    visual_lse,
    out,
    tiles,
    captions,
    query_scene,
    query_head,
    query_row,
    key_scene,
    key_head,
    key_row,
    value_scene,
    value_head,
    value_row,
    visual_scene,
    visual_head,
    visual_row,
    out_scene,
    out_head,
    out_row,
    lse_scene,
    lse_head,
    num_text,
    scale,
    length: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    head_width: tl.constexpr,
):
    """One tile of visual tokens of one head: its V to V result, carried on over its captions."""
    tile = tiles + tl.program_id(0) * 5
    head = tl.program_id(1).to(tl.int64)
    scene = tl.load(tile).to(tl.int64)
    rows = tl.load(tile + 1) + tl.arange(0, tile_rows)
    inside = rows < tl.load(tile + 2)
    first, last = tl.load(tile + 3), tl.load(tile + 4)
    width = tl.arange(0, head_width)
    own = (num_text + rows)[:, None]
    queries = tl.load(
        query + scene * query_scene + head * query_head + own * query_row + width[None, :],
        mask=inside[:, None],
        other=0.0,
    )
    summed = tl.load(
        visual + scene * visual_scene + head * visual_head + rows[:, None] * visual_row + width,
        mask=inside[:, None],
        other=0.0,
    ).to(tl.float32)
    peak = tl.load(visual_lse + scene * lse_scene + head * lse_head + rows, mask=inside, other=0.0)
    peak = peak * 1.4426950408889634
    total = tl.full((tile_rows,), 1.0, tl.float32)
    key += scene * key_scene + head * key_head
    value += scene * value_scene + head * value_head
    steps: tl.constexpr = (length + tile_columns - 1) // tile_columns
    for step in range(first * steps, last * steps):
        word = (step % steps) * tile_columns + tl.arange(0, tile_columns)
        here = word < length
        place = tl.load(captions + step // steps) * length + word
        keys = tl.load(
            key + place[None, :] * key_row + width[:, None], mask=here[None, :], other=0.0
        )
        scores = tl.dot(queries, keys) * scale
        scores = tl.where(here[None, :], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        shares = tl.exp2(scores - higher[:, None])
        fade = tl.exp2(peak - higher)
        total = total * fade + tl.sum(shares, 1)
        values = tl.load(
            value + place[:, None] * value_row + width[None, :], mask=here[:, None], other=0.0
        )
        summed = tl.dot(shares.to(values.dtype), values, summed * fade[:, None])
        peak = higher
    tl.store(
        out + scene * out_scene + head * out_head + own * out_row + width[None, :],
        (summed / total[:, None]).to(out.dtype.element_ty),
        mask=inside[:, None],
    )


def _caption_kernel(  # type: ignore[no-untyped-def]
    query,
    key,
    value,
    part,
    part_lse,
    items,
    places,
    query_scene,
    query_head,
    query_row,
    key_scene,
    key_head,
    key_row,
    value_scene,
    value_head,
    value_row,
    num_heads,
    scale,
    length: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    head_width: tl.constexpr,
):
    """Some words of a caption over one item's keys: a part (item, head, word, D) and its lse."""
    number = tl.program_id(0)
    item = items + number * 4
    head = tl.program_id(2).to(tl.int64)
    scene = tl.load(item).to(tl.int64)
    caption, first, last = tl.load(item + 1), tl.load(item + 2), tl.load(item + 3)
    word = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    inside = word < length
    width = tl.arange(0, head_width)
    own = (caption * length + word)[:, None]
    queries = tl.load(
        query + scene * query_scene + head * query_head + own * query_row + width[None, :],
        mask=inside[:, None],
        other=0.0,
    )
    key += scene * key_scene + head * key_head
    value += scene * value_scene + head * value_head
    peak = tl.full((tile_rows,), -float("inf"), tl.float32)
    total = tl.zeros((tile_rows,), tl.float32)
    summed = tl.zeros((tile_rows, head_width), tl.float32)
    for start in range(first, last, tile_columns):
        column = start + tl.arange(0, tile_columns)
        here = column < last
        place = tl.load(places + column, mask=here, other=0)
        keys = tl.load(
            key + place[None, :] * key_row + width[:, None], mask=here[None, :], other=0.0
        )
        scores = tl.dot(queries, keys) * scale
        scores = tl.where(here[None, :], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        shares = tl.exp2(scores - higher[:, None])
        fade = tl.exp2(peak - higher)
        total = total * fade + tl.sum(shares, 1)
        values = tl.load(
            value + place[:, None] * value_row + width[None, :], mask=here[:, None], other=0.0
        )
        summed = tl.dot(shares.to(values.dtype), values, summed * fade[:, None])
        peak = higher
    row = (number * num_heads + head) * length + word
    tl.store(part_lse + row, peak + tl.log2(total), mask=inside)
    tl.store(
        part + row[:, None] * head_width + width[None, :],
        summed / total[:, None],
        mask=inside[:, None],
    )


def _join_kernel(  # type: ignore[no-untyped-def]
    part,
    part_lse,
    out,
    items,
    ends,
    out_scene,
    out_head,
    out_row,
    num_heads,
    length: tl.constexpr,
    tile_rows: tl.constexpr,
    head_width: tl.constexpr,
):
    """Some words of a caption: its parts merged by their log-sum-exps (base 2)."""
    first, last = tl.load(ends + tl.program_id(0)), tl.load(ends + tl.program_id(0) + 1)
    head = tl.program_id(2).to(tl.int64)
    scene = tl.load(items + first * 4).to(tl.int64)
    caption = tl.load(items + first * 4 + 1)
    word = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    inside = word < length
    width = tl.arange(0, head_width)
    peak = tl.full((tile_rows,), -float("inf"), tl.float32)
    total = tl.zeros((tile_rows,), tl.float32)
    summed = tl.zeros((tile_rows, head_width), tl.float32)
    for number in range(first, last):
        row = (number * num_heads + head) * length + word
        level = tl.load(part_lse + row, mask=inside, other=0.0)
        found = tl.load(
            part + row[:, None] * head_width + width[None, :], mask=inside[:, None], other=0.0
        )
        higher = tl.maximum(peak, level)
        fade, share = tl.exp2(peak - higher), tl.exp2(level - higher)
        total = total * fade + share
        summed = summed * fade[:, None] + found * share[:, None]
        peak = higher
    own = (caption * length + word)[:, None]
    tl.store(
        out + scene * out_scene + head * out_head + own * out_row + width[None, :],
        (summed / total[:, None]).to(out.dtype.element_ty),
        mask=inside[:, None],
    )


visual_kernel = triton.jit(_visual_kernel)
caption_kernel = triton.jit(_caption_kernel)
join_kernel = triton.jit(_join_kernel)


def visual_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visual: Tensor,
    visual_lse: Tensor,
    out: Tensor,
    tables: RegionTables,
    *,
    columns: int = 64,
    num_warps: int = 8,
    num_stages: int = 3,
) -> None:
    """Write ``out``'s visual rows from V to V attention (B, h, V, D) and its lse (B, h, V)."""
    num_text = query.shape[2] - visual.shape[2]
    visual_kernel[(len(tables.tiles), query.shape[1])](
        query,
        key,
        value,
        visual,
        visual_lse,
        out,
        tables.tiles,
        tables.captions,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *visual.stride()[:3],
        *out.stride()[:3],
        *visual_lse.stride()[:2],
        num_text,
        LOG2_E * query.shape[3] ** -0.5,
        length=tables.text_length,
        tile_rows=TILE,
        tile_columns=columns,
        head_width=query.shape[3],
        num_warps=num_warps,
        num_stages=num_stages,
    )


def caption_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    tables: RegionTables,
    *,
    rows: int = 128,
    columns: int = 64,
    num_warps: int = 8,
    num_stages: int = 3,
) -> None:
    """Write ``out``'s text rows."""
    num_heads, width = query.shape[1], query.shape[3]
    length, num_items = tables.text_length, len(tables.items)
    part = torch.empty(num_items, num_heads, length, width, device=query.device)
    part_lse = torch.empty(num_items, num_heads, length, device=query.device)
    num_blocks = triton.cdiv(length, rows)
    caption_kernel[(num_items, num_blocks, num_heads)](
        query,
        key,
        value,
        part,
        part_lse,
        tables.items,
        tables.keys,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        num_heads,
        LOG2_E * width**-0.5,
        length=length,
        tile_rows=rows,
        tile_columns=columns,
        head_width=width,
        num_warps=num_warps,
        num_stages=num_stages,
    )
    join_kernel[(len(tables.item_ends) - 1, triton.cdiv(length, 32), num_heads)](
        part,
        part_lse,
        out,
        tables.items,
        tables.item_ends,
        *out.stride()[:3],
        num_heads,
        length=length,
        tile_rows=32,
        head_width=width,
    )
