"""Who sees whom, as the small integer tables that `pipelines.region_kernels` walks.

Made once a scene from its `RegionLayout`, or once a batch from several; far below a megabyte each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipelines.region_layout import RegionLayout

TILE = 128
"""Visual tokens a tile; a kernel's program takes one tile of one head."""
CHUNK, LARGE_CHUNK = 2048, 4096
"""Keys a work item; a caption's many keys are shared out, and its parts are merged. Scenes of many
captions have enough items to fill a GPU when these are large."""
MANY_CAPTIONS = 10


@dataclass(frozen=True, eq=False)
class RegionTables:
    """int32 tables over B scenes of N captions each, S = N * L + V tokens.

    ``tiles`` (n, 5): scene, first and end row among the sorted visual tokens, and the range of
    ``captions`` (m,) that its tokens see. ``items`` (k, 4): scene, caption, and the range of
    ``keys``, which are places in the joint sequence. ``item_ends`` (B * N + 1,): where the items of
    each scene's each caption begin. ``text_length`` is L.
    """

    text_length: int
    tiles: Tensor
    captions: Tensor
    items: Tensor
    keys: Tensor
    item_ends: Tensor

    @classmethod
    def build(
        cls, layouts: "Sequence[RegionLayout]", *, tile: int = TILE, chunk: int | None = None
    ) -> "RegionTables":
        """``chunk`` goes by the number of captions unless given.

        Raises `ValueError` when the scenes differ in N, L or V: they would not stack.
        """
        first = layouts[0]
        if any(_sizes(layout) != _sizes(first) for layout in layouts):
            raise ValueError(
                f"scenes of sizes (captions, length, visual tokens) {[*map(_sizes, layouts)]} do "
                "not stack; render them one after another"
            )
        tiles, captions = _tiles(layouts, tile)
        many = first.num_conditions >= MANY_CAPTIONS
        items, keys, ends = _items(layouts, chunk or (LARGE_CHUNK if many else CHUNK))
        device = first.order.device
        return cls(
            text_length=first.text_length,
            tiles=_table(tiles, device),
            captions=_table(captions, device),
            items=_table(items, device),
            keys=keys.to(device),
            item_ends=_table(ends, device),
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.tiles, self.captions, self.items, self.keys, self.item_ends

    @property
    def num_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors)


def _sizes(layout: "RegionLayout") -> tuple[int, int, int]:
    return layout.num_conditions, layout.text_length, layout.num_visual


def _table(rows: Sequence[object], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32).to(device)


def _tiles(layouts: "Sequence[RegionLayout]", size: int) -> tuple[list[tuple[int, ...]], list[int]]:
    tiles: list[tuple[int, ...]] = []
    captions: list[int] = [0, 0]  # never shorter than two, whatever the scene
    for scene, layout in enumerate(layouts):
        for group in layout.groups:
            seen = len(captions), len(captions) + len(group.captions)
            captions.extend(group.captions)
            starts = range(group.start, group.stop, size)
            tiles.extend((scene, s, min(s + size, group.stop), *seen) for s in starts)
    # Tiles that see many captions first: the short ones fill the gaps at the end.
    return sorted(tiles, key=lambda tile: tile[3] - tile[4]), captions


def _items(
    layouts: "Sequence[RegionLayout]", chunk: int
) -> tuple[list[tuple[int, ...]], Tensor, list[int]]:
    items: list[tuple[int, ...]] = []
    keys: list[Tensor] = []
    ends, start = [0], 0
    for scene, caption, seen in _seen_by_captions(layouts):
        stop = start + len(seen)
        num_parts = -(-len(seen) // chunk)
        bounds = [start + len(seen) * part // num_parts for part in range(num_parts + 1)]
        items.extend((scene, caption, *pair) for pair in pairwise(bounds))
        ends.append(len(items))
        keys.append(seen)
        start = stop
    return items, torch.cat(keys), ends


def _seen_by_captions(layouts: "Sequence[RegionLayout]") -> Iterator[tuple[int, int, Tensor]]:
    """Scene, caption, and the places in the joint sequence that the caption sees."""
    for scene, layout in enumerate(layouts):
        for caption, slices in enumerate(layout.slices_of):
            text, length = layout.num_text, layout.text_length
            spans = [(caption * length, (caption + 1) * length)]
            spans += [(text + s.start, text + s.stop) for s in slices]
            places = [torch.arange(*span, dtype=torch.int32) for span in spans]
            yield scene, caption, torch.cat(places)
