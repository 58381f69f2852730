"""Commands start light: models and Ray are imported when they are needed, after bad input is told
and after Ray's token is there."""

import subprocess
import sys
from argparse import _SubParsersAction
from collections.abc import Iterator

from serve.cli import build_parser
from serve.command_line.parser import Parser

HEAVY = {"torch", "ray", "lancedb", "transformers", "diffusers", "open_clip", "dbos"}


def commands(parser: Parser) -> Iterator[str]:
    """``module:name`` of every command."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                yield from commands(below)
    run = parser.get_default("run")
    if run is not None:
        yield run


def test_no_command_imports_models_or_ray_before_it_runs():
    modules = {f"serve.commands.{run.partition(':')[0]}" for run in commands(build_parser())}
    assert len(modules) > 5
    program = (
        "import importlib, sys\n"
        f"for name in {sorted(modules)}: importlib.import_module(name)\n"
        f"print(*({HEAVY} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
