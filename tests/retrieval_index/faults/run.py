"""Plays schedules of faults over a build, and says what was wrong afterwards.

    python -m tests.retrieval_index.faults.run SEED ...

One JSON line a schedule.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import lancedb

from retrieval_index.build import build_index
from retrieval_index.inline import InlinePipeline
from retrieval_index.records import IndexReport
from retrieval_index.tables import Library
from tests.retrieval_index.faults.corpus import OPTIONS, light_stages, write_corpus

NUM_LIVES = (2, 4)


def build_well(manifest: Path, uri: str) -> IndexReport:
    """Without faults."""
    Library(uri).create()
    with closing(light_stages(uri)) as stages:
        return build_index(manifest, uri, options=OPTIONS, pipeline=InlinePipeline(stages))


def rows_of(uri: str, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """All rows of a table, by scanning it."""
    found = lancedb.connect(uri).open_table(table).search().select(list(columns)).to_list()
    return sorted(tuple(row[name] for name in columns) for row in found)


class Reference:
    """A corpus, and what a build without faults makes of it."""

    def __init__(self, folder: Path) -> None:
        self.manifest = write_corpus(folder / "corpus")
        uri = str(folder / "reference")
        self.num_rows = build_well(self.manifest, uri).rows_in
        self.rows = contents(uri)
        assert len(self.rows["videos"]) > 10 < len(self.rows["dead_letters"])


def contents(uri: str) -> dict[str, list[tuple[Any, ...]]]:
    """What must be the same, whatever happened on the way."""
    return {
        "videos": rows_of(uri, "videos", "id", "caption", "num_segments", "num_frames"),
        "segments": rows_of(uri, "segments", "id", "video_id", "num_people"),
        "dead_letters": rows_of(uri, "dead_letters", "id", "row", "stage", "reason"),
    }


def play(seed: int, reference: Reference, folder: Path) -> dict[str, Any]:
    """Some lives of a builder with bad luck, then one with good luck; what is wrong then."""
    luck, uri = random.Random(seed), str(folder / "library")
    lives = luck.randint(*NUM_LIVES)
    ends = [_live(reference.manifest, uri, seed, life, luck) for life in range(lives)]
    report = build_well(reference.manifest, uri)
    faults = _compare(contents(uri), reference.rows)
    totals = (report.total_videos, report.total_segments, report.total_dead)
    sizes = tuple(len(reference.rows[name]) for name in ("videos", "segments", "dead_letters"))
    if totals != sizes or report.rows_in != reference.num_rows:
        faults.append(f"the report says {report}")
    again = build_well(reference.manifest, uri)
    if (again.indexed, again.dead, again.known) != (0, 0, reference.num_rows):
        faults.append(f"another build did something: {again}")
    return {"seed": seed, "lives": lives, "killed": ends.count(-9), "faults": faults}


def _live(manifest: Path, uri: str, seed: int, life: int, luck: random.Random) -> int:
    module = [sys.executable, "-m", "tests.retrieval_index.faults.builder"]
    process = subprocess.Popen([*module, str(manifest), uri, str(seed), str(life)])
    try:
        # Some are killed at any moment, and not only round a write.
        return process.wait(luck.uniform(1.5, 4) if luck.random() < 0.3 else 120)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        _leave_rubbish(Path(uri), luck)


def _leave_rubbish(library: Path, luck: random.Random) -> None:
    """Files of a write that never came to its commit."""
    for data in sorted(library.glob("*.lance/data/*.lance"))[:1]:
        content = data.read_bytes()
        half = data.with_name(f"{luck.randbytes(8).hex()}.lance")
        half.write_bytes(content[: luck.randrange(len(content) + 1)])


def _compare(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> list[str]:
    faults = []
    for name, rows in expected.items():
        ids = [row[0] for row in found[name]]
        if len(ids) != len(set(ids)):
            twice = sorted({one for one in ids if ids.count(one) > 1})
            faults.append(f"{name}: {len(twice)} are there twice, such as {twice[0]}")
        missing, strange = set(rows) - set(found[name]), set(found[name]) - set(rows)
        if missing or strange:
            faults.append(f"{name}: missing {sorted(missing)[:2]}, strange {sorted(strange)[:2]}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", type=int)
    words = parser.parse_args()
    bad = 0
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    reference = Reference(folder)
    for seed in words.seeds:
        began, place = time.monotonic(), folder / str(seed)
        told = play(seed, reference, place)
        bad += bool(told["faults"])
        shutil.rmtree(place)
        line = told | {"seconds": round(time.monotonic() - began, 1)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    shutil.rmtree(folder)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
