"""`index` and its commands: the clip library."""

import argparse
from pathlib import Path
from typing import Any

from serve.command_line.options import add_studio_options
from serve.command_line.parser import add_command

MANIFEST_HELP = "JSONL, CSV or Parquet with a path and a caption in each row"


def add_index(commands: Any) -> None:
    """Add `index` with `build`, `replay`, `dead` and `search`."""
    index = commands.add_parser("index", help="the clip library: build it, look into it, search it")
    doors = index.add_subparsers(required=True, metavar="COMMAND")
    _add_build(doors)
    _add_replay(doors)
    _add_dead(doors)
    _add_search(doors)


def _add_build(doors: Any) -> None:
    build = add_command(
        doors,
        "build",
        "library:build",
        what="build the clip library of a corpus, or bring one up to date; go on if it was killed",
        example="dreamrunner index build corpus/manifest.jsonl --index /data/library",
    )
    build.add_argument(
        "manifest",
        type=Path,
        nargs="?",
        help=f"{MANIFEST_HELP} (default: the profile's corpus)",
    )
    build.add_argument(
        "--recheck",
        action="store_true",
        default=argparse.SUPPRESS,
        help="look again at the files of rows that are indexed",
    )
    _add_index_option(build)
    add_studio_options(build)
    _add_workers_option(build)


def _add_replay(doors: Any) -> None:
    replay = add_command(
        doors,
        "replay",
        "standing_library:replay",
        what="try again what a library has as dead letters",
        example="dreamrunner index replay --index /data/library",
    )
    _add_index_option(replay, required=True)
    add_studio_options(replay)
    _add_workers_option(replay)


def _add_dead(doors: Any) -> None:
    dead = add_command(
        doors,
        "dead",
        "standing_library:dead",
        what="list what a library has as dead letters, with the stage and the reason",
        example="dreamrunner index dead --index /data/library",
    )
    _add_index_option(dead, required=True)


def _add_search(doors: Any) -> None:
    search = add_command(
        doors,
        "search",
        "library:search",
        what="find clips of a motion, and say why",
        example="dreamrunner index search bowing --explain",
    )
    search.add_argument("motion", help="a motion, such as bowing")
    search.add_argument(
        "--explain",
        action="store_true",
        help="say of the other candidates why each was dropped",
    )
    search.add_argument(
        "--manifest",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help=f"{MANIFEST_HELP} (default: the profile's corpus)",
    )
    _add_index_option(search)
    add_studio_options(search)


def _add_index_option(door: Any, *, required: bool = False) -> None:
    door.add_argument(
        "--index",
        required=required,
        default=argparse.SUPPRESS,
        metavar="URI",
        help="a library that stays and grows: a folder, or a place in an object store",
    )


def _add_workers_option(door: Any) -> None:
    door.add_argument(
        "--workers",
        default=argparse.SUPPRESS,
        metavar="N",
        help="of each stage, or read=8,track=2,embed=2",
    )
