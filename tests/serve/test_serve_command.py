"""`dreamrunner serve` without a Ray: what it tells, and what stays when it cannot start."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.ledger import Key
from cluster.local import RayStartError
from cluster.workdir import WorkDir
from serve.commands import serving


class NoRay:
    """Starts nothing."""

    started = 0

    def __init__(self, *_: object) -> None:
        NoRay.started = 0

    def start(self) -> None:
        NoRay.started += 1

    def stop(self) -> None:
        return


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray that is not there, and a server that is told to stop at once."""
    monkeypatch.setattr(serving, "LocalRay", NoRay)
    monkeypatch.setattr(serving, "RAY_ENVIRONMENT", {})
    monkeypatch.setattr(serving, "_metrics_port", lambda: 1)
    for name in ("_deploy", "_until_told", "_withdraw"):
        monkeypatch.setattr(serving, name, lambda *_: None)


@pytest.fixture
def serve(call, studio: Path) -> Callable[[], tuple[int, str, str]]:
    return lambda: call("serve", "--profile", studio / "tiny.yaml", "--work-dir", "work", "--json")


def keys() -> list[Key]:
    with serving.opened_ledger(None, WorkDir(Path("work"))) as ledger:
        return ledger.keys()


def test_a_first_key_is_made_when_it_is_shown(serve, monkeypatch):
    def fails(*_: object) -> None:
        raise RayStartError("Ray does not start")

    with monkeypatch.context() as patched:
        patched.setattr(serving, "_deploy", fails)
        assert serve()[0] == 1
        assert keys() == []
    shown = [json.loads(serve()[1])["key"] for _ in range(2)]
    assert shown[0].startswith("dr_")
    assert shown[1] is None
    assert [key.name for key in keys()] == ["first"]
