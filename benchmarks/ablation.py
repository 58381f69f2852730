"""The paper's ablation, filmed and measured: what regions, motion priors, subject priors and the
search for clips are each good for (docs/evaluation.md).

    python -m benchmarks.ablation                       # five scenes, three seeds: two CPU cores
    python -m benchmarks.ablation --full --profile benchmarks/miniature_gpu.yaml --minutes 9

Tables and orders go to standard output, every figure to ``--json``. What is made stays in the work
folder: the same command goes on from it, and with ``--minutes`` ends in time with what it has.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.ablation_cells import BOTH, CELLS, FEW, SMALL, UNFILTERED, shots
from benchmarks.ablation_run import Floor, Lesson, film_and_measure, lessons, rows_by_cell
from benchmarks.ablation_tables import as_data, sentences, tables
from benchmarks.puppet_stories import SeveralScenes, chosen_stories, scenes_of
from cluster.locate import find_model
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from pipelines.metric_definitions import SCALE
from serve.ending import FAILED, GOES_ON
from serve.errors import InputError, ended
from serve.instruments import find_instruments
from serve.story_input import check_work_dir, check_writable

RETRIEVALS = (UNFILTERED, FEW, BOTH)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 all is measured, 1 something is not, 2 bad input."""
    words = _parser().parse_args(arguments)
    command = shlex.join(["python", "-m", "benchmarks.ablation", *arguments])
    return ended("ablation", lambda: _run(words, command), stopped=GOES_ON)


def _run(words: argparse.Namespace, command: str) -> int:
    began = time.monotonic()
    profile, work = load_profile(words.profile), WorkDir(words.work_dir)
    if words.seeds < 1:
        raise InputError(f"--seeds {words.seeds}: one film of each story is the least")
    if words.json is not None:
        check_writable(words.json)
    stories = chosen_stories(profile, None if words.full else words.scenes or SMALL)
    check_work_dir(words.work_dir)
    floor = Floor(profile, work, find_instruments(profile, work), Console(stderr=True))
    rounds = [shots(stories, CELLS, profile, work, seed) for seed in range(words.seeds)]

    def left_s() -> float | None:
        return None if words.minutes is None else 60 * words.minutes - time.monotonic() + began

    filmed = film_and_measure(floor, rounds, left_s)
    cells = rows_by_cell(filmed, profile)
    learned = lessons(filmed, RETRIEVALS, work)
    wanted = sum(map(len, rounds))
    head = [
        f"`{command}`, {time.strftime('%F')}: {len(stories)} stories, {words.seeds} seeds, "
        f"{len(filmed)} of {wanted} films"
        f"{'' if len(filmed) == wanted else '; the same command goes on'}.",
        f"Video model {find_model('backbone', profile, work).content[:12]}; measured with "
        f"{', '.join(floor.instruments.known_as.values())}.",
        f"{SCALE} [95 % interval], (number of scenes); differences are of the same scenes. "
        "An order comes out if all of its difference's interval is above 0. Transition rewards "
        "stillness: read it beside motion.",
    ]
    lines = [*head, "", *tables(cells), *_lesson_lines(learned), "", *sentences(cells)]
    sys.stdout.write("\n".join(lines) + "\n")
    if words.json is not None:
        data = {"head": head, **as_data(cells), "clips": _lesson_data(learned)}
        words.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0 if len(filmed) == wanted else FAILED


def _lesson_lines(learned: Mapping[str, Mapping[str, Lesson]]) -> list[str]:
    lines = ["Clips that motions were learned from (right ones), and the prior's gain on its own:"]
    for cell, motions in learned.items():
        told = ", ".join(f"{motion} {_said(one)}" for motion, one in sorted(motions.items()))
        lines.append(f"- {cell}: {told or 'none'}")
    return lines


def _said(one: Lesson) -> str:
    right = "" if one.num_right is None else f" ({one.num_right})"
    return f"{one.num_clips}{right} {one.gain:+.1%}{'' if one.usable else ', not used'}"


def _lesson_data(learned: Mapping[str, Mapping[str, Lesson]]) -> dict[str, Any]:
    return {
        cell: {name: asdict(one) for name, one in all_.items()} for cell, all_ in learned.items()
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--profile", default="miniature")
    parser.add_argument("--work-dir", type=Path, default=Path(".dreamrunner"))
    parser.add_argument("--seeds", type=int, default=3, help="films of each story in each cell")
    parser.add_argument("--minutes", type=float, help="end after so long with what there is")
    parser.add_argument("--json", type=Path, metavar="OUT", help="every figure goes there")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--full", action="store_true", help="all stories of examples/puppet_stories")
    which.add_argument(
        "--scenes",
        nargs="+",
        type=scenes_of,
        action=SeveralScenes,
        metavar="STORY:1,2",
        help="these scenes alone",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
