"""A `dreamrunner serve` in processes of its own, a client of it, and ways to kill its parts."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from cluster.local import leftovers
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from tests.cluster.processes import title
from tests.cluster.samples import sample_plan
from tests.serve.films import as_a_user

ENDED = {"finished", "failed", "cancelled"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def with_bytecode(environment: Mapping[str, str]) -> dict[str, str]:
    """A server's many processes import the same libraries again and again: with bytecode on disk
    in less than half the time, so where none may be written, it is written elsewhere."""
    if not sys.dont_write_bytecode:
        return dict(environment)
    place = Path(tempfile.gettempdir()) / f"dreamrunner-bytecode-{os.getuid()}"
    written = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(place)}
    return {**environment, **written}


LEARNED = ("bowing", "kicking")
"""What nobody has seen before, and every story is asked to show: the scripted planner does."""


def write_profile(studio: Path, planner_url: str, **more: Any) -> Path:
    """The tiny profile in a studio's folder, with a planner, and one trainer that stays: importing
    its libraries takes longer than all it has to learn."""
    file = studio / "serving.yaml"
    content = {
        "extends": str(studio / "tiny.yaml"),
        "name": "serving",
        "engine": planner_url,
        "defaults": {"wishes": list(LEARNED)},
        "resources": {"pools": {"trainer": {"workers": 1, "idle_s": 60}}},
        **more,
    }
    file.write_text(yaml.safe_dump(content))
    return file


def write_planning_profile(studio: Path) -> Path:
    """The same with the miniature's planner, in a vLLM if the server is told so. The tiny corpus
    shows two motions; all others that the planner knows are known."""
    miniature = load_profile("miniature")
    known = [motion for motion in miniature.planner["motions"] if motion not in LEARNED]
    return write_profile(
        studio,
        "transformers",
        models={"planner": miniature.models.planner},
        known_motions=known,
    )


ANSWER_S = 120.0
"""How long a server may leave a request without an answer."""


@dataclass
class Server:
    """A `dreamrunner serve` of tiny models, and a client of it."""

    folder: Path
    profile: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    key: str = ""
    metrics: str = ""
    """Address of what Ray tells Prometheus."""
    planner: str = "profile"
    environment: Mapping[str, str] = field(default_factory=lambda: with_bytecode(as_a_user()))
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, verify=False))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def work(self) -> WorkDir:
        return WorkDir(self.folder / "work")

    def start(self) -> None:
        command = [sys.executable, "-m", "serve.cli", "serve", "--json", "--port", str(self.port)]
        command += ["--planner", self.planner]
        command += ["--profile", str(self.profile), "--work-dir", str(self.work.root)]
        log = (self.folder / "log.txt").open("a")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, env=self.environment
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                told = json.loads(line)
                self.key, self.metrics = told["key"] or self.key, told["metrics"]
                return
        raise AssertionError((self.folder / "log.txt").read_text())

    @property
    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(180) == 0

    def die(self) -> None:
        """As if the machine lost power: all processes at once."""
        assert self.process is not None
        self.process.kill()
        while processes := leftovers(self.work):
            for process in processes:
                kill(process)
            psutil.wait_procs(processes, timeout=5)
        self.process.wait()

    def kill(self, what: str) -> int:
        """Kill the server's processes of this name, and say how many there were."""
        mine = [process for process in leftovers(self.work) if what in title(process)]
        for process in mine:
            kill(process)
        return len(mine)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """An answer, asked for again while no replica is there to give it."""
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            try:
                answer = self.client.request(method, self.url + path, headers=headers, **more)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            time.sleep(0.5)
        raise AssertionError(f"no answer from {path}")

    def submit(self, seed: int) -> str:
        body = {"topic": "a day", "seed": seed, "plan": sample_plan().model_dump(mode="json")}
        answer = self.ask(
            "POST", "/v1/stories", json=body, headers={"Idempotency-Key": f"story-{seed}"}
        )
        assert answer.status_code == 202, answer.text
        story: str = answer.json()["id"]
        return story

    def story(self, story: str) -> dict[str, Any]:
        entry: dict[str, Any] = self.ask("GET", f"/v1/stories/{story}").json()
        return entry

    def until(self, stories: list[str], states: set[str], limit_s: float = 300) -> list[str]:
        """The stories' states, when all are among these or have ended."""
        began = time.monotonic()
        while time.monotonic() - began < limit_s:
            now = [self.story(story)["state"] for story in stories]
            if set(now) <= states | ENDED:
                return now
            time.sleep(0.3)
        raise AssertionError([self.story(story) for story in stories])


def kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return
