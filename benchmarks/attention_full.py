"""One attention layer at CogVideoX-2B size: regions against one prompt and against a dense mask.

    python -m benchmarks.attention_full

30 heads of 64, 13 x 30 x 45 visual tokens, captions of 226, bf16. All in one run, medians by device
events; errors against an fp32 dense mask on two heads. Then many random layouts at a small size.
``--tiny`` runs it anywhere in seconds, to see that it runs.
"""

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_report import Report, median_ms, medians_ms, relative
from pipelines.attention import attention_with_lse, fused_region_attention, region_attention
from pipelines.region_layout import RegionLayout, dense_mask
from pipelines.region_tables import RegionTables

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Triple = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Size:
    """The numbers of one attention layer."""

    grid: tuple[int, int, int] = (13, 30, 45)
    length: int = 226
    heads: int = 30
    width: int = 64
    dtype: torch.dtype = torch.bfloat16

    @property
    def num_visual(self) -> int:
        latents, height, width = self.grid
        return latents * height * width

    def triple(self, batch: int, num_text: int) -> Triple:
        """Random q, k, v (B, h, S, D), (B, S, h, D) in memory as a projection leaves them."""
        shape = (batch, num_text + self.num_visual, self.heads, self.width)
        q, k, v = (torch.randn(shape, device=DEVICE, dtype=self.dtype) for _ in range(3))
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


TINY = Size(grid=(3, 6, 9), length=10, heads=2, width=16, dtype=torch.float32)


def scene_masks(num_captions: int, size: Size, seed: int = 0) -> Tensor:
    """Boxes of a fifth of the frame on average, in the first or second half of a scene; they
    overlap freely. The background has the rest."""
    latents, height, width = size.grid
    draw = torch.Generator().manual_seed(seed)
    masks = torch.zeros(num_captions, *size.grid, dtype=torch.bool)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, max(high, low + 1), (1,), generator=draw))

    for i in range(num_captions - 1):
        columns, rows = number(width // 4, width * 2 // 3), number(height * 2 // 5, height)
        left, top = number(0, width - columns), number(0, height - rows + 1)
        first, last = (latents // 2, latents) if i % 2 == 0 else (0, latents // 2)
        masks[i, first:last, top : top + rows, left : left + columns] = True
    masks[-1] = ~masks[:-1].any(0)
    return masks


def story_masks(num_captions: int, size: Size) -> Tensor:
    """What a plan looks like: characters side by side, each with two motions one after another."""
    latents, _, width = size.grid
    masks = torch.zeros(num_captions, *size.grid, dtype=torch.bool)
    cast = max((num_captions - 1) // 2, 1)
    for i in range(num_captions - 1):
        left = width * (i // 2) // cast
        half = slice(0, latents // 2) if i % 2 == 0 else slice(latents // 2, latents)
        masks[i, half, :, left : left + max(width // cast - 1, 1)] = True
    masks[-1] = ~masks[:-1].any(0)
    return masks


@contextmanager
def backend(which: SDPBackend) -> Iterator[None]:
    """Only this kernel, where there is a GPU to have it."""
    if DEVICE.type == "cpu":
        yield
        return
    with sdpa_kernel(which):
        yield


def sdpa(triple: Triple, which: SDPBackend, mask: Tensor | None = None) -> Tensor:
    with backend(which):
        return F.scaled_dot_product_attention(*triple, attn_mask=mask)


class Bench:
    """All that is measured about one layout at one batch size."""

    def __init__(self, masks: Tensor, size: Size, batch: int, repeats: int) -> None:
        self.size, self.batch, self.repeats = size, batch, repeats
        self.layout = RegionLayout.build(masks.to(DEVICE), size.length)
        self.tables = RegionTables.build([self.layout] * batch)
        self.triple = size.triple(batch, self.layout.num_text)
        self.heads = slice(0, 2)
        self.plain_triple = size.triple(batch, size.length)
        self.mask = dense_mask(self.layout)[None, None]
        self.reference = self._reference()

    def _reference(self) -> Tensor:
        triple = tuple(x[:1, self.heads].float() for x in self.triple)
        return sdpa(triple, SDPBackend.EFFICIENT_ATTENTION, self.mask)

    def plain(self) -> Tensor:
        """One prompt, no mask: one bar's other side."""
        return sdpa(self.plain_triple, SDPBackend.CUDNN_ATTENTION)

    def dense(self) -> Tensor:
        """The dense mask, as the authors run it: the other bar's other side."""
        return sdpa(self.triple, SDPBackend.EFFICIENT_ATTENTION, self.mask)

    def compare(self) -> list[dict[str, Any]]:
        """Everything in turns; the dense mask, slow and steady, on its own."""
        variants = {"product": self.product, "without overlap": self.in_turn}
        plain_ms, *found = medians_ms([self.plain, *variants.values()], repeats=self.repeats)
        dense_ms = median_ms(self.dense, repeats=max(self.repeats // 4, 2), warmup=1)
        rows = [
            {"variant": "plain cudnn", "ms": plain_ms},
            {"variant": "dense mask, efficient", "ms": dense_ms, "ratio": dense_ms / plain_ms},
        ]
        for (name, variant), ms in zip(variants.items(), found, strict=True):
            error = relative(variant()[:1, self.heads], self.reference)
            ratios = {"ratio": ms / plain_ms, "over_dense": dense_ms / ms}
            rows.append({"variant": name, "ms": ms, **ratios, "error": error})
        return rows

    def visual(self) -> tuple[Tensor, Tensor]:
        text = self.layout.num_text
        q, k, v = (x[:, :, text:] for x in self.triple)
        return attention_with_lse(q, k, v)

    def product(self) -> Tensor:
        return fused_region_attention(*self.triple, self.layout.num_text, self.tables)

    def in_turn(self) -> Tensor:
        """The captions' rows after V to V attention, not beside it."""
        text = self.layout.num_text
        return fused_region_attention(*self.triple, text, self.tables, overlap=False)

    def parts(self) -> dict[str, Any]:
        """Where the fused path's time goes."""
        from pipelines.region_kernels import caption_rows, visual_rows

        visual, lse = self.visual()
        out = torch.empty_like(self.triple[0])
        rows = (
            lambda: visual_rows(*self.triple, visual, lse, out, self.tables),
            lambda: caption_rows(*self.triple, out, self.tables),
        )
        return {
            "vv_ms": median_ms(self.visual, repeats=self.repeats),
            "visual_rows_ms": median_ms(rows[0], repeats=self.repeats),
            "caption_rows_ms": median_ms(rows[1], repeats=self.repeats),
            "tiles": len(self.tables.tiles),
            "items": len(self.tables.items),
            "state_bytes": self.tables.num_bytes + 2 * self.layout.order.nbytes,
        }


def one_layout(report: Report, kind: str, masks: Tensor, size: Size, args: Any) -> None:
    for batch in args.batch:
        bench = Bench(masks, size, batch, args.repeats)
        about = {"layout": kind, "N": len(masks), "batch": batch}
        report.attempt_all("attention", bench.compare, **about)
        report.attempt("parts", bench.parts, **about)


def tune(report: Report, size: Size, repeats: int) -> None:
    """Each kernel alone under several shapes of program."""
    for captions, chunk in itertools.product((5, 19), (2048, 4096)):
        bench = Bench(scene_masks(captions, size), size, 1, repeats)
        bench.tables = RegionTables.build([bench.layout], chunk=chunk)
        for shape in [(64, 4, 3), (64, 8, 3), (128, 4, 2)]:
            report.attempt(
                "tune",
                lambda b=bench, s=shape: tuned(b, *s),
                N=captions,
                chunk=chunk,
                columns_warps_stages=shape,
            )


def tuned(bench: Bench, columns: int, num_warps: int, num_stages: int) -> dict[str, Any]:
    from pipelines.region_kernels import caption_rows, visual_rows

    visual, lse = bench.visual()
    out = torch.empty_like(bench.triple[0])
    how = {"columns": columns, "num_warps": num_warps, "num_stages": num_stages}
    visual_ms = median_ms(
        lambda: visual_rows(*bench.triple, visual, lse, out, bench.tables, **how),
        repeats=bench.repeats,
    )
    caption_ms = median_ms(
        lambda: caption_rows(*bench.triple, out, bench.tables, **how), repeats=bench.repeats
    )
    return {"visual_rows_ms": visual_ms, "caption_rows_ms": caption_ms}


def random_masks(draw: torch.Generator, num_captions: int, grid: tuple[int, int, int]) -> Tensor:
    """Boxes that overlap, move, fill the frame or hold one token; the last is the complement."""
    latents, height, width = grid

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=draw))

    masks = torch.zeros(num_captions, *grid, dtype=torch.bool)
    for mask in masks[:-1]:
        rows, columns = number(1, height + 1), number(1, width + 1)
        top, left, drift = (
            number(0, height - rows + 1),
            number(0, width - columns + 1),
            number(-1, 2),
        )
        first, last = sorted((number(0, latents), number(0, latents)))
        for t in range(first, last + 1):
            start = min(max(left + drift * (t - first), 0), width - columns)
            mask[t, top : top + rows, start : start + columns] = True
    masks[-1] = ~masks[:-1].any(0)
    return masks


def sweep(num_layouts: int) -> dict[str, Any]:
    """The worst error of many random layouts, N from 1 to 20, fp32 and bf16; unwritten is NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    worst = {"fp32": 0.0, "bf16": 0.0, "bf16_two_scenes": 0.0}
    for seed in range(num_layouts):
        for name, error in sweep_one(seed).items():
            assert error == error, f"layout {seed}: {name} is not a number"
            worst[name] = max(worst[name], error)
    torch.use_deterministic_algorithms(False)
    return {"layouts": num_layouts, **worst}


def sweep_one(seed: int) -> dict[str, float]:
    draw = torch.Generator().manual_seed(seed)
    grid, length, count = (5, 6, 8), (1, 7, 40)[seed % 3], 1 + seed % 20
    layouts = [
        RegionLayout.build(random_masks(draw, count, grid).to(DEVICE), length) for _ in range(2)
    ]
    shape = (2, count * length + 240, 3, 64)
    half = [
        torch.randn(shape, generator=draw).to(DEVICE, torch.bfloat16).transpose(1, 2)
        for _ in range(3)
    ]
    exact = [x.float() for x in half]
    dense = [
        F.scaled_dot_product_attention(*(x[i : i + 1] for x in exact), attn_mask=dense_mask(layout))
        for i, layout in enumerate(layouts)
    ]
    tables = RegionTables.build(layouts)
    both = fused_region_attention(*half, layouts[0].num_text, tables)
    return {
        "fp32": relative(region_attention(*(x[:1] for x in exact), layouts[0]), dense[0]),
        "bf16": relative(region_attention(*(x[:1] for x in half), layouts[0]), dense[0]),
        "bf16_two_scenes": relative(both, torch.cat(dense)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true", help="a small size, on any machine")
    parser.add_argument("--captions", type=int, nargs="+", default=[3, 5, 9, 19])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--sweep", type=int, default=1000, help="random layouts to compare")
    parser.add_argument("--no-tune", action="store_true", help="leave the kernels' shapes alone")
    args = parser.parse_args()
    size = TINY if args.tiny else Size()
    report = Report("attention_full")
    with torch.no_grad():
        for count in args.captions:
            one_layout(report, "boxes", scene_masks(count, size), size, args)
        if not args.no_tune and DEVICE.type == "cuda":
            tune(report, size, args.repeats)
        args.batch = args.batch[:1]
        for count in args.captions:
            one_layout(report, "story", story_masks(count, size), size, args)
        report.attempt("sweep", lambda: sweep(args.sweep))
    about = ("layout", "N", "batch")
    report.table((*about, "variant"), ("ms", "ratio", "over_dense", "error", "failed"))
    report.table(
        (*about, "chunk", "columns_warps_stages"),
        ("vv_ms", "visual_rows_ms", "caption_rows_ms", "state_bytes"),
    )


if __name__ == "__main__":
    main()
