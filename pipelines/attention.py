"""Region attention, exactly, without an N x N object (arXiv 2411.16657, region-based attention).

The sequence is [T_1 | ... | T_N | V]. Caption i sees itself and the visual tokens of region i; a
visual token sees every visual token, and caption i iff it lies in region i. `region_attention`
computes that in two ways: ``dense`` is the obvious mask, the reference; ``factorised`` is unmasked
V to V attention plus a small variable-length part, merged by their log-sum-exp.

Visual tokens come sorted (`pipelines.region_layout`), so tokens with the same captions are one
slice. Shapes: B batch, h heads, S = N * L + V, D head width.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines import region_walk
from pipelines.region_layout import RegionLayout, dense_mask, words_of
from pipelines.region_tables import RegionTables

Implementation = Literal["factorised", "dense"]


def region_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: RegionLayout,
    *,
    implementation: Implementation = "factorised",
) -> Tensor:
    """Attention of one scene's joint sequence, (B, h, S, D) in and out, visual tokens sorted.

    Both implementations agree to 1e-5 in fp32. One caption that covers everything is plain
    attention, bit for bit. Raises `ValueError` when S does not fit the layout.
    """
    expected = layout.num_text + layout.num_visual
    if query.shape[2] != expected:
        raise ValueError(
            f"sequence of {query.shape[2]} tokens; this layout has {layout.num_conditions} captions"
            f" of {layout.text_length} and {layout.num_visual} visual tokens = {expected}"
        )
    if layout.unmasked:
        return F.scaled_dot_product_attention(query, key, value)
    if implementation == "dense":
        mask = dense_mask(layout)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        tables = layout.tables if len(query) == 1 else RegionTables.build([layout] * len(query))
        return fused_region_attention(query, key, value, layout.num_text, tables)
    return _factorised(query, key, value, layout)


def fused_region_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_text: int,
    tables: RegionTables,
    *,
    overlap: bool = True,
) -> Tensor:
    """`region_attention` of B scenes, which may differ, in one call that `torch.compile` keeps
    whole: no shape in it depends on a layout but the tables' lengths.

    With ``overlap`` a GPU computes the captions' rows beside V to V attention, whose last wave
    leaves much of it idle; the numbers are the same.
    """
    length = tables.text_length
    out: Tensor = _fused(query, key, value, num_text, length, overlap, *tables.tensors)
    return out


@torch.library.custom_op("dreamrunner::region_attention", mutates_args=())
def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_text: int,
    text_length: int,
    overlap: bool,
    tiles: Tensor,
    captions: Tensor,
    items: Tensor,
    keys: Tensor,
    item_ends: Tensor,
) -> Tensor:
    tables = RegionTables(text_length, tiles, captions, items, keys, item_ends)
    out = _empty_rows(query)
    rows: Any = region_walk
    if query.is_cuda:
        rows = import_module("pipelines.region_kernels")  # needs Triton
    device = torch.cuda.device_of(query)  # type: ignore[no-untyped-call]
    with device, _beside(overlap and query.is_cuda) as beside:
        visual, lse = attention_with_lse(*(x[:, :, num_text:] for x in (query, key, value)))
        with beside:
            rows.caption_rows(query, key, value, out, tables)
        rows.visual_rows(query, key, value, visual, lse, out, tables)
    return out


@contextmanager
def _beside(wanted: bool) -> Iterator[AbstractContextManager[Any]]:
    """A context for work that needs nothing of what is started from here on.

    It gets a stream of its own, which starts from here and which the current stream waits for at
    the end: memory of the current stream that is not freed before then is safe to use there.
    """
    if not wanted:
        yield nullcontext()
        return
    current = torch.cuda.current_stream()
    side = _side_stream(torch.cuda.current_device())
    side.wait_stream(current)
    try:
        yield torch.cuda.stream(side)
    finally:
        current.wait_stream(side)


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@_fused.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_text: int,
    text_length: int,
    overlap: bool,
    tiles: Tensor,
    captions: Tensor,
    items: Tensor,
    keys: Tensor,
    item_ends: Tensor,
) -> Tensor:
    return _empty_rows(query)


def _empty_rows(query: Tensor) -> Tensor:
    """As (B, S, h, D) in memory: what comes next is a projection of all heads together."""
    scenes, heads, tokens, width = query.shape
    return query.new_empty(scenes, tokens, heads, width).transpose(1, 2)


def _factorised(query: Tensor, key: Tensor, value: Tensor, layout: RegionLayout) -> Tensor:
    text = layout.num_text
    out, lse = attention_with_lse(query[:, :, text:], key[:, :, text:], value[:, :, text:])
    parts = [_caption_rows(query, key, value, layout, i) for i in range(layout.num_conditions)]
    for group in layout.groups:
        rows = slice(group.start, group.stop)
        visual = out[:, :, rows]
        if group.captions:
            seen = [words_of(layout, i) for i in group.captions]
            small, small_lse = attention_with_lse(
                query[:, :, text + group.start : text + group.stop],
                _take(key, seen),
                _take(value, seen),
            )
            visual = merge(visual, lse[:, :, rows], small, small_lse)
        parts.append(visual)
    return torch.cat(parts, 2)


def _caption_rows(
    query: Tensor, key: Tensor, value: Tensor, layout: RegionLayout, caption: int
) -> Tensor:
    words, text = words_of(layout, caption), layout.num_text
    seen = [words, *(slice(text + s.start, text + s.stop) for s in layout.slices_of[caption])]
    return F.scaled_dot_product_attention(query[:, :, words], _take(key, seen), _take(value, seen))


def _take(x: Tensor, slices: Sequence[slice]) -> Tensor:
    if len(slices) == 1:
        return x[:, :, slices[0]]
    return torch.cat([x[:, :, s] for s in slices], 2)


def merge(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> Tensor:
    """Attention over two disjoint key sets from each one's output and log-sum-exp."""
    share = torch.sigmoid(other_lse.float() - lse.float()).unsqueeze(-1)
    return torch.lerp(out.float(), other.float(), share).to(out.dtype)


@contextmanager
def fastest_attention() -> Iterator[None]:
    """Within it, ordinary unmasked attention takes the kernel that is fastest on a GPU."""
    order = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    with sdpa_kernel(order, set_priority=True):
        yield


def attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Unmasked attention (B, h, S, D) and the log-sum-exp of its scores, fp32 (B, h, S)."""
    ops = torch.ops.aten
    if query.device.type == "cpu":
        out, lse = ops._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    elif query.dtype == torch.float32:
        out, lse, *_ = ops._scaled_dot_product_efficient_attention(query, key, value, None, True)
    else:
        out, lse, *_ = ops._scaled_dot_product_cudnn_attention(query, key, value, None, True)
    length = query.shape[2]
    return out, lse.reshape(*out.shape[:2], -1)[:, :, :length]
