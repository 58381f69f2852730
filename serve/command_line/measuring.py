"""`evaluate`: films measured, or stories filmed and measured."""

import argparse
from pathlib import Path
from typing import Any

from serve.command_line.options import (
    add_characters_option,
    add_no_priors_option,
    add_no_regions_option,
    add_studio_options,
)
from serve.command_line.parser import add_command
from serve.command_line.values import between, names

MAX_SEEDS = 100


def add_evaluate(commands: Any) -> None:
    """Add `evaluate`."""
    evaluate = add_command(
        commands,
        "evaluate",
        "evaluating:evaluate",
        what="measure films, or film stories and measure them: characters, texts, boxes, "
        "transitions and motion, by scene and by story",
        example="dreamrunner evaluate film.mp4 --html report.html",
        stopped="stopped; no figure is kept, the same command measures anew (scenes that it "
        "rendered are kept)",
    )
    evaluate.add_argument(
        "films",
        type=Path,
        nargs="+",
        metavar="FILM",
        help="a film with its record (.json) beside it, or a folder of such; or one .yaml file of "
        "stories, such as examples/puppet_stories/stories.yaml",
    )
    _add_set_options(evaluate)
    _add_one_kind_options(evaluate)
    add_no_regions_option(evaluate)
    _add_other_options(evaluate)
    add_studio_options(evaluate)


def _add_set_options(evaluate: Any) -> None:
    """Which films of a file of stories."""
    evaluate.add_argument(
        "--stories",
        dest="names",
        type=names,
        default=argparse.SUPPRESS,
        metavar="NAME,NAME",
        help="of a file of stories, these alone",
    )
    evaluate.add_argument(
        "--seeds",
        dest="num_seeds",
        type=between(1, MAX_SEEDS),
        default=argparse.SUPPRESS,
        metavar="N",
        help="film every story so many times, with its seed and those that follow; priors are "
        "learned once (default: 1)",
    )


def _add_one_kind_options(evaluate: Any) -> None:
    add_no_priors_option(evaluate)
    for kind, what in (("motion", "motions"), ("subject", "characters' looks")):
        evaluate.add_argument(
            f"--no-{kind}-priors",
            dest="without",
            action="append_const",
            const=kind,
            default=argparse.SUPPRESS,
            help=f"learn no {what}, for comparison",
        )


def _add_other_options(evaluate: Any) -> None:
    add_characters_option(
        evaluate,
        "NAME=PHRASE:IMAGE,IMAGE for a character that is not in the profile's cast; may be "
        "repeated",
    )
    evaluate.add_argument(
        "--t2v-compbench",
        dest="of_prompts",
        action="store_true",
        default=argparse.SUPPRESS,
        help="PROMPTS_DIR OUT: make the videos of a benchmark's prompts, named as its own scripts "
        "expect them; measure nothing",
    )
    evaluate.add_argument(
        "--html",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="write a report with pictures, in one file",
    )
