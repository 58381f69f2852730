"""Characters that a key keeps."""

from collections.abc import Callable

import pytest

from cluster.ledger import Key, Ledger, UnknownCharacter


def test_a_character_is_kept(opened: Callable[[], Ledger]) -> None:
    key, _ = opened().add_key("studio")
    images = ("a" * 64, "b" * 64)
    added = opened().add_character(key, "Mira", "girl witch", images)
    assert opened().character(added.id, key_id=key.id) == added
    assert added.images == images
    assert len(added.id) == len("character_") + 26


def test_characters_are_listed_newest_first(ledger: Ledger, key: Key) -> None:
    ids = [ledger.add_character(key, f"C{n}", "cat", ()).id for n in range(4)]
    page = ledger.characters(key.id, limit=3)
    rest = ledger.characters(key.id, after=page[-1].id)
    assert [character.id for character in (*page, *rest)] == ids[::-1]


def test_another_keys_character_is_unknown(ledger: Ledger, key: Key) -> None:
    other, _ = ledger.add_key("other")
    added = ledger.add_character(key, "Mira", "girl witch", ())
    with pytest.raises(UnknownCharacter):
        ledger.character(added.id, key_id=other.id)
    with pytest.raises(UnknownCharacter):
        ledger.forget_character(added.id, key_id=other.id)
    assert ledger.characters(other.id) == []
    assert ledger.characters(key.id) == [added]


def test_a_forgotten_character_is_gone(ledger: Ledger, key: Key) -> None:
    added = ledger.add_character(key, "Mira", "girl witch", ())
    ledger.forget_character(added.id, key_id=key.id)
    with pytest.raises(UnknownCharacter):
        ledger.forget_character(added.id, key_id=key.id)
