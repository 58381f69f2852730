"""Who was asked for and got no part is told."""

from io import StringIO

from rich.console import Console

from serve.parts import tell_partless


def told(asked: list[str], planned: list[str]) -> str:
    console = Console(file=StringIO(), width=20)
    tell_partless(console, asked, planned)
    return console.file.getvalue()


def test_who_has_no_part_is_named():
    line = "The plan has no part for Ann, [x]; more scenes leave more room.\n"
    assert told(["Ann", "witch", "[x]"], ["witch"]) == line


def test_nothing_is_said_where_all_have_one():
    assert told(["Red Bear", "witch"], ["witch", "red bear"]) == ""
