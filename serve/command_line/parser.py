"""What every command's parser has in common. It needs nothing but argparse, so that help is there
at once.
"""

import argparse
from typing import Any, NoReturn

from serve.ending import GOES_ON


class UsageError(Exception):
    """The words of a command line do not fit."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the defaults that say something: a switch that is off, and nothing, do not."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)


def add_command(
    commands: Any, name: str, run: str, *, what: str, example: str, stopped: str = GOES_ON
) -> Any:
    """Add a command, and give its parser, to which its options are added.

    Args:
        commands: what argparse gives for a group of commands.
        name: its word.
        run: the function in `serve.commands` that does it, as ``module:name``.
        what: what it does.
        example: a command line that works.
        stopped: what it says of itself when it is interrupted.
    """
    added = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=_Help,
    )
    added.set_defaults(run=run, stopped=stopped)
    added.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    return added
