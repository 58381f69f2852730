"""A library that stays: what hinders its writers now is no bad input."""

import json
from pathlib import Path

import pytest

from retrieval_index import build
from retrieval_index.findings import dead_letter
from retrieval_index.lease import leased
from retrieval_index.manifest import Fault, ManifestRow
from retrieval_index.records import Decision, SearchResult, TableVersion
from retrieval_index.schemas import DEAD_LETTERS, Outcomes, segments_schema, to_table
from retrieval_index.stages import LibraryUnreachableError
from retrieval_index.tables import Library
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
    assert_bad_input(call("index", "dead", "--index", "db"), "there is no library at db")
    assert not (tmp_path / "db").exists()


def test_dead_letters_are_told_with_their_reasons(call, tmp_path):
    letters = [
        dead_letter(ManifestRow(path="/b.mp4", caption="x"), "read", "missing", "no such\nfile"),
        dead_letter(Fault(row="{broken", reason="", message=""), "manifest", "not-a-row", "none"),
        dead_letter(ManifestRow(path="/a\x1b[2J.mp4", caption="x"), "track", "nobody", "empty"),
    ]
    library = Library(str(tmp_path / "db"))
    library.create()
    library.write(Outcomes(segments=segments_schema(2, 2).empty_table()))
    assert call("index", "dead", "--index", "db") == (0, "", "")
    library.write(Outcomes(dead_letters=to_table(letters, DEAD_LETTERS)))
    assert call("index", "dead", "--index", "db")[:2] == (
        0,
        "/a [2J.mp4: track: nobody: empty\n/b.mp4: read: missing: no such file\n"
        "{broken: manifest: not-a-row: none\n",
    )
    told = json.loads(call("index", "dead", "--index", "db", "--json")[1])
    assert [(one["path"], one["reason"], one["attempts"]) for one in told] == [
        ("/a\x1b[2J.mp4", "nobody", 1),
        ("/b.mp4", "missing", 1),
        ("{broken", "not-a-row", 1),
    ]
    assert (told[1]["row"]["caption"], told[2]["row"]) == ("x", "{broken")


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
