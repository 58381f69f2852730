"""A command as a shell would run it, and what bad input must look like."""

from collections.abc import Callable

import pytest

from serve.cli import run

Outcome = tuple[int, str, str]
"""Exit code, standard output, standard error."""
Call = Callable[..., Outcome]


def caller(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs commands in this process."""

    def called(*words: object) -> Outcome:
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


def assert_bad_input(outcome: Outcome, *words: str) -> None:
    """Exit code 2 and one line that holds these words."""
    code, out, err = outcome
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err
