"""`prior` and `render`: one prior or one scene, without a film."""

import argparse
from pathlib import Path
from typing import Any

from serve.command_line.options import (
    MAX_SCENES,
    add_characters_option,
    add_output_option,
    add_picture_options,
    add_studio_options,
)
from serve.command_line.parser import add_command
from serve.command_line.values import between


def add_prior(commands: Any) -> None:
    """Add `prior`."""
    prior = add_command(
        commands,
        "prior",
        "learning:prior",
        what="learn one prior: a motion from clips, or a character from reference images",
        example="dreamrunner prior bowing",
    )
    prior.add_argument("motion", nargs="?", default=argparse.SUPPRESS, help="a motion to learn")
    prior.add_argument(
        "--character",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="a character to learn, as in film",
    )
    prior.add_argument(
        "--clip",
        dest="clips",
        action="append",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="VIDEO",
        help="learn from this video; may be repeated (default: what the library finds)",
    )
    add_output_option(prior, None, "copy the adapter here")
    add_studio_options(prior)


def add_render(commands: Any) -> None:
    """Add `render`."""
    render = add_command(
        commands,
        "render",
        "rendering:render",
        what="render one scene of a plan, with the priors that are given",
        example="dreamrunner render plan.json --scene 1 --output scene.mp4",
    )
    render.add_argument("plan_file", type=Path, help="a plan, as `dreamrunner plan` writes it")
    render.add_argument(
        "--scene", dest="number", type=between(1, MAX_SCENES), default=1, metavar="N", help="which"
    )
    render.add_argument(
        "--prior",
        dest="priors",
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="a prior, as `dreamrunner prior` names it; may be repeated",
    )
    add_characters_option(
        render,
        "who is in the plan, as in film; may be repeated (default: the plan's characters)",
    )
    add_output_option(render, "scene.mp4", "the clip")
    add_picture_options(render)
    add_studio_options(render)
