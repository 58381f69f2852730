"""An accepted story becomes an order: its characters found, their images hashed."""

import logging
import time
from functools import lru_cache
from pathlib import Path

from cluster.artifacts import Place
from cluster.cast import find, read_cast
from cluster.ledger import StoryEntry
from cluster.locate import MissingError, member, with_library_of_now
from cluster.order import ALL_PRIORS, NO_PRIORS, Order
from cluster.profiles import Profile
from cluster.studio import Member, Studio
from pipelines.plan import StoryPlan
from serve.backstage import Backstage
from serve.doors.orders import CastMember, wanted_of

log = logging.getLogger("dreamrunner.director")

LOOK_AGAIN_S = 86_400.0
"""How long a standing library is read as it was: a library keeps its moments for a week."""


class OrderReader:
    """Reads orders of one profile. It is told a studio that holds for all of them, but for what has
    come into a standing library since."""

    def __init__(self, profile: Profile, studio: Studio, backstage: Backstage) -> None:
        self._profile, self._studio, self._backstage = profile, studio, backstage
        self._looked_s = time.monotonic()
        self._cast = read_cast(Path(profile.cast)) if profile.cast else {}
        self._shipped = lru_cache(maxsize=256)(self._find)

    def __call__(self, entry: StoryEntry) -> Order:
        """The order of a story. Raises `ValueError` when a character is gone."""
        wanted = wanted_of(entry.request)
        given = entry.given_plan
        plan = None if given is None else StoryPlan.model_validate(given)
        return Order(
            topic=wanted.topic,
            cast=tuple(self._member(one) for one in wanted.cast),
            num_scenes=len(plan.scenes) if plan else wanted.num_scenes,
            wishes=() if plan else wanted.wishes,
            seed=wanted.seed,
            plan=plan,
            priors=ALL_PRIORS if wanted.use_priors else NO_PRIORS,
            studio=self._studio_of_now(),
        )

    def _studio_of_now(self) -> Studio:
        if time.monotonic() - self._looked_s > LOOK_AGAIN_S:
            try:
                self._studio = with_library_of_now(self._studio, self._profile)
            except MissingError as error:
                log.warning("the library is read as it was, for it cannot be opened: %s", error)
            self._looked_s = time.monotonic()
        return self._studio

    def _member(self, wanted: CastMember) -> Member:
        if wanted.shipped:
            return self._shipped(wanted.name)
        return Member(
            name=wanted.name,
            phrase=wanted.phrase,
            images=tuple(self._image(sha256) for sha256 in wanted.images),
        )

    def _find(self, name: str) -> Member:
        return member(find(self._cast, name))

    def _image(self, sha256: str) -> Place:
        try:
            return Place.of(self._backstage.image_path(sha256))
        except FileNotFoundError as error:
            raise ValueError(f"a reference image is gone: {error}") from error
