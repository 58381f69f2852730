"""What all tests share.

A Ray started in this process asks for a token, from the first import on: Ray reads how it
authenticates when it is first imported, and here that may be long before `cluster.local` starts
one. Commands that tests interrupt hear an interrupt, also where this run was started in the
background, which ignores them. Tests that run beside others compute with one thread: on two cores
four threads wait for each other longer than they compute. And what was wrong is told once more at
the end, where a log that is cut still has it.
"""

import os
import secrets
import signal

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
signal.signal(signal.SIGINT, signal.default_int_handler)

MAX_LETTERS = 1500
"""Of what is told again of one failure."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After all tracebacks, what each failure says of itself."""
    stats = terminalreporter.stats
    failed = [*stats.get("error", []), *stats.get("failed", [])]
    if failed:
        terminalreporter.section("what was wrong")
    for report in failed:
        terminalreporter.write_line(f"{report.nodeid}: {_said(report)[:MAX_LETTERS]}")


def _said(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(report.longrepr if crash is None else crash.message)
