"""Images go when nobody needs them, and not before."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.artifacts import LocalStore
from cluster.ledger import Ledger
from serve.backstage import Backstage
from serve.image_sweep import ROUND_S, ImageSweep
from tests.serve.doors.house import png


class House:
    """A ledger with two keys, images, and somebody who sweeps them."""

    def __init__(self, folder: Path) -> None:
        store = LocalStore(folder / "artifacts")
        self.backstage = Backstage(store=store, images=folder / "images", cast={}, motions=())
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.keys = [self.ledger.add_key(name)[0] for name in ("alice", "bob")]
        self._sweep, self._now_s = ImageSweep(self.ledger, self.backstage), time.time()

    def keep(self, owner: int = 0) -> str:
        image = self.backstage.keep_image(png())
        return self.ledger.add_character(self.keys[owner], "Mira", "witch", (image,)).id

    def forget(self, character: str, owner: int = 0) -> None:
        self.ledger.forget_character(character, key_id=self.keys[owner].id)

    def order(self) -> str:
        image = self.backstage.keep_image(png())
        cast = [{"name": "Mira", "phrase": "witch", "images": [image]}]
        asked: dict[str, Any] = {"topic": "a day", "cast": cast, "num_scenes": 1, "wishes": []}
        return self.ledger.submit(self.keys[0], {**asked, "seed": 0, "use_priors": True}).story.id

    def rounds(self, count: int) -> int:
        """Sweep so many times; the images that are left."""
        for _ in range(count):
            self._now_s += ROUND_S + 1
            self._sweep.sweep(self._now_s)
        return len(list(self.backstage.images.iterdir()))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path)
    yield opened
    opened.ledger.close()


def test_an_image_goes_with_the_last_character_that_has_it(house):
    house.forget(house.keep())
    kept = house.keep(owner=1)
    assert house.rounds(4) == 1
    house.forget(kept, owner=1)
    assert house.rounds(1) == 1, "its story may be about to be accepted"
    assert house.rounds(1) == 0


def test_an_image_stays_until_its_story_has_ended(house):
    character, story = house.keep(), house.order()
    house.forget(character)
    assert house.rounds(3) == 1
    house.ledger.take(1)
    assert house.rounds(3) == 1
    house.ledger.advance(story, "finished", film="film-1")
    assert house.rounds(2) == 0


def test_an_image_that_is_sent_again_is_young_again(house):
    house.forget(house.keep())
    place = next(house.backstage.images.iterdir())
    assert house.backstage.images_before(time.time() + 1) == {place.name}
    before_s = time.time() - 1
    assert house.backstage.images_before(before_s) == set()
    house.backstage.forget_images([place.name, "0" * 64], before_s)
    assert place.is_file()


def test_where_nobody_has_sent_an_image_there_is_nothing_to_sweep(house):
    ImageSweep(house.ledger, house.backstage).sweep(time.time())
    assert not house.backstage.images.exists()
