"""How fast a corpus becomes a library.

    python -m benchmarks.index_build rate [--clips N]   end to end against each stage alone
    python -m benchmarks.index_build backpressure       memory while the writer is 100 times slower
    python -m benchmarks.index_build growth [--rows N]  seconds a row at 1, 2 and 4 times the rows

Clips and models are the miniature's. Loading models is not in
the rates. One JSON line each.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray

from miniature.corpus import write_corpus
from retrieval_index.build import build_index
from retrieval_index.findings import STAGES, Finding, Row, Work, begun
from retrieval_index.inline import Stages
from retrieval_index.keys import model_id
from retrieval_index.keyset import KeySet
from retrieval_index.manifest import Part, read_manifest
from retrieval_index.options import IndexOptions, LibraryModels, Pool, SegmentRecipe, Workers
from retrieval_index.records import BuildState
from retrieval_index.schemas import segments_schema
from retrieval_index.stages import done_by
from retrieval_index.tables import Library
from retrieval_index.transport import findings_to_table

CHECKPOINTS = Path(__file__).parents[1] / "miniature" / "checkpoints"
POOL = Pool(cpus=0.5)
OPTIONS = IndexOptions(
    models=LibraryModels(**{name: str(CHECKPOINTS / name) for name in LibraryModels.model_fields}),
    recipe=SegmentRecipe(),
    workers=Workers(read=POOL, track=POOL, embed=POOL, rows_per_block=4, rows_per_commit=16),
)
SLOWER = 100
TICK_S = 0.25


def rate(num_clips: int) -> dict[str, Any]:
    """Rows a second of every stage alone, with one thread, and of the build."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = _corpus(Path(folder), num_clips)
        alone = _alone(manifest, str(Path(folder) / "alone"))
        seen: list[tuple[float, int]] = []

        def watch(state: BuildState) -> None:
            seen.append((time.perf_counter(), state.done))

        build_index(manifest, str(Path(folder) / "library"), options=OPTIONS, watch=watch)
    # The first rows left their last stage when they were written; they began one latency earlier.
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    latency_s = first * sum(1 / value for value in alone.values())
    whole = last / (last_s - first_s + latency_s)
    slowest = min(alone, key=lambda stage: alone[stage])
    return {
        "clips": num_clips,
        "alone_per_s": {stage: round(value, 2) for stage, value in alone.items()},
        "slowest": slowest,
        "end_to_end_per_s": round(whole, 2),
        "share_of_slowest": round(whole / alone[slowest], 3),
    }


def _alone(manifest: Path, uri: str) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    Library(uri).create()
    rows, _ = read_manifest(manifest)
    rates = {}
    with closing(Stages.load(OPTIONS, uri)) as stages:
        works = [begun(row) for row in rows]
        stages(works[0])  # warm
        for name in STAGES:
            started = time.perf_counter()
            works = [done_by(name, getattr(stages, name), work) for work in works]
            rates[name] = len(works) / (time.perf_counter() - started)
    return rates


def backpressure(num_clips: int) -> dict[str, Any]:
    """Most memory of the driver, and most that was spilled, with a usual and a slow writer."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = _corpus(Path(folder), num_clips)
        for name, slower in (("as it is", 0), ("slower", SLOWER)):
            uri = str(Path(folder) / name.replace(" ", "-"))
            told[name] = _watched(manifest, uri, slower)
    return {"clips": num_clips, "times_slower": SLOWER, **told}


def _watched(manifest: Path, uri: str, slower: int) -> dict[str, Any]:
    write = Library.write

    def slowly(self: Library, outcomes: Any) -> None:
        started = time.perf_counter()
        write(self, outcomes)
        time.sleep((time.perf_counter() - started) * slower)

    over, peaks = threading.Event(), {"driver_mb": 0.0, "spilled_mb": 0.0}

    def look() -> None:
        me = psutil.Process(os.getpid())
        while not over.wait(TICK_S):
            peaks["driver_mb"] = max(peaks["driver_mb"], me.memory_info().rss / 1e6)
            peaks["spilled_mb"] = max(peaks["spilled_mb"], _spilled_mb())

    Library.write = slowly  # type: ignore[method-assign]
    watcher = threading.Thread(target=look)
    watcher.start()
    started = time.perf_counter()
    try:
        build_index(manifest, uri, options=OPTIONS)
    finally:
        Library.write = write  # type: ignore[method-assign]
        over.set()
        watcher.join()
    return {**{k: round(v) for k, v in peaks.items()}, "s": round(time.perf_counter() - started)}


def _spilled_mb() -> float:
    """What the object store had to put on disk."""
    node = ray._private.worker._global_node
    if node is None:
        return 0.0
    folders = Path(node.get_session_dir_path()).glob("ray_spilled_objects*")
    sizes = (file.stat().st_size for folder in folders for file in folder.iterdir())
    return sum(sizes) / 1e6


class SyntheticPipeline:
    """Findings made up from the row's key: what is timed is manifest, writer and tables."""

    def of_parts(
        self, parts: Sequence[Part], done: KeySet, options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        from retrieval_index.manifest import read_part
        from retrieval_index.worker import in_blocks

        schema = segments_schema(512, 512)
        items = (item for part in parts for item in read_part(part))
        for block in in_blocks(items, done, options.workers.rows_per_commit):
            yield findings_to_table([_made_up(work) for work in block], schema)

    def of_works(self, *_: Any) -> Generator[pa.Table]:
        yield from ()


def _made_up(work: Work) -> Finding:
    assert work.row is not None
    key = work.row.key
    video = {
        **{"id": key, "path": work.row.path, "caption": work.row.caption, "duration_s": 6.0},
        **{"num_frames": 49, "width_px": 144, "height_px": 96, "fps": 8.0, "source": ""},
        **{"licence": "", "num_segments": 1, "external_id": "", "row_key": key},
    }
    vector = np.full(512, 0.04, np.float32).tolist()
    segment: Row = {
        **{"id": f"{key}-00-000000", "video_id": key, "track": 0, "start_s": 0.0, "end_s": 6.0},
        **{"crop": [0.0, 0.0, 1.0, 1.0], "boxes": [[0.0, 0.0, 1.0, 1.0]] * 48, "num_people": 1},
        **{"confidence": 0.9, "clip": vector, "viclip": vector, "viclip_preprocessing": "clip"},
        **_made_by(),
    }
    return Finding(key=key, id=key, video=video, segments=(segment,))


@cache
def _made_by() -> dict[str, str]:
    models = OPTIONS.models
    ids = model_id("clip", models.clip), model_id("viclip", models.viclip)
    return dict(zip(("clip_model", "viclip_model"), ids, strict=True))


def growth(num_rows: int) -> dict[str, Any]:
    """Seconds a row for corpora of three sizes, each into a library of its own; and of as many
    rows again, added to the largest."""
    workers = OPTIONS.workers.model_copy(update={"rows_per_commit": 1024})
    options = OPTIONS.model_copy(update={"workers": workers})
    times, told = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for size in (1, 2, 4):
            uri = str(Path(folder) / str(size))
            times.append(_timed(Path(folder), uri, range(size * num_rows), options))
            told[f"{size}x"] = round(times[-1] * 1e6)
        more = range(4 * num_rows, 5 * num_rows)
        told["1x more on 4x"] = round(_timed(Path(folder), uri, more, options) * 1e6)
    spread = max(times) / min(times) - 1
    return {"rows": num_rows, "us_a_row": told, "spread": round(spread, 3)}


def _timed(folder: Path, uri: str, numbers: range, options: IndexOptions) -> float:
    manifest = folder / "manifest.jsonl"
    with manifest.open("w") as lines:
        for number in numbers:
            caption = f"a person is walking on path {number}"
            lines.write(json.dumps({"path": f"/videos/{number}.mp4", "caption": caption}) + "\n")
    started = time.perf_counter()
    build_index(manifest, uri, options=options, pipeline=SyntheticPipeline())
    return (time.perf_counter() - started) / len(numbers)


def _corpus(folder: Path, num_clips: int) -> Path:
    write_corpus(folder / "corpus", num_clips=num_clips, seed=11)
    return folder / "corpus" / "manifest.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["rate", "backpressure", "growth"])
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--rows", type=int, default=20_000)
    words = parser.parse_args()
    runs: dict[str, Iterator[dict[str, Any]] | Any] = {
        "rate": lambda: rate(words.clips),
        "backpressure": lambda: backpressure(words.clips),
        "growth": lambda: growth(words.rows),
    }
    sys.stdout.write(json.dumps({"benchmark": words.what, **runs[words.what]()}) + "\n")


if __name__ == "__main__":
    main()
