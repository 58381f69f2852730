"""Keys: what is kept of them, and what is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.ledger import KeyNameError, Ledger
from cluster.ledger.keys import UnknownKey


def test_a_secret_opens_its_key(ledger: Ledger) -> None:
    first, secret = ledger.add_key("first", weight=3.0, max_waiting=7, max_gpu_s_a_day=60.0)
    second, _ = ledger.add_key("second")
    assert ledger.key_of(secret) == first
    assert ledger.keys() == [first, second]
    assert (first.weight, first.max_waiting, first.max_gpu_s_a_day) == (3.0, 7, 60.0)


def test_secrets_are_long_and_differ(ledger: Ledger) -> None:
    secrets = {ledger.add_key(f"key-{number}")[1] for number in range(5)}
    assert len(secrets) == 5
    assert all(secret.startswith("dr_") and len(secret) == 46 for secret in secrets)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a\n", "\x1b[31m", "é"])
def test_a_name_is_plain(ledger: Ledger, name: str) -> None:
    with pytest.raises(KeyNameError, match="is no name of a key"):
        ledger.add_key(name)


def test_of_keys_that_open_something_no_two_have_one_name(ledger: Ledger) -> None:
    first, _ = ledger.add_key("studio-7")
    with pytest.raises(KeyNameError, match="there is a key 'studio-7' already"):
        ledger.add_key("studio-7")
    ledger.revoke_key(first.id)
    assert ledger.add_key("studio-7")[0].id != first.id


@pytest.mark.parametrize("secret", ["", "dr_", "dr_\0", "\udc80", "x" * 100_000, "' OR 1=1 --"])
def test_anything_else_opens_nothing(ledger: Ledger, secret: str) -> None:
    ledger.add_key("studio")
    ledger.local_key()
    assert ledger.key_of(secret) is None


def test_a_revoked_key_opens_nothing(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    key, secret = ledger.add_key("studio")
    story = ledger.submit(key, {}).story
    ledger.revoke_key(key.id)
    assert opened().key_of(secret) is None
    (kept,) = ledger.keys()
    assert kept.revoked
    assert [taken.id for taken in ledger.take(1)] == [story.id]


def test_who_is_not_there_cannot_be_revoked(ledger: Ledger) -> None:
    with pytest.raises(UnknownKey):
        ledger.revoke_key("key_nobody")


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_more_than_nothing(ledger: Ledger, weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        ledger.add_key("studio", weight=weight)


@pytest.mark.parametrize("gpu_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_days_gpu_seconds_are_more_than_none(ledger: Ledger, gpu_s: float) -> None:
    with pytest.raises(ValueError, match="GPU seconds"):
        ledger.add_key("studio", max_gpu_s_a_day=gpu_s)


def test_no_secret_lies_in_the_file(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    _, secret = ledger.add_key("studio")
    ledger.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"studio" in kept
    assert secret.encode() not in kept
    assert secret.removeprefix("dr_").encode() not in kept


def test_the_local_key_is_one(opened: Callable[[], Ledger]) -> None:
    key = opened().local_key()
    assert opened().local_key() == key
    assert opened().keys() == [key]
