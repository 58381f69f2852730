"""What the GPU benchmarks share: time by device events, lines of JSON, and a table at the end."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

HEAD_START_CYCLES = 2_000_000
"""About a millisecond, in which the host gets ahead: its own time is not the kernels'."""


def median_ms(work: Callable[[], object], *, repeats: int, warmup: int = 3) -> float:
    """The median time of one call, by CUDA events where there is a GPU."""
    return medians_ms([work], repeats=repeats, warmup=warmup)[0]


def medians_ms(
    works: Sequence[Callable[[], object]], *, repeats: int, warmup: int = 3
) -> list[float]:
    """The median time of each: in turns, so that a GPU that gets slower does so for all."""
    for _ in range(warmup):
        for work in works:
            work()
    timed = _event_ms if torch.cuda.is_available() else _wall_ms
    rounds = [[timed(work) for work in works] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _event_ms(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda._sleep(HEAD_START_CYCLES)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    found: float = start.elapsed_time(end)
    return found


def _wall_ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def relative(found: Tensor, expected: Tensor) -> float:
    """How far off the whole of it is, as a share of its norm."""
    return ((found.float() - expected.float()).norm() / expected.float().norm()).item()


def synchronize() -> None:
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)


def reset_peak() -> None:
    """Forget the peak of memory, and what is only reserved."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> dict[str, Any]:
    """GPU memory since `reset_peak`, at its highest."""
    if not torch.cuda.is_available():
        return {}
    return {
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def profiled(name: str, work: Callable[[], object]) -> None:
    """Which kernels its time goes to, as a file beside the report's."""
    if not torch.cuda.is_available() or "OUT" not in os.environ:
        return
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        synchronize()
    table = found.key_averages().table(sort_by="self_cuda_time_total", row_limit=40)
    Path(os.environ["OUT"], f"{name}.txt").write_text(table)


class Report:
    """Lines as they come, to standard output and to ``$OUT/<name>.jsonl``."""

    def __init__(self, name: str) -> None:
        folder = os.environ.get("OUT")
        self._path = Path(folder, f"{name}.jsonl") if folder else None
        self.rows: list[dict[str, Any]] = []
        cuda = torch.cuda.is_available()
        gpu = torch.cuda.get_device_name() if cuda else "none"
        self.add("machine", gpu=gpu, torch=torch.__version__, date=time.strftime("%F"))

    def add(self, what: str, **found: Any) -> None:
        """One measurement: numbers rounded to four digits that matter."""
        row = {"what": what} | {k: _rounded(v) for k, v in found.items()}
        self.rows.append(row)
        line = json.dumps(row)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if self._path:
            with self._path.open("a") as file:
                file.write(line + "\n")

    def attempt(self, what: str, work: Callable[[], dict[str, Any]], **about: Any) -> None:
        """Add what ``work`` finds; a variant that cannot run is a line too."""
        self.attempt_all(what, lambda: [work()], **about)

    def attempt_all(
        self, what: str, work: Callable[[], list[dict[str, Any]]], **about: Any
    ) -> None:
        """The same of work that finds several lines."""
        try:
            rows = work()
        except (RuntimeError, NotImplementedError, ImportError, AttributeError) as error:
            rows = [{"failed": f"{type(error).__name__}: {str(error)[:300]}"}]
        for row in rows:
            self.add(what, **about, **row)

    def table(self, about: tuple[str, ...], values: tuple[str, ...]) -> None:
        """The rows that have any of these values, side by side."""
        shown = [r for r in self.rows if any(v in r for v in values)]
        head = ("what", *about, *values)
        cells = [head, *(tuple(str(r.get(c, ""))[:60] for c in head) for r in shown)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        for row in cells:
            line = "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
            sys.stdout.write(line.rstrip() + "\n")
        sys.stdout.flush()


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
