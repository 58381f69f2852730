"""A house to call at: a real ledger, films and images in a folder, and clients for its doors."""

import asyncio
import contextlib
import hashlib
import io
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from PIL import Image

from cluster.ledger import Ledger, StoryEntry
from cluster.profiles import Defaults
from serve.doors.options import DoorOptions, FilmFile

FILM = "film-" + "0a" * 16
FILM_BYTES = bytes(range(256)) * 40

OPTIONS: dict[str, Any] = {
    "defaults": Defaults(characters=("pirate", "witch"), wishes=("bowing",)),
    "poll_s": 0.02,
    "max_body_mb": 1,
    "max_upload_mb": 2,
}


class Stage:
    """A backstage in a folder, with one film in it."""

    cast: Mapping[str, str] = {"pirate": "pirate", "witch": "girl witch", "knight": "knight"}
    motions: tuple[str, ...] = ("bowing", "waving")
    max_scenes = 5

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "film.mp4").write_bytes(FILM_BYTES)
        (folder / "film.png").write_bytes(png())

    def file_of(self, film: str, name: FilmFile) -> Path:
        if film != FILM:
            raise FileNotFoundError(film)
        return self._folder / name

    def topic_fault(self, topic: str) -> str | None:
        return "is beyond the planner" if len(topic) > 1000 else None

    def keep_image(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        (self._folder / f"{sha256}.image").write_bytes(content)
        return sha256

    def image_path(self, sha256: str) -> Path:
        place = self._folder / f"{sha256}.image"
        if not place.is_file():
            raise FileNotFoundError(sha256)
        return place

    def images(self) -> list[Path]:
        return sorted(self._folder.glob("*.image"))


class Caller:
    """Calls an application as one client."""

    def __init__(self, app: FastAPI, secret: str | None = None, host: str = "localhost") -> None:
        self._app, self._base = app, f"http://{host}"
        self._headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        return asyncio.run(self.calls([(method, path, request)]))[0]

    async def calls(self, requests: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Several requests at once."""
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        options: dict[str, Any] = {"base_url": self._base, "headers": self._headers}
        async with httpx.AsyncClient(transport=transport, **options) as client:
            sent = [client.request(method, path, **more) for method, path, more in requests]
            return await asyncio.gather(*sent)

    def order(self, **fields: Any) -> str:
        """A story; its id."""
        answer = self("POST", "/v1/stories", json={"topic": "a pirate's day", **fields})
        assert answer.status_code == 202, answer.text
        story_id: str = answer.json()["id"]
        return story_id


def finish(ledger: Ledger, story_id: str, plan: dict[str, Any] | None = None) -> StoryEntry:
    """Play the director: the story is filmed."""
    assert story_id in {story.id for story in ledger.take(1000)}
    if plan is not None:
        ledger.show_plan(story_id, plan)
    assert ledger.advance(story_id, "finished", film=FILM)
    return ledger.story(story_id)


def png(width: int = 16, height: int = 12, colour: str = "red", kind: str = "png") -> bytes:
    """An image's bytes."""
    content = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(content, kind)
    return content.getvalue()


async def endless(chunk: bytes, count: list[int], most: int) -> AsyncIterator[bytes]:
    """A body without a stated length; ``count`` is how many chunks were taken of it."""
    for _ in range(most):
        count[0] += 1
        yield chunk


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application behind a real server in a thread; its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{found.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=60)


def options(**changes: Any) -> DoorOptions:
    return DoorOptions.model_validate(OPTIONS | changes)
