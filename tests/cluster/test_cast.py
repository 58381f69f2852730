"""Characters in a folder."""

from pathlib import Path

import pytest

from cluster.cast import CastError, find, read_cast
from cluster.profiles import CHECKOUT
from miniature.cast import CHARACTERS, HELD_OUT_CHARACTERS


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "character.yaml").write_text(text)


def test_a_folder_a_character(tmp_path):
    write(tmp_path, "ann", "name: Ann\nphrase: girl witch\n")
    (tmp_path / "ann" / "2.png").touch()
    (tmp_path / "ann" / "1.jpg").touch()
    (tmp_path / "ann" / "notes.txt").touch()
    ann = find(read_cast(tmp_path), "ann")
    assert (ann.name, ann.phrase) == ("Ann", "girl witch")
    assert [image.name for image in ann.images] == ["1.jpg", "2.png"]


def test_an_unknown_character_is_told_who_is_known(tmp_path):
    write(tmp_path, "ann", "name: Ann\nphrase: girl\n")
    for name in ("Bob", "!!!"):
        with pytest.raises(CastError, match="the cast has Ann"):
            find(read_cast(tmp_path), name)


@pytest.mark.parametrize(
    "text", ["name: Ann\n", "name: Ann\nphrase: x\nage: 3\n", "[", "- a\n", "name: ''\nphrase: x\n"]
)
def test_a_broken_character_is_told(tmp_path, text):
    write(tmp_path, "ann", text)
    with pytest.raises(CastError, match="ann"):
        read_cast(tmp_path)


def test_no_cast_is_told(tmp_path):
    with pytest.raises(CastError, match="not a folder"):
        read_cast(tmp_path / "none")


def test_the_shipped_cast_is_the_puppet_world(tmp_path):
    cast = read_cast(CHECKOUT / "examples" / "characters")
    assert set(cast) == set(CHARACTERS)
    assert {name for name, who in cast.items() if who.images} == set(HELD_OUT_CHARACTERS)
