"""Plays schedules of chaos on one server, one after the other: python -m tests.serve.chaos SEED…

One JSON line a schedule.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.tiny_studio import write_studio
from tests.serve.chaos.play import play
from tests.serve.chaos.schedule import schedule_of
from tests.serve.scripted_planner import scripted_planner
from tests.serve.server import Server, write_profile

SLOWER = {
    "render": {"num_steps": 40},
    "motion_prior": {"num_steps": 40, "checkpoint_every": 8},
    "subject_prior": {"num_steps": 40, "checkpoint_every": 8},
}
"""So that there is something to be killed in."""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of tiny models that are at work for a while."""
    (folder / "studio").mkdir()
    write_studio(folder / "studio")
    with scripted_planner() as url:
        server = Server(folder, write_profile(folder / "studio", url, **SLOWER))
        server.start()
        try:
            yield server
        finally:
            server.die()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--keep", type=Path, help="a folder: play there, and leave all")
    words = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as aside, serving(words.keep or Path(aside)) as server:
        for seed in words.seeds:
            bad += bool(told(seed, server))
    return min(bad, 1)


def told(seed: int, server: Server) -> list[str]:
    schedule, started = schedule_of(seed), time.monotonic()
    killed, faults = play(schedule, server)
    line = {
        "seed": seed,
        "stories": len(schedule.plots),
        "killed": killed,
        "seconds": round(time.monotonic() - started, 1),
        "faults": faults,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return faults


if __name__ == "__main__":
    sys.exit(main())
