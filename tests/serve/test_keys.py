"""`dreamrunner key`: who may use a server, and what is said of a ledger that is not there."""

import json

import pytest

from tests.serve.command_line import assert_bad_input


def test_a_key_is_added_listed_and_revoked(call):
    words = ("--weight", "2.5", "--max-gpu-s-a-day", "60", "--json")
    code, out, _ = call("key", "add", "studio-7", *words)
    (added,) = json.loads(out)
    assert (code, added["weight"], added["max_gpu_s_a_day"]) == (0, 2.5, 60)
    code, out, _ = call("key", "revoke", "studio-7", "--json")
    (revoked,) = json.loads(out)
    assert (code, revoked["id"], revoked["revoked"]) == (0, added["id"], True)
    assert json.loads(call("key", "list", "--json")[1]) == [revoked]
    assert call("key", "add", "other", "--max-waiting", "7")[0] == 0
    one, other = call("key", "list")[1].splitlines()
    assert one == (f"{added['id']}  studio-7 (revoked)  weight 2.5, 60 GPU s a day, 1000 may wait")
    assert other.endswith("  other  weight 1, no GPU limit, 7 may wait")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "x", "--weight", "0"), "'0' is not a number above 0"),
        (("add", "x", "--weight", "nan"), "'nan' is not a number above 0"),
        (("add", "x", "--weight", "much"), "'much' is not a number above 0"),
        (("add", "x", "--max-gpu-s-a-day", "nan"), "'nan' is not a number above 0"),
        (("add", "x", "--max-gpu-s-a-day", "inf"), "'inf' is not a number above 0"),
        (("add", "x", "--max-gpu-s-a-day", "-1"), "--max-gpu-s-a-day"),
        (("add", "x", "--max-gpu-s-a-day=-1"), "'-1' is not a number above 0"),
        (("add",), "key add takes a name"),
        (("list", "x"), "key list takes no name"),
        (("add", ""), "is no name of a key"),
        (("add", "x" * 65), "is no name of a key; expected 1 to 64"),
        (("add", "a b"), "is no name of a key"),
        (("add", "a\nb"), "is no name of a key"),
        (("add", "\x1b[31mred"), "is no name of a key"),
        (("add", "é"), "is no name of a key"),
        (("revoke", "x"), "no key was ever kept in .dreamrunner"),
        (("list", "--ledger", "foo"), "expected sqlite:///FILE or postgresql+psycopg://"),
        (("list", "--ledger", "mysql://u@there/x"), "expected sqlite:///FILE or postgresql"),
        (("list", "--ledger", "postgresql+nothing://u@there/x"), "expected sqlite:///FILE or"),
        (("list", "--ledger", "postgresql+psycopg://u@there:port/x"), "expected sqlite:///FILE"),
    ],
)
def test_bad_input_is_told(call, words, told):
    assert_bad_input(call("key", *words), told)


def test_looking_for_keys_makes_no_work_folder(call, tmp_path):
    for words in (("list",), ("revoke", "x")):
        assert_bad_input(call("key", *words, "--work-dir", "typo"), "no key was ever kept in typo")
    assert not (tmp_path / "typo").exists()
    call("key", "add", "y")
    assert_bad_input(call("key", "revoke", "x"), "no key 'x' that could be revoked")


def test_a_name_is_one_keys_until_it_is_revoked(call):
    assert call("key", "add", "studio")[0] == 0
    assert_bad_input(call("key", "add", "studio"), "there is a key 'studio' already")
    assert call("key", "revoke", "studio")[0] == call("key", "add", "studio")[0] == 0
    assert len(json.loads(call("key", "list", "--json")[1])) == 2


def test_a_ledger_that_cannot_be_reached_is_told(call, tmp_path):
    (tmp_path / "no.sqlite").write_bytes(b"I am no database" * 100)
    for url in ("postgresql+psycopg://nobody@127.0.0.1:1/none", "sqlite:///no.sqlite"):
        code, out, err = call("key", "list", "--ledger", url)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "the ledger cannot be reached" in err
