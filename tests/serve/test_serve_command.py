"""`dreamrunner serve` without a Ray: what it tells, and what stays when it cannot start."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import ray.serve
import yaml
from ray.exceptions import RayTaskError

from cluster.ledger import Key
from cluster.local import RayStartError
from cluster.workdir import WorkDir
from serve.commands import serving
from serve.errors import InputError
from tests.serve.command_line import Call, Outcome


class NoRay:
    """Starts nothing."""

    started = 0

    def __init__(self, *_: object) -> None:
        return

    def start(self) -> None:
        NoRay.started += 1

    def stop(self) -> None:
        return


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray that is not there, and a server that is told to stop at once."""
    monkeypatch.setattr(NoRay, "started", 0)
    monkeypatch.setattr(serving, "LocalRay", NoRay)
    monkeypatch.setattr(serving, "RAY_ENVIRONMENT", {})
    monkeypatch.setattr(serving, "_metrics", lambda: "http://127.0.0.1:1/metrics")
    monkeypatch.setattr(ray.serve, "start", lambda **_: None)
    monkeypatch.setattr(ray.serve, "run", lambda *_, **__: None)
    for name in ("_until", "withdraw"):
        monkeypatch.setattr(serving, name, lambda *_: None)


@pytest.fixture
def serve(call: Call, studio: Path) -> Callable[[], Outcome]:
    words = ("--profile", studio / "tiny.yaml", "--work-dir", "work", "--json")
    return lambda: call("serve", *words)


def keys() -> list[Key]:
    with serving.opened_ledger(None, WorkDir(Path("work"))) as ledger:
        return ledger.keys()


def test_a_first_key_is_made_when_it_is_shown(serve, monkeypatch):
    def fails(_: NoRay) -> None:
        raise RayStartError("Ray does not start")

    with monkeypatch.context() as patched:
        patched.setattr(NoRay, "start", fails)
        assert serve()[0] == 1
        assert keys() == []
    shown = [json.loads(serve()[1])["key"] for _ in range(2)]
    assert shown[0].startswith("dr_")
    assert shown[1] is None
    assert [key.name for key in keys()] == ["first"]


def test_a_port_in_use_is_told_before_ray_starts(call, studio):
    words = ("--profile", studio / "tiny.yaml", "--work-dir", "work")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = call("serve", *words, "--port", str(port))
    assert (code, err.count("\n"), NoRay.started) == (1, 1, 0)
    assert f"port {port} of 127.0.0.1 is in use; give another --port" in err
    code, _, err = call("serve", *words, "--host", "no.such.host.invalid")
    assert (code, NoRay.started) == (2, 0)
    assert "no.such.host.invalid is no address" in err
    with pytest.raises(InputError, match=r"192\.0\.2\.1 is no address of this machine"):
        serving.check_free("192.0.2.1", port)


@pytest.mark.parametrize(
    ("planner", "models", "missing"),
    [("profile", {"clip": "nowhere"}, "nowhere"), ("vllm", {"planner": "nobody"}, "nobody")],
)
def test_missing_models_are_told_before_ray_starts(call, studio, planner, models, missing):
    profile = {"extends": str(studio / "tiny.yaml"), "name": "mine", "models": models}
    Path("mine.yaml").write_text(yaml.safe_dump(profile))
    code, _, err = call("serve", "--profile", "mine.yaml", "--planner", planner)
    assert (code, err.count("\n"), NoRay.started) == (1, 1, 0)
    assert f"{missing} is not on this machine; `dreamrunner doctor`" in err


def of_an_actor() -> RuntimeError:
    """An error as Ray brings it: what it says of itself is a traceback."""
    cause = RuntimeError("Deploying application dreamrunner failed: no")
    error: RuntimeError = RayTaskError("ready", "Traceback:\n  x", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Deploying application dreamrunner failed: no\nTraceback:\n  x\n"),
        of_an_actor(),
    ],
)
def test_an_application_that_cannot_be_deployed_is_told_in_one_line(serve, monkeypatch, error):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray.serve, "run", fails)
    code, out, err = serve()
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "Deploying application dreamrunner failed: no (more in" in err
    assert keys() == []
