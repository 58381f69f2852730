"""A Ray that this process starts: it answers nobody who does not know its token, and is quiet."""

import os
import secrets
import sys

_MODE, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


def guarded() -> bool:
    """Whether a Ray started here from now on asks for a token, which is made if there is none.

    Ray reads how it authenticates once a process, when it is first imported. Where somebody
    imported it before, without a token, it stays as it is.
    """
    if _TOKEN not in os.environ and "ray" in sys.modules:
        return False
    os.environ[_MODE] = "token"
    os.environ.setdefault(_TOKEN, secrets.token_hex(32))
    return True


def hush() -> None:
    """Ray, once it starts, warns on standard error of what Ray Data itself does. Not to users."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
