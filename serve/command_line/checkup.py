"""`doctor`: what is missing on this machine."""

from typing import Any

from serve.command_line.options import add_studio_options
from serve.command_line.parser import add_command


def add_doctor(commands: Any) -> None:
    """Add `doctor`."""
    doctor = add_command(
        commands,
        "doctor",
        "checkup:doctor",
        what="say what is missing on this machine for a profile, and how to get it",
        example="dreamrunner doctor --profile cogvideox-2b",
    )
    add_studio_options(doctor)
