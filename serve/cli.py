"""The command line. Each command is a thin door: what it does is in `serve.commands`.

Starting it loads neither models nor Ray, so that help is there at once and bad input is told
before anything is begun.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from serve.ending import BAD_INPUT, GOES_ON, tell

PROGRAM = "dreamrunner"
MAX_SCENES, MAX_SEEDS = 20, 100
MANIFEST_HELP = "JSONL, CSV or Parquet with a path and a caption in each row"


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


def build_parser() -> argparse.ArgumentParser:
    """All commands. Each sets ``run``, the function that does it, as ``module:name``."""
    parser = Parser(prog=PROGRAM, description="Stories become films.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_film(commands)
    _add_plan(commands)
    _add_parse_plan(commands)
    _add_index(commands)
    _add_prior(commands)
    _add_render(commands)
    _add_evaluate(commands)
    _add_serve(commands)
    _add_serve_config(commands)
    _add_key(commands)
    _add_doctor(commands)
    return parser


def _command(
    commands: Any, name: str, run: str, *, what: str, example: str, stopped: str = GOES_ON
) -> Any:
    """Add a command; ``stopped`` is what it says of itself when it is interrupted."""
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


def _studio_options(command: Any) -> None:
    command.add_argument(
        "--profile",
        dest="profile_name",
        default="miniature",
        metavar="NAME",
        help="miniature, cogvideox-2b, cogvideox-5b, or a YAML file",
    )
    _work_dir_option(command, "keeps what is made, and where a killed command goes on")


def _work_dir_option(command: Any, what: str) -> None:
    command.add_argument(
        "--work-dir", type=Path, default=Path(".dreamrunner"), metavar="FOLDER", help=what
    )


def _story_options(command: Any) -> None:
    command.add_argument(
        "--scenes",
        dest="num_scenes",
        type=_between(1, MAX_SCENES),
        default=argparse.SUPPRESS,
        metavar="N",
        help="number of scenes (default: the profile's)",
    )
    command.add_argument(
        "--character",
        dest="characters",
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="NAME of the cast, or NAME=PHRASE:IMAGE,IMAGE for a new one; may be repeated "
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


def _picture_options(command: Any) -> None:
    command.add_argument(
        "--seed",
        type=_between(0, 2**62),
        default=0,
        metavar="N",
        help="of the pictures; plans and priors stay",
    )
    _no_regions_option(command)


def _no_priors_option(command: Any) -> None:
    command.add_argument(
        "--no-priors",
        dest="use_priors",
        action="store_false",
        default=argparse.SUPPRESS,
        help="learn nothing, for comparison",
    )


def _one_kind_options(command: Any) -> None:
    _no_priors_option(command)
    for kind, what in (("motion", "motions"), ("subject", "characters' looks")):
        command.add_argument(
            f"--no-{kind}-priors",
            dest="without",
            action="append_const",
            const=kind,
            default=argparse.SUPPRESS,
            help=f"learn no {what}, for comparison",
        )


def _no_regions_option(command: Any) -> None:
    command.add_argument(
        "--no-regions",
        dest="use_regions",
        action="store_false",
        default=argparse.SUPPRESS,
        help="one caption for the whole picture, for comparison",
    )


def _output_option(command: Any, default: str | None, what: str) -> None:
    chosen = argparse.SUPPRESS if default is None else Path(default)
    command.add_argument("-o", "--output", type=Path, default=chosen, metavar="FILE", help=what)


def _add_film(commands: Any) -> None:
    film = _command(
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
    _story_options(film)
    _output_option(film, "film.mp4", "the film; its contact sheet and record go beside it")
    film.add_argument(
        "--plan",
        dest="plan_file",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="use this plan, and its characters unless others are named; nothing is planned",
    )
    _no_priors_option(film)
    _picture_options(film)
    _studio_options(film)


def _add_plan(commands: Any) -> None:
    plan = _command(
        commands,
        "plan",
        "planning:plan",
        what="plan a story: its scenes, and where everybody is in each second of them",
        example='dreamrunner plan "The pirate\'s day" --scenes 3 --output plan.json',
    )
    plan.add_argument("topic", help="a topic, or a script scene by scene")
    _story_options(plan)
    _output_option(plan, None, "the plan file (default: standard output)")
    _studio_options(plan)


def _add_parse_plan(commands: Any) -> None:
    parse = _command(
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


def _add_index(commands: Any) -> None:
    index = commands.add_parser("index", help="the clip library: build it, look into it, search it")
    doors = index.add_subparsers(required=True, metavar="COMMAND")
    build = _command(
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
    replay = _command(
        doors,
        "replay",
        "standing_library:replay",
        what="try again what a library has as dead letters",
        example="dreamrunner index replay --index /data/library",
    )
    dead = _command(
        doors,
        "dead",
        "standing_library:dead",
        what="list what a library has as dead letters, with the stage and the reason",
        example="dreamrunner index dead --index /data/library",
    )
    search = _command(
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
    for door in (build, replay, dead, search):
        door.add_argument(
            "--index",
            required=door in (replay, dead),
            default=argparse.SUPPRESS,
            metavar="URI",
            help="a library that stays and grows: a folder, or a place in an object store",
        )
    for door in (build, replay, search):
        _studio_options(door)
    for door in (build, replay):
        door.add_argument(
            "--workers",
            default=argparse.SUPPRESS,
            metavar="N",
            help="of each stage, or read=8,track=2,embed=2",
        )


def _add_prior(commands: Any) -> None:
    prior = _command(
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
    _output_option(prior, None, "copy the adapter here")
    _studio_options(prior)


def _add_render(commands: Any) -> None:
    render = _command(
        commands,
        "render",
        "rendering:render",
        what="render one scene of a plan, with the priors that are given",
        example="dreamrunner render plan.json --scene 1 --output scene.mp4",
    )
    render.add_argument("plan_file", type=Path, help="a plan, as `dreamrunner plan` writes it")
    render.add_argument(
        "--scene", dest="number", type=_between(1, MAX_SCENES), default=1, metavar="N", help="which"
    )
    render.add_argument(
        "--prior",
        dest="priors",
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="a prior, as `dreamrunner prior` names it; may be repeated",
    )
    _output_option(render, "scene.mp4", "the clip")
    _picture_options(render)
    _studio_options(render)


def _add_evaluate(commands: Any) -> None:
    evaluate = _command(
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
    evaluate.add_argument(
        "--stories",
        dest="names",
        type=_names,
        default=argparse.SUPPRESS,
        metavar="NAME,NAME",
        help="of a file of stories, these alone",
    )
    evaluate.add_argument(
        "--seeds",
        dest="num_seeds",
        type=_between(1, MAX_SEEDS),
        default=argparse.SUPPRESS,
        metavar="N",
        help="film every story so many times, with its seed and those that follow; priors are "
        "learned once (default: 1)",
    )
    _one_kind_options(evaluate)
    _no_regions_option(evaluate)
    evaluate.add_argument(
        "--character",
        dest="characters",
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME",
        help="NAME=PHRASE:IMAGE,IMAGE for a character that is not in the profile's cast; may be "
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
    _studio_options(evaluate)


def _add_serve(commands: Any) -> None:
    serve = _command(
        commands,
        "serve",
        "serving:run",
        what="serve stories over HTTP from this machine",
        example="dreamrunner serve --port 8000",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=_between(1, 65535), default=8000)
    serve.add_argument("--gateways", type=_between(1, 64), default=2, help="replicas of the doors")
    _planner_option(serve)
    serve.add_argument(
        "--no-auth",
        dest="auth",
        action="store_false",
        help="ask for no key; on a loopback address only",
    )
    _studio_options(serve)


def _planner_option(command: Any) -> None:
    command.add_argument(
        "--planner",
        choices=("profile", "vllm"),
        default="profile",
        help="who plans: the profile's engine, or its model in a vLLM deployment",
    )


def _add_serve_config(commands: Any) -> None:
    config = _command(
        commands,
        "serve-config",
        "serving:config",
        what="print the Ray Serve config of a cluster, for `serve deploy` and KubeRay",
        example="dreamrunner serve-config --profile deploy/cluster.yaml --work-dir /shared",
    )
    config.add_argument("--profile", default="miniature", metavar="NAME")
    config.add_argument("--work-dir", required=True, help="a folder that every machine sees")
    config.add_argument("--artifacts", metavar="URI", help="artifact store, e.g. s3://bucket/made")
    config.add_argument("--ledger", metavar="URL", help="postgresql+psycopg://…")
    config.add_argument("--flows", metavar="URL", help="postgresql://…")
    config.add_argument("--gateways", type=_between(1, 64), default=2)
    config.add_argument("--max-stories", type=_between(1, 100_000), default=64)
    _planner_option(config)
    config.add_argument("--control", metavar="RESOURCE", help="Ray resource of machines that stay")
    config.add_argument("--host", default="0.0.0.0")
    config.add_argument("--port", type=_between(1, 65535), default=8000)


def _add_key(commands: Any) -> None:
    key = _command(
        commands,
        "key",
        "serving:keys",
        what="add, list or revoke keys of a server",
        example="dreamrunner key add studio-7 --weight 3",
    )
    key.add_argument("action", choices=("add", "list", "revoke"))
    key.add_argument("name", nargs="?", default=None, help="of a key; to revoke, its id does too")
    key.add_argument(
        "--weight", type=_above_zero, default=1.0, metavar="W", help="share among keys that wait"
    )
    key.add_argument(
        "--max-waiting",
        type=_between(1, 10_000_000),
        default=1000,
        metavar="N",
        help="stories of this key that may wait",
    )
    key.add_argument(
        "--max-gpu-s-a-day",
        type=_above_zero,
        default=None,
        metavar="S",
        help="GPU seconds of this key a day (default: no limit)",
    )
    key.add_argument(
        "--ledger",
        dest="ledger_url",
        default=None,
        metavar="URL",
        help="PostgreSQL's, as in serve-config (default: the work folder's own)",
    )
    _work_dir_option(key, "of the server")


def _add_doctor(commands: Any) -> None:
    doctor = _command(
        commands,
        "doctor",
        "checkup:doctor",
        what="say what is missing on this machine for a profile, and how to get it",
        example="dreamrunner doctor --profile cogvideox-2b",
    )
    _studio_options(doctor)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not names with commas between")
    return names


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _between(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} to {high}")
        return value

    return number


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
