"""`dreamrunner film` in a process of its own, with the tiny studio's plan, and what came of it."""

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.artifacts import LocalStore

PARTS = ("mp4", "png", "json")


@dataclass(frozen=True)
class Run:
    """A film command, ended."""

    code: int
    out: str
    err: str
    seconds: float


def as_a_user() -> dict[str, str]:
    """The environment without what these tests tell Ray."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def command(studio: Path, folder: Path, *words: str) -> list[str]:
    return [
        *(sys.executable, "-m", "serve.cli", "film", "a day", "--json"),
        *("--plan", str(studio / "plan.json"), "--profile", str(studio / "tiny.yaml")),
        *("--work-dir", str(folder / "work"), "--output", str(folder / "film.mp4"), *words),
    ]


def film(studio: Path, folder: Path, *words: str) -> Run:
    started = time.monotonic()
    ended = subprocess.run(
        command(studio, folder, *words),
        env=as_a_user(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(ended.returncode, ended.stdout, ended.stderr, time.monotonic() - started)


def hashes(folder: Path) -> dict[str, str]:
    return {
        part: hashlib.sha256((folder / f"film.{part}").read_bytes()).hexdigest() for part in PARTS
    }


def published(folder: Path) -> list[str]:
    log = LocalStore(folder / "work" / "artifacts").log()
    assert {line["event"] for line in log} == {"published"}
    return [line["artifact"] for line in log]
