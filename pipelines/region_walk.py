"""The GPU kernels' work in plain PyTorch, table by table: for CPUs, slowly, and to test the tables.

The same two functions as `pipelines.region_kernels`, in the same shapes.
"""

from itertools import pairwise

import torch
from torch import Tensor

from pipelines.region_tables import RegionTables

Rows = tuple[Tensor, Tensor]


def visual_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visual: Tensor,
    visual_lse: Tensor,
    out: Tensor,
    tables: RegionTables,
) -> None:
    """Write ``out``'s visual rows from V to V attention (B, h, V, D) and its lse (B, h, V)."""
    num_text = query.shape[2] - visual.shape[2]
    words = torch.arange(tables.text_length, device=query.device)
    for scene, start, stop, first, last in tables.tiles.tolist():
        found = visual[scene, :, start:stop].float(), visual_lse[scene, :, start:stop].float()
        rows = slice(num_text + start, num_text + stop)
        for caption in tables.captions[first:last].tolist():
            places = caption * tables.text_length + words
            found = _join(found, _part(query[scene, :, rows], key[scene], value[scene], places))
        out[scene, :, rows] = found[0].to(out.dtype)


def caption_rows(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, tables: RegionTables
) -> None:
    """Write ``out``'s text rows."""
    length, ends = tables.text_length, tables.item_ends.tolist()
    for begin, end in pairwise(ends):
        found: Rows | None = None
        for scene, caption, first, last in tables.items[begin:end].tolist():
            rows = slice(caption * length, (caption + 1) * length)
            places = tables.keys[first:last].long()
            part = _part(query[scene, :, rows], key[scene], value[scene], places)
            found = part if found is None else _join(found, part)
            out[scene, :, rows] = found[0].to(out.dtype)


def _part(query: Tensor, key: Tensor, value: Tensor, places: Tensor) -> Rows:
    """Attention (h, Q, D) of queries over the keys at some places, and its log-sum-exp (h, Q)."""
    scores = query.float() @ key[:, places].float().transpose(1, 2) * query.shape[2] ** -0.5
    return scores.softmax(-1) @ value[:, places].float(), scores.logsumexp(-1)


def _join(one: Rows, other: Rows) -> Rows:
    share = torch.sigmoid(other[1] - one[1])[..., None]
    return torch.lerp(one[0], other[0], share), torch.logaddexp(one[1], other[1])
