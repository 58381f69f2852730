"""What `dreamrunner evaluate` measures with: the models of a profile, found before anything is
begun. Who loads and uses them is `serve.measuring`."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cluster.artifacts import Place
from cluster.locate import find_judge, find_model
from cluster.profiles import Profile, ProfileError
from cluster.resources import Role, Share
from cluster.workdir import WorkDir
from pipelines.binding import JudgeFactory

ROLES = ("clip", "viclip", "dino")
JUDGE = "judge"
SHARE: Role = "trainer"
"""Whose pool is used: its workers, their device and their threads."""
_DIGITS = 12
"""Of a content hash that reports print."""


@dataclass(frozen=True)
class Instruments:
    """The models of a profile that measure, found; it can travel between machines."""

    profile: str
    folders: Mapping[str, str]
    known_as: Mapping[str, str]
    """What reports call each: a name and its content."""
    judge: str | None
    """A judge's factory, as ``module:name``; its folder is with the others."""
    share: Share


def find_instruments(profile: Profile, work: WorkDir) -> Instruments:
    """Find everything, and load nothing but the code of the judge.

    Raises:
        MissingError: a model is not here.
        ProfileError: the judge's factory is not there to be imported.
    """
    places = {role: find_model(role, profile, work) for role in ROLES}
    if profile.judge is not None:
        places[JUDGE] = find_judge(profile.judge, work)
        factory_of(profile.judge.factory)
    return Instruments(
        profile=profile.name,
        folders={role: place.path for role, place in places.items()},
        known_as={role: _known_as(place) for role, place in places.items()},
        judge=None if profile.judge is None else profile.judge.factory,
        share=profile.resources.share(SHARE),
    )


def factory_of(name: str) -> JudgeFactory:
    """The factory of this ``module:name``. Raises `ProfileError`."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ProfileError(f"judge.factory {name} cannot be imported: {error}") from error
    if not callable(found):
        raise ProfileError(f"judge.factory {name} is no function, but {found!r:.40}")
    return cast(JudgeFactory, found)


def _known_as(place: Place) -> str:
    """A model's name and content: a hub's snapshot says both, a folder has a hash."""
    return place.content if "@" in place.content else _named(place)


def _named(place: Place) -> str:
    return f"{Path(place.path).name}@{place.content[:_DIGITS]}"
