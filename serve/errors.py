"""What a command's failure means to the shell that called it, in one table."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.cast import CastError
from cluster.local import RayStartError
from cluster.locate import MissingError
from cluster.profiles import ProfileError
from cluster.steps import StepError
from cluster.workdir import BusyError, WorkDir
from pipelines.plan_text import PlanSyntaxError
from pipelines.progress import Cancelled
from serve.ending import BAD_INPUT, FAILED, tell


class InputError(ValueError):
    """Something that was given to a command cannot be used; the message is one line."""


class UnavailableError(RuntimeError):
    """Something that a command needs cannot be had now; the message is one line."""


EXIT_CODES: dict[type[BaseException], int] = {
    InputError: BAD_INPUT,
    ProfileError: BAD_INPUT,
    CastError: BAD_INPUT,
    PlanSyntaxError: BAD_INPUT,
    UnavailableError: FAILED,
    MissingError: FAILED,
    BusyError: FAILED,
    StepError: FAILED,
    RayStartError: FAILED,
    Cancelled: FAILED,
    OSError: FAILED,
}
"""Errors that a command may end with, and its exit code; anything else is a fault of ours."""


def exit_code(error: BaseException) -> int:
    """The exit code for an error of `EXIT_CODES`."""
    return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))


def ended(
    command: str,
    work: Callable[[], int],
    *,
    stopped: str,
    words: Mapping[str, object] | None = None,
) -> int:
    """Do a command's work; its exit code. What it may end with is one line on standard error.

    Args:
        command: what that line begins with.
        work: returns an exit code.
        stopped: what is said after an interrupt.
        words: what the command was given; the work folder among them is told where it helps.
    """
    try:
        return work()
    except KeyboardInterrupt:
        return tell(command, stopped, FAILED)
    except tuple(EXIT_CODES) as error:
        return tell(command, f"{error}{where_more_is(error, words or {})}", exit_code(error))


def where_more_is(error: BaseException, words: Mapping[str, object]) -> str:
    """What to add for the owner of the work folder: where a failed step's whole story is."""
    folder = words.get("work_dir")
    if not isinstance(error, StepError) or not isinstance(folder, Path):
        return ""
    return f" (all of it in {WorkDir(folder).logs})"
