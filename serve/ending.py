"""How a command says that it ended. It needs nothing, so that help and bad words come at once."""

import sys

FAILED, BAD_INPUT = 1, 2
GOES_ON = "stopped; the same command goes on from here"


def tell(command: str, message: str, code: int) -> int:
    """Say in one line on standard error how a command ended; its exit code again."""
    sys.stderr.write(f"{command}: {' '.join(message.split())}\n")
    return code
