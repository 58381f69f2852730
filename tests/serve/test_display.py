"""What tables show."""

from io import StringIO

from rich.console import Console

from serve.display import table


def test_a_long_word_is_shown_whole():
    console, path = Console(file=StringIO(), width=30), "/a/folder/" + "0123456789" * 4
    console.print(table("Prior", ("", "value"), [("adapter", path)]))
    shown = "".join(console.file.getvalue().split())
    assert shown.endswith("".join(["adapter│", path[:20], "│", path[20:40], "│", path[40:]]))
