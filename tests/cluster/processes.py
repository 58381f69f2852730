"""Processes that may end while they are looked at."""

import psutil


def title(process: psutil.Process) -> str:
    """Its command line; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
