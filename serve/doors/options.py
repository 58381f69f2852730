"""What the doors need to know and to have, beside the ledger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from cluster.profiles import Defaults
from pipelines.plan import Record

FilmFile = Literal["film.mp4", "film.png"]

_Seconds = Annotated[float, Field(gt=0)]
_Megabytes = Annotated[int, Field(ge=1, le=1024)]


class Backstage(Protocol):
    """Where films, images and the shipped cast are."""

    @property
    def cast(self) -> Mapping[str, str]:
        """Shipped characters: name to phrase."""

    @property
    def motions(self) -> tuple[str, ...]:
        """What may be wished; empty: anything."""

    @property
    def max_scenes(self) -> int:
        """The longest story."""

    def file_of(self, film: str, name: FilmFile) -> Path:
        """A file of a finished film. Raises `FileNotFoundError`."""

    def topic_fault(self, topic: str) -> str | None:
        """Why a topic cannot be planned; None where nothing is known against it."""

    def keep_image(self, content: bytes) -> str:
        """Keep checked bytes under their SHA-256, and say it."""

    def image_path(self, sha256: str) -> Path:
        """Where an image lies. Raises `FileNotFoundError`."""


class DoorOptions(Record):
    """Numbers of the doors."""

    auth: bool = True
    """Whether a key is asked for. Without, everybody is one local key: loopback alone."""
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """The names under which doors without keys answer, so that no page in a browser can use them
    from another site."""
    model: str = "miniature"
    """What ``/v1/videos`` calls the model: the profile."""
    size: Annotated[str, Field(pattern=r"^\d+x\d+$")] = "144x96"
    """Width x height of every video."""
    scene_s: _Seconds = 6.0
    """How long a scene is."""
    defaults: Defaults = Defaults(characters=())
    """What is filmed when a request does not say."""
    travelling: tuple[str, ...] = ()
    """Stems of motions that travel, beside those that the linter knows."""
    names_requests: bool = True
    """Whether answers say the request's id here; where a proxy of Serve's stands before the doors,
    it says it."""
    max_body_mb: _Megabytes = 4
    max_upload_mb: _Megabytes = 40
    """A character's images, all together."""
    body_timeout_s: _Seconds = 60.0
    """A request must have arrived by then."""
    max_characters: Annotated[int, Field(ge=1)] = 1000
    """Characters that a key may keep."""
    max_streams: Annotated[int, Field(ge=1)] = 100
    """Event streams that a key may hold open at one replica."""
    poll_s: _Seconds = 0.2
    """An event stream looks for news this often, and up to five times more seldom when quiet."""
    heartbeat_s: _Seconds = 15.0
    """A silent event stream says this often that it lives."""
