"""Plays schedules of chaos on one server, one after the other: python -m tests.serve.chaos SEED…

With ``--vllm`` the miniature's planner is served by a vLLM, and that is what dies. One JSON line a
schedule.
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
from tests.serve.chaos.schedule import Schedule, planning_schedule_of, schedule_of
from tests.serve.scripted_planner import scripted_planner
from tests.serve.server import Server, write_planning_profile, write_profile

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


@contextmanager
def serving_with_vllm(folder: Path) -> Iterator[Server]:
    """A server of tiny models whose planner is the miniature's, in a vLLM."""
    (folder / "studio").mkdir()
    write_studio(folder / "studio")
    server = Server(folder, write_planning_profile(folder / "studio"), planner="vllm")
    server.start()
    try:
        yield server
    finally:
        server.die()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--keep", type=Path, help="a folder: play there, and leave all")
    parser.add_argument("--vllm", action="store_true", help="the planner's model is what dies")
    words = parser.parse_args()
    bad = 0
    start = serving_with_vllm if words.vllm else serving
    schedule = planning_schedule_of if words.vllm else schedule_of
    with tempfile.TemporaryDirectory() as aside, start(words.keep or Path(aside)) as server:
        for seed in words.seeds:
            bad += bool(told(schedule(seed), server))
    return min(bad, 1)


def told(schedule: Schedule, server: Server) -> list[str]:
    started = time.monotonic()
    killed, faults = play(schedule, server)
    line = {
        "seed": schedule.seed,
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
