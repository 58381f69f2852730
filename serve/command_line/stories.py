"""`film`, `plan` and `parse-plan`: what begins with a story."""

import argparse
from pathlib import Path
from typing import Any

from serve.command_line.options import (
    MAX_SCENES,
    add_characters_option,
    add_no_priors_option,
    add_output_option,
    add_picture_options,
    add_studio_options,
)
from serve.command_line.parser import add_command
from serve.command_line.values import between


def add_film(commands: Any) -> None:
    """Add `film`."""
    film = add_command(
        commands,
        "film",
        "filming:film",
        what="make a film of a story: plan, find clips, learn priors, render, cut",
        example='dreamrunner film "The pirate\'s day" --output film.mp4',
    )
    film.add_argument(
        "topic",
        nargs="?",
        default=argparse.SUPPRESS,
        help="a topic, or a script scene by scene; with --plan, the film's title (default: the "
        "plan's topic)",
    )
    _add_story_options(film)
    add_output_option(film, "film.mp4", "the film; its contact sheet and record go beside it")
    film.add_argument(
        "--plan",
        dest="plan_file",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="use this plan, and its characters unless others are named; nothing is planned",
    )
    add_no_priors_option(film)
    add_picture_options(film)
    add_studio_options(film)


def add_plan(commands: Any) -> None:
    """Add `plan`."""
    plan = add_command(
        commands,
        "plan",
        "planning:plan",
        what="plan a story: its scenes, and where everybody is in each second of them",
        example='dreamrunner plan "The pirate\'s day" --scenes 3 --output plan.json',
    )
    plan.add_argument("topic", help="a topic, or a script scene by scene")
    _add_story_options(plan)
    add_output_option(plan, None, "the plan file (default: standard output)")
    add_studio_options(plan)


def add_parse_plan(commands: Any) -> None:
    """Add `parse-plan`."""
    parse = add_command(
        commands,
        "parse-plan",
        "planning:parse",
        what="read the layout of one scene that a language model wrote as text, print it as JSON "
        "for a plan file, and say what was repaired",
        example="dreamrunner parse-plan answer.txt --json",
    )
    parse.add_argument(
        "file",
        type=Path,
        help="the text (docs/architecture.md, A plan as text), or - for standard input",
    )


def _add_story_options(command: Any) -> None:
    command.add_argument(
        "--scenes",
        dest="num_scenes",
        type=between(1, MAX_SCENES),
        default=argparse.SUPPRESS,
        metavar="N",
        help="number of scenes (default: the profile's)",
    )
    add_characters_option(
        command,
        "NAME of the cast, or NAME=PHRASE:IMAGE,IMAGE for a new one; may be repeated "
        "(default: those the topic names, and the profile's unless it names a motion too)",
    )
    command.add_argument(
        "--motion",
        dest="wishes",
        action="append",
        default=argparse.SUPPRESS,
        metavar="MOTION",
        help="a motion that must occur, such as bowing; may be repeated (default: those the topic "
        "names, or else the profile's)",
    )
