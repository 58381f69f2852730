"""A library that stays: what hinders its writers now is no bad input."""

from pathlib import Path

import pytest

from retrieval_index import build
from retrieval_index.lease import leased
from retrieval_index.stages import LibraryUnreachableError


@pytest.fixture
def words(studio: Path, tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "manifest.jsonl").write_text('{"path": "a.mp4", "caption": "a person is bowing"}\n')
    return ("index", "build", "manifest.jsonl", "--index", "db", "--profile", studio / "tiny.yaml")


def test_a_library_that_another_writes_to_is_told(call, words, tmp_path):
    with leased(str(tmp_path / "db")):
        code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is being written to by" in err


def test_a_library_that_does_not_answer_is_told(call, words, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise LibraryUnreachableError("the library does not answer: refused\nTry again\nlater")

    monkeypatch.setattr(build, "build_index", fails)
    code, out, err = call(*words)
    assert (code, out) == (1, "")
    assert err == "dreamrunner: the library does not answer: refused\n"
