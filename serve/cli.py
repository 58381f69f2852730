"""The command line. Each command is a thin door: what it does is in `serve.commands`, and its
words are in `serve.command_line`.

Starting it loads neither models nor Ray, so that help is there at once and bad input is told
before anything is begun.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from serve.command_line.checkup import add_doctor
from serve.command_line.library import add_index
from serve.command_line.measuring import add_evaluate
from serve.command_line.parser import Parser, UsageError
from serve.command_line.pieces import add_prior, add_render
from serve.command_line.servers import add_key, add_serve, add_serve_config
from serve.command_line.stories import add_film, add_parse_plan, add_plan
from serve.ending import BAD_INPUT, tell

PROGRAM = "dreamrunner"
COMMANDS = (
    add_film,
    add_plan,
    add_parse_plan,
    add_index,
    add_prior,
    add_render,
    add_evaluate,
    add_serve,
    add_serve_config,
    add_key,
    add_doctor,
)
"""In the order of the help."""


def build_parser() -> argparse.ArgumentParser:
    """All commands. Each sets ``run``, the function that does it, as ``module:name``."""
    parser = Parser(prog=PROGRAM, description="Stories become films.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Run a command; the exit code is 0 done, 1 failed, 2 bad input.

    An error is one line on standard error.
    """
    try:
        words = vars(build_parser().parse_args(arguments))
    except UsageError as error:
        return tell(PROGRAM, str(error), BAD_INPUT)
    module, _, name = str(words.pop("run")).partition(":")
    stopped = str(words.pop("stopped"))
    from serve.errors import ended  # not before the parser: help needs no models

    def work() -> int:
        code: int = getattr(importlib.import_module(f"serve.commands.{module}"), name)(**words)
        return code

    return ended(PROGRAM, work, stopped=stopped, words=words)


def main() -> None:
    """The console script."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of models that are here
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
