"""A library that stays: what hinders its writers now is no bad input."""

from pathlib import Path

import pytest

from retrieval_index import build
from retrieval_index.lease import leased
from retrieval_index.records import Decision, SearchResult, TableVersion
from retrieval_index.stages import LibraryUnreachableError
from serve.commands import standing_library
from tests.serve.command_line import assert_bad_input


@pytest.fixture
def words(studio: Path, tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "manifest.jsonl").write_text('{"path": "a.mp4", "caption": "a person is bowing"}\n')
    return ("index", "build", "manifest.jsonl", "--index", "db", "--profile", studio / "tiny.yaml")


def test_a_library_that_another_writes_to_is_told(call, words, tmp_path):
    with leased(str(tmp_path / "db")):
        code, out, err = call(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is being written to by" in err


@pytest.mark.parametrize("door", [("build", "manifest.jsonl"), ("search", "bowing"), ("replay",)])
def test_a_file_is_no_library(call, words, tmp_path, door):
    (tmp_path / "db").write_text("")
    assert_bad_input(call("index", *door, *words[3:]), "db")


def test_looking_for_a_library_makes_none(call, words, tmp_path):
    for door in (("search", "bowing"), ("replay",)):
        assert_bad_input(call("index", *door, *words[3:]), "there is no library at db")
    assert not (tmp_path / "db").exists()


def test_clips_that_do_not_pass_are_told(call, words, monkeypatch):
    kept = Decision(
        clip_id="a", stage="fallback", score=0.1, threshold=0.35, kept=True, reason="fewer pass"
    )
    version = TableVersion(videos=1, segments=1)
    found = SearchResult(motion="bowing", kept=(), decisions=(kept,), table_version=version)
    monkeypatch.setattr(standing_library, "search", lambda **_: found)
    assert (
        "not all score above the limit: fewer pass" in call("index", "search", "x", *words[3:])[1]
    )


def test_a_library_that_does_not_answer_is_told(call, words, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise LibraryUnreachableError("the library does not answer: refused\nTry again\nlater")

    monkeypatch.setattr(build, "build_index", fails)
    code, out, err = call(*words)
    assert (code, out) == (1, "")
    assert err == "dreamrunner: the library does not answer: refused\n"
