"""Options that more than one command has. Each function adds them to a command's parser."""

import argparse
from pathlib import Path
from typing import Any

from serve.command_line.values import between

MAX_SCENES = 20


def add_studio_options(command: Any) -> None:
    """The profile, and the work folder."""
    command.add_argument(
        "--profile",
        dest="profile_name",
        default="miniature",
        metavar="NAME",
        help="miniature, cogvideox-2b, cogvideox-5b, or a YAML file",
    )
    add_work_dir_option(command, "keeps what is made, and where a killed command goes on")


def add_work_dir_option(command: Any, what: str) -> None:
    """The work folder; ``what`` it is to this command."""
    command.add_argument(
        "--work-dir", type=Path, default=Path(".dreamrunner"), metavar="FOLDER", help=what
    )


def add_characters_option(command: Any, what: str) -> None:
    """Characters, one a time; ``what`` they are to this command."""
    command.add_argument(
        "--character",
        dest="characters",
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help=what,
    )


def add_picture_options(command: Any) -> None:
    """What scenes are rendered with, plan and priors apart."""
    command.add_argument(
        "--seed",
        type=between(0, 2**62),
        default=0,
        metavar="N",
        help="of the pictures; plans and priors stay",
    )
    add_no_regions_option(command)


def add_no_priors_option(command: Any) -> None:
    """A film without priors."""
    command.add_argument(
        "--no-priors",
        dest="use_priors",
        action="store_false",
        default=argparse.SUPPRESS,
        help="learn nothing, for comparison",
    )


def add_no_regions_option(command: Any) -> None:
    """Scenes without regions."""
    command.add_argument(
        "--no-regions",
        dest="use_regions",
        action="store_false",
        default=argparse.SUPPRESS,
        help="one caption for the whole picture, for comparison",
    )


def add_output_option(command: Any, default: str | None, what: str) -> None:
    """Where the result goes; ``what`` it is."""
    chosen = argparse.SUPPRESS if default is None else Path(default)
    command.add_argument("-o", "--output", type=Path, default=chosen, metavar="FILE", help=what)
